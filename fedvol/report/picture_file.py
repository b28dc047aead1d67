"""Case pictures kept beside the result, so that a page can be made again without the volumes."""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedvol.errors import BlobDamagedError
from fedvol.files import atomic_path
from fedvol.report.pictures import CasePicture

_PLANES = ("image", "truth", "prediction")


def save_pictures(path: Path, pictures: Sequence[CasePicture]) -> None:
    """Write pictures to one file; they show patients and stay where the volumes are.

    Raises:
        DiskFullError: No space is left.
    """
    words = [
        {
            "label": picture.label,
            "site": picture.site,
            "case": picture.case,
            "metric": picture.metric,
            "spacing_mm": picture.spacing_mm,
            "view": picture.view,
        }
        for picture in pictures
    ]
    planes = {
        f"{name}_{index}": np.asarray(getattr(picture, name), dtype=np.uint8)
        for index, picture in enumerate(pictures)
        for name in _PLANES
    }
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, words=np.array(json.dumps(words)), **planes)


def load_pictures(path: Path) -> tuple[CasePicture, ...]:
    """Pictures written by `save_pictures`; none where there is no file.

    Raises:
        BlobDamagedError: The file is damaged.
    """
    if not path.exists():
        return ()
    try:
        with np.load(path, allow_pickle=False) as held:
            words = json.loads(str(held["words"]))
            return tuple(
                CasePicture(
                    **{**word, "spacing_mm": tuple(word["spacing_mm"])},
                    **{name: held[f"{name}_{index}"] for name in _PLANES},
                )
                for index, word in enumerate(words)
            )
    except (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile) as error:
        raise BlobDamagedError(
            str(path), "not a file of case pictures", "Remove it and run simulate with --resume."
        ) from error
