"""Digests and seeds: the same for the same, another for anything else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_study

from fedvol.errors import PlanMismatchError
from fedvol.plan import (
    NetworkDescription,
    Plan,
    TensorKind,
    TensorSpec,
    canonical_json,
    derive_seed,
    digest_json,
    state_digest,
)
from fedvol.types import Digest

NETWORK = NetworkDescription(
    tensors=(TensorSpec(name="w", shape=(2, 3), dtype="float32", kind=TensorKind.HEAD),),
    initial_digest=Digest("0" * 64),
)


def make_plan(**changes: str) -> Plan:
    return Plan(software="0.1.0", study=tiny_study(**changes), sites=("a",), network=NETWORK)


def test_digest_is_that_of_the_canonical_json_and_survives_a_round_trip() -> None:
    plan = make_plan()
    assert plan.digest == digest_json(plan.model_dump(mode="json"))
    again = Plan.model_validate_json(canonical_json(plan.model_dump(mode="json")))
    assert again == plan
    assert again.digest == plan.digest


@pytest.mark.parametrize(
    "change", [{"seed": "seed = 8"}, {"rounds": "rounds = 4"}, {"size": "size = [16, 16, 32]"}]
)
def test_any_value_changes_the_digest(change: dict[str, str]) -> None:
    assert make_plan(**change).digest != make_plan().digest


def test_another_plan_is_refused_by_name() -> None:
    with pytest.raises(PlanMismatchError, match="FV-FED-003 site x"):
        make_plan().require_same(Digest("f" * 64), where="site x")


@given(st.lists(st.one_of(st.text(max_size=8), st.integers(0, 2**40)), max_size=4))
@settings(max_examples=50, deadline=None)
def test_seeds_fit_63_bits_and_repeat(scope: list[str | int]) -> None:
    seed = derive_seed(Digest("a" * 64), *scope)
    assert 0 <= seed < 2**63
    assert seed == derive_seed(Digest("a" * 64), *scope)
    assert seed != derive_seed(Digest("b" * 64), *scope)


def test_scope_is_told_by_order_and_type() -> None:
    digest = Digest("a" * 64)
    seeds = {derive_seed(digest, *s) for s in (("x", 1), (1, "x"), ("x", "1"), ("x1",))}
    assert len(seeds) == 4


def test_state_digest_ignores_order_and_layout_but_no_bit() -> None:
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    b = np.ones(2)
    assert state_digest({"a": a, "b": b}) == state_digest({"b": b, "a": np.asfortranarray(a)})
    for other in (a + 1e-7, a.astype(np.float64), a.reshape(3, 2)):
        assert state_digest({"a": other, "b": b}) != state_digest({"a": a, "b": b})


def test_size_counts_values() -> None:
    assert NETWORK.tensors[0].size == 6
