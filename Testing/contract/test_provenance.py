"""The facts about a result: complete, without folders, and told from a foreign JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from SRGAN3DLib.contract.errors import VolumeError
from SRGAN3DLib.contract.provenance import facts_in_json, json_beside, parse_provenance, provenance_facts

INFO = {
    "input": "/data/ann lee/My Scans/a.nii.gz", "output": "out/b.nrrd", "outputs": {"sr": "out/b.nrrd", "detail": "d.nii.gz"},
    "model": {"name": "m", "file": "m.safetensors", "sha256": "0" * 64}, "blur": {"source": "given"}, "noise": {"source": "estimated"},
    "consistency": {"rms_of_range": 0.01}, "artefacts": {"ringing": 0.0}, "device": "cpu", "precision": "fp32", "flips": 1,
    "version": "1.2", "factors_kji": [1, 2, 4], "spacing_ijk_mm": [0.5, 0.5, 1.0], "shape_kji": [3, 4, 5], "asked": {"model": "/opt/m/m.x"},
    "seconds": 1.5, "fallbacks": [],
    "warnings": ["/data/ann lee/My Scans/a.nii.gz: odd", r"see C:\Users\ann\x.nii, /data2/pat 1", "1/2 of it and/or more, 3 mm/voxel"],
}  # fmt: skip


def test_facts_hold_no_folder() -> None:
    facts = provenance_facts(INFO, created="2026-01-01T00:00:00+00:00")
    assert (
        facts["Sources"] == ["a.nii.gz"] and facts["Output"] == "b.nrrd" and facts["GeneratedBy"] == [{"Name": "SRGAN3D", "Version": "1.2"}]
    )
    assert facts["FactorsIJK"] == [4, 2, 1] and facts["ShapeIJK"] == [5, 4, 3] and facts["Asked"]["model"] == "m.x"
    assert facts["Warnings"] == ["a.nii.gz: odd", "see x.nii, pat 1", "1/2 of it and/or more, 3 mm/voxel"]
    assert "ann" not in json.dumps(facts)
    assert provenance_facts(INFO, "detail")["Output"] == "d.nii.gz"
    assert provenance_facts(INFO, scan={"Sources": ["bids:source:sub-1/x.nii"]})["Sources"] == ["bids:source:sub-1/x.nii"]


@pytest.mark.parametrize(
    ("file", "name"), [("a/b.nii.gz", "b.json"), ("b.NRRD", "b.json"), ("b.1.mha", "b.1.json"), ("folder", "folder.json")]
)
def test_name_of_the_json(file: str, name: str) -> None:
    assert json_beside(file).name == name and json_beside(file).parent == Path(file).parent


def test_a_foreign_json_is_told(tmp_path: Path) -> None:
    for text in (
        "",
        "[1]",
        "{}",
        '{"GeneratedBy": [{"Name": "fmriprep"}]}',
        '{"GeneratedBy": "SRGAN3D"}',
        '{"GeneratedBy": [{"Name": "SRGAN3D"}]}',
    ):
        assert parse_provenance(text) is None
    path = tmp_path / "x.json"
    path.write_text(json.dumps(provenance_facts(INFO)))
    assert facts_in_json(path) == parse_provenance(path.read_text()) is not None
    with pytest.raises(VolumeError, match=r"absent\.json: cannot be read"):
        facts_in_json(tmp_path / "absent.json")
