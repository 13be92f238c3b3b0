"""Which files of a folder are one series, what is passed over, and how one of several is chosen; by all commands alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tinydicom import DIRECTORY, MR, PRESENTATION, REPORT, RTSTRUCT, SECONDARY_CAPTURE, SEGMENTATION, Items, classic, enhanced, other_object

from SRGAN3DLib.contract.errors import VolumeError
from SRGAN3DLib.volumes.dicom import is_dicom
from SRGAN3DLib.volumes.scans import find_scans
from SRGAN3DLib.volumes.volume import Volume

N = 12
STACK = np.random.default_rng(0).integers(0, 900, (N, 20, 24)).astype(np.uint16)
ALONG = [(0.0, 0.0, 3.0 * k) for k in range(N)]
COMPLETE = [(1, k + 1, t + 1) for t in range(2) for k in range(N)]


def refusal(path: Path, series: str | None = None) -> str:
    with pytest.raises(VolumeError) as caught:
        Volume.read(path, series)
    return str(caught.value)


def named(number: int, description: str) -> Items:
    return {0x00200011: ("IS", number), 0x0008103E: ("LO", description)}


def exam(folder: Path) -> None:
    """Three series in one folder."""
    for number, name in ((1, "T1 MPRAGE"), (2, "T2 TSE"), (12, "T1 MPRAGE post")):
        classic(folder, STACK + number, ALONG, series=f"1.2.3.{number}", more=named(number, name), first=100 * number)


# ---------------------------------------------------------------- beside the series
@pytest.mark.parametrize(
    ("sop", "name"),
    [
        (RTSTRUCT, "RT Structure Set Storage"),
        (MR + ".2", "MR Spectroscopy Storage"),  # its UID begins with that of the slices
        (DIRECTORY, "Media Storage Directory Storage"),
        (PRESENTATION, "Grayscale Softcopy Presentation State Storage"),
        (REPORT, "Enhanced SR Storage"),
        ("1.2.840.113619.4.26", "1.2.840.113619.4.26"),  # a vendor's own
    ],
)
@pytest.mark.parametrize("series", ["1.2.3.9", "1.2.3.1"])
def test_other_objects_are_passed_over_and_said(tmp_path: Path, sop: str, name: str, series: str) -> None:
    classic(tmp_path, STACK, ALONG)
    other_object(tmp_path / "A0", sop, series)
    volume = Volume.read(tmp_path)
    np.testing.assert_array_equal(volume.array, STACK)
    assert volume.notes == (f"passed over: 1 x {name} (A0)",)
    assert [scan.path for scan in find_scans(tmp_path)] == [tmp_path]


def test_a_screenshot_beside_the_series_is_passed_over(tmp_path: Path) -> None:
    classic(tmp_path, STACK, ALONG)
    classic(tmp_path, STACK[:1, :9], ALONG[:1], series="1.2.3.8", more={0x00080016: ("UI", SECONDARY_CAPTURE)}, first=50)
    assert "Secondary Capture" in Volume.read(tmp_path).notes[0]


def test_a_scout_in_the_series_is_passed_over(tmp_path: Path) -> None:
    classic(tmp_path, STACK, ALONG)
    scout: Items = {0x00080008: ("CS", "ORIGINAL\\PRIMARY\\LOCALIZER")}
    classic(tmp_path, STACK[:1], [(0, 0, 0)], axes=((0, 1, 0), (0, 0, -1)), more=scout, first=50)
    volume = Volume.read(tmp_path)
    assert len(volume.array) == N and "1 scout image (localizer)" in volume.notes[0]


def test_nothing_but_other_objects(tmp_path: Path) -> None:
    other_object(tmp_path / "RS.dcm", RTSTRUCT)
    assert "without a DICOM series; it holds 1 x RT Structure Set Storage (RS.dcm)" in refusal(tmp_path)
    assert "holds no scan" in refusal(tmp_path / "RS.dcm")
    other_object(tmp_path / "SEG.dcm", SEGMENTATION)
    assert "label map" in refusal(tmp_path) and "label map" in refusal(tmp_path / "SEG.dcm")


# ---------------------------------------------------------------- where the files lie
def test_one_answer_to_is_this_dicom(tmp_path: Path) -> None:
    classic(tmp_path / "no preamble", STACK, ALONG, preamble=False)
    classic(tmp_path / "disc" / "DICOM", STACK, ALONG)
    other_object(tmp_path / "disc" / "DICOMDIR", DIRECTORY)
    classic(tmp_path / "patient" / "study" / "series", STACK, ALONG)
    for name, home in (("no preamble", ""), ("disc", "DICOM"), ("patient", "study/series")):
        assert is_dicom(tmp_path / name)
        np.testing.assert_array_equal(Volume.read(tmp_path / name).array, STACK)
        (found,) = find_scans(tmp_path / name)
        assert found.path == tmp_path / name / home
        np.testing.assert_array_equal(found.read().array, STACK)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("a letter" * 100)
    (tmp_path / "letters" / "b.bin").write_bytes(bytes(range(256)) * 9)
    (tmp_path / "letters" / ".hidden").write_bytes((tmp_path / "disc" / "DICOM" / "IM0001").read_bytes())
    assert not is_dicom(tmp_path / "letters")


def test_a_series_in_several_folders_is_one_scan(tmp_path: Path) -> None:
    for part in range(3):
        chosen = slice(4 * part, 4 * part + 4)
        classic(tmp_path / "disc" / f"IM{part}", STACK[chosen], ALONG[chosen], first=4 * part)
        classic(
            tmp_path / "disc" / f"IM{part}", STACK[chosen] + 1, ALONG[chosen], series="1.2.3.2", more=named(2, "T2"), first=50 + 4 * part
        )
    found = find_scans(tmp_path)
    assert [(one.path, one.name) for one in found] == [(tmp_path / "disc", "disc (series 1.2.3.1)"), (tmp_path / "disc", "disc (series 2)")]
    np.testing.assert_array_equal(found[0].read().array, STACK)
    np.testing.assert_array_equal(found[1].read().array, STACK + 1)
    assert [one.name for one in find_scans(tmp_path, "T2")] == ["disc (series 2)"]


# ---------------------------------------------------------------- the choice
@pytest.mark.parametrize(("wanted", "number"), [("1", 1), ("2", 2), ("1.2.3.12", 12), ("tse", 2), ("MPRAGE post", 12), ("12", 12)])
def test_a_series_is_chosen(tmp_path: Path, wanted: str, number: int) -> None:
    exam(tmp_path)
    np.testing.assert_array_equal(Volume.read(tmp_path, wanted).array, STACK + number)
    (found,) = find_scans(tmp_path, wanted)
    np.testing.assert_array_equal(found.read().array, STACK + number)


def test_several_series_are_listed(tmp_path: Path) -> None:
    exam(tmp_path)
    for message in (refusal(tmp_path), refusal(tmp_path, "T3"), refusal(find_scans(tmp_path)[0].path)):
        for words in ('1 "T1 MPRAGE": 12 slices of 24 x 20', '2 "T2 TSE": 12 slices', '12 "T1 MPRAGE post": 12 slices'):
            assert words in message
    assert "3 DICOM series in one folder, choose one with --series" in refusal(tmp_path)
    assert "no DICOM series fits --series 'T3'" in refusal(tmp_path, "T3")
    assert "2 DICOM series in one folder fit --series 't1'" in refusal(tmp_path, "t1")
    with pytest.raises(VolumeError, match="no DICOM series fits --series 'T3'; there are: 1 \"T1 MPRAGE\""):
        find_scans(tmp_path, "T3")


def test_a_damaged_file_of_another_series_does_not_matter(tmp_path: Path) -> None:
    exam(tmp_path)
    path = tmp_path / "IM0203"
    path.write_bytes(path.read_bytes()[:-40])
    assert "IM0203: truncated" in refusal(tmp_path, "2")
    np.testing.assert_array_equal(Volume.read(tmp_path, "12").array, STACK + 12)


@pytest.mark.parametrize("order", ["one after the other", "slice by slice"])
def test_several_volumes_in_one_enhanced_file(tmp_path: Path, order: str) -> None:
    frames, places, index = np.concatenate([STACK, STACK + 7]), ALONG * 2, COMPLETE
    if order == "slice by slice":
        frames = np.stack([STACK, STACK + 7], 1).reshape(-1, *STACK.shape[1:])
        places, index = [p for p in ALONG for _ in range(2)], [(1, k + 1, e + 1) for k in range(N) for e in range(2)]
    enhanced(tmp_path / "all.dcm", frames, places, index=index, more=named(4, "dual echo"))
    message = refusal(tmp_path)
    assert "2 volumes in one DICOM series" in message and '4:1 "dual echo" (dimension 3 1): 12 slices of 24 x 20' in message
    np.testing.assert_array_equal(Volume.read(tmp_path, "4:1").array, STACK)
    np.testing.assert_array_equal(Volume.read(tmp_path, "dual echo:2").array, STACK + 7)
    np.testing.assert_array_equal(find_scans(tmp_path, "4:2")[0].read().array, STACK + 7)
    assert "no DICOM series fits" in refusal(tmp_path, "4:3") and "no DICOM series fits" in refusal(tmp_path, "4:0")


def test_echoes_of_a_classic_series(tmp_path: Path) -> None:
    for n, (echo, kind) in enumerate(((10, "M"), (10, "P"), (80, "M"), (80, "P"))):
        more: Items = {0x00180081: ("DS", echo), 0x00080008: ("CS", f"ORIGINAL\\PRIMARY\\{kind}")}
        classic(tmp_path, STACK + n, ALONG, more=more, first=50 * n)
    assert "4 volumes" in refusal(tmp_path) and "echo time 80" in refusal(tmp_path)
    np.testing.assert_array_equal(Volume.read(tmp_path, "1.2.3.1:4").array, STACK + 3)


def test_repetitions_by_instance_number(tmp_path: Path) -> None:
    for n in range(3):
        classic(tmp_path, STACK + n, ALONG, first=N * n)
    assert "3 volumes" in refusal(tmp_path) and "repetition 3" in refusal(tmp_path)
    np.testing.assert_array_equal(Volume.read(tmp_path, "repetition 2").array, STACK + 1)


def test_the_same_slice_twice(tmp_path: Path) -> None:
    classic(tmp_path, STACK, ALONG)
    (tmp_path / "copy").write_bytes((tmp_path / "IM0003").read_bytes())
    assert "share a position (IM0003, copy" in refusal(tmp_path) and "the same image twice" in refusal(tmp_path)


def test_three_planes_in_one_series(tmp_path: Path) -> None:
    classic(tmp_path, STACK, ALONG)
    classic(tmp_path, STACK + 1, [(3.0 * k, 0, 0) for k in range(N)], axes=((0, 1, 0), (0, 0, -1)), first=50)
    assert "slices of different orientation" in refusal(tmp_path)
    np.testing.assert_array_equal(Volume.read(tmp_path, "1.2.3.1:1").array, STACK)
