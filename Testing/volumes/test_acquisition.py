"""What a DICOM series says about its acquisition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tinydicom import Items, classic, enhanced

from SRGAN3DLib.volumes.acquisition import AcquisitionFacts
from SRGAN3DLib.volumes.volume import Volume

N = 6
STACK = np.random.default_rng(0).integers(0, 900, (N, 10, 12)).astype(np.uint16)
ALONG = [(0.0, 0.0, 3.0 * k) for k in range(N)]
THICKNESS, BETWEEN, OPTIONS, KIND, DESCRIPTION = 0x00180050, 0x00180088, 0x00180022, 0x00180023, 0x0008103E


def facts(folder: Path, more: Items) -> AcquisitionFacts:
    classic(folder, STACK, ALONG, more=more)
    found = Volume.read(folder).acquisition
    assert found is not None
    return found


def test_a_classic_series(tmp_path: Path) -> None:
    more: Items = {THICKNESS: ("DS", "2.5"), BETWEEN: ("DS", "-3"), 0x00181310: ("US", (0, 10, 6, 0)), DESCRIPTION: ("LO", "ax T2 TSE")}
    found = facts(tmp_path, more | {OPTIONS: ("CS", "PFP\\FILTERED_GEMS\\SFS")})
    assert (found.slice_thickness_mm, found.slice_spacing_mm) == (2.5, 3.0)
    assert (found.acquisition_matrix, found.interpolated) == ((0, 10, 6, 0), True)
    assert (found.partial_fourier, found.filters) == ("PFP", "FILTERED_GEMS")
    assert (found.modality, found.description, found.contrast) == ("MR", "ax T2 TSE", "T2w")
    assert (found.series_uid, found.study_uid) == ("1.2.3.1", "1.2.3")
    assert [path.name for path in found.files] == [f"IM{n + 1:04d}" for n in range(N)]


def test_an_enhanced_file(tmp_path: Path) -> None:
    fov = {0x00189058: ("US", 12), 0x00189231: ("US", 10)}
    modifier = {0x00189081: ("CS", "YES"), 0x00189036: ("CS", "PHASE"), 0x00189064: ("CS", "HANNING")}
    group = {0x00189125: ("SQ", [fov]), 0x00189115: ("SQ", [modifier])}
    enhanced(tmp_path / "x", STACK, ALONG, thickness=2.0, between=3.0, group=group)
    found = Volume.read(tmp_path).acquisition
    assert found is not None
    assert (found.slice_thickness_mm, found.slice_spacing_mm, found.acquisition_matrix) == (2.0, 3.0, (12, 0, 0, 10))
    assert (found.interpolated, found.partial_fourier, found.filters) == (False, "YES, PHASE", "HANNING")


def test_what_is_not_stated_or_damaged_is_none(tmp_path: Path) -> None:
    found = facts(tmp_path, {THICKNESS: ("DS", "thick"), 0x00181310: ("US", (0, 0, 0, 0))})
    assert (found.slice_thickness_mm, found.slice_spacing_mm, found.acquisition_matrix) == (None, None, None)
    assert (found.interpolated, found.interpolated_slices, found.partial_fourier, found.contrast) == (None, None, "", "")
    assert Volume.from_array(STACK.astype(np.float32), np.eye(4)).acquisition is None


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({KIND: ("CS", "3D"), THICKNESS: ("DS", "6")}, True),
        ({OPTIONS: ("CS", "ZIP2")}, True),
        ({KIND: ("CS", "2D"), THICKNESS: ("DS", "6")}, None),
        ({KIND: ("CS", "3D"), THICKNESS: ("DS", "3")}, None),
    ],
)
def test_interpolated_slices(tmp_path: Path, more: Items, expected: bool | None) -> None:
    assert facts(tmp_path, more).interpolated_slices is expected


@pytest.mark.parametrize(
    ("description", "times", "contrast"),
    [
        ("sag 3D FLAIR", (), "FLAIR"),
        ("t2_space_dark-fluid_sag", (), "FLAIR"),
        ("MPRAGE", (), "T1w"),
        ("t2*_flash", (), "T2star"),
        ("PD axial", (), "PDw"),
        ("brain", (2000, 3, 900), "T1w"),
        ("brain", (500, 10, None), "T1w"),
        ("brain", (5000, 100, None), "T2w"),
        ("brain", (9000, 100, 2500), "FLAIR"),
        ("brain", (3000, 15, None), "PDw"),
        ("brain", (), ""),
    ],
)
def test_the_contrast_by_its_name_else_by_its_times(tmp_path: Path, description: str, times: tuple, contrast: str) -> None:
    more: Items = {DESCRIPTION: ("LO", description)}
    more |= {tag: ("DS", value) for tag, value in zip((0x00180080, 0x00180081, 0x00180082), times, strict=False) if value is not None}
    assert facts(tmp_path, more).contrast == contrast
