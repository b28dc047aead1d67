"""What every strategy promises, through the real coordinator over sites with known losses."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from killing import BLOB_WRITES, STORE_WRITES, Counter, Dying, Killed
from quadratics import SPECS, QuadraticSites, Server, make_plan, optimum, play

from fedvol.config import strategy as config
from fedvol.federation import Exchange, build_strategy, next_global
from fedvol.types import State

STRATEGIES = {
    "fedavg": "",
    "fedprox": "mu = 0.1",
    "adaptive_fedprox": "falling_rounds = 1\nmu = 0.2",
    "fedavgm": "momentum = 0.5",
    "fedadam": "server_learning_rate = 0.1",
    "fedyogi": "server_learning_rate = 0.1",
    "scaffold": "",
}
"""Every kind but FedBN, which keeps tensors that these sites do not have (see `e2e/test_fedbn`)."""


def plan_of(kind: str, *, rounds: int = 3, steps: int = 5) -> Any:
    lines = f'kind = "{kind}"\n{STRATEGIES[kind]}'
    return make_plan(lines, rounds=rounds, steps=steps)


def require_same(ours: State, theirs: State) -> None:
    assert list(ours) == list(theirs)
    for name, tensor in ours.items():
        assert tensor.tobytes() == theirs[name].tobytes(), name


@pytest.fixture(scope="module", params=STRATEGIES)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def whole(kind: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Server, QuadraticSites]:
    return play(plan_of(kind), tmp_path_factory.mktemp(kind))


def test_every_kind_is_here() -> None:
    union = get_args(config.Strategy)[0]
    kinds = {get_args(member.model_fields["kind"].annotation)[0] for member in get_args(union)}
    assert kinds == {*STRATEGIES, "fedbn"}


def test_order_of_arrival_changes_no_bit(kind: str, whole, tmp_path: Path) -> None:
    server, _ = play(plan_of(kind), tmp_path, backwards=True)
    require_same(server.last(), whole[0].last())


def test_killed_before_any_write_it_ends_with_the_same_bits(
    kind: str, whole, tmp_path: Path
) -> None:
    """The sites' own state lives on, as at hospitals; what was written down counts once."""
    counter = Counter()
    conduct_dying(plan_of(kind), tmp_path / "counted", counter)
    for fatal in range(1, counter.writes + 1, 9):
        folder = tmp_path / str(fatal)
        with pytest.raises(Killed):
            conduct_dying(plan_of(kind), folder, Counter(fatal=fatal))
        server = conduct_dying(plan_of(kind), folder, Counter())
        require_same(server.last(), whole[0].last())
        assert [r.arguments for r in server.rounds()] == [r.arguments for r in whole[0].rounds()]


def test_killed_again_and_again(kind: str, whole, tmp_path: Path) -> None:
    deaths = 0
    while True:
        try:
            server = conduct_dying(plan_of(kind), tmp_path, Counter(fatal=13))
            break
        except Killed:
            deaths += 1
            assert deaths < 60, "it never gets on"
    assert deaths >= 3
    require_same(server.last(), whole[0].last())


def conduct_dying(plan: Any, folder: Path, counter: Counter) -> Server:
    server = Server(plan=plan, folder=folder / "server")
    server.conduct(
        QuadraticSites(plan=plan, folder=folder / "sites"),
        store=lambda held: Dying(held, writes=STORE_WRITES, tick=counter.tick),
        blobs=lambda held: Dying(held, writes=BLOB_WRITES, tick=counter.tick),
    )
    return server


def test_running_statistics_are_averaged_and_nothing_else(kind: str, whole) -> None:
    """Each site's running mean is its number of cases; a momentum would carry it past the mean."""
    mean = (3 * 3 + 1 * 1 + 2 * 2) / 6
    np.testing.assert_allclose(whole[0].last()["mean"], mean, rtol=1e-6)
    assert not [name for name in whole[0].last() if name.endswith("|mean")]


def test_companions_lie_beside_the_state_and_never_in_the_release(kind: str, whole) -> None:
    server, _ = whole
    settings = plan_of(kind).study.stages[0].strategy
    companions = {f"{name}|w" for name in build_strategy(settings).optimiser.companions}
    assert set(server.last()) == {"w", "mean", *companions}
    release = server.conduct(QuadraticSites(plan=plan_of(kind), folder=server.folder)).release
    with server.blobs.open(release) as file:
        assert set(file.read_all()) == {"w", "mean"}


def test_the_optimum_comes_nearer(kind: str, tmp_path: Path) -> None:
    server, _ = play(plan_of(kind, rounds=25, steps=2), tmp_path)
    before = np.abs(optimum()).max()
    assert np.abs(server.last()["w"] - optimum()).max() < 0.4 * before


class Held:
    def __init__(self, tensors: Any) -> None:
        self.tensors = tensors

    def read(self, name: str) -> Any:
        return self.tensors[name]


def test_the_sum_suffices(kind: str) -> None:
    """Two sites, and one with their weights and their mean, give the same state."""
    settings = plan_of(kind).study.stages[0].strategy
    generator, strategy = np.random.default_rng(5), build_strategy(settings)
    companions = ("control",) if kind == "scaffold" else ()
    exchange = Exchange(shared=SPECS, local=(), companions=companions)
    two = [
        {spec.name: generator.standard_normal(spec.shape) for spec in exchange.up} for _ in range(2)
    ]
    mean = {name: (3 * two[0][name] + two[1][name]) / 4 for name in two[0]}
    present = Held({spec.name: np.ones(spec.shape, dtype=np.float32) for spec in SPECS})

    def step(*parts: tuple[float, Any]) -> State:
        held = [(weight, Held(part)) for weight, part in parts]
        return dict(
            next_global(
                present, held, exchange=exchange, optimiser=strategy.optimiser, is_first=True
            )
        )

    apart, together = step((3.0, two[0]), (1.0, two[1])), step((4.0, mean))
    assert apart.keys() == together.keys()
    for name, tensor in apart.items():
        np.testing.assert_allclose(tensor, together[name], rtol=1e-6)
