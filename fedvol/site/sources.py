"""How a folder of volumes becomes a data source of the site: a table at the end of `site.toml`."""

from collections.abc import Mapping
from pathlib import Path

from fedvol.config import DataSource
from fedvol.config.site_loading import parse_site
from fedvol.data.layout import read_site_entries
from fedvol.errors import UsageError
from fedvol.site.folder import SiteFolder
from fedvol.site.toml_text import source_text
from fedvol.types import SiteId


def add_source(
    folder: SiteFolder,
    *,
    name: str,
    data: Path,
    channels: tuple[str, ...],
    labels: Mapping[str, int] | None,
) -> tuple[DataSource, int]:
    """Add a folder of volumes; the rest of the file stays as it was written.

    Args:
        folder: The site's folder.
        name: How the source is called.
        data: The folder of volumes.
        channels: Its image channels, in order.
        labels: Class name to value in its label volumes; None: not stated.

    Returns:
        The source, and how many cases its folder lists.

    Raises:
        SiteFileError: A name is taken or malformed, or the file was wrong already.
        DataFolderError: The folder is absent or holds no layout we know.
        CaseTableError: Its table is wrong; carries every problem.
        StoreError: The file cannot be written.
    """
    config = folder.config()
    cases = read_site_entries(data, site=SiteId(config.site), num_channels=len(channels))
    text = folder.config_file.read_text(encoding="utf-8-sig")
    text = (
        text.rstrip("\n")
        + "\n"
        + source_text(name=name, folder=str(data.resolve()), channels=channels, labels=labels)
    )
    changed = parse_site(text, where=str(folder.config_file))
    folder.write(folder.config_file, text.encode())
    return changed.data[-1], len(cases)


def parse_labels(text: str) -> dict[str, int] | None:
    """Classes as the command line has them: `liver=1,lesion=2`; None where nothing is stated.

    Raises:
        UsageError: A part is not name=number.
    """
    if not text.strip():
        return None
    labels: dict[str, int] = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if not name or not value.isdecimal() or name in labels:
            raise UsageError(
                "--labels", f"{part.strip()!r} is not name=number, once", "Write liver=1,lesion=2."
            )
        labels[name] = int(value)
    return labels
