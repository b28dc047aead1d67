"""Pictures kept beside the result, so that a page can be made again without the volumes."""

import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

import numpy as np

from fedvol.errors import BlobDamagedError
from fedvol.files import atomic_path
from fedvol.report.pictures import CasePicture
from fedvol.report.pretext_pictures import PLANES, PretextPlanes

_CASE_PLANES = ("image", "truth", "prediction")

_Picture = TypeVar("_Picture", CasePicture, PretextPlanes)


def save_pictures(path: Path, pictures: Sequence[_Picture]) -> None:
    """Write pictures to one file; they show patients and stay where the volumes are.

    Raises:
        DiskFullError: No space is left.
    """
    held = [
        {one.name: getattr(picture, one.name) for one in fields(picture)} for picture in pictures
    ]
    words = [
        {name: value for name, value in one.items() if not isinstance(value, np.ndarray)}
        for one in held
    ]
    planes = {
        f"{name}_{index}": np.asarray(value, dtype=np.uint8)
        for index, one in enumerate(held)
        for name, value in one.items()
        if isinstance(value, np.ndarray)
    }
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, words=np.array(json.dumps(words)), **planes)


def load_pictures(path: Path) -> tuple[CasePicture, ...]:
    """Pictures of cases written by `save_pictures`; none where there is no file.

    Raises:
        BlobDamagedError: The file is damaged.
    """
    return _load(path, CasePicture, planes=_CASE_PLANES)


def load_pretext_pictures(path: Path) -> tuple[PretextPlanes, ...]:
    """Pictures of a pretext task written by `save_pictures`; none where there is no file.

    Raises:
        BlobDamagedError: The file is damaged.
    """
    return _load(path, PretextPlanes, planes=PLANES)


def _load(
    path: Path, kind: Callable[..., _Picture], *, planes: Sequence[str]
) -> tuple[_Picture, ...]:
    if not path.exists():
        return ()
    try:
        with np.load(path, allow_pickle=False) as held:
            words = json.loads(str(held["words"]))
            return tuple(
                kind(
                    **{**word, "spacing_mm": tuple(word["spacing_mm"])},
                    **{name: held[f"{name}_{index}"] for name in planes},
                )
                for index, word in enumerate(words)
            )
    except (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile) as error:
        raise BlobDamagedError(
            str(path), "not a file of pictures", "Remove it and run simulate with --resume."
        ) from error
