"""AcquisitionFacts: what a scan's file says about how the scanner made it. Only DICOM says such things.

Each fact is None (or empty) where the file does not state it. Nothing here is estimated from voxels.
Source: DICOM PS3.3, C.8.3.1 (MR image), C.8.13 (enhanced MR).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SRGAN3DLib.contract.errors import VolumeError

from .dicom_file import first_item, number, numbers, text, untyped_errors_named
from .geometry import Geometry

_CONTRASTS = (
    ("FLAIR", r"flair|dark.?fluid"),
    ("T2star", r"t2[ _-]?(star|\*)|\bswi\b|\bswan\b"),
    ("T1w", r"t1|mprage|mp2rage|spgr|bravo|\btfl3d|\bvibe"),
    ("T2w", r"t2"),
    ("PDw", r"\bpd|proton"),
)
_OVERLAP = 1.2  # times their spacing: slices of a 3-D acquisition that are stated to be thicker were interpolated
_LARGEST = 1e6


@dataclass(frozen=True)
class AcquisitionFacts:
    """How one series was acquired. The names follow the DICOM attributes; lengths are in mm.

    `slice_thickness_mm`: SliceThickness, the nominal FWHM of a slice. `slice_spacing_mm`: SpacingBetweenSlices, from centre to centre.
    `acquisition_matrix`: (frequency rows, frequency columns, phase rows, phase columns), with 0 where a direction is not used.
    `interpolated`: whether the in-plane image matrix is larger than the acquisition matrix, that is zero-filled; None: not stated.
    `interpolated_slices`: True where 3-D slices are thicker than their spacing or the scan options say so; None: not stated.
    `partial_fourier` and `filters` are as stated, in the words of the file. `contrast`: T1w, T2w, FLAIR, PDw, T2star or empty, guessed
    from the description, else from echo, repetition and inversion time. `files`: those that the voxels came from, in slice order.
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


def acquisition_facts(dataset: Any, geometry: Geometry, files: tuple[Path, ...]) -> AcquisitionFacts:
    """The facts that a file's attributes (pydicom's data set) state; an attribute that is damaged counts as not stated."""
    with untyped_errors_named("damaged DICOM header"):
        shared = first_item(dataset, "SharedFunctionalGroupsSequence")
        frame = first_item(dataset, "PerFrameFunctionalGroupsSequence")

        def places(group: str) -> list[Any]:
            """Where an attribute may stand: the first frame's own group, the shared one, the file itself (classic)."""
            return [first_item(frame, group), first_item(shared, group), dataset]

        measures, modifier = places("PixelMeasuresSequence"), places("MRModifierSequence")
        thickness, matrix = _length(measures, "SliceThickness"), _matrix(dataset, places("MRFOVGeometrySequence"))
        description = text(dataset, "SeriesDescription") or text(dataset, "ProtocolName")
        return AcquisitionFacts(
            slice_thickness_mm=thickness,
            slice_spacing_mm=_length(measures, "SpacingBetweenSlices"),
            acquisition_matrix=matrix,
            interpolated=None if matrix is None else max(geometry.shape_kji[1:]) > max(matrix),
            interpolated_slices=_interpolated_slices(dataset, thickness, geometry.spacing_kji_mm[0]),
            partial_fourier=_stated(dataset, modifier, ("PartialFourier", "PartialFourierDirection"), r"PF[PF]|PARTIAL"),
            filters=_stated(dataset, modifier, ("KSpaceFiltering", "ImageFilter", "ConvolutionKernel"), r"FILT"),
            modality=text(dataset, "Modality"),
            description=description,
            contrast=_contrast(dataset, description, places),
            series_uid=text(dataset, "SeriesInstanceUID"),
            study_uid=text(dataset, "StudyInstanceUID"),
            files=files,
        )


def _number(places: list[Any], *keywords: str) -> float | None:
    """The first number under one of the keywords at one of the places."""
    for place in places:
        for keyword in keywords:
            try:
                found = number(place, keyword)
            except VolumeError:  # damaged: as if it were not stated
                continue
            if found is not None and abs(found) < _LARGEST:
                return found
    return None


def _length(places: list[Any], keyword: str) -> float | None:
    found = _number(places, keyword)
    return abs(found) if found else None


def _matrix(dataset: Any, fov: list[Any]) -> tuple[int, int, int, int] | None:
    try:
        found = numbers(dataset, "AcquisitionMatrix", 4)
    except VolumeError:
        found = None
    if found is None:
        frequency, phase = _number(fov, "MRAcquisitionFrequencyEncodingSteps"), _number(fov, "MRAcquisitionPhaseEncodingStepsInPlane")
        found = (frequency, 0.0, 0.0, phase) if frequency and phase else None
    if found is None or not all(0 <= n < _LARGEST for n in found) or not any(found):
        return None
    a, b, c, d = (int(n) for n in found)
    return (a, b, c, d)


def _interpolated_slices(dataset: Any, thickness: float | None, spacing: float) -> bool | None:
    if "ZIP" in text(dataset, "ScanOptions").upper():
        return True
    if text(dataset, "MRAcquisitionType").upper() == "3D" and thickness is not None and thickness > _OVERLAP * spacing:
        return True
    return None


def _stated(dataset: Any, places: list[Any], keywords: tuple[str, ...], options: str) -> str:
    """The words under the keywords, and the scan options that fit the pattern."""
    words = [next((word for place in places if (word := text(place, keyword))), "") for keyword in keywords]
    words += [word for word in text(dataset, "ScanOptions").split("\\") if re.search(options, word, re.I)]
    return ", ".join(dict.fromkeys(word for word in words if word))


def _contrast(dataset: Any, description: str, places: Any) -> str:
    named = next((name for name, pattern in _CONTRASTS if re.search(pattern, description, re.I)), "")
    if named or text(dataset, "Modality") != "MR":
        return named
    timing = places("MRTimingAndRelatedParametersSequence")
    echo = _number(places("MREchoSequence"), "EffectiveEchoTime", "EchoTime")
    repetition, inversion = _number(timing, "RepetitionTime"), _number(places("MRModifierSequence"), "InversionTimes", "InversionTime")
    if echo is None or repetition is None:
        return ""
    if echo > 60:
        return "FLAIR" if inversion and inversion > 1500 else "T2w"
    if repetition < 1000 or (inversion and inversion < 1500):
        return "T1w"
    return "PDw" if repetition > 2000 and echo < 40 and not inversion else ""
