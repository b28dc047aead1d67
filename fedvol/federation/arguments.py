"""What a site is told for a round beside the global state, as a strict schema."""

import json
from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import Field, ValidationError

from fedvol.config.base import Section
from fedvol.errors import PlanMismatchError
from fedvol.federation.messages import Request
from fedvol.types import Json


class RoundArguments(Section):
    """Values that follow from earlier rounds; absent where the stage needs none."""

    mu: Annotated[float, Field(ge=0)] | None = None
    """Adaptive FedProx: pull towards the global weights in this round."""
    control_round: Annotated[int, Field(ge=0)] | None = None
    """SCAFFOLD: last round whose contribution of this site was taken; 0 for none."""
    start_round: Annotated[int, Field(ge=1)] | None = None
    """Personalise: round of the finetune stage that was released."""

    def as_json(self) -> Mapping[str, Json]:
        """The values that are given, by name."""
        return self.model_dump(mode="json", exclude_none=True)

    @classmethod
    def of(cls, request: Request) -> Self:
        """The arguments of a request.

        Raises:
            PlanMismatchError: They do not follow the schema, or name a round to come.
        """
        try:
            found = cls.model_validate_json(json.dumps(dict(request.arguments)))
        except (ValidationError, TypeError, ValueError) as error:
            raise _unlike(request, "do not follow the schema") from error
        if found.control_round is not None and found.control_round >= max(request.round, 1):
            raise _unlike(request, "name a round that is not over")
        return found


def _unlike(request: Request, what: str) -> PlanMismatchError:
    return PlanMismatchError(
        f"site {request.site}, round {request.round}",
        f"the request's arguments {what}",
        "Bring server and site to one fedvol version.",
    )
