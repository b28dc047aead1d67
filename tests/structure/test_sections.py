"""Sections of the configuration are composed: whoever is built upon is abstract, and nothing of it
is overridden."""

import pkgutil
from collections.abc import Iterator
from importlib import import_module

import pytest

import fedvol.config
from fedvol.config.base import Section

for module in pkgutil.iter_modules(fedvol.config.__path__):
    import_module(f"fedvol.config.{module.name}")


def below(section: type[Section]) -> Iterator[type[Section]]:
    for one in section.__subclasses__():
        if one.__module__.startswith("fedvol.config"):
            yield one
            yield from below(one)


SECTIONS = sorted(set(below(Section)), key=lambda one: one.__qualname__)
BUILT_UPON = [one for one in SECTIONS if one.__subclasses__()]


@pytest.mark.parametrize("section", BUILT_UPON, ids=lambda one: one.__qualname__)
def test_a_section_that_others_build_upon_is_abstract(section: type[Section]) -> None:
    is_abstract = section.__name__.startswith("_") or (section.__doc__ or "").startswith("Abstract")
    assert is_abstract
    assert not getattr(section, "__final__", False)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda one: one.__qualname__)
def test_no_section_overrides_a_key_of_another(section: type[Section]) -> None:
    own = set(section.__annotations__)
    others = {
        name for base in section.__mro__[1:] for name in vars(base).get("__annotations__", {})
    }
    assert not own & (others - {"model_config"})
