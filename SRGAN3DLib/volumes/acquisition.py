"""AcquisitionFacts: what a scan's file says about how the scanner made it. Only DICOM says such things.

Each fact is None (or empty) where the file does not state it. Nothing here is estimated from voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class AcquisitionFacts:
    """How one series was acquired. The names follow the DICOM attributes; lengths are in mm.

    `slice_thickness_mm`: SliceThickness, the nominal FWHM of a slice. `slice_spacing_mm`: SpacingBetweenSlices, from centre to centre.
    `acquisition_matrix`: (frequency rows, frequency columns, phase rows, phase columns), with 0 where a direction is not used.
    `interpolated`: whether the in-plane image matrix is larger than the acquisition matrix, that is zero-filled; None: not stated.
    `interpolated_slices`: whether the slices are interpolated (3-D zero-filling, overlapping slices); None: not stated.
    `partial_fourier` and `filters` are as stated, in the words of the file. `contrast`: T1w, T2w, FLAIR, PDw, T2star or empty, guessed
    from the description, the sequence name and the acquisition's times. `files`: the files that the voxels came from, in slice order.
    """

    slice_thickness_mm: float | None = None
    slice_spacing_mm: float | None = None
    acquisition_matrix: tuple[int, int, int, int] | None = None
    interpolated: bool | None = None
    interpolated_slices: bool | None = None
    partial_fourier: str = ""
    filters: str = ""
    modality: str = ""
    description: str = ""
    contrast: str = ""
    series_uid: str = ""
    study_uid: str = ""
    files: tuple[Path, ...] = ()
