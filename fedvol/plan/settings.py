"""Every value that may be planned, for people: where it is from, and why it is what it is."""

import json
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import JsonValue

from fedvol.config import OpenStudy, Study
from fedvol.config.monai_networks import AttentionUNet, DynUNet, ResidualUNet
from fedvol.config.network import (
    Network,
    ResidualEncoderUNet,
    UNet,
    level_kernels,
    level_strides,
)
from fedvol.config.patch_rule import inner_strides
from fedvol.plan.choices import PlanningRecord

SETTINGS: Final = (
    "preprocessing.spacing_mm",
    "preprocessing.normalisation",
    "patches.size",
    "network.features",
    "network.strides",
    "network.kernels",
    "network.blocks_per_stage",
    "patches.batch_size",
)
"""Keys that may be planned, in the order in which they are."""

Origin = Literal["study", "default", "planned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One line of a plan for people.

    Attributes:
        key: The key of the study.
        value: Its value, as the run uses it.
        origin: Written in the study file, left to its default, or planned from fingerprints.
        reason: Why it is what it is.
    """

    key: str
    value: JsonValue
    origin: Origin
    reason: str


def settings_of(
    opened: OpenStudy, closed: Study, record: PlanningRecord | None
) -> tuple[Setting, ...]:
    """Every value that may be planned and that this study's network has.

    Args:
        opened: The study as written.
        closed: The same with nothing left open.
        record: How its open values came about; None where it left none.
    """
    document = json.loads(closed.model_dump_json())
    planned = {choice.key: choice for choice in record.choices} if record else {}
    settings: list[Setting] = []
    for key in SETTINGS:
        section, _, name = key.partition(".")
        if name not in document[section]:
            continue
        value, origin, reason = document[section][name], "study", "written in the study file"
        if choice := planned.get(key):
            value, origin, reason = choice.value, "planned", choice.reason
        elif name not in getattr(opened, section).model_fields_set:
            origin, reason = "default", "left to its default"
            if value is None:
                value, reason = _default(name, closed.network)
        settings.append(Setting(key=key, value=value, origin=origin, reason=reason))
    return tuple(settings)


def _default(name: str, network: Network) -> tuple[JsonValue, str]:
    """What a list that is not written comes to for the study's features."""
    match network:
        case UNet() | ResidualEncoderUNet() | DynUNet():
            if name == "kernels":
                lists, words = level_kernels(network), "3 along every axis"
            else:
                lists, words = level_strides(network), "2 from the second stage on"
        case ResidualUNet() | AttentionUNet():
            lists, words = inner_strides(network), "2 along every axis"
        case _:
            raise ValueError(f"{network.kind} has no {name} by default")
    return [[*entry] for entry in lists], f"left to its default: {words}"
