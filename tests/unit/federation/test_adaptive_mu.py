"""mu of adaptive FedProx on losses written by hand."""

from fedvol.config.strategy import AdaptiveFedProx, FedAvg
from fedvol.federation import build_strategy


def trajectory(losses: list[float], **settings: float) -> list[float | None]:
    """mu of each round, the one after the last loss included."""
    strategy = build_strategy(AdaptiveFedProx(kind="adaptive_fedprox", **settings))
    return [strategy.schedule.arguments(losses[:known]).mu for known in range(len(losses) + 1)]


def test_it_rises_with_the_loss() -> None:
    assert trajectory([3.0, 2.0, 2.5, 2.6, 2.6, 2.7]) == [0.0, 0.0, 0.0, 0.1, 0.2, 0.2, 0.3]


def test_it_falls_after_five_falling_rounds_and_then_needs_five_more() -> None:
    losses = [float(value) for value in range(20, 8, -1)]  # eleven falls
    expected = [1.0] * 6 + [0.9] * 5 + [0.8] * 2
    assert trajectory(losses, mu=1.0) == expected


def test_a_rise_or_a_stand_still_breaks_the_row() -> None:
    falls = [9.0, 8.0, 7.0, 6.0, 5.0]
    assert trajectory([*falls, 5.0, 4.0, 3.0, 2.0, 1.0], mu=1.0)[-1] == 1.0
    assert trajectory([*falls, 4.0], mu=1.0)[-1] == 0.9
    assert trajectory([*falls, 5.5, 4.0, 3.0, 2.0, 1.0], mu=1.0)[-1] == 1.1


def test_it_never_falls_below_zero() -> None:
    losses = [float(value) for value in range(30, 0, -1)]
    assert trajectory(losses, mu=0.25)[-1] == 0.0
    assert min(value for value in trajectory(losses, mu=0.25) if value is not None) == 0.0


def test_constants_are_the_studys() -> None:
    assert trajectory([3.0, 2.0, 1.0, 2.0], mu=1.0, mu_step=0.5, falling_rounds=2) == [
        1.0,
        1.0,
        1.0,
        0.5,
        1.0,
    ]


def test_many_steps_leave_no_rounding_behind() -> None:
    assert trajectory([float(value) for value in range(101)])[-1] == 10.0


def test_the_server_does_as_in_fedavg() -> None:
    ours = build_strategy(AdaptiveFedProx(kind="adaptive_fedprox"))
    theirs = build_strategy(FedAvg(kind="fedavg"))
    assert ours.optimiser == theirs.optimiser
    assert theirs.schedule.arguments([1.0, 2.0]).mu is None
