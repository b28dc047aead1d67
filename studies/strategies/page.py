"""A page whose design and figures are put in by the command, never typed."""

import re
from pathlib import Path


def fill(page: Path, **blocks: str) -> None:
    """Replace what stands between `<!-- NAME -->` and `<!-- end of NAME -->`.

    Args:
        page: A Markdown file.
        blocks: The new text by name.

    Raises:
        ValueError: The page has no such marks.
    """
    text = page.read_text(encoding="utf-8")
    for name, block in blocks.items():
        marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        found = marks.search(text)
        if found is None:
            raise ValueError(f"{page} has no marks <!-- {name} --> and <!-- end of {name} -->")
        text = text[: found.end(1)] + block + "\n" + text[found.start(2) :]
    page.write_text(text, encoding="utf-8")
