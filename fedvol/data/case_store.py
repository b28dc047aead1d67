"""Prepared cases on disk: one file each, compressed in blocks, read only where touched."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from urllib.parse import quote, unquote

import blosc2
import numpy as np
from jaxtyping import Float, Float32, Int16, Int32, UInt8
from numpy.typing import NDArray

from fedvol.data.box import Box
from fedvol.data.case_file import (
    Description,
    Header,
    Row,
    check_length,
    check_payload,
    open_section,
    quantise,
    read_header,
    write_case_file,
)
from fedvol.data.volume import PreparedCase
from fedvol.errors import CaseStoreError
from fedvol.files import store_error
from fedvol.types import CaseId, Digest, Triple

PADDING = 0.0
"""Image value beyond a volume's edge, in sampling and inference alike, as in nnU-Net; label 0."""

_SUFFIX = ".case"
_FOREGROUND = "foreground/"


class CaseStore:
    """Prepared cases of one site, one file each, in one folder.

    Args:
        folder: Where the files are; made on the first write.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, case: CaseId, prepared: PreparedCase, *, key: Digest) -> None:
        """Write a case whole or not at all; an older file of the case is replaced.

        The image is kept as int16 with a scale and offset per channel: no voxel moves by more than
        1/65534 of its channel's range. Labels are kept exactly.

        Args:
            case: Its name.
            prepared: What to keep.
            key: Digest of everything the content depends on: source files and settings.

        Raises:
            DiskFullError: No space is left.
            StoreError: The folder cannot be written.
        """
        levels, scale, offset = quantise(prepared.image)
        sections: dict[str, NDArray[np.generic]] = {"image": levels}
        if prepared.label is not None:
            sections["label"] = prepared.label
        reference = prepared.reference_label
        reference_is_label = (
            reference is not None
            and prepared.label is not None
            and np.array_equal(reference, prepared.label)
        )
        if reference is not None and not reference_is_label:
            sections["reference_label"] = reference
        for index, voxels in sorted(prepared.foreground.items()):
            if len(voxels):
                sections[f"{_FOREGROUND}{index}"] = voxels.astype(np.int32)
        description = Description(
            case=case,
            key=key,
            shape=_triple(prepared.image.shape[1:]),
            scale=scale,
            offset=offset,
            affine=_rows(prepared.affine),
            reference_shape=_triple(prepared.reference_shape),
            reference_affine=_rows(prepared.reference_affine),
            reference_is_label=reference_is_label,
        )
        write_case_file(self._path(case), description=description, sections=sections)

    def has(self, case: CaseId, key: Digest) -> bool:
        """Whether a file of this case and key is there, of full length; reads its header only.

        A damaged file counts as absent, so that the case is prepared anew.
        """
        path = self._path(case)
        if not path.is_file():
            return False
        try:
            header, start = read_header(path, case=case)
            check_length(path, header=header, start=start)
        except CaseStoreError:
            return False
        return header.description.key == key

    def open(self, case: CaseId) -> "StoredCase":
        """A case for reading; reads its header and compares its length.

        Its voxels are checked when the first of them are read: a site that opens a thousand
        volumes would else read them all before it begins.

        Raises:
            CaseStoreError: The case is absent, cut short, or of another version.
        """
        path = self._path(case)
        header, start = read_header(path, case=case)
        check_length(path, header=header, start=start)
        return StoredCase(path=path, header=header, start=start)

    def cases(self) -> tuple[CaseId, ...]:
        """Names of the cases that have a file, in order."""
        names = (unquote(path.name[: -len(_SUFFIX)]) for path in self._folder.glob(f"*{_SUFFIX}"))
        return tuple(CaseId(name) for name in sorted(names))

    def keep_only(self, cases: Collection[CaseId]) -> None:
        """Remove the file of every other case.

        Raises:
            StoreError: The folder cannot be written.
        """
        for case in self.cases():
            if case not in cases:
                path = self._path(case)
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    raise store_error(path, error) from error

    def _path(self, case: CaseId) -> Path:
        return self._folder / f"{quote(case, safe='')}{_SUFFIX}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Voxels:
    """A case as it is kept, uncompressed.

    Attributes:
        levels: Image in int16 levels; scale and offset are the case's.
        label: Class indices; None where the case is not annotated.
    """

    levels: Int16[np.ndarray, "channel i j k"]
    label: UInt8[np.ndarray, "i j k"] | None


class StoredCase:
    """One prepared case, read when asked for; made by `CaseStore.open`.

    It holds the file's header only, a few KB: whoever wants voxels again keeps them. Whichever
    section is read first, the whole file is compared with its digest before, once.

    Raises:
        CaseStoreError: Of every method that reads: the file is damaged, gone or another.
    """

    def __init__(self, *, path: Path, header: Header, start: int) -> None:
        self._path = path
        self._start = start
        self._header = header
        self._is_checked = False
        self._about = header.description
        self._places = {place.name: place for place in header.places}
        self._scale = np.asarray(self._about.scale, dtype=np.float32)[:, None, None, None]
        self._offset = np.asarray(self._about.offset, dtype=np.float32)[:, None, None, None]

    @property
    def case(self) -> CaseId:
        """Its name."""
        return CaseId(self._about.case)

    @property
    def key(self) -> Digest:
        """Digest of what its content depends on, as given on writing."""
        return Digest(self._about.key)

    @property
    def shape(self) -> Triple:
        """Voxels of the prepared grid."""
        return self._about.shape

    @property
    def num_channels(self) -> int:
        """Image channels."""
        return len(self._about.scale)

    @property
    def voxel_bytes(self) -> int:
        """What `voxels` takes in memory."""
        return prod(self.shape) * (2 * self.num_channels + self.has_label)

    @property
    def affine(self) -> Float[np.ndarray, "4 4"]:
        """Prepared grid's voxel index to millimetres."""
        return np.asarray(self._about.affine)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Edge lengths of a voxel of the prepared grid."""
        return _spacing_mm(self.affine)

    @property
    def has_label(self) -> bool:
        """Whether the case is annotated."""
        return "label" in self._places

    @property
    def reference_shape(self) -> Triple:
        """Voxels of the grid as read."""
        return self._about.reference_shape

    @property
    def reference_affine(self) -> Float[np.ndarray, "4 4"]:
        """Affine of the grid as read."""
        return np.asarray(self._about.reference_affine)

    @property
    def reference_spacing_mm(self) -> tuple[float, float, float]:
        """Edge lengths of a voxel of the grid as read."""
        return _spacing_mm(self.reference_affine)

    @property
    def foreground_classes(self) -> tuple[int, ...]:
        """Classes whose voxels are listed, in order; none without a label."""
        names = (name for name in self._places if name.startswith(_FOREGROUND))
        return tuple(sorted(int(name.removeprefix(_FOREGROUND)) for name in names))

    def foreground(self, index: int) -> Int32[np.ndarray, "voxel 3"]:
        """Voxels of one of `foreground_classes`, evenly spread, read from the file."""
        return np.asarray(self._section(f"{_FOREGROUND}{index}")[:])

    def image(self) -> Float32[np.ndarray, "channel i j k"]:
        """The whole normalised image."""
        return self._decode(np.asarray(self._section("image")[:]))

    def label(self) -> UInt8[np.ndarray, "i j k"]:
        """The whole label, class indices.

        Raises:
            CaseStoreError: The case has no label.
        """
        return np.asarray(self._section("label")[:])

    def reference_label(self) -> UInt8[np.ndarray, "x y z"] | None:
        """Class indices on the grid the site annotated; None without a label."""
        if self._about.reference_is_label:
            return self.label()
        if "reference_label" not in self._places:
            return None
        return np.asarray(self._section("reference_label")[:])

    def read_patch(
        self,
        start: Triple,
        *,
        image: Float32[np.ndarray, "channel i j k"],
        label: UInt8[np.ndarray, "i j k"] | None,
        voxels: "Voxels | None" = None,
    ) -> None:
        """Write a box of image and label into arrays of its size; what lies outside is padded.

        Args:
            start: First voxel; may be negative or leave the volume.
            image: Filled with the intensities, outside the volume with `PADDING`.
            label: Filled with the class indices, outside the volume with 0; None: not wanted.
            voxels: What `voxels` gave, to read from memory; None reads the file.

        Raises:
            CaseStoreError: The case has no label.
        """
        levels = self._section("image") if voxels is None else voxels.levels
        box = Box.at(start, size=_triple(image.shape[1:]), shape=self.shape)
        if not box.is_inside:
            image.fill(PADDING)
        inside = image[(slice(None), *box.outer)]
        inside[...] = np.asarray(levels[(slice(None), *box.inner)])
        inside *= self._scale
        inside += self._offset
        if label is None:
            return
        classes = self._section("label") if voxels is None else voxels.label
        assert classes is not None
        if not box.is_inside:
            label.fill(0)
        label[box.outer] = np.asarray(classes[box.inner])

    def voxels(self) -> "Voxels":
        """All voxels in main memory, 2 bytes a channel and 1 for the label.

        Raises:
            CaseStoreError: The case is damaged.
        """
        levels = np.asarray(self._section("image")[:])
        return Voxels(levels=levels, label=self.label() if self.has_label else None)

    def check(self) -> None:
        """Compare the whole file with its digest, unless it was compared before."""
        if not self._is_checked:
            check_payload(self._path, header=self._header, start=self._start)
            self._is_checked = True

    def _section(self, name: str) -> blosc2.NDArray:
        if name not in self._places:
            raise CaseStoreError(
                f"case {self.case}", f"has no {name}", "Only labelled cases can be used here."
            )
        self.check()
        place = self._places[name]
        return open_section(self._path, place=place, start=self._start, case=self.case)

    def _decode(self, levels: NDArray[np.int16]) -> NDArray[np.float32]:
        out = levels.astype(np.float32)
        out *= self._scale
        out += self._offset
        return out


def _rows(affine: NDArray[np.floating]) -> tuple[Row, Row, Row, Row]:
    a, b, c, d = ((float(w), float(x), float(y), float(z)) for w, x, y, z in affine)
    return a, b, c, d


def _triple(sides: Iterable[int]) -> Triple:
    i, j, k = sides
    return int(i), int(j), int(k)


def _spacing_mm(affine: NDArray[np.floating]) -> tuple[float, float, float]:
    i, j, k = np.linalg.norm(affine[:3, :3], axis=0)
    return float(i), float(j), float(k)
