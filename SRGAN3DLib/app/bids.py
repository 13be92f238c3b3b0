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

    @property
    def done(self) -> bool:
        """Whether result and sidecar are there already."""
        return self.target.is_file() and sidecar(self.target).is_file()


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


def sidecar(target: Path) -> Path:
    """The JSON file beside an image."""
    return target.with_name(target.name.removesuffix(".nii.gz") + ".json")


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
    }
    write_text(path, json.dumps(description, indent=2) + "\n")


def write_sidecar(image: BidsImage, info: dict[str, Any]) -> None:
    """The JSON beside a result: where it comes from, and the account of how it was made."""
    source = image.source.relative_to(image.dataset).as_posix()
    facts = {
        "Sources": [f"bids:source:{source}"],
        "Description": "Super-resolved. Detail finer than the source image is inferred. For research only, not for diagnosis.",
        "GeneratedBy": [{"Name": "SRGAN3D", "Version": info["version"]}],
        "SRGAN3D": info,
    }
    write_text(sidecar(image.target), json.dumps(facts, indent=2, default=str) + "\n")
