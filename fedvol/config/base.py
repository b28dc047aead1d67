"""The model every configuration section derives from."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Frozen, strict, and intolerant of unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
