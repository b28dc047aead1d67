"""How a hospital's worker is started. The process that starts it loads nothing that trains."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from fedvol.site import SiteFolder
from fedvol.telemetry import Observer
from fedvol.transport.carriers import Handle
from fedvol.transport.engine import App
from fedvol.transport.process_pool import OpenApp

Through = Callable[[Handle], Handle]
"""What a worker's answers pass before they are signed."""


def unchanged(handle: Handle) -> Handle:
    """The answers as they are."""
    return handle


def opens_site_worker(folder: SiteFolder, *, through: Through = unchanged) -> OpenApp:
    """What a worker is started with; all else is in the folder.

    Args:
        folder: The site's folder.
        through: What its answers pass before they are signed; importable by name. For tests.
    """
    return partial(_open, str(folder.folder.absolute()), through)


def _open(text: str, through: Through, number: int, observer: Observer) -> App:
    from fedvol.client.site_worker import open_site_worker  # torch, in the worker alone

    del number  # a hospital has one worker
    return open_site_worker(SiteFolder(folder=Path(text)), through=through, observer=observer)
