"""What `--data` may name, found and described: files, folders, DICOM, BIDS, tables and lists; and how true axes are laid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from corpus import dicom, scan
from grids import FINE, OBLIQUE, SHEARED

from SRGAN3DLib.contract.errors import VolumeError
from SRGAN3DLib.volumes.scans import Scan, find_scans, in_truth_order, truth_orders
from SRGAN3DLib.volumes.volume import Volume, read_geometry


def write(path: Path, matrix: np.ndarray = FINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Volume.from_array(scan(), matrix).write(path)
    return path


def names(data: Path) -> list[str]:
    return [one.name for one in find_scans(data)]


def test_a_folder_of_anything_at_any_depth(tmp_path: Path) -> None:
    for name in ("b_T1w.nii.gz", "deep/er/c.nrrd", "deep/d-FLAIR.mha", ".hidden.nii", ".cache/e.nii", "~f.nii"):
        write(tmp_path / name)
    (tmp_path / "anna" / "study").mkdir(parents=True)
    dicom(scan().astype(np.int16))(tmp_path / "anna" / "study" / "301_T1")
    (tmp_path / "notes.docx").write_text("no scan")
    (tmp_path / "deep" / "circle").symlink_to(tmp_path)
    found = find_scans(tmp_path)
    assert [(one.name, one.subject, one.contrast) for one in found] == [
        ("anna/study/301_T1", "anna", "T1w"),
        ("b_T1w.nii.gz", "b", "T1w"),
        ("deep/d-FLAIR.mha", "d", "FLAIR"),
        ("deep/er/c.nrrd", "c", ""),
    ]
    for one in found:
        assert one.read().geometry == one.geometry() and one.read().array.shape == (6, 7, 8) and not one.problem
        assert one.size() > 300


def test_one_file_and_one_dicom_folder(tmp_path: Path) -> None:
    path = write(tmp_path / "one_T2w.nii")
    dicom(scan().astype(np.int16))(tmp_path / "series")
    assert [(one.path, one.name, one.contrast) for one in find_scans(path)] == [(path, "one_T2w.nii", "T2w")]
    assert [(one.path, one.name) for one in find_scans(tmp_path / "series")] == [(tmp_path / "series", "series")]
    assert find_scans(tmp_path / "series")[0].size() == sum(p.stat().st_size for p in (tmp_path / "series").iterdir())


def test_nothing_to_find(tmp_path: Path) -> None:
    (tmp_path / "letter.doc").write_text("a letter")
    with pytest.raises(VolumeError, match="holds no volume"):
        find_scans(tmp_path)
    with pytest.raises(VolumeError, match="absent: no such folder"):
        find_scans(tmp_path / "absent")


def test_a_bids_dataset(tmp_path: Path) -> None:
    """anat/ with its suffixes; func/, derivatives/ and sourcedata/ are left out."""
    wanted = (
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-01/anat/sub-01_acq-fast_FLAIR.nii.gz",
        "sub-02/ses-1/anat/sub-02_ses-1_inplaneT2.nii.gz",
    )
    others = ("sub-01/func/sub-01_bold.nii.gz", "derivatives/x/sub-01/anat/sub-01_T1w.nii.gz", "sourcedata/sub-01/anat/a_T1w.nii")
    for name in (*wanted, *others, "sub-02/ses-1/anat/sub-02_ses-1_defacemask.nii.gz"):
        write(tmp_path / name)
    for described in (False, True):
        if described:
            (tmp_path / "dataset_description.json").write_text("{}")
        *good, bad = sorted(find_scans(tmp_path), key=lambda one: (bool(one.problem), one.contrast == "T1w", one.name))
        assert {(one.name, one.subject, one.contrast) for one in good} == {
            (wanted[0], "sub-01", "T1w"),
            (wanted[1], "sub-01", "FLAIR"),
            (wanted[2], "sub-02", "inplaneT2"),
        }
        with pytest.raises(VolumeError, match=r"_defacemask\.nii\.gz: BIDS suffix 'defacemask'"):
            bad.read()


def test_a_csv_needs_its_column_file_only(tmp_path: Path) -> None:
    write(tmp_path / "scans" / "a_T1w.nii")
    write(tmp_path / "scans" / "b.nii")
    rows = ["file", "scans/a_T1w.nii", "scans/b.nii", "scans/gone.nii", "scans/../scans/b.nii", '""']
    (tmp_path / "cohort.csv").write_text("\n".join(rows) + "\n")
    a, b, gone, twice, empty = find_scans(tmp_path / "cohort.csv")
    assert (a.name, a.subject, a.contrast, a.truth_kji) == ("scans/a_T1w.nii", "a", "T1w", None) and b.read().array.size
    for one, words in ((gone, r"gone\.nii: no such file"), (twice, "listed twice"), (empty, "a row without a file")):
        with pytest.raises(VolumeError, match=words):
            one.read()
    (tmp_path / "cohort.csv").write_text("path,subject\na,b\n")
    with pytest.raises(VolumeError, match=r"cohort\.csv: has no column 'file'"):
        find_scans(tmp_path / "cohort.csv")


def test_what_a_csv_says(tmp_path: Path) -> None:
    for name in "abcd":
        write(tmp_path / f"{name}.nii")
    text = 'file,truth_axes,subject,contrast\na.nii,"0,2",anna,FLAIR\nb.nii,,,\nc.nii,2;x,,\nd.nii\n'
    (tmp_path / "c.csv").write_text(text, encoding="utf-8-sig")  # as spreadsheets write it
    a, b, c, d = find_scans(tmp_path / "c.csv")
    assert (a.subject, a.contrast, a.truth_kji) == ("anna", "FLAIR", (0, 2))  # axes I and K
    assert (b.subject, b.truth_kji) == ("b", ()) and d.truth_kji == ()  # an empty cell: none is true
    with pytest.raises(VolumeError, match=r"c\.nii: truth_axes '2;x' in its table"):
        c.geometry()


def test_a_list_of_paths(tmp_path: Path) -> None:
    outside = write(tmp_path / "else" / "z.nii")
    write(tmp_path / "lists" / "a.nii")
    (tmp_path / "lists" / "some.txt").write_text(f"# my scans\n\n{outside}\na.nii\nabsent.nii\n")
    (tmp_path / "volumes.csv").write_text("file,subject\nlists/a.nii,anna\n")
    found = find_scans(tmp_path / "lists" / "some.txt")
    assert [one.path for one in found] == [outside, tmp_path / "lists" / "a.nii", tmp_path / "lists" / "absent.nii"]
    assert found[1].subject == "anna" and found[2].size() == 0


def test_whose_scan_it_is(tmp_path: Path) -> None:
    expected = {
        "IXI002-Guys-0828-T1.nii": "IXI002-Guys-0828",
        "BraTS_001_t1ce.nii": "BraTS_001",
        "p7_session-2_T2.nii": "p7",
        "bert/T1.nii": "bert",
        "bert/anat/flair.nii": "bert",
        "x/sub-09/run1.nii": "sub-09",
    }
    for name in expected:
        write(tmp_path / name)
    assert {one.name: one.subject for one in find_scans(tmp_path)} == expected


def test_true_axes_from_the_spacing() -> None:
    one = Scan(Path("a"), "a", "a")
    assert one.truth((1.0, 1.0, 1.0)) == (0, 1, 2) and one.truth((1.5, 1.0, 1.2)) == (0, 1, 2)
    assert one.truth((4.0, 0.72, 0.72)) == (1, 2) and one.truth((2.0, 2.0, 1.0)) == (2,)
    assert Scan(Path("a"), "a", "a", truth_kji=()).truth((1.0, 1.0, 1.0)) == ()


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_grid_from_the_header_alone(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"a{ending}", SHEARED)
    assert read_geometry(path) == Volume.read(path).geometry
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(VolumeError, match=rf"a{ending}: "):
        read_geometry(path)


def test_orders_lay_true_axes_onto_enlarged_ones() -> None:
    assert len(truth_orders((0, 1, 2), (2, 2, 2))) == 6 and truth_orders((0, 1, 2), (2, 2, 2))[0] == (0, 1, 2)
    assert truth_orders((1,), (1, 1, 4)) == ((0, 2, 1), (2, 0, 1))
    assert truth_orders((0, 1), (2, 2, 2)) == ()


def test_a_true_axis_is_laid_onto_the_enlarged_one() -> None:
    """K is 2.3 mm: J takes its place, and every voxel stays where it was in space."""
    volume = Volume.from_array(scan(), OBLIQUE)
    laid, axes, warnings = in_truth_order(Scan(Path("a"), "a", "a"), volume, (4, 1, 1))
    assert axes == [1] and warnings == [] and laid.array.shape == (7, 6, 8) and laid.geometry.spacing_kji_mm[1] == pytest.approx(2.3)
    assert laid.array[5, 2, 3] == volume.array[2, 5, 3]
    places = [g.ijk_to_ras @ ijk for g, ijk in ((laid.geometry, (3, 2, 5, 1)), (volume.geometry, (3, 5, 2, 1)))]
    assert np.allclose(*places)
    for truth in ((0, 1, 2), (0,)):  # K is true: nothing moves
        same, axes, _ = in_truth_order(Scan(Path("a"), "a", "a", truth_kji=truth), volume, (4, 1, 1))
        assert same is volume and axes == [0]


def test_a_scan_that_is_no_truth() -> None:
    thick, thin = Volume.from_array(scan(), OBLIQUE), Volume.from_array(scan(), FINE)
    with pytest.raises(
        VolumeError, match=r"x\.nii: ground truth along J, I only \(spacing 2\.3 x 1\.1 x 0\.9 mm.*3 such axes must be there"
    ):
        in_truth_order(Scan(Path("x.nii"), "x", "x"), thick, (2, 2, 2))
    with pytest.raises(VolumeError, match=r"along no axis only \(its table\); 1 such axis must be there"):
        in_truth_order(Scan(Path("x.nii"), "x", "x", truth_kji=()), thin, (1, 1, 2))
    same, axes, warnings = in_truth_order(
        Scan(Path("x.nii"), "x", "x", truth_kji=(1, 2)), thin, (2, 2, 2)
    )  # a thin axis that is not quite true
    assert same is thin and axes == [0, 1, 2] and warnings == ["enlarged along K, where it is not stated to be ground truth"]
