"""How much every run computes: the same for all, or the rows could not be compared."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Rounds and steps of one run.

    Attributes:
        rounds: Rounds of a federation.
        personal_rounds: How many of them become personal training where there is some.
        steps_per_round: Local gradient steps of each site in a round.
        cases: Training cases of the largest generated hospital; None: as the setting says.
        held_out: Validation and test cases of each generated hospital; None: the usual ones.
    """

    rounds: int
    personal_rounds: int
    steps_per_round: int
    cases: int | None = None
    held_out: tuple[int, int] | None = None

    @property
    def steps(self) -> int:
        """Gradient steps of each site in a run."""
        return self.rounds * self.steps_per_round


FULL = Budget(rounds=6, personal_rounds=2, steps_per_round=30)
QUICK = Budget(rounds=3, personal_rounds=1, steps_per_round=2, cases=3, held_out=(1, 2))
"""Only shows that every run comes to its end."""
