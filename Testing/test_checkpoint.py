"""Checkpoints: what was saved comes back; whatever is wrong is told by name; nothing in a file can run."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from SRGAN3DLib.checkpoint import Checkpoint
from SRGAN3DLib.checkpoint_header import METADATA_KEY, CheckpointHeader, catalogue, find_model, read_header
from SRGAN3DLib.configs import GeneratorConfig
from SRGAN3DLib.errors import CheckpointError
from SRGAN3DLib.networks import Generator

CONFIG = GeneratorConfig(features=4, blocks=1)


def good() -> Checkpoint:
    torch.manual_seed(0)
    header = CheckpointHeader("tiny", CONFIG, contrasts=("T1w",), training_data=({"file": "a", "licence": "CC0"},), metrics={"gain": 1.5})
    return Checkpoint(header, Generator(CONFIG).state_dict())


def test_round_trip(tmp_path: Path) -> None:
    good().save(tmp_path / "a.safetensors")
    again = Checkpoint.load(tmp_path / "a.safetensors")
    assert again.header == good().header == read_header(tmp_path / "a.safetensors") and len(again.sha256) == 64
    assert all(torch.equal(t, again.tensors[name]) for name, t in good().tensors.items())
    x = torch.randn(1, 1, 5, 6, 7)
    with torch.no_grad():
        assert torch.equal(again.generator()(x), good().generator()(x))
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


class Payload:
    """What a hostile pickle would do: make a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, int]]:
        return os.mkdir, (str(self.path), 0o700)


def spoil(path: Path, kind: str) -> None:
    """Write a bad checkpoint of one kind."""
    tensors, text = dict(good().tensors), good().header.to_text()
    header = json.loads(text)
    name = "first.weight"
    if kind == "missing":
        del tensors[name]
    elif kind == "extra":
        tensors["more"] = torch.zeros(1)
    elif kind == "shape":
        tensors[name] = tensors[name][:2].clone()
    elif kind == "nan":
        tensors[name] = tensors[name] * float("nan")
    elif kind == "version":
        text = json.dumps(header | {"format_version": 99})
    elif kind == "key":
        text = json.dumps(header | {"surprise": 1})
    elif kind == "config":
        text = json.dumps(header | {"generator": header["generator"] | {"upsampling": "magic"}})
    elif kind == "not json":
        text = "{"
    save_file(tensors, path, {METADATA_KEY: text} if kind != "foreign" else {"format": "pt"})
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-5])
    elif kind == "longer":
        path.write_bytes(path.read_bytes() + b"12345")
    elif kind == "torn header":
        path.write_bytes(path.read_bytes()[:40])
    elif kind == "header length":
        path.write_bytes(struct.pack("<Q", 2**40) + path.read_bytes()[8:])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "zip pickle":
        torch.save({"a": Payload(path.parent / "ran")}, path)
    elif kind == "plain pickle":
        path.write_bytes(pickle.dumps(Payload(path.parent / "ran")))


WORDS = {
    "missing": "'first.weight' is missing", "extra": "'more' does not belong", "shape": "'first.weight' has shape", "nan": "NaN",
    "version": "format version 99",
    "key": "unknown key 'surprise'", "config": "'magic'", "not json": "not JSON", "foreign": "not one of our",
    "truncated": "truncated", "longer": "longer than it says",
    "torn header": "truncated in its header", "header length": "not a .safetensors",
    "empty": "not a .safetensors", "zip pickle": "pickle", "plain pickle": "pickle",
}  # fmt: skip


@pytest.mark.parametrize("kind", WORDS)
def test_what_is_wrong_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bad.safetensors"
    spoil(path, kind)
    with pytest.raises(CheckpointError, match=r"bad\.safetensors") as caught:
        Checkpoint.load(path)
    assert WORDS[kind] in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_absent_and_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file, and no shipped model"):
        Checkpoint.load(tmp_path / "absent.safetensors")
    with pytest.raises(CheckpointError, match="a folder"):
        Checkpoint.load(tmp_path)


def test_header_without_torch(tmp_path: Path) -> None:
    good().save(tmp_path / "a.safetensors")
    code = "import sys; from SRGAN3DLib.checkpoint_header import read_header; print(read_header(sys.argv[1]).name, 'torch' in sys.modules)"
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.safetensors")], capture_output=True, text=True, cwd=root, check=True
    )
    assert done.stdout.split() == ["tiny", "False"]


def test_shipped_models_load_and_have_their_card() -> None:
    assert "t1-x2" in catalogue()
    for name, path in catalogue().items():
        loaded = Checkpoint.load(name)
        assert loaded.header.name == name and find_model(name) == path and path.stat().st_size < 4e6
        assert loaded.sha256 in path.with_suffix(".md").read_text(encoding="utf-8")
        assert loaded.header.training_data and loaded.header.metrics and loaded.header.licence and loaded.header.created
