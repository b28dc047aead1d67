"""The reference of `site.toml` is the schema's own."""

from pathlib import Path

from fedvol.config.base import Section
from fedvol.config.reference import site_reference

PAGE = Path(__file__).parents[2] / "docs" / "site.md"


def test_reference_is_up_to_date() -> None:
    assert PAGE.read_text() == site_reference(), "run: fedvol site schema > docs/site.md"


def test_reference_names_every_key() -> None:
    reference = site_reference()
    sections = [one for one in Section.__subclasses__() if one.__module__ == "fedvol.config.site"]
    assert len(sections) >= 7
    for section in sections:
        for name in section.model_fields:
            assert f"| `{name}` |" in reference, f"{section.__name__}.{name}"
