"""When a pretraining counts as collapsed."""

import pytest

from fedvol.server.learning_checks import is_collapsed


@pytest.mark.parametrize(
    ("variances", "rounds", "expected"),
    [
        ([], 1, False),
        ([0.0], 1, True),
        ([0.0], 2, False),
        ([0.0, 0.0], 3, False),
        ([0.5, 0.0, 0.0, 1e-5], 3, True),
        ([0.0, 0.0, 0.5], 2, False),
        ([0.0, 0.5, 0.0], 2, False),
        ([0.0, None, 0.0], 2, False),
        ([None, None], 2, False),
        ([1e-4, 1e-4], 2, False),  # the least that is not collapsed
        ([0.0, 0.0, 0.0], 0, False),
    ],
)
def test_so_many_rounds_in_a_row_are_collapsed(
    variances: list[float | None], rounds: int, expected: bool
) -> None:
    assert is_collapsed(variances, rounds=rounds, least=1e-4) is expected
