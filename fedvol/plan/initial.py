"""Initial weights of a run: of the study's network and, beside them, of the pretext task's."""

from fedvol.types import State

_PRETEXT = "pretext|"


def join_initial(network: State, *, pretext: State | None) -> State:
    """Both networks' initial weights as one state, so that one file carries them.

    Args:
        network: Of the study's network.
        pretext: Of the pretext task's; None where nothing is pretrained.
    """
    beside = {_PRETEXT + name: array for name, array in (pretext or {}).items()}
    return {**network, **beside}


def network_part(initial: State) -> State:
    """Weights of the study's network among those of a run."""
    return {name: array for name, array in initial.items() if not name.startswith(_PRETEXT)}


def pretext_part(initial: State) -> State:
    """Weights of the pretext task's network among those of a run, under their own names."""
    return {
        name.removeprefix(_PRETEXT): array
        for name, array in initial.items()
        if name.startswith(_PRETEXT)
    }
