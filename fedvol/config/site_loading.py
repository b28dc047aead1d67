"""From `site.toml` to a `SiteConfig`, with every problem told at once."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from fedvol.config.addresses import split_address
from fedvol.config.findings import read_model
from fedvol.config.loading import parse_toml, read_text
from fedvol.config.site import SiteConfig
from fedvol.errors import Problem, SiteFileError


def load_site(path: Path) -> SiteConfig:
    """Read and check a site's file.

    Raises:
        ConfigFileError: The file is absent, no file, too large, not UTF-8 or not TOML.
        SiteFileError: It breaks its schema or contradicts itself; carries every problem.
    """
    return parse_site(read_text(path), where=str(path))


def parse_site(text: str, *, where: str) -> SiteConfig:
    """Read and check a site's file given as TOML text.

    Args:
        text: The TOML document.
        where: How messages call it, normally the file's path.

    Raises:
        ConfigFileError: The text is not TOML.
        SiteFileError: It breaks its schema or contradicts itself; carries every problem.
    """
    document = parse_toml(text, where=where)
    read = read_model(document, SiteConfig)
    if read.value is None:
        raise SiteFileError(where, read.problems)
    if found := [*read.problems, *site_problems(read.value)]:
        raise SiteFileError(where, found)
    return read.value


def site_problems(config: SiteConfig) -> list[Problem]:
    """Every contradiction inside a site's file that passes its schema."""
    return [
        *_server(config),
        *_sources(config),
        *_hours(config),
        *_link(config),
        *_auto_approve(config),
    ]


def _server(config: SiteConfig) -> Iterator[Problem]:
    try:
        split_address(config.server)
    except ValueError as error:
        yield Problem(
            where="server",
            what=str(error),
            fix="Write it as the invitation has it.",
        )


def _sources(config: SiteConfig) -> Iterator[Problem]:
    names: set[str] = set()
    for number, source in enumerate(config.data):
        where = f"data[{number}]"
        if source.name in names:
            yield Problem(
                where=f"{where}.name",
                what=f"{source.name} is the name of another source too",
                fix="Give each source a name of its own.",
            )
        names.add(source.name)
        if len(set(source.channels)) < len(source.channels):
            yield Problem(
                where=f"{where}.channels",
                what="a channel is named twice",
                fix="Name each channel once, in the order of the files.",
            )
        values = list((source.labels or {}).values())
        if len(set(values)) < len(values):
            yield Problem(
                where=f"{where}.labels",
                what="two classes share a value",
                fix="Give each class the value that the label volumes hold.",
            )


def _hours(config: SiteConfig) -> Iterator[Problem]:
    hours = config.policy.hours
    if hours is None:
        return
    if hours.begin == hours.end:
        yield Problem(
            where="policy.hours.end",
            what="it is the time at which the hours begin",
            fix="Leave policy.hours out to allow every hour.",
        )
    if len(set(hours.days)) < len(hours.days):
        yield Problem(where="policy.hours.days", what="a day is named twice", fix="Name it once.")


def _link(config: SiteConfig) -> Iterator[Problem]:
    link = config.link
    if link.proxy is not None and not _is_proxy(link.proxy):
        yield Problem(
            where="link.proxy",
            what="this is no http://HOST:PORT without a password",
            fix="Write user and password into the file that link.proxy_credentials names.",
        )
    if link.proxy_credentials is not None and link.proxy is None:
        yield Problem(
            where="link.proxy_credentials",
            what="it has no effect without link.proxy",
            fix="Name the proxy, or remove the credentials.",
        )


def _is_proxy(text: str) -> bool:
    if any(letter.isspace() for letter in text):  # the parser below passes over some
        return False
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    is_bare = "@" not in parts.netloc and parts.path in ("", "/")
    return (
        parts.scheme in ("http", "https")
        and bool(parts.hostname)
        and is_bare
        and not (parts.query or parts.fragment)
    )


def _auto_approve(config: SiteConfig) -> Iterator[Problem]:
    rule = config.auto_approve
    if rule.enabled and not rule.studies:
        yield Problem(
            where="auto_approve.studies",
            what="the rule names no study, so it would approve nothing",
            fix="Name the studies, or remove auto_approve.",
        )
    if not rule.enabled:
        for name in sorted(rule.model_fields_set - {"enabled"}):
            yield Problem(
                where=f"auto_approve.{name}",
                what="it has no effect while auto_approve.enabled is false",
                fix="Remove it, or set auto_approve.enabled to true.",
            )
