"""A small file system of its own, which fills up."""

import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest


class SmallDisk:
    """A file system of its own that can be given more space."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def resize(self, kilobytes: int) -> None:
        self._mount("-o", f"remount,size={kilobytes}k", str(self.folder))

    def mount(self, kilobytes: int) -> None:
        self._mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(self.folder))

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)

    def _mount(self, *words: str) -> None:
        ended = subprocess.run(
            ["mount", *words],
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode:
            raise OSError(ended.stderr.strip())


@contextmanager
def small_disk(folder: Path, *, kilobytes: int) -> Generator[SmallDisk]:
    """A file system over a folder, which may hold something that is hidden meanwhile."""
    disk = SmallDisk(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        disk.mount(kilobytes)
    except OSError as error:
        pytest.skip(f"no small disk can be made here: {error}")
    try:
        yield disk
    finally:
        disk.unmount()
