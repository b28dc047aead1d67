"""NIfTI files whose bytes depend on their content alone."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Float, Shaped

from fedvol.files import write_atomic


def write_nifti(
    path: Path, array: Shaped[np.ndarray, "channel i j k"], *, affine: Float[np.ndarray, "4 4"]
) -> None:
    """Write a volume, RAS+, whole or not at all; the same volume gives the same bytes.

    Args:
        path: Ends in `.nii.gz` or `.nii`.
        array: Voxels in the type they are stored as; one channel becomes a 3-D file.
        affine: Voxel index to millimetres; written as qform and sform.

    Raises:
        DiskFullError: No space is left.
        StoreError: The folder cannot be written.
    """
    voxels = array[0] if len(array) == 1 else np.moveaxis(array, 0, -1)
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, code="scanner")
    image.set_sform(affine, code="scanner")
    content = image.to_bytes()
    if path.suffix == ".gz":
        # No time stamp in the gzip header: it would be all that differs between two runs.
        content = gzip.compress(content, compresslevel=4, mtime=0)
    write_atomic(path, content)
