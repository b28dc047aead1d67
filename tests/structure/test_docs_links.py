"""Every relative link of a page leads to a file or folder of the repository."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("[!.]*/**/*.md")])
_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)")
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def _links(text: str) -> list[str]:
    targets = [urlsplit(target) for target in _LINK.findall(_CODE.sub("", text))]
    return [unquote(part.path) for part in targets if part.path and not part.scheme]


LINKS = [(page, link) for page in PAGES for link in _links(page.read_text())]


@pytest.mark.parametrize(
    ("page", "link"), LINKS, ids=[f"{page.relative_to(REPOSITORY)}:{link}" for page, link in LINKS]
)
def test_link_resolves(page: Path, link: str) -> None:
    target = (page.parent / link).resolve()
    assert target.is_relative_to(REPOSITORY)
    assert target.exists()


def test_links_are_found() -> None:
    text = (
        "![a](docs/a.png) [b](b.md#part) [c](https://c.org/d) [d](#e)\n```\n[f](g)\n```\n`[h](i)`"
    )
    assert _links(text) == ["docs/a.png", "b.md"]
    assert any(page.name == "README.md" for page, _ in LINKS)


def test_every_file_that_contributing_names_is_there() -> None:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"`([a-z_]+/[a-z_/]+\.py)`", text))
    assert len(named) > 30
    assert not {path for path in named if not (REPOSITORY / "fedvol" / path).is_file()}
