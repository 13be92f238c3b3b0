"""The DICOM series of a folder, through SimpleITK.

Slices are read one by one, so that order, gaps and sizes are checked before a volume is made of them, and memory holds the volume
and one slice.

Errors are `VolumeError`s without the file's name: `Volume.read` puts it in front.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from SRGAN3DLib.contract.errors import VolumeError

from .geometry import Geometry, ras_from_lps, volume_shape

POSITION_TOLERANCE = 0.01  # of the slice spacing: how far a DICOM slice may lie from its regular place
_stderr_lock = threading.Lock()

Facts = dict[str, Any]


def read_dicom(folder: Path) -> tuple[np.ndarray, Geometry, Facts]:
    """The one DICOM series of `folder`, in any file order -> (array float32 (K, J, I), geometry, other fields of `Volume`).

    The matrix comes from the positions of all slices, so a tilted gantry gives the sheared grid that it is. Raises
    `VolumeError` for no series, several series, and slices that are missing, repeated, or of another size or orientation.
    """
    with _quiet() as sitk:
        slices = _series(sitk, folder)
        if len(slices) == 1:  # one file can hold a whole volume (enhanced DICOM); a flat one is refused there
            return _read_image(slices[0].path, "GDCMImageIO")
        slices, geometry = _stack(slices)
        array = np.empty(geometry.shape_kji, np.float32)
        for target, one in zip(array, slices, strict=True):
            image = _reader(one.path, "GDCMImageIO").Execute()  # kept by name: the view below lives no longer than it
            target[...] = sitk.GetArrayViewFromImage(image).reshape(target.shape)
        return array, geometry, _dicom_type(slices)


def read_dicom_geometry(folder: Path) -> Geometry:
    """What `read_dicom` would find, from the slices' headers."""
    with _quiet() as sitk:
        slices = _series(sitk, folder)
        return _read_geometry(_reader(slices[0].path, "GDCMImageIO")) if len(slices) == 1 else _stack(slices)[1]


def _series(sitk: Any, folder: Path) -> list[_Slice]:
    """The headers of the one series in `folder`, in the order of the files."""
    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if not series:
        raise VolumeError("a folder without a DICOM series")
    files = {uid: sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid) for uid in series}
    if len(series) > 1:
        shown = ", ".join(f"{uid} ({len(files[uid])} files)" for uid in series[:4])
        raise VolumeError(f"{len(series)} DICOM series in one folder, one is wanted: {shown}{', ...' if len(series) > 4 else ''}")
    slices = [_read_slice_header(Path(name)) for name in files[series[0]]]
    _check_left_out(folder, {one.path.name for one in slices}, slices[0].sop_class)
    return slices


def is_dicom_folder(folder: Path) -> bool:
    """True where a file of the folder itself (not of its sub-folders) carries DICOM's mark, `DICM` at byte 128."""
    return any(_dicom_start(path) for path in sorted(folder.iterdir()))


def _dicom_start(path: Path) -> bytes:
    """The first bytes of a visible DICOM file, with its file meta information; of any other nothing."""
    if path.name.startswith(".") or not path.is_file():
        return b""
    with path.open("rb") as file:
        start = file.read(1024)
    return start if start[128:132] == b"DICM" else b""


def _check_left_out(folder: Path, used: set[str], sop_class: str) -> None:
    """GDCM passes over files that it cannot read: one of the series' own kind is a slice that would silently be missing."""
    for path in sorted(folder.iterdir()):
        if path.name not in used and sop_class and sop_class.encode() in _dicom_start(path):
            raise VolumeError(f"{path.name} is truncated or damaged, or another image without a series")


@dataclass(frozen=True)
class _Slice:
    """What the header of one DICOM file says; `frame` is the 4x4 IJK -> LPS of its voxels."""

    path: Path
    size_ij: tuple[int, int]
    frame: np.ndarray
    dtype: np.dtype
    stored: str
    scaling: tuple[float, float]
    frames: int
    sop_class: str

    @property
    def position(self) -> np.ndarray:
        return self.frame[:3, 3]


