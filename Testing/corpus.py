"""Bad volumes, made on the fly: each with the error and the words a user must meet. Also a small DICOM series."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from SRGAN3DLib.contract.errors import SRGAN3DError, VolumeError

SHAPE = (6, 7, 8)  # K, J, I


@dataclass(frozen=True)
class BadInput:
    """A path to give as input, the error it must end in, and words that its one line must hold."""

    path: Path
    error: type[SRGAN3DError]
    words: str


def scan(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).normal(500, 100, shape).astype(np.float32)


def make_corpus(folder: Path) -> list[BadInput]:
    """All bad volumes below `folder` (it must exist), small and quick to refuse."""
    bad: list[BadInput] = []

    def add(name: str, words: str, make: Callable[[Path], object] | None = None) -> None:
        if make is not None:
            make(folder / name)
        bad.append(BadInput(folder / name, VolumeError, words))

    for part in (_add_files, _add_voxels, _add_shapes, _add_geometries, _add_dicom):
        part(add)
    return bad


def _data(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def _cut(count: int, write: Callable[[Path], object]) -> Callable[[Path], object]:
    """Write a good file, then take its last `count` bytes away."""

    def make(path: Path) -> None:
        write(path)
        path.write_bytes(path.read_bytes()[:-count])

    return make


def nifti(array: np.ndarray, affine: np.ndarray | None = None, **header: object) -> Callable[[Path], object]:
    """A NIfTI of a (..., K, J, I) array through nibabel, with header fields set afterwards, whatever they do."""

    def make(path: Path) -> None:
        image = nib.Nifti1Image(array.T, np.eye(4) if affine is None else affine, dtype=array.dtype)
        raw = image.to_bytes()
        record = np.frombuffer(raw[:348], image.header.template_dtype).copy()
        for name, value in header.items():
            record[name][0] = value
        raw = record.tobytes() + raw[348:]
        path.write_bytes(gzip.compress(raw) if path.name.endswith(".gz") else raw)

    return make


def nrrd(array: np.ndarray, **fields: str) -> Callable[[Path], object]:
    """A NRRD of a float32 array, axes in the array's order reversed, with header fields replaced."""
    sizes = " ".join(str(n) for n in array.shape[::-1])
    header = {"type": "float", "dimension": str(array.ndim), "space": "left-posterior-superior", "sizes": sizes}
    header |= {"space directions": "(1,0,0) (0,1,0) (0,0,1)", "endian": "little", "encoding": "raw", "space origin": "(0,0,0)"}
    header |= {name if name.startswith("Segment") else name.replace("_", " "): value for name, value in fields.items()}
    text = "NRRD0004\n" + "".join(f"{name}{':=' if name.startswith('Segment') else ': '}{value}\n" for name, value in header.items())
    return _data(text.encode() + b"\n" + array.astype("<f4").tobytes())


def meta(array: np.ndarray, **fields: str) -> Callable[[Path], object]:
    """A MetaImage of a float32 array, with header fields replaced or added."""
    header = {"ObjectType": "Image", "NDims": str(array.ndim), "BinaryData": "True", "BinaryDataByteOrderMSB": "False"}
    header |= {"ElementSpacing": " ".join("1" * array.ndim), "DimSize": " ".join(str(n) for n in array.shape[::-1])}
    header |= {"ElementType": "MET_FLOAT", **fields, "ElementDataFile": fields.get("ElementDataFile", "LOCAL")}
    text = "".join(f"{name} = {value}\n" for name, value in header.items())
    return _data(text.encode() + array.astype("<f4").tobytes())


