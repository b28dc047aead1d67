"""`site.toml` as text: written once with its meaning beside it, later only added to."""

import json
from collections.abc import Mapping, Sequence

_TEMPLATE = """\
# What belongs to this hospital alone. Its policy wins over any study.
# Every key, with its meaning: docs/site.md.

version = 1
site = {site}
server = {server}

[policy]
# Fewest subjects behind a statistic that leaves, and fewest to take part at all.
min_group = 10
min_cohort = 10
# networks = ["unet", "resenc_unet"]
# max_rounds = 500
# hours = {{ begin = "19:00", end = "07:00" }}

[resources]
device = {device}
# The most CPU threads a study may ask for.
num_threads = 8
"""


def new_site_text(*, site: str, server: str, device: str) -> str:
    """The file of a new site, with the strictest defaults written out."""
    return _TEMPLATE.format(
        site=json.dumps(site), server=json.dumps(server), device=json.dumps(device)
    )


def source_text(
    *, name: str, folder: str, channels: Sequence[str], labels: Mapping[str, int] | None
) -> str:
    """The table of one data source, to be added at the end of the file."""
    lines = [
        "",
        "[[data]]",
        f"name = {_text(name)}",
        f"folder = {_text(folder)}",
        f"channels = [{', '.join(_text(channel) for channel in channels)}]",
    ]
    if labels is not None:
        pairs = ", ".join(f"{_text(label)} = {value}" for label, value in labels.items())
        lines.append(f"labels = {{ {pairs} }}")
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    """A basic string of TOML; JSON's spelling is one, but for the character 127."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