def _sitk() -> Any:
    """SimpleITK, loaded on first use: `import SRGAN3DLib.volume` is cheap without it."""
    import SimpleITK

    return SimpleITK


@contextmanager
def _quiet(hint: str = "") -> Iterator[Any]:
    """SimpleITK, with what its C++ code prints on stderr thrown away for a while; its exceptions become `VolumeError`s.

    `hint` goes in front of what these can mean.
    """
    sitk = _sitk()
    with _stderr_lock:
        shown = sitk.ProcessObject.GetGlobalWarningDisplay()
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        kept = _divert_stderr()
        try:
            yield sitk
        except RuntimeError as error:
            raise VolumeError(f"{hint}damaged, truncated or not of its format{_detail(error)}") from None
        finally:
            if kept is not None:
                os.dup2(kept, 2)
                os.close(kept)
            sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def _divert_stderr() -> int | None:
    """File descriptor 2 to nowhere; returns the old one, or None for a process without a stderr."""
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
        kept = os.dup(2)
    except OSError:
        return None
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    return kept


def _detail(error: RuntimeError) -> str:
    """The telling part of an ITK exception, in brackets and one line: no source file, no address, no misleading errno."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("Reason:")]
    text = re.sub(r"^ITK ERROR: (\w+\(0x[0-9a-f]+\): )?", "", lines[-1] if lines else "")
    if "File cannot be read" in text:  # all that MetaImage ever says
        return ""
    return f" ({text[:160]}{'...' if len(text) > 160 else ''})"


def _reader(path: Path, image_io: str) -> Any:
    reader = _sitk().ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    return reader


def _execute(reader: Any) -> Any:
    """The image, refused before its voxels are read unless they are plain numbers."""
    sitk = _sitk()
    if reader.GetPixelID() in (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64):
        raise VolumeError("complex voxels: one plain number per voxel is wanted")
    if reader.GetNumberOfComponents() != 1:
        raise VolumeError(f"{reader.GetNumberOfComponents()} components per voxel: one number per voxel is wanted")
    return reader.Execute()


def _read_image(path: Path, image_io: str) -> tuple[np.ndarray, Geometry, Facts]:
    sitk = _sitk()
    reader = _reader(path, image_io)
    geometry = _read_geometry(reader)
    image = _execute(reader)
    view = sitk.GetArrayViewFromImage(image).reshape(geometry.shape_kji)  # lives no longer than the image
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes inf, which is refused with its count
        array = view.astype(np.float32)
    return array, geometry, {"dtype": view.dtype.name}


def _read_geometry(reader: Any) -> Geometry:
    """The grid that the header tells of, refused where it is no scan's."""
    reader.ReadImageInformation()
    if any(key.startswith("Segment0_") for key in reader.GetMetaDataKeys()):
        raise VolumeError("looks like a label map (it describes segments): a scan is wanted")
    shape = volume_shape(reader.GetSize())
    spacing = reader.GetSpacing()[:3]
    if not min(spacing) > 0:  # ITK goes on with these, by a guess of its own
        raise VolumeError(f"voxel spacing {list(spacing)} mm (I, J, K): above 0 is wanted")
    return Geometry(shape, ras_from_lps(_frame(reader)))


def _frame(reader: Any) -> np.ndarray:
    """4x4 IJK -> LPS of the first three axes."""
    n = reader.GetDimension()
    matrix = np.eye(4)
    matrix[:3, :3] = (np.reshape(reader.GetDirection(), (n, n)) * reader.GetSpacing())[:3, :3]
    matrix[:3, 3] = reader.GetOrigin()[:3]
    return matrix


