"""A result as a derived DICOM series: one file a slice, MR or CT Image Storage, written whole or not at all.

Patient, study and frame of reference are those of the source series, where the scan came from DICOM; otherwise nothing is invented, and
what the standard asks for stays empty. The provenance stands in a private element of every file.
Source: DICOM PS3.3, A.3 and A.4 (CT and MR image), C.7.6.1.1.2 (image type), C.12.1 (SOP common); PS3.16, CID 7203 (derivation).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from SRGAN3DLib import __version__
from SRGAN3DLib.contract.errors import JobError, ResourceError, VolumeError

from .dicom_file import load_pydicom, open_dicom
from .dicom_series import dicom_files
from .files import is_full, replacing_folder
from .geometry import Geometry, ras_from_lps, slabs
from .provenance import one_line

CREATOR, GROUP, ELEMENT = "SRGAN3D provenance", 0x0053, 0x01
STORAGE = {"MR": "1.2.840.10008.5.1.4.1.1.4", "CT": "1.2.840.10008.5.1.4.1.1.2"}
LARGEST_STORED = 32767  # of 16 bits, so that a viewer that takes them as signed sees the same
WARNING = "not for diagnosis"
KEPT = (  # of the source: the patient, the study, the place, and how the scan was acquired
    "SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientSize",
    "PatientWeight", "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence", "StudyInstanceUID",
    "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID",
    "PositionReferenceIndicator", "PatientPosition", "BodyPartExamined", "Laterality", "AcquisitionDate", "AcquisitionTime",
    "AcquisitionNumber", "ProtocolName", "ContrastBolusAgent",
)  # fmt: skip
KEPT_OF = {
    "MR": (
        "ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime", "EchoTrainLength",
        "InversionTime", "FlipAngle", "MagneticFieldStrength", "ImagingFrequency", "ImagedNucleus",
    ),
    "CT": ("KVP", "ConvolutionKernel", "XRayTubeCurrent", "ExposureTime"),
}  # fmt: skip
EMPTY = (  # the standard asks for these attributes, with a value or without
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
    "ReferringPhysicianName", "PositionReferenceIndicator", "PatientPosition", "SeriesNumber", "AcquisitionNumber",
)  # fmt: skip
EMPTY_OF = {"MR": ("ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime", "EchoTrainLength"), "CT": ("KVP",)}
IMAGE_TYPES = {"MR": ["DERIVED", "SECONDARY", "OTHER"], "CT": ["DERIVED", "SECONDARY", "AXIAL"]}


def check_series_folder(folder: Path) -> None:
    """Raise now what `write_dicom` would refuse after the work. Raises `JobError`, `VolumeError`."""
    load_pydicom()
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise JobError(f"{folder}: is there already; a DICOM series must have a folder of its own, which is empty or not there")
        if not folder.parent.is_dir():
            raise VolumeError(f"{folder}: its folder {folder.parent} does not exist")
    except OSError as error:
        raise VolumeError(f"{folder}: cannot be written ({error.strerror or error})") from None


def check_for_dicom(folder: Path, geometry: Geometry, acquisition: Any = None) -> None:
    """Raises `VolumeError` for what a series of MR or CT images cannot be: a sheared grid, another modality."""
    if geometry.is_sheared:
        raise VolumeError(f"{folder}: DICOM cannot store a sheared grid; choose .nrrd or .nii.gz")
    modality = acquisition.modality if acquisition is not None else ""
    if modality not in ("", *STORAGE):
        raise VolumeError(f"{folder}: a series of modality {modality} cannot be written, only MR and CT; choose .nii.gz")


def write_dicom(folder: Path, array: np.ndarray, geometry: Geometry, description: str, provenance: str, acquisition: Any = None) -> str:
    """Write `array` (K, J, I) as a series into `folder`; returns its modality.

    `acquisition` is that of the scan (`Volume.acquisition`), or None; `provenance` is JSON text. A value is stored as 15 bits over the
    range of the array, so it is kept to 1/65000 of that. Raises `VolumeError` for a sheared grid, `JobError`, `ResourceError`.
    """
    pydicom = load_pydicom()
    check_for_dicom(folder, geometry, acquisition)
    common = _common(pydicom, geometry, description, provenance, acquisition)
    slope, intercept = _rescale(pydicom, array)
    common.RescaleSlope, common.RescaleIntercept = slope, intercept
    common.RescaleType = "HU" if common.Modality == "CT" else "US"
    matrix = ras_from_lps(geometry.ijk_to_ras)
    row, column, step = (matrix[:3, axis] for axis in range(3))
    order = range(len(array)) if np.dot(np.cross(row, column), step) > 0 else range(len(array) - 1, -1, -1)  # a series is right-handed
    try:
        with replacing_folder(folder) as part:
            for number, k in enumerate(order, 1):
                stored = np.rint((array[k].astype(np.float64) - float(intercept)) / float(slope))
                _write_slice(pydicom, part, common, number, matrix @ [0, 0, k, 1], np.clip(stored, 0, LARGEST_STORED))
    except OSError as error:
        if is_full(error):
            raise ResourceError(f"{folder}: no room on the disk ({error.strerror})") from None
        raise JobError(f"{folder}: cannot be written ({error.strerror or error})") from None
    return str(common.Modality)


def read_dicom_provenance(path: Path) -> str | None:
    """The provenance text of a DICOM file, or of the first file of a folder that has one; None where there is none."""
    for file in dicom_files(path) if path.is_dir() else [path]:
        dataset = open_dicom(file).dataset
        with contextlib.suppress(KeyError):
            return str(dataset.private_block(GROUP, CREATOR)[ELEMENT].value)
    return None


def _common(pydicom: Any, geometry: Geometry, description: str, provenance: str, acquisition: Any) -> Any:
    """What all slices have in common."""
    files = acquisition.files if acquisition is not None else ()
    source = open_dicom(files[0]).dataset if files else pydicom.Dataset()
    modality = "CT" if source.get("Modality") == "CT" else "MR"
    common = pydicom.Dataset()
    for keyword in (*KEPT, *KEPT_OF[modality]):
        if keyword in source:
            common[keyword] = source[keyword]
    for keyword in (*EMPTY, *EMPTY_OF[modality]):
        if keyword not in common:
            setattr(common, keyword, None)
    if not common.get("BodyPartExamined") and "Laterality" not in common:
        common.Laterality = None  # the standard asks for it where the part of the body may be one of a pair
    if modality == "MR":  # both must have a value; these say that it is not known
        common.ScanningSequence = common.get("ScanningSequence") or "RM"
        common.SequenceVariant = common.get("SequenceVariant") or "NONE"
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
        if not common.get(keyword):
            setattr(common, keyword, pydicom.uid.generate_uid())
    common.SpecificCharacterSet = common.get("SpecificCharacterSet") or "ISO_IR 192"
    common.SOPClassUID, common.Modality, common.ImageType = STORAGE[modality], modality, IMAGE_TYPES[modality]
    common.SeriesInstanceUID = pydicom.uid.generate_uid()
    common.SeriesDescription = _label(str(source.get("SeriesDescription") or ""), description)
    moment = datetime.now(timezone.utc).astimezone()
    for name in ("Series", "Content", "InstanceCreation"):
        setattr(common, f"{name}Date", moment.strftime("%Y%m%d"))
        setattr(common, f"{name}Time", moment.strftime("%H%M%S"))
    common.Manufacturer, common.ManufacturerModelName, common.SoftwareVersions = "SRGAN3D", "SRGAN3D", __version__
    common.BurnedInAnnotation = "NO"
    _add_derivation(pydicom, common, description, files)
    _add_grid(common, geometry)
    private = common.private_block(GROUP, CREATOR, create=True)
    private.add_new(ELEMENT, "UT", one_line(provenance))
    return common


def _label(source: str, description: str) -> str:
    """The series' description: at most 64 characters, and the warning is never cut."""
    end = f" {description}"[: 64 - len(WARNING) - 2] + f", {WARNING}"
    return (source[: max(0, 64 - len(end))] + end).strip()


