"""Jinja2 environments of this package's templates; unknown names are errors."""

import re
from functools import cache
from typing import cast

from jinja2 import Environment, PackageLoader, StrictUndefined

from fedvol.report import figures, wording

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|!~])")


@cache
def html_templates() -> Environment:
    """Pages: everything is escaped for HTML."""
    return _environment(autoescape=True)


@cache
def markdown_templates() -> Environment:
    """Markdown: names and free text go through the filter `md`."""
    return _environment(autoescape=False)


def escape_markdown(text: str) -> str:
    """One line in which no character of the text means anything to Markdown or HTML."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split())).replace("&", "&amp;")


def _environment(*, autoescape: bool) -> Environment:
    made = Environment(
        loader=PackageLoader("fedvol.report", "templates"),
        autoescape=autoescape,  # noqa: S701  # Markdown alone: its template escapes by `md`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = cast("dict[str, object]", made.filters)  # pyright: ignore[reportUnknownMemberType]
    filters.update(
        duration=figures.duration,
        size=figures.size,
        count=figures.count,
        trained_on=figures.trained_on,
        md=escape_markdown,
    )
    names = cast("dict[str, object]", made.globals)  # pyright: ignore[reportUnknownMemberType]
    names.update(
        figure=figures.figure,
        metric_info=figures.metric_info,
        number=figures.number,
        states=wording.STATES,
        code_title=wording.code_title,
    )
    return made
