"""How many threads a computation may use on the CPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def threads(num_threads: int) -> Iterator[None]:
    """Use some number of CPU threads inside; the process's own number comes back after.

    The number changes the order of sums and so the last bits; that is why the plan fixes it. It
    belongs to the whole process, so two trainings of one process must not overlap.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
