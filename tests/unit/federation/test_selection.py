import pytest

from fedvol.federation import Candidate, best_round, is_better


def rounds(*values: float | None) -> list[Candidate]:
    return [Candidate(round=index, value=value) for index, value in enumerate(values, start=1)]


@pytest.mark.parametrize(
    ("select_by", "values", "best"),
    [
        ("dice", (0.1, 0.7, 0.5), 2),
        ("dice/liver", (0.7, 0.7), 1),
        ("hd95_mm", (3.0, 1.0, 2.0), 2),
        ("assd_mm/liver", (3.0, 2.0, 1.0), 3),
        ("nsd", (None, 0.2, None), 2),
        ("dice", (float("nan"), 0.0), 2),
        ("dice", (None, float("nan")), None),
        ("dice", (), None),
    ],
)
def test_best_round(select_by: str, values: tuple[float | None, ...], best: int | None) -> None:
    assert best_round(rounds(*values), select_by=select_by) == best
    assert best_round(reversed(rounds(*values)), select_by=select_by) == best


def test_equal_is_not_better() -> None:
    assert not is_better(0.5, 0.5, select_by="dice")
    assert is_better(0.5, None, select_by="dice")
    assert not is_better(None, None, select_by="dice")
