"""Lives of runs and rounds: which state may follow which."""

from collections.abc import Mapping
from enum import StrEnum

from fedvol.errors import TransitionError


class RunState(StrEnum):
    """Life of a run."""

    PROPOSED = "proposed"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"


class RoundState(StrEnum):
    """Life of one attempt at a round."""

    OPEN = "open"
    """Participants and the global state they start from are fixed."""
    COLLECTING = "collecting"
    """Sites are training; contributions are spooled as they arrive."""
    SUMMED = "summed"
    """The new global state is written; a personalise stage keeps the one it has."""
    EVALUATED = "evaluated"
    """The sites have judged the stage's model on their validation cases."""
    CLOSED = "closed"
    """Nothing of this round will change."""
    ABANDONED = "abandoned"
    """Too few contributions; the round is tried again under a new attempt."""


class SiteState(StrEnum):
    """Where one site stands in one round."""

    ASKED = "asked"
    TRAINED = "trained"
    """It trained, but its contribution was refused or did not reach the sum."""
    CONTRIBUTED = "contributed"
    PERSONALISED = "personalised"
    """It trained a model of its own, which stays there."""
    NO_LABELS = "no_labels"
    REFUSED = "refused"
    """The site, or the check of its reply, named a reason why not."""
    SILENT = "silent"
    """Nothing came within the limit."""


TOOK_PART = frozenset({SiteState.CONTRIBUTED, SiteState.PERSONALISED})
"""States in which a site did its part of a round."""

_RUN: Mapping[RunState, frozenset[RunState]] = {
    RunState.PROPOSED: frozenset({RunState.RUNNING, RunState.STOPPED, RunState.FAILED}),
    RunState.RUNNING: frozenset(
        {RunState.PAUSED, RunState.FINISHED, RunState.FAILED, RunState.STOPPED}
    ),
    RunState.PAUSED: frozenset({RunState.RUNNING, RunState.FAILED, RunState.STOPPED}),
    RunState.FINISHED: frozenset(),
    RunState.FAILED: frozenset({RunState.RUNNING, RunState.PAUSED}),
    RunState.STOPPED: frozenset(),
}
_ROUND: Mapping[RoundState, frozenset[RoundState]] = {
    RoundState.OPEN: frozenset({RoundState.COLLECTING, RoundState.ABANDONED}),
    RoundState.COLLECTING: frozenset({RoundState.SUMMED, RoundState.ABANDONED}),
    RoundState.SUMMED: frozenset({RoundState.EVALUATED}),
    RoundState.EVALUATED: frozenset({RoundState.CLOSED}),
    RoundState.CLOSED: frozenset(),
    RoundState.ABANDONED: frozenset(),
}


def require_run_transition(present: RunState, following: RunState) -> None:
    """Refuse a run transition that cannot be.

    Raises:
        TransitionError: `following` cannot follow `present`.
    """
    if following not in _RUN[present]:
        raise _impossible("run", present, following)


def require_round_transition(present: RoundState, following: RoundState) -> None:
    """Refuse a round transition that cannot be.

    Raises:
        TransitionError: `following` cannot follow `present`.
    """
    if following not in _ROUND[present]:
        raise _impossible("round", present, following)


def _impossible(what: str, present: str, following: str) -> TransitionError:
    return TransitionError(
        what,
        f"{following} cannot follow {present}",
        "Look at the run's record: another process moved it.",
    )