def _add_derivation(pydicom: Any, common: Any, description: str, files: Sequence[Path]) -> None:
    common.DerivationDescription = f"{description}: super-resolved, detail finer than the source is inferred; {WARNING}"[:1024]
    common.DerivationCodeSequence = [_code(pydicom, "113085", "Spatial resampling")]
    if not files:
        return
    purpose, references = _code(pydicom, "121322", "Source image for image processing operation"), []
    for file in files:
        source, reference = open_dicom(file).dataset, pydicom.Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
        reference.PurposeOfReferenceCodeSequence = [purpose]
        references.append(reference)
    common.SourceImageSequence = references


def _code(pydicom: Any, value: str, meaning: str) -> Any:
    code = pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code


def _add_grid(common: Any, geometry: Geometry) -> None:
    i, j, k = geometry.spacing_ijk_mm
    directions = ras_from_lps(geometry.ijk_to_ras)[:3, :2] / [i, j]
    common.ImageOrientationPatient = [_decimal(value) for value in directions.T.ravel()]
    common.PixelSpacing, common.SliceThickness, common.SpacingBetweenSlices = [_decimal(j), _decimal(i)], _decimal(k), _decimal(k)
    if common.Modality == "CT":
        del common.SpacingBetweenSlices  # MR has this attribute
    common.Rows, common.Columns, common.SamplesPerPixel = geometry.shape_kji[1], geometry.shape_kji[2], 1
    common.PhotometricInterpretation, common.PixelRepresentation = "MONOCHROME2", 0
    common.BitsAllocated, common.BitsStored, common.HighBit = 16, 16, 15


def _decimal(value: float) -> str:
    """A number as DICOM writes it, in at most 16 characters."""
    from pydicom.valuerep import format_number_as_ds

    return str(format_number_as_ds(float(value) + 0.0))


def _rescale(pydicom: Any, array: np.ndarray) -> tuple[str, str]:
    """Slope and intercept as they are written: 0 to `LARGEST_STORED` is the range of the array."""
    low, high = (extreme([extreme(array[slab]) for slab in slabs(array.shape)]) for extreme in (np.min, np.max))
    intercept = _decimal(low)
    slope = _decimal((float(high) - float(intercept)) / LARGEST_STORED)
    return (slope if float(slope) > 0 else "1"), intercept


def _write_slice(pydicom: Any, folder: Path, common: Any, number: int, position: np.ndarray, stored: np.ndarray) -> None:
    dataset = pydicom.Dataset()
    dataset.update(common)
    dataset.SOPInstanceUID, dataset.InstanceNumber = pydicom.uid.generate_uid(), number
    dataset.ImagePositionPatient = [_decimal(value) for value in position[:3]]
    dataset.PixelData = stored.astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID, dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    pydicom.dcmwrite(folder / f"IM{number:05d}.dcm", dataset, enforce_file_format=True)
