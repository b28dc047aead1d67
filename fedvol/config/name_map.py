"""How tensors of a foreign file of weights are called here: a TOML file of patterns."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, final

from pydantic import AfterValidator, Field

from fedvol.config.base import Section
from fedvol.config.findings import read_model
from fedvol.config.loading import parse_toml, read_text
from fedvol.errors import NameMapError, Problem

_BLANK = re.compile(r"\{([A-Za-z_]\w*)\}")


def _checked(names: dict[str, str]) -> dict[str, str]:
    for theirs, ours in names.items():
        blanks = [sorted(_BLANK.findall(pattern)) for pattern in (theirs, ours)]
        if blanks[0] != blanks[1]:
            raise ValueError(f"{theirs} and {ours} do not have the same words in braces")
        if len(set(blanks[0])) < len(blanks[0]):
            raise ValueError(f"{theirs} has a word in braces twice")
    return names


@final
class NameMap(Section):
    """Patterns from the names of a file's tensors to those of a network."""

    version: Literal[1] = 1
    """Version of this schema."""
    prefix: str = ""
    """What every name begins with in the file; tensors without it have no name here."""
    names: Annotated[dict[str, str], AfterValidator(_checked)] = Field(default_factory=dict)
    """A name there, less the prefix, and here. A word in braces, such as `{layer}`, stands for
    whatever is between two dots, on both sides the same. The first pattern that fits counts; with
    no pattern at all, names are the same on both sides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Renaming:
    """The names of a set of tensors, on both sides.

    Attributes:
        names: New name to old, in the order of the old ones.
        unexpected: Old names that no pattern fits.
    """

    names: Mapping[str, str]
    unexpected: tuple[str, ...]


def load_name_map(path: Path) -> NameMap:
    """Read and check a name map.

    Raises:
        ConfigFileError: The file is absent, no file, too large, not UTF-8 or not TOML.
        NameMapError: It breaks its schema; carries every problem.
    """
    read = read_model(parse_toml(read_text(path), where=str(path)), NameMap)
    if read.value is None or read.problems:
        raise NameMapError(str(path), read.problems)
    return read.value


def to_own_names(theirs: Iterable[str], names: NameMap) -> Renaming:
    """The names here of a file's tensors.

    Args:
        theirs: Names in the file.
        names: Which pattern makes which name.

    Raises:
        NameMapError: Two tensors would have one name; carries every such pair.
    """
    return _renamed({name: own_name(name, names) for name in theirs})


def to_their_names(ours: Iterable[str], names: NameMap) -> Renaming:
    """The names in a foreign file of a network's tensors: the way back.

    A tensor that would come back under another name has no name there.

    Args:
        ours: Names of the network.
        names: Which pattern makes which name, from there to here.

    Raises:
        NameMapError: Two tensors would have one name; carries every such pair.
    """
    back = {ours: theirs for theirs, ours in names.names.items()}
    found: dict[str, str | None] = {}
    for name in ours:
        theirs = _fitted(name, back) if back else name
        whole = None if theirs is None else names.prefix + theirs
        found[name] = whole if whole is not None and own_name(whole, names) == name else None
    return _renamed(found)


def own_name(theirs: str, names: NameMap) -> str | None:
    """The name here of one tensor of a file; None: it has none."""
    if not theirs.startswith(names.prefix):
        return None
    rest = theirs.removeprefix(names.prefix)
    return _fitted(rest, names.names) if names.names else rest


def _fitted(name: str, patterns: Mapping[str, str]) -> str | None:
    for pattern, result in patterns.items():
        if found := re.fullmatch(_expression(pattern), name):
            return _BLANK.sub(lambda blank, found=found: found[blank[1]], result)
    return None


def _expression(pattern: str) -> str:
    """A pattern as a regular expression; a name stands between dots as a whole."""
    pieces = _BLANK.split(pattern)
    return "".join(
        f"(?P<{piece}>[^.]+)" if index % 2 else re.escape(piece)
        for index, piece in enumerate(pieces)
    )


def _renamed(new_names: Mapping[str, str | None]) -> Renaming:
    names: dict[str, str] = {}
    unexpected: list[str] = []
    problems: list[Problem] = []
    for name, new in new_names.items():
        if new is None:
            unexpected.append(name)
        elif new in names:
            problems.append(
                Problem(
                    where=new,
                    what=f"both {names[new]} and {name} would have this name",
                    fix="Let the patterns fit one of them.",
                )
            )
        else:
            names[new] = name
    if problems:
        raise NameMapError("name map", problems)
    return Renaming(names=names, unexpected=tuple(unexpected))