def _read_slice_header(path: Path) -> _Slice:
    sitk = _sitk()
    reader = _reader(path, "GDCMImageIO")
    reader.ReadImageInformation()
    size = reader.GetSize()
    if reader.GetNumberOfComponents() != 1:
        raise VolumeError(f"{path.name}: {reader.GetNumberOfComponents()} components per voxel (colour): one number per voxel is wanted")
    keys = set(reader.GetMetaDataKeys())
    bits, signed, slope, intercept = (
        float(reader.GetMetaData(key)) if key in keys else default
        for key, default in (("0028|0100", 16.0), ("0028|0103", 0.0), ("0028|1053", 1.0), ("0028|1052", 0.0))
    )
    sop_class = reader.GetMetaData("0008|0016").strip("\0 ") if "0008|0016" in keys else ""
    dtype = sitk.GetArrayFromImage(sitk.Image([1, 1], reader.GetPixelID())).dtype
    stored = f"{'int' if signed else 'uint'}{int(bits)}"
    return _Slice(path, (size[0], size[1]), _frame(reader), dtype, stored, (slope, intercept), int(np.prod(size[2:])), sop_class)


def _stack(slices: list[_Slice]) -> tuple[list[_Slice], Geometry]:
    """The slices in order along their normal, and the grid that they make together."""
    first = slices[0]
    for one in slices:
        if one.frames != 1:
            raise VolumeError(f"{one.path.name} holds {one.frames} frames among {len(slices)} files: one volume is wanted")
        if one.size_ij != first.size_ij:
            raise VolumeError(f"slices of different size: {first.path.name} {first.size_ij}, {one.path.name} {one.size_ij} (I, J)")
        if not np.allclose(one.frame[:3, :2], first.frame[:3, :2], atol=1e-4):
            raise VolumeError(f"slices of different orientation or voxel spacing: {first.path.name}, {one.path.name}")
    normal = np.cross(first.frame[:3, 0], first.frame[:3, 1])
    normal /= np.linalg.norm(normal)
    slices = sorted(slices, key=lambda one: float(one.position @ normal))
    positions = np.array([one.position for one in slices])
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    _check_gaps(slices, positions @ normal)
    off = np.linalg.norm(positions - positions[0] - np.outer(np.arange(len(slices)), step), axis=1)
    if off.max() > POSITION_TOLERANCE * np.linalg.norm(step):
        worst = slices[int(off.argmax())]
        raise VolumeError(f"{worst.path.name} at {worst.position.tolist()} (LPS, mm) lies {off.max():.3g} mm beside the line of the others")
    lps = slices[0].frame.copy()
    lps[:3, 2] = step
    return slices, Geometry((len(slices), first.size_ij[1], first.size_ij[0]), ras_from_lps(lps))


def _check_gaps(slices: list[_Slice], heights: np.ndarray) -> None:
    """Refuse repeated, missing and unevenly spaced slices, naming the first place."""
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    repeated = np.flatnonzero(gaps < 1e-3)
    if repeated.size:
        at = int(repeated[0])
        names = f"{slices[at].path.name}, {slices[at + 1].path.name}"
        raise VolumeError(
            f"{repeated.size + 1} or more slices share a position ({names} at {heights[at]:.3f} mm): several frames or echoes?"
        )
    uneven = np.flatnonzero(np.abs(gaps - usual) > POSITION_TOLERANCE * usual)
    if uneven.size:
        at = int(uneven[0])
        missing = gaps[at] / usual
        guess = f": {round(missing) - 1} missing?" if missing > 1.5 and abs(missing - round(missing)) < 0.05 else ""
        raise VolumeError(
            f"uneven slices: {gaps[at]:.4g} mm between {heights[at]:.3f} and {heights[at + 1]:.3f} mm along the normal, "
            f"{usual:.4g} mm elsewhere ({uneven.size} such places in {len(slices)} slices){guess}"
        )


def _dicom_type(slices: list[_Slice]) -> Facts:
    """The integer type that the values need; for values rescaled to real numbers, the stored type and its scaling."""
    if all(np.issubdtype(one.dtype, np.integer) for one in slices):
        return {"dtype": np.result_type(*{one.dtype for one in slices}).name}
    alike = {(one.stored, one.scaling) for one in slices}
    if len(alike) > 1:  # a scaling of its own for every slice (PET) has no integer type in common
        return {"dtype": "float32"}
    stored, scaling = alike.pop()
    return {"dtype": stored, "scaling": scaling}
