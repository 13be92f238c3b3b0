"""DICOM read whole: classic series and enhanced files, their grid, values and notes; against SimpleITK and dcm2niix."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import dcm2niix
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from corpus import SHAPE, dicom, scan
from grids import OBLIQUE
from tinydicom import CT, PET, SECONDARY_CAPTURE, Items, classic, enhanced

from SRGAN3DLib.contract.errors import VolumeError
from SRGAN3DLib.volumes.dicom import is_dicom
from SRGAN3DLib.volumes.geometry import Geometry, ras_from_lps
from SRGAN3DLib.volumes.volume import Volume, read_geometry

N = 12
STACK = np.broadcast_to((np.arange(N, dtype=np.uint16)[:, None, None] + 1) * 100, (N, 20, 24)).copy()
STACK += np.random.default_rng(0).integers(0, 20, STACK.shape, dtype=np.uint16)
ALONG = [(0.0, 0.0, 3.0 * k) for k in range(N)]
PACKAGES = [k for s in range(3) for k in range(s, N, 3)]
ANY = np.random.default_rng(1).permutation(N).tolist()
SAGITTAL = ((0, 1, 0), (0, 0, -1))  # its normal points to -x
_C, _S = np.cos(0.3), np.sin(0.3)
TURNED = ((_C, _S, 0.0), (-0.8 * _S, 0.8 * _C, 0.6))
TURNED_PLACES = [tuple(np.array([10, -20, 5]) + 2.5 * k * np.cross(*TURNED)) for k in range(N)]
PLAIN: dict[object, dict] = {enhanced: {"thickness": 3, "between": 3}, classic: {}}
BOTH = pytest.mark.parametrize("write", [enhanced, classic], ids=["enhanced", "classic"])


def refusal(path: Path, series: str | None = None) -> str:
    with pytest.raises(VolumeError) as caught:
        Volume.read(path, series)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and message.isprintable()
    return message


def target(write: object, folder: Path) -> Path:
    """Where `write` writes: a file for an enhanced one, a folder for a series."""
    return folder / "all.dcm" if write is enhanced else folder


# ---------------------------------------------------------------- the grid: the same checks for both kinds
@BOTH
@pytest.mark.parametrize(
    "order", [list(range(N)), PACKAGES, np.random.default_rng(1).permutation(N).tolist()], ids=["sorted", "packages", "any"]
)
def test_frames_come_in_the_order_of_their_positions(tmp_path: Path, write: object, order: list[int]) -> None:
    write(target(write, tmp_path), STACK[order], [ALONG[k] for k in order], spacing=(0.9, 1.1), **PLAIN[write])  # type: ignore[operator]
    volume = Volume.read(tmp_path)
    np.testing.assert_array_equal(volume.array, STACK)
    np.testing.assert_allclose(volume.geometry.ijk_to_ras, np.diag([-1.1, -0.9, 3, 1]), atol=1e-9)
    assert read_geometry(tmp_path) == volume.geometry and volume.notes == ()


@BOTH
def test_frames_against_the_normal(tmp_path: Path, write: object) -> None:
    write(target(write, tmp_path), STACK, [(3.0 * k, 0, 0) for k in range(N)], axes=SAGITTAL)  # type: ignore[operator]
    volume = Volume.read(tmp_path)
    np.testing.assert_array_equal(volume.array, STACK[::-1])
    assert volume.geometry.spacing_ijk_mm == pytest.approx((1, 1, 3)) and not volume.geometry.is_left_handed


@BOTH
def test_a_missing_frame_is_named(tmp_path: Path, write: object) -> None:
    kept = [k for k in range(N) if k != 5]
    write(target(write, tmp_path), STACK[kept], [ALONG[k] for k in kept])  # type: ignore[operator]
    assert "uneven slices: 6 mm between 12.000 and 18.000 mm" in refusal(tmp_path) and "1 missing at 15 mm?" in refusal(tmp_path)


@BOTH
def test_a_frame_beside_the_line(tmp_path: Path, write: object) -> None:
    places = list(ALONG)
    places[4] = (0.5, 0.0, 12.0)
    write(target(write, tmp_path), STACK, places)  # type: ignore[operator]
    assert "mm beside the line of the others" in refusal(tmp_path)


@BOTH
def test_a_tilt_gives_a_sheared_grid(tmp_path: Path, write: object) -> None:
    write(target(write, tmp_path), STACK, [(0.0, 0.8 * k, 3.0 * k) for k in range(N)])  # type: ignore[operator]
    volume = Volume.read(tmp_path)
    np.testing.assert_allclose(volume.geometry.ijk_to_ras[:3, 2], [0, -0.8, 3], atol=1e-9)
    assert volume.geometry.is_sheared


@BOTH
@pytest.mark.parametrize("step", [1.0, 0.9375, 0.8333, 2 / 3, 0.5859, 0.4297, 0.1])
def test_positions_rounded_to_hundredths_are_even(tmp_path: Path, write: object, step: float) -> None:
    places = [(0.0, 0.0, round(k * step, 2)) for k in range(N)]
    write(target(write, tmp_path), STACK, places)  # type: ignore[operator]
    assert Volume.read(tmp_path).geometry.spacing_ijk_mm[2] == pytest.approx(step, abs=0.002)


def test_beyond_a_hundredth_of_a_millimetre_is_uneven(tmp_path: Path) -> None:
    places = [(0.0, 0.0, 0.5 * k + (0.03 if k == 6 else 0.0)) for k in range(N)]
    classic(tmp_path, STACK, places)
    assert "uneven" in refusal(tmp_path)


def test_a_scaling_of_its_own_for_every_frame(tmp_path: Path) -> None:
    enhanced(tmp_path / "all.dcm", STACK, ALONG, slopes=[1.0 + k % 2 for k in range(N)])
    volume = Volume.read(tmp_path)
    np.testing.assert_array_equal(volume.array, STACK * np.array([1.0, 2.0] * 6)[:, None, None])
    assert (volume.dtype, volume.scaling) == ("float32", (1.0, 0.0))


def test_one_enhanced_file_is_read_by_its_own_name(tmp_path: Path) -> None:
    for number in (1, 2):
        enhanced(tmp_path / f"series{number}", STACK + number, ALONG, series=f"1.2.3.{number}")
    np.testing.assert_array_equal(Volume.read(tmp_path / "series2").array, STACK + 2)
    assert "2 DICOM series" in refusal(tmp_path)
    classic(tmp_path / "slices", STACK, ALONG)
    assert "give the folder" in refusal(tmp_path / "slices" / "IM0001")


# ---------------------------------------------------------------- what is stated, and what is not
ORIENTATION, SPACING, POSITION, SLOPE, INTERCEPT = 0x00200037, 0x00280030, 0x00200032, 0x00281053, 0x00281052


@pytest.mark.parametrize(
    ("tag", "value", "words"),
    [
        (ORIENTATION, "0\\0\\0\\0\\0\\0", "ImageOrientationPatient is [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]: two perpendicular"),
        (ORIENTATION, "nan\\0\\0\\0\\1\\0", "ImageOrientationPatient is [nan"),
        (ORIENTATION, "1\\0\\0\\1\\0\\0", "two perpendicular unit vectors"),
        (ORIENTATION, "1\\0\\0", "ImageOrientationPatient holds 3 numbers, not 6"),
        (ORIENTATION, "left", "ImageOrientationPatient is"),
        (SPACING, "0\\1", "PixelSpacing is [0.0, 1.0] mm: numbers above 0"),
        (SPACING, "-1\\1", "PixelSpacing is [-1.0, 1.0] mm"),
        (SPACING, "nan\\nan", "PixelSpacing is [nan, nan] mm"),
        (SPACING, "inf\\1", "PixelSpacing is [inf, 1.0] mm"),
        (SPACING, "1", "PixelSpacing holds 1 numbers, not 2"),
        (POSITION, "0\\0\\nan", "ImagePositionPatient is [0.0, 0.0, nan]"),
        (POSITION, "0\\0", "ImagePositionPatient holds 2 numbers, not 3"),
        (SLOPE, "", "RescaleSlope is empty"),
        (SLOPE, "abc", "RescaleSlope is"),
        (SLOPE, "0", "RescaleSlope 0"),
        (SLOPE, "nan", "RescaleSlope nan"),
        (INTERCEPT, " ", "RescaleIntercept is empty"),
        (INTERCEPT, "1,5", "RescaleIntercept is"),
        (INTERCEPT, "1e400", "RescaleIntercept inf"),
    ],
)
def test_values_that_are_wrong_are_refused(tmp_path: Path, tag: int, value: str, words: str) -> None:
    classic(tmp_path, STACK, ALONG, more={tag: ("DS", value)})
    assert words in refusal(tmp_path)
    assert "IM0001" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("tag", "spacing", "note"),
    [
        (ORIENTATION, (1, 1, 3), "states no orientation (ImageOrientationPatient): rows to the left and columns to the back are assumed"),
        (SPACING, (1, 1, 3), "states no voxel spacing (PixelSpacing): 1 mm is assumed"),
        (
            POSITION,
            (1, 1, 2.5),
            "states no slice positions (ImagePositionPatient): its slices are taken in their order, 2.5 mm apart",
        ),
    ],
)
@pytest.mark.parametrize("empty", [False, True])
def test_values_that_are_absent_are_assumed_and_said(tmp_path: Path, tag: int, spacing: tuple, note: str, empty: bool) -> None:
    more: Items = {0x00180050: ("DS", "2.5")} | ({tag: ("DS", "")} if empty else {})
    classic(tmp_path, STACK, ALONG, more=more, without=() if empty else (tag,))
    volume = Volume.read(tmp_path)
    assert volume.geometry.spacing_ijk_mm == pytest.approx(spacing) and any(note in one for one in volume.notes)
    np.testing.assert_array_equal(volume.array, STACK)


def test_slice_locations_stand_in_for_positions(tmp_path: Path) -> None:
    for k in range(N):
        classic(tmp_path, STACK[k : k + 1], [ALONG[k]], without=(POSITION,), more={0x00201041: ("DS", f"{-2.0 * k}")}, first=k)
    volume = Volume.read(tmp_path)
    np.testing.assert_array_equal(volume.array, STACK[::-1])
    assert volume.geometry.spacing_ijk_mm[2] == pytest.approx(2) and "slice locations" in volume.notes[0]


def test_every_other_slice_missing_is_noted(tmp_path: Path) -> None:
    enhanced(tmp_path / "all.dcm", STACK, [(0, 0, 6.0 * k) for k in range(N)], between=3.0)
    assert "slices may be missing evenly" in Volume.read(tmp_path).notes[0]


@pytest.mark.parametrize(("sop", "modality", "word"), [(CT, "CT", "is CT"), (PET, "PT", "is PT (PET)")])
def test_another_modality_is_said(tmp_path: Path, sop: str, modality: str, word: str) -> None:
    classic(tmp_path, STACK, ALONG, more={0x00080016: ("UI", sop), 0x00080060: ("CS", modality)})
    assert any(word in note and "made for MRI" in note for note in Volume.read(tmp_path).notes)


def test_a_mosaic_is_called_one(tmp_path: Path) -> None:
    mosaic: Items = {0x00080008: ("CS", "ORIGINAL\\PRIMARY\\M\\ND\\MOSAIC")}
    classic(tmp_path / "one", STACK[:1], ALONG[:1], more=mosaic)
    assert "mosaic" in refusal(tmp_path / "one") and "2-D" in refusal(tmp_path / "one")
    classic(tmp_path / "series", STACK, [(0, 0, 0)] * N, more=mosaic)
    assert "mosaic" in refusal(tmp_path / "series")
    classic(tmp_path / "odd", STACK, ALONG, more=mosaic)
    assert any("mosaic" in note for note in Volume.read(tmp_path / "odd").notes)


def test_a_localizer_and_a_screenshot_are_said(tmp_path: Path) -> None:
    classic(tmp_path / "scout", STACK, ALONG, more={0x00080008: ("CS", "ORIGINAL\\PRIMARY\\LOCALIZER")})
    assert any("localizer" in note for note in Volume.read(tmp_path / "scout").notes)
    classic(tmp_path / "capture", STACK, ALONG, more={0x00080016: ("UI", SECONDARY_CAPTURE)})
    assert any("secondary capture" in note for note in Volume.read(tmp_path / "capture").notes)


def test_the_type_for_like_input_dtype(tmp_path: Path) -> None:
    """Hounsfield units of unsigned numbers of 12 bits are whole numbers that int16 holds."""
    more: Items = {SLOPE: ("DS", "1"), INTERCEPT: ("DS", "-1024"), 0x00280101: ("US", 12), 0x00280102: ("US", 11)}
    classic(tmp_path / "ct", STACK, ALONG, more=more)
    volume = Volume.read(tmp_path / "ct")
    assert volume.dtype == "int16" and volume.array.min() < 0
    classic(tmp_path / "plain", STACK, ALONG)
    assert Volume.read(tmp_path / "plain").dtype == "uint16"


# ---------------------------------------------------------------- against other readers
def by_dcm2niix(folder: Path, out: Path) -> tuple[np.ndarray, np.ndarray]:
    """(array (I, J, K), affine) as dcm2niix writes them."""
    out.mkdir()
    subprocess.run([dcm2niix.bin, "-z", "n", "-b", "n", "-p", "n", "-f", "x", "-o", str(out), str(folder)], check=True, capture_output=True)
    image = nib.load(next(out.glob("*.nii")))
    return np.asarray(image.get_fdata()), image.affine


@BOTH
@pytest.mark.parametrize("places", ["axial", "turned", "sagittal", "packages"])
def test_the_same_voxels_at_the_same_places_as_dcm2niix(tmp_path: Path, write: object, places: str) -> None:
    """Every voxel centre of ours lies on one of theirs to 1e-3 mm, with the same value."""
    axes: dict[str, object] = {"turned": TURNED, "sagittal": SAGITTAL}
    along = {"turned": TURNED_PLACES, "sagittal": [(-3.0 * k, 0, 0) for k in range(N)]}.get(places, ALONG)
    order = PACKAGES if places == "packages" else list(range(N))
    step = 2.5 if places == "turned" else 3.0
    options: dict = {"axes": axes.get(places, ((1, 0, 0), (0, 1, 0)))}
    if write is enhanced:  # dcm2niix sorts by the dimension index, not by position
        options |= {"thickness": step, "between": step, "index": [(1, k + 1) for k in order]}
    else:
        options["more"] = {0x00180050: ("DS", str(step))}
    write(target(write, tmp_path / "in"), STACK[order], [along[k] for k in order], **options)  # type: ignore[operator]
    volume = Volume.read(tmp_path / "in")
    theirs, affine = by_dcm2niix(tmp_path / "in", tmp_path / "out")
    assert sorted(theirs.shape) == sorted(volume.array.shape)
    ijk = np.stack(np.meshgrid(*(np.arange(n) for n in volume.array.shape[::-1]), indexing="ij"), axis=-1).reshape(-1, 3)
    at = (np.c_[ijk, np.ones(len(ijk))] @ (np.linalg.inv(affine) @ volume.geometry.ijk_to_ras).T)[:, :3]
    nearest = np.rint(at).astype(int)
    assert np.abs((at - nearest) * np.linalg.norm(affine[:3, :3], axis=0)).max() < 1e-3
    np.testing.assert_array_equal(theirs[tuple(nearest.T)], volume.array[tuple(ijk[:, ::-1].T)])


@pytest.mark.parametrize("name", ["MR_small", "MR_small_bigendian", "MR_small_implicit", "MR_small_padded", "liver", "emri_small"])
def test_files_of_pydicom(name: str) -> None:
    """Single slices and frames of real scanners: as pydicom decodes them."""
    import pydicom
    from pydicom.data import get_testdata_file

    from SRGAN3DLib.volumes.dicom_part import read_part
    from SRGAN3DLib.volumes.dicom_pixels import read_frames

    path = get_testdata_file(f"{name}.dcm", download=False)
    if path is None:  # not in the wheel
        return
    part = read_part(Path(path))
    if part.problem:
        assert name in ("MR_small_padded", "liver"), part.problem  # longer than its rows and columns; one bit a voxel
        return
    array = np.empty((part.frame_count, *part.size_ij[::-1]), np.float32)
    read_frames(part.frames, array)
    np.testing.assert_array_equal(array.reshape(-1), np.asarray(pydicom.dcmread(path).pixel_array, np.float32).reshape(-1))


def test_four_hundred_slices_take_linear_time(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 900, (400, 8, 8)).astype(np.uint16)
    classic(tmp_path / "all", stack, [(0, 0, 0.7 * k) for k in range(400)])
    classic(tmp_path / "some", stack[:100], [(0, 0, 0.7 * k) for k in range(100)])
    Volume.read(tmp_path / "some")
    seconds = []
    for name in ("some", "all"):
        start = time.process_time()
        Volume.read(tmp_path / name)
        seconds.append(time.process_time() - start)
    assert seconds[1] < 8 * seconds[0] and seconds[1] < 5


# ---------------------------------------------------------------- written by SimpleITK
def test_dicom_series(tmp_path: Path) -> None:
    folder = tmp_path / "Ünïcode and spaces 脳"
    lps = ras_from_lps(OBLIQUE)
    dicom(scan().astype(np.int16), lps)(folder)
    (folder / "README").write_text("a letter")
    volume = Volume.read(folder)
    np.testing.assert_array_equal(volume.array, scan().astype(np.int16))
    assert volume.geometry.box_distance_mm(Geometry(SHAPE, OBLIQUE)) < 1e-4
    assert volume.dtype == "int16" and is_dicom(folder)
    volume.write(folder / "脳.nii.gz", dtype="input")
    assert nib.load(folder / "脳.nii.gz").get_data_dtype() == np.int16


def test_dicom_tilted_gantry_is_sheared_not_straightened(tmp_path: Path) -> None:
    lps = np.diag([0.8, 0.9, 2.0, 1])
    lps[1, 2] = 0.5
    dicom(scan().astype(np.int16), lps)(tmp_path / "ct")
    volume = Volume.read(tmp_path / "ct")
    assert volume.geometry.is_sheared
    np.testing.assert_allclose(volume.geometry.ijk_to_ras, ras_from_lps(lps), atol=1e-6)


def test_dicom_rescaled_to_real_numbers(tmp_path: Path) -> None:
    stored = scan().astype(np.int16)
    bits = {"0028_0100": "16", "0028_0101": "16", "0028_0102": "15", "0028_0103": "1", "0028_1053": "0.37", "0028_1052": "-5"}
    dicom((stored * 0.37 - 5).astype(np.float64), **bits)(tmp_path / "pet")
    volume = Volume.read(tmp_path / "pet")
    np.testing.assert_allclose(volume.array, stored * 0.37 - 5, rtol=1e-6)
    assert volume.dtype == "int16" and volume.scaling == (0.37, -5.0)
    volume.write(tmp_path / "x.nii", dtype="input")
    np.testing.assert_array_equal(nib.load(tmp_path / "x.nii").dataobj.get_unscaled().T, stored)


def test_dicom_with_a_scaling_of_its_own_for_every_slice(tmp_path: Path) -> None:
    bits = {"0028_0100": "16", "0028_0101": "16", "0028_0102": "15", "0028_0103": "1", "0028_1052": "0", "0020_000e": "1.2.3.1"}
    values, upper = scan().astype(np.int16) * np.array([0.5] * 3 + [0.25] * 3)[:, None, None], np.eye(4)
    upper[2, 3] = 3
    dicom(values[:3], **bits, **{"0028_1053": "0.5"})(tmp_path / "pet")
    dicom(values[3:], upper, series="2", **bits, **{"0028_1053": "0.25"})(tmp_path / "pet")
    volume = Volume.read(tmp_path / "pet")
    np.testing.assert_array_equal(volume.array, values)
    assert (volume.dtype, volume.scaling) == ("float32", (1.0, 0.0))


def test_dicom_in_one_file(tmp_path: Path) -> None:
    (tmp_path / "enhanced").mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(scan().astype(np.uint16)), str(tmp_path / "enhanced" / "all.dcm"))
    np.testing.assert_array_equal(Volume.read(tmp_path / "enhanced").array, scan().astype(np.uint16))
