"""Personal models reduce to what they come from: local training, or the global model."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny import RUN, Federation, make_federation, personalise, tiny_study

from fedvol.client.cases import SiteCases
from fedvol.federation import SiteState
from fedvol.models import to_arrays
from fedvol.plan import TensorKind
from fedvol.server import Outcome
from fedvol.types import SiteId, State

# Plans of a pair go by one name, so that they draw the same random numbers.
NAME = "6" * 64
SGD = '{ kind = "sgd", learning_rate = 5e-4, momentum = 0.0, weight_decay = 0.0 }'


def play(
    cases: Mapping[SiteId, SiteCases], folder: Path, *, more: str, **changes: str
) -> tuple[Federation, Outcome]:
    study = tiny_study(rounds="rounds = 1", more=more, **changes)
    federation = make_federation(study, cases=cases, folder=folder, digest=NAME)
    outcome, _ = federation.run()
    return federation, outcome


def personal(federation: Federation, site: str, *, round_index: int) -> State:
    folder = federation.site(site) / "state" / RUN / "stage-1"
    return load_file(folder / f"local-{round_index:06d}.safetensors")


def losses(federation: Federation) -> list[list[float | None]]:
    return [[site.loss for site in r.sites] for r in federation.rounds() if r.stage == 1]


@pytest.fixture(scope="module")
def trained_on(tiny_cases, tmp_path_factory: pytest.TempPathFactory) -> tuple[Federation, Outcome]:
    """Local training of everything, from the release."""
    folder = tmp_path_factory.mktemp("trained_on")
    return play(tiny_cases, folder, more=personalise('kind = "finetune"'))


def test_ditto_without_pull_is_local_training_bit_for_bit(
    trained_on, tiny_cases, tmp_path: Path
) -> None:
    ditto, _ = play(tiny_cases, tmp_path, more=personalise('kind = "ditto", pull = 0.0'))
    local, _ = trained_on
    for site in local.plan.sites:
        for index in (1, 2):
            one = personal(ditto, site, round_index=index)
            other = personal(local, site, round_index=index)
            assert one.keys() == other.keys()
            assert all(one[name].tobytes() == other[name].tobytes() for name in one)
    assert losses(ditto) == losses(local)


def test_ditto_with_some_pull_is_not(trained_on, tiny_cases, tmp_path: Path) -> None:
    ditto, _ = play(tiny_cases, tmp_path, more=personalise('kind = "ditto", pull = 1.0'))
    local, _ = trained_on
    one = personal(ditto, "hospital_1", round_index=2)
    other = personal(local, "hospital_1", round_index=2)
    assert any(not np.array_equal(one[name], other[name]) for name in one)


def farthest(federation: Federation, outcome: Outcome) -> float:
    """Largest change of any weight of any personal model."""
    release = federation.state(outcome.release)
    return max(
        float(np.abs(tensor - release[name]).max())
        for site in federation.plan.sites
        for name, tensor in personal(federation, site, round_index=2).items()
    )


def test_with_a_huge_pull_the_personal_model_stays_the_global_one(
    tiny_cases, tmp_path: Path
) -> None:
    """The fixed point is a gradient / lambda away, however many steps are taken."""

    def after(pull: float, name: str) -> float:
        stage = personalise(f'kind = "ditto", pull = {pull}', steps=25, optimiser=SGD)
        return farthest(*play(tiny_cases, tmp_path / name, more=stage))

    assert after(1000.0, "pulled") < 0.12 * after(0.0, "free")


def test_the_release_is_that_of_the_finetune_stage_alone(
    trained_on, tiny_cases, tmp_path: Path
) -> None:
    alone, outcome = play(tiny_cases, tmp_path, more="")
    with_personal, released = trained_on
    assert released.release == outcome.release
    assert outcome.personal_round is None
    assert released.personal_round in (1, 2)
    assert [r.aggregate for r in with_personal.rounds()][1:] == [outcome.release] * 2
    assert alone.rounds()[0].aggregate == with_personal.rounds()[0].aggregate


@pytest.mark.parametrize(
    ("parts", "kinds"),
    [
        ("head", {TensorKind.HEAD}),
        ("norms", {TensorKind.NORM}),
        ("decoder", {TensorKind.DECODER, TensorKind.HEAD}),
    ],
)
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_only_the_named_part_changes(
    norm: str, parts: str, kinds: set[TensorKind], tiny_cases, tmp_path: Path
) -> None:
    federation, outcome = play(
        tiny_cases,
        tmp_path,
        more=personalise(f'kind = "finetune", parts = "{parts}"'),
        features=f'features = [4, 8]\nnorm = "{norm}"',
    )
    chosen = [spec for spec in federation.plan.network.tensors if spec.kind in kinds]
    release = federation.state(outcome.release)
    site, agent = next(iter(federation.agents().items()))
    held = personal(federation, site, round_index=2)
    assert set(held) == {spec.name for spec in chosen}
    for name, tensor in held.items():
        assert not np.array_equal(tensor, release[name]), name
    # And what it judges with is the release around them.
    agent.released_predictor(release, run=RUN, stage=1, best_round=2)
    for name, tensor in to_arrays(agent.network.net, list(release)).items():
        np.testing.assert_array_equal(tensor, held.get(name, release[name]))


def test_every_site_says_how_it_went_and_nothing_else(trained_on) -> None:
    federation, _ = trained_on
    for record in federation.rounds():
        expected = SiteState.CONTRIBUTED if record.stage == 0 else SiteState.PERSONALISED
        for site in record.sites:
            assert site.state is expected
            assert site.bytes_up is not None
            if record.stage == 1:
                assert site.blob is None
                assert site.weight is None
                assert site.bytes_up < 1000


def test_personal_models_differ_between_sites(trained_on) -> None:
    federation, _ = trained_on
    one, two, three = (personal(federation, s, round_index=2) for s in federation.plan.sites)
    for a, b in ((one, two), (one, three), (two, three)):
        assert any(not np.array_equal(a[name], b[name]) for name in a)
