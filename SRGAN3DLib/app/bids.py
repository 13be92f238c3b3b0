"""BIDS datasets: which images of one are super-resolved, and how the results are named, as a derivative dataset.

Source: Brain Imaging Data Structure 1.9, "Anatomy imaging data" and "Derivatives".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SRGAN3DLib import __version__
from SRGAN3DLib.contract.errors import JobError, VolumeError
from SRGAN3DLib.volumes.files import make_folder, write_text

BIDS_VERSION = "1.9.0"
CONTRASTS = ("T1w", "T2w", "FLAIR")
ENDINGS = (".nii.gz", ".nii")
DESCRIPTION = "dataset_description.json"
_NAME = re.compile(r"(?P<entities>sub-[A-Za-z0-9]+(_[a-zA-Z0-9]+-[A-Za-z0-9+]+)*)_(?P<suffix>[A-Za-z0-9]+)")


@dataclass(frozen=True)
class BidsImage:
    """One anatomical image of a dataset: `source` below `dataset`, and `target`, the name of its result below the derivative dataset."""

    dataset: Path
    source: Path
    target: Path


def is_bids_dataset(folder: str | Path) -> bool:
    """Whether the folder has a `dataset_description.json` and folders of subjects."""
    folder = Path(folder)
    return (folder / DESCRIPTION).is_file() and any(path.is_dir() for path in folder.glob("sub-*"))


def bids_images(
    dataset: str | Path, out: str | Path, participants: Iterable[str] = (), contrasts: Iterable[str] = CONTRASTS
) -> list[BidsImage]:
    """The anatomical images of a dataset (all participants where none is named), each with the name of its result below `out`.

    Derivatives within the dataset are left out. Raises `JobError` for a participant that is not there, `VolumeError` without an image.
    """
    dataset, out = Path(dataset), Path(out)
    there = {path.name for path in dataset.glob("sub-*") if path.is_dir()}
    wanted = {f"sub-{name.removeprefix('sub-')}" for name in participants}
    if absent := sorted(wanted - there):
        raise JobError(
            f"{dataset}: has no participant {absent[0]}; there are {', '.join(sorted(there)[:8])}{', ...' if len(there) > 8 else ''}"
        )
    suffixes = tuple(contrasts)
    found = []
    for subject in sorted(wanted or there):
        for anat in sorted([*(dataset / subject).glob("anat"), *(dataset / subject).glob("ses-*/anat")]):
            for path in sorted(anat.iterdir()):
                target = _derivative_name(path.name, suffixes)
                if target is not None:
                    found.append(BidsImage(dataset, path, out / path.parent.relative_to(dataset) / target))
    if not found:
        raise VolumeError(f"{dataset}: a BIDS dataset without an image of {', '.join(suffixes)} in anat/")
    return found


def _derivative_name(name: str, suffixes: tuple[str, ...]) -> str | None:
    """`sub-01_T1w.nii.gz` -> `sub-01_desc-SR_T1w.nii.gz`; None for what is no image of one of the contrasts."""
    ending = next((ending for ending in ENDINGS if name.endswith(ending)), None)
    match = _NAME.fullmatch(name[: -len(ending)]) if ending else None
    if match is None or match["suffix"] not in suffixes or "_desc-" in name:
        return None
    return f"{match['entities']}_desc-SR_{match['suffix']}.nii.gz"


def write_description(out: str | Path, source: str | Path) -> None:
    """The derivative dataset's own description, unless it is there. Raises `JobError` for a folder that holds another dataset."""
    path = Path(out) / DESCRIPTION
    if path.is_file():
        try:
            made_by = [one.get("Name") for one in json.loads(path.read_text(encoding="utf-8")).get("GeneratedBy", [])]
        except (OSError, ValueError, AttributeError):
            made_by = []
        if "SRGAN3D" not in made_by:
            raise JobError(f"{out}: holds another BIDS dataset; give the results a folder of their own")
        return
    make_folder(out)
    description = {
        "Name": f"{Path(source).resolve().name}, super-resolved",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "SRGAN3D", "Version": __version__}],
        "SourceDatasets": [{"URL": f"file:///{Path(source).resolve().name}"}],
        "DatasetLinks": {"source": f"file:///{Path(source).resolve().name}"},
    }
    write_text(path, json.dumps(description, indent=2) + "\n")


def bids_facts(dataset: Path, source: Path) -> dict[str, Any]:
    """What the sidecar of a result must say about its source: where it lies in the dataset, and whether the skull was removed.

    An image of a dataset is as the scanner made it, unless its own sidecar says otherwise.
    """
    stripped = False
    own = source.with_name(source.name.removesuffix(".gz").removesuffix(".nii") + ".json")
    if own.is_file():
        try:
            stripped = json.loads(own.read_text(encoding="utf-8")).get("SkullStripped") is True
        except (OSError, ValueError, AttributeError) as error:
            raise VolumeError(f"{own}: is no sidecar of BIDS ({error})") from None
    return {"Sources": [f"bids:source:{source.relative_to(dataset).as_posix()}"], "SkullStripped": stripped}
