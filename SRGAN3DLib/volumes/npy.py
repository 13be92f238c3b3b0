"""Volumes as bare .npy files with their matrix beside them in the job: how Slicer and the worker exchange voxels, without loss."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from SRGAN3DLib.contract.errors import VolumeError

from .files import whole_file
from .geometry import volume_shape
from .volume import Volume, check_voxels


def read_array(path: str | Path, ijk_to_ras: Sequence[Sequence[float]]) -> Volume:
    """The (K, J, I) array of a .npy file on the grid of a 4x4 matrix (voxel centres, mm).

    Raises `VolumeError` that begins with the path for what is no array, not 3-D, not of real numbers, or no scan.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise VolumeError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError) as error:
        raise VolumeError(f"{path}: not a readable .npy file ({error})") from None
    try:
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
            raise VolumeError(f"holds {getattr(array, 'dtype', 'an archive')}; real numbers must be stored")
        volume_shape(array.shape[::-1])
        volume = Volume.from_array(array, np.asarray(ijk_to_ras, np.float64))
        check_voxels(volume.array)
    except VolumeError as error:
        raise VolumeError(f"{path}: {error}") from None
    return volume


def write_array(path: str | Path, array: np.ndarray) -> None:
    """Write a .npy file, whole or not at all. Raises `JobError` or `ResourceError`."""
    with whole_file(path) as part, part.open("wb") as file:
        np.save(file, array, allow_pickle=False)
