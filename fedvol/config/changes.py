"""A study as written, with some of its keys changed: one variant of it."""

from collections.abc import Mapping
from typing import Any, cast

from fedvol.config.strategy import STAGE_ORDER

Document = dict[str, Any]


def changed(document: Mapping[str, Any], changes: Mapping[str, Any]) -> Document:
    """The values of a TOML document with others in place of some.

    Tables are changed key by key, anything else as a whole, and so is a table whose `kind` becomes
    another. `stages` is changed by kind: `stages.pretrain` is the pretrain stage, which is put in
    its place where the document has none.

    Args:
        document: Values of the document.
        changes: Those that replace them or come to them.
    """
    result = {**document}
    for key, value in changes.items():
        before = result.get(key)
        if key == "stages" and isinstance(before, list) and isinstance(value, dict):
            stages = cast("list[Document]", before)
            result[key] = _changed_stages(stages, cast("Document", value))
        elif isinstance(before, dict) and isinstance(value, dict):
            result[key] = _changed_table(cast("Document", before), cast("Document", value))
        else:
            result[key] = value
    return result


def _changed_table(before: Document, changes: Document) -> Document:
    is_another = changes.get("kind", before.get("kind")) != before.get("kind")
    return changes if is_another else changed(before, changes)


def _changed_stages(before: list[Document], changes: Document) -> list[Document]:
    stages = {str(stage.get("kind")): stage for stage in before}
    for kind, value in changes.items():
        held = stages.get(kind, {})
        stages[kind] = {"kind": kind, **changed(held, value)}
    return sorted(stages.values(), key=_place)


def _place(stage: Document) -> int:
    """Where a stage stands; one of no known kind comes last, and the study's check names it."""
    kind = stage.get("kind")
    return STAGE_ORDER.index(kind) if kind in STAGE_ORDER else len(STAGE_ORDER)
