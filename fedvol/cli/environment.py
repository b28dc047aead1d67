"""Settings that libraries read from the environment, made before any of them is loaded."""

import os


def prepare_environment() -> None:
    """Let idle threads sleep instead of spinning; what the user has set stays.

    Spinning wins a few per cent on an idle machine, and makes a step many times slower on one
    that is shared, because a thread that spins takes the core another one needs.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # noqa: TID251  # read by OpenMP alone
