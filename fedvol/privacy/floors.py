"""The floor of a site's figures: nobody is behind one, or at least so many subjects."""


def is_small(subjects: int, *, floor: int) -> bool:
    """Whether a group is there and smaller than the floor; of nobody may be told."""
    return 0 < subjects < floor
