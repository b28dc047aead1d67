"""Judging a site's cases: pooled sites, and a limit that passes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedvol.client.cases import SiteCase, SiteCases, pool
from fedvol.client.judging import judge
from fedvol.config.loading import parse_study
from fedvol.data.case_store import CaseStore
from fedvol.data.volume import PreparedCase
from fedvol.errors import TimeLimitError
from fedvol.federation import MetricSums
from fedvol.plan import NetworkDescription, Plan, TensorKind, TensorSpec
from fedvol.types import CaseId, Digest, SiteId, SubjectId

KEY = Digest("0" * 64)
SHAPE = (4, 4, 4)
STUDY = """
version = 1
name = "judged"
purpose = "Judges a perfect model."

[data]
channels = ["CT"]
labels = { liver = 1 }
split = { kind = "fold", test = 0, validation = 1 }

[preprocessing]
spacing_mm = [1.0, 1.0, 1.0]
normalisation = { kind = "z_score" }

[patches]
batch_size = 2
size = [8, 8, 8]

[network]
kind = "unet"
features = [4, 8]

[task]
kind = "segmentation"

[[stages]]
kind = "finetune"
rounds = 1
steps_per_round = 1

[stages.strategy]
kind = "fedavg"

[stages.training]
optimiser = { kind = "sgd" }
num_threads = 1
"""


@pytest.fixture
def plan() -> Plan:
    weight = TensorSpec(name="w", shape=(2,), dtype="float32", kind=TensorKind.ENCODER)
    return Plan(
        software="0.1.0",
        study=parse_study(STUDY, where="judged.toml"),
        sites=(SiteId("a"), SiteId("b")),
        network=NetworkDescription(tensors=(weight,), initial_digest=KEY),
    )


@pytest.fixture
def sites(tmp_path: Path) -> dict[SiteId, SiteCases]:
    """Two sites that give their one test case the same name."""

    def site_case(site: str) -> SiteCase:
        label = np.zeros(SHAPE, np.uint8)
        label[1:3] = 1
        store = CaseStore(tmp_path / site)
        prepared = PreparedCase(
            image=label[None].astype(np.float32),
            label=label,
            affine=np.eye(4),
            reference_label=label,
            reference_shape=SHAPE,
            reference_affine=np.eye(4),
            foreground={},
        )
        store.write(CaseId("case_001"), prepared, key=KEY)
        return SiteCase(stored=store.open(CaseId("case_001")), subject=SubjectId(f"S-{site}"))

    return {
        SiteId(site): SiteCases(
            train=(), validation=(), test=(site_case(site),), skipped={}, skipped_subjects={}
        )
        for site in "ab"
    }


def perfect(image: np.ndarray) -> np.ndarray:
    """Certain of class 1 where the image is 1."""
    inside = (image[0] > 0.5).astype(np.float32)
    return np.stack([1 - inside, inside])


def judged(
    cases: SiteCases,
    *,
    plan: Plan,
    rows: Path,
    on_case: Callable[[int, int], None] = lambda done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> MetricSums:
    return judge(
        perfect,
        cases.test,
        site=SiteId("pooled"),
        plan=plan,
        metrics=("dice",),
        replicates=20,
        resampling_key=KEY,
        rows=rows,
        on_case=on_case,
        should_stop=should_stop,
    ).sums


def test_pooled_sites_may_use_one_case_name(
    sites: dict[SiteId, SiteCases], plan: Plan, tmp_path: Path
) -> None:
    pooled = pool(sites)
    assert [case.subject for case in pooled.test] == ["a/S-a", "b/S-b"]
    found = judged(pooled, plan=plan, rows=tmp_path / "rows.jsonl").stat("dice/liver")
    assert (found.value, found.n) == (1.0, 2)
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 2


def test_a_passed_limit_ends_the_judging(
    sites: dict[SiteId, SiteCases], plan: Plan, tmp_path: Path
) -> None:
    done: list[int] = []
    with pytest.raises(TimeLimitError, match="after 1 of 2 cases"):
        judged(
            pool(sites),
            plan=plan,
            rows=tmp_path / "rows.jsonl",
            on_case=lambda number, total: done.append(number),
            should_stop=lambda: bool(done),
        )
    assert done == [1]
    assert not (tmp_path / "rows.jsonl").exists()