def dicom(array: np.ndarray, lps: np.ndarray | None = None, series: str = "1", **tags: str) -> Callable[[Path], object]:
    """A DICOM series in a folder: int16 (or, with rescale tags, float) (K, J, I) on a 4x4 IJK -> LPS matrix.

    File names run against the order of the slices.
    """
    matrix = np.eye(4) if lps is None else lps
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    axes = matrix[:3, :3] / spacing

    def make(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        for k, plane in enumerate(array):
            image = sitk.GetImageFromArray(plane)
            image.SetSpacing(spacing[:2].tolist())
            position = matrix[:3, :3] @ [0, 0, k] + matrix[:3, 3]
            own = {"0008|0060": "MR", "0020|000d": "1.2.3", "0020|000e": f"1.2.3.{series}", "0020|0013": str(k)}
            own |= {"0020|0032": "\\".join(f"{x:.6f}" for x in position), "0008|0018": f"1.2.3.{series}.{k + 1}"}
            own |= {"0020|0037": "\\".join(f"{x:.9f}" for x in [*axes[:, 0], *axes[:, 1]])}
            for key, value in {**own, **{key.replace("_", "|"): value for key, value in tags.items()}}.items():
                image.SetMetaData(key, value)
            writer.SetFileName(str(folder / f"{series}-{len(array) - k:03d}.dcm"))
            writer.Execute(image)

    return make


def _add_files(add: Callable) -> None:
    """Not there, not an image, not whole."""
    add("absent.nii.gz", "no such file")
    add("notes.txt", "unknown extension", _data(b"a letter"))
    add("picture.png", "unknown extension", _data(b"\x89PNG\r\n\x1a\n"))
    add("pair.hdr", "unknown extension", nifti(scan()))
    add("empty.nii.gz", "empty file", _data(b""))
    add("empty.mha", "empty file", _data(b""))
    add("text.nii", "not a NIfTI file", _data(b"a letter" * 100))
    add("text.nrrd", "truncated", _data(b"a letter" * 100))
    add("text.mha", "truncated", _data(b"a letter" * 100))
    add("pair.nii", "not a single NIfTI file", nifti(scan(), magic=b"ni1"))
    add("head_only.nii", "truncated", _data(b"\x5c\x01\0\0" + bytes(96)))
    add("truncated.nii", "truncated", _cut(100, nifti(scan())))
    add("truncated.nii.gz", "truncated", _cut(100, nifti(scan())))
    add("no_checksum.nii.gz", "truncated", _cut(5, nifti(scan())))
    add("truncated.nrrd", "truncated", _cut(100, nrrd(scan())))
    add("truncated.mha", "truncated", _cut(100, meta(scan())))
    add("no data file.mhd", "'nowhere.raw' is absent", meta(scan(), ElementDataFile="nowhere.raw"))
    add("no data file.nhdr", "'nowhere.raw' is absent", nrrd(scan(), data_file="nowhere.raw"))
    add("claims too much.nii.gz", "truncated", nifti(scan(), dim=[3, 32767, 32767, 32767, 1, 1, 1, 1]))


def _add_voxels(add: Callable) -> None:
    """Voxels that no scan has."""
    broken, labels = scan(), (scan() > 500).astype(np.uint8) * 3
    broken[2, 3, 4:6] = np.nan
    add("nan.nii.gz", "2 of 336 voxels are NaN or infinite", nifti(broken))
    add("infinite.nrrd", "336 of 336 voxels", nrrd(np.full(SHAPE, np.inf)))
    add("constant.nii", "constant image: every voxel is 7", nifti(np.full(SHAPE, 7, np.int16)))
    add("label.nii.gz", "label map", nifti(labels))
    add("float label.mha", "label map", meta(labels.astype(np.float32)))
    add("label intent.nii", "label map", nifti(np.arange(336, dtype=np.int16).reshape(SHAPE), intent_code=1002))
    add("segments.seg.nrrd", "label map", nrrd(scan(), Segment0_ID="tumour"))
    add("complex.nii", "complex", nifti(scan().astype(np.complex64)))
    add("unknown type.nii", "datatype 77", nifti(scan(), datatype=77))
    add("rgb type.nii", "RGB", nifti(scan(), datatype=128))


def _add_shapes(add: Callable) -> None:
    """Not three dimensions of plain numbers."""
    add("flat.nii", "2-D", nifti(scan(SHAPE[1:])))
    add("thin.mha", "2-D", meta(scan((1, 7, 8))))
    add("flat.nrrd", "2-D", lambda path: sitk.WriteImage(sitk.GetImageFromArray(scan((7, 8))), str(path)))
    add("frames.nii.gz", "4-D", nifti(scan((3, *SHAPE))))
    add("frames.mha", "4-D", meta(scan((3, *SHAPE))))
    add("vector.nii", "3 components", nifti(scan((3, 1, *SHAPE))))
    add("rgb.mha", "3 components", meta(scan((6, 7, 24)), DimSize="8 7 6", ElementNumberOfChannels="3"))
    kinds = {"kinds": "vector domain domain domain", "space_directions": "none (1,0,0) (0,1,0) (0,0,1)"}
    add("vector.nrrd", "3 components", nrrd(scan((*SHAPE, 3)), **kinds))
    add("no dimensions.nii", "dim[0]", nifti(scan(), dim=[99, 8, 7, 6, 1, 1, 1, 1]))


def _add_geometries(add: Callable) -> None:
    """Grids that lie nowhere."""
    pixdim, spacing = [1, 1, 1, 0, 1, 1, 1, 1], "spacing"
    add("zero spacing.nii", spacing, nifti(scan(), pixdim=pixdim, sform_code=0))
    add("negative spacing.nii", spacing, nifti(scan(), pixdim=[1, 1, -2, 1, 1, 1, 1, 1], sform_code=0, qform_code=1))
    add("nan spacing.nii", spacing, nifti(scan(), pixdim=[1, 1, np.nan, 1, 1, 1, 1, 1], sform_code=0))
    add("zero column.nii.gz", spacing, nifti(scan(), srow_x=[0, 0, 0, 0], sform_code=1))
    add("zero spacing.mha", spacing, meta(scan(), ElementSpacing="1 0 1"))
    add("negative spacing.mha", spacing, meta(scan(), ElementSpacing="1 -2 1"))
    add("zero spacing.nrrd", spacing, nrrd(scan(), space_directions="(0,0,0) (0,1,0) (0,0,1)"))
    add("singular.nii", "singular", nifti(scan(), sform_code=1, srow_x=[1, 1, 0, 0], srow_y=[1, 1, 0, 0]))
    add("singular.nrrd", "singular", nrrd(scan(), space_directions="(1,0,0) (1,0,0) (0,0,1)"))
    add("singular.mha", "singular", meta(scan(), TransformMatrix="1 0 0 1 0 0 0 0 1"))
    add("not finite.nii", "not finite", nifti(scan(), sform_code=1, srow_z=[0, 0, np.inf, 0]))
    add("not finite.nrrd", "not finite", nrrd(scan(), space_directions="(1,0,0) (0,nan,0) (0,0,1)"))


def _add_dicom(add: Callable) -> None:
    """Folders that hold no DICOM series, or not one whole one."""
    series = dicom(scan().astype(np.int16))

    def without(path: Path) -> None:
        series(path)
        (path / "1-003.dcm").unlink()

    def damaged(path: Path) -> None:
        series(path)
        _cut(40, lambda _: None)(path / "1-001.dcm")

    def both(path: Path) -> None:
        series(path)
        dicom(scan().astype(np.int16), series="2")(path)

    def repeated(path: Path) -> None:
        series(path)
        (path / "copy.dcm").write_bytes((path / "1-003.dcm").read_bytes())

    def tilted(path: Path) -> None:
        series(path)
        axes = np.array([[1, 0, 0, 0], [0, 0, 1, 50], [0, -1, 0, 50], [0, 0, 0, 1.0]])
        dicom(scan((1, 7, 8)).astype(np.int16), axes, series="1", **{"0008_0018": "1.2.3.1.99"})(path / "other")
        (path / "other" / "1-001.dcm").rename(path / "localizer.dcm")
        (path / "other").rmdir()

    add("empty folder", "without a DICOM series", lambda path: path.mkdir())
    add("letters", "without a DICOM series", lambda path: (path.mkdir(), (path / "letter.txt").write_text("a letter" * 100)))
    add("slice missing", "uneven slices: 2 mm between 2.000 and 4.000 mm", without)
    add("slice damaged", "1-001.dcm: truncated", damaged)
    add("two series", "2 DICOM series", both)
    add("slice twice", "share a position", repeated)
    add("localizer inside", "different orientation", tilted)
    add("one slice", "2-D", dicom(scan((1, 7, 8)).astype(np.int16)))
    add("one slice/1-001.dcm", "give the folder")
