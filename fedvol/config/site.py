"""The part of a hospital's own file that this version reads: what its policy allows to leave."""

from typing import Annotated

from pydantic import Field

from fedvol.config.base import Section


class SitePolicy(Section):
    """The site's own floors; a study can only be stricter."""

    min_group: Annotated[int, Field(ge=1)] = 10
    """Fewest subjects behind a statistic that leaves; smaller groups are suppressed."""
    min_cohort: Annotated[int, Field(ge=1)] = 10
    """Fewest training subjects with which the site takes part at all."""
    max_update_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest global L2 norm of an update that leaves, in weight units; absent: not bounded."""


SIMULATION_POLICY = SitePolicy(min_group=1, min_cohort=1)
"""No suppression: in a simulation every case is the researcher's own. Reports say so."""
