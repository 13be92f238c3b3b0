"""Checkpoints: what was saved comes back; whatever is wrong is told by name; nothing in a file can run."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from SRGAN3DLib.contract import checkpoint_header
from SRGAN3DLib.contract.checkpoint_header import METADATA_KEY, CheckpointHeader, catalogue, find_model, read_header
from SRGAN3DLib.contract.configs import GeneratorConfig
from SRGAN3DLib.contract.errors import CheckpointError, JobError
from SRGAN3DLib.networks.checkpoint import Checkpoint
from SRGAN3DLib.networks.generator import Conditions, Generator, with_conditions

CONFIG = GeneratorConfig(features=4, blocks=1)


def good() -> Checkpoint:
    torch.manual_seed(0)
    header = CheckpointHeader("tiny", CONFIG, contrasts=("T1w",), training_data=({"file": "a", "licence": "CC0"},), metrics={"gain": 1.5})
    return Checkpoint(header, Generator(CONFIG).state_dict())


def test_round_trip(tmp_path: Path) -> None:
    good().save(tmp_path / "a.safetensors")
    again = Checkpoint.load(tmp_path / "a.safetensors")
    assert again.header == good().header == read_header(tmp_path / "a.safetensors") and len(again.sha256) == 64
    assert set(again.tensors) == set(good().tensors)
    assert all(torch.equal(t, again.tensors[name]) and t.dtype == again.tensors[name].dtype for name, t in good().tensors.items())
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
    elif kind in ("nan", "inf"):
        tensors[name].view(-1)[7] = float(kind)
    elif kind == "type":
        tensors[name] = tensors[name].int()
    elif kind == "version":
        text = json.dumps(header | {"format_version": 99})
    elif kind == "key":
        text = json.dumps(header | {"surprise": 1})
    elif kind == "config":
        text = json.dumps(header | {"generator": header["generator"] | {"upsampling": "magic"}})
    elif kind == "normalisation":
        text = json.dumps(header | {"normalisation": "by eye"})
    elif kind == "wrong kind":
        text = json.dumps(header | {"training_data": [1]})
    elif kind == "not json":
        text = "{"
    elif kind == "not an object":
        text = "[1]"
    elif kind == "deep":
        text = "[" * 100_000
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
    elif kind == "old torch pickle":
        torch.save({"a": Payload(path.parent / "ran")}, path, _use_new_zipfile_serialization=False)
    elif kind.startswith("plain pickle"):
        path.write_bytes(pickle.dumps(Payload(path.parent / "ran"), protocol=int(kind[-1])))
    elif kind == "garbage":
        path.write_bytes(bytes(range(255, 0, -1)) * 40)


WORDS = {
    "missing": "'first.weight' is missing", "extra": "'more' does not belong", "shape": "'first.weight' has shape [2, 1, 3, 3, 3]",
    "nan": "'first.weight' has NaN", "inf": "'first.weight' has NaN or infinity", "type": "'first.weight' has type I32; it must be F32",
    "version": "format version 99",
    "key": "unknown key 'surprise'", "config": "'magic'", "normalisation": "'by eye'", "wrong kind": "training_data is 1",
    "not json": "not JSON", "not an object": "format version None", "deep": "not JSON", "foreign": "not one of our",
    "truncated": "truncated", "longer": "longer than it says",
    "torn header": "truncated in its header", "header length": "not a .safetensors",
    "empty": "not a .safetensors", "zip pickle": "pickle", "old torch pickle": "pickle", "plain pickle 4": "pickle",
    "plain pickle 0": "not a .safetensors", "garbage": "not a .safetensors",
}  # fmt: skip


@pytest.mark.parametrize("kind", WORDS)
def test_what_is_wrong_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bad.safetensors"
    spoil(path, kind)
    with pytest.raises(CheckpointError, match=r"bad\.safetensors") as caught:
        Checkpoint.load(path)
    assert WORDS[kind] in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["version", "key", "config", "truncated", "longer", "zip pickle", "plain pickle 0", "deep", "foreign"])
def test_the_header_alone_is_as_strict(tmp_path: Path, kind: str) -> None:
    spoil(tmp_path / "bad.safetensors", kind)
    with pytest.raises(CheckpointError, match=r"bad\.safetensors") as caught:
        read_header(tmp_path / "bad.safetensors")
    assert WORDS[kind] in str(caught.value) and not (tmp_path / "ran").exists()


LAYOUTS = {
    "a list": lambda layout: [1, 2],
    "metadata a list": lambda layout: layout | {"__metadata__": [METADATA_KEY]},
    "metadata text": lambda layout: layout | {"__metadata__": METADATA_KEY},
    "metadata null": lambda layout: layout | {"__metadata__": None},
    "header a number": lambda layout: layout | {"__metadata__": {METADATA_KEY: 5}},
    "no shape": lambda layout: layout | {"first.weight": {"dtype": "F32", "data_offsets": [0, 4]}},
    "no type": lambda layout: layout | {"first.weight": {"shape": [1], "data_offsets": [0, 4]}},
    "no entry": lambda layout: layout | {"first.weight": None},
    "offsets of text": lambda layout: layout | {"first.weight": layout["first.weight"] | {"data_offsets": ["a", "b"]}},
    "offsets negative": lambda layout: layout | {"first.weight": layout["first.weight"] | {"data_offsets": [-4, 0]}},
    "offsets shared": lambda layout: layout | {"first.weight": layout["first.weight"] | {"data_offsets": [0, 432]}},
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_malformed_layout(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bad.safetensors"
    good().save(path)
    raw = path.read_bytes()
    end = 8 + struct.unpack("<Q", raw[:8])[0]
    text = json.dumps(LAYOUTS[kind](json.loads(raw[8:end]))).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[end:])
    with pytest.raises(CheckpointError, match=r"bad\.safetensors: not a (readable )?\.safetensors file"):
        Checkpoint.load(path)


def test_nesting_without_end(tmp_path: Path) -> None:
    (tmp_path / "deep.safetensors").write_bytes(struct.pack("<Q", 200_000) + b"[" * 200_000)
    with pytest.raises(CheckpointError, match=r"not a \.safetensors file"):
        Checkpoint.load(tmp_path / "deep.safetensors")


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    halved = {name: t.half() if t.is_floating_point() else t for name, t in good().tensors.items()}
    Checkpoint(good().header, halved).save(tmp_path / "half.safetensors")
    network = Checkpoint.load(tmp_path / "half.safetensors").generator()
    assert network.first.weight.dtype == torch.float32 and not network.training
    assert torch.equal(network.first.weight, good().tensors["first.weight"].half().float())


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    good().save(path)
    before = path.read_bytes()
    broken = Checkpoint(good().header, {"first.weight": "no tensor"})  # type: ignore[dict-item]
    with pytest.raises(AttributeError):
        broken.save(path)
    assert path.read_bytes() == before and [one.name for one in tmp_path.iterdir()] == ["a.safetensors"]
    with pytest.raises(JobError, match="cannot be written"):
        good().save(tmp_path / "nowhere" / "a.safetensors")


def test_absent_and_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file, and no shipped model"):
        Checkpoint.load(tmp_path / "absent.safetensors")
    with pytest.raises(CheckpointError, match="a folder"):
        Checkpoint.load(tmp_path)


def test_header_without_torch(tmp_path: Path) -> None:
    good().save(tmp_path / "a.safetensors")
    code = "import sys; from SRGAN3DLib.contract.checkpoint_header import read_header\n"
    code += "print(read_header(sys.argv[1]).name, 'torch' in sys.modules)"
    root = Path(__file__).resolve().parents[2]
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


def other(config: GeneratorConfig = CONFIG) -> Checkpoint:
    torch.manual_seed(1)
    header = CheckpointHeader("sharp", config, training_data=({"file": "b", "licence": "MIT"},))
    return Checkpoint(header, Generator(config).state_dict(), "sharp.safetensors", "f00d")


def test_blend_is_linear_and_exact_at_its_ends() -> None:
    a, b = good(), other()
    for alpha, wanted in ((0.0, a), (1.0, b)):
        mixed = a.blend(b, alpha)
        assert all(torch.equal(t, wanted.tensors[name]) and t.dtype == wanted.tensors[name].dtype for name, t in mixed.tensors.items())
    middle = a.blend(b, 0.5)
    assert all(torch.allclose(t, (a.tensors[name] + b.tensors[name]) / 2) for name, t in middle.tensors.items() if t.is_floating_point())
    header = middle.header
    assert header.metrics == {} and header.contrasts == ("T1w",) and [entry["file"] for entry in header.training_data] == ["a", "b"]
    facts = header.training["blend"]
    assert facts["alpha"] == 0.5 and facts["faithful"]["name"] == "tiny" and facts["sharp"]["sha256"] == "f00d"


def test_blend_refuses() -> None:
    with pytest.raises(CheckpointError, match=r"factors is \[2, 2, 2\], but \[1, 2, 2\] in sharp\.safetensors"):
        good().blend(other(GeneratorConfig((1, 2, 2), features=4, blocks=1)), 0.3)
    with pytest.raises(CheckpointError, match="norm is batch, but none in"):
        good().blend(other(GeneratorConfig(features=4, blocks=1, norm="none")), 0.3)
    with pytest.raises(JobError, match=r"alpha 1\.5"):
        good().blend(other(), 1.5)


@pytest.mark.parametrize("upsampling", ["resize-conv", "subpixel", "subpixel-nn"])
@pytest.mark.parametrize("factors", [(4, 1, 1), (1, 3, 2)])
@pytest.mark.parametrize("noise_aware", [False, True])
def test_transposed_does_the_same_to_a_transposed_array(upsampling: str, factors: tuple[int, int, int], noise_aware: bool) -> None:
    torch.manual_seed(0)
    told = {"blur_aware": True, "noise_aware": noise_aware}
    config = GeneratorConfig(factors, 4, 1, norm="none", upsampling=upsampling, interpolation_residual=True, **told)  # type: ignore[arg-type]
    network = Generator(config)
    torch.nn.init.normal_(network.output.weight, std=0.1)
    for stage in network.stages:
        for parameter in stage.parameters():
            torch.nn.init.normal_(parameter, std=0.1)  # the start is alike over the phases, which would hide their order
    one = Checkpoint(CheckpointHeader("tiny", config), network.state_dict())
    x, order = torch.randn(1, config.channels, 5, 6, 7), (2, 0, 1)
    laid = x[:, [0, *(1 + a for a in order), *range(4, config.channels)]].permute(0, 1, *(2 + a for a in order))
    turned = one.transposed(order)
    assert turned.header.generator.factors == tuple(factors[a] for a in order)
    with torch.no_grad():
        wanted = one.generator()(x).permute(0, 1, *(2 + a for a in order))
        assert torch.allclose(turned.generator()(laid), wanted, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize("blur_aware", [False, True])
def test_a_network_that_is_told_more_starts_as_the_same_function(blur_aware: bool) -> None:
    """What the old network was not told begins with weights of zero; the rest is taken whole."""
    torch.manual_seed(1)
    old = Generator(GeneratorConfig(features=4, blocks=1, blur_aware=blur_aware)).eval()
    checkpoint = Checkpoint(CheckpointHeader("old", old.config), old.state_dict())
    new = Generator(replace(old.config, blur_aware=True, noise_aware=True)).eval()
    assert checkpoint.start(new) == []
    x = torch.randn(1, 1, 4, 5, 6)
    for noise in (None, 0.0, 0.1):
        told = Conditions((0.4, 0.6, 1.0), noise)
        with torch.no_grad():
            assert torch.allclose(new(with_conditions(x, new.config, told)), old(with_conditions(x, old.config, told)), atol=1e-6)


def test_a_network_that_is_told_less_cannot_be_started() -> None:
    config = GeneratorConfig(features=4, blocks=1, blur_aware=True, noise_aware=True)
    one = Checkpoint(CheckpointHeader("told", config), Generator(config).state_dict())
    for told in ({"blur_aware": False}, {"noise_aware": False}):
        with pytest.raises(CheckpointError, match=r"first\.weight is \[4, 5, 3, 3, 3\]; it must be \[4, \d, 3, 3, 3\]"):
            one.start(Generator(replace(config, **told)))


def test_a_header_as_long_as_a_pickle_begins(tmp_path: Path) -> None:
    """The file's first byte is its header's length modulo 256, one time in 32 that of a pickle (0x80): it loads all the same."""
    path, seen = tmp_path / "a.safetensors", set()
    for more in range(0, 256, 8):
        header = CheckpointHeader("tiny", CONFIG, citation="x" * more)
        Checkpoint(header, good().tensors).save(path)
        seen.add(path.read_bytes()[0])
        assert Checkpoint.load(path).header == header
    assert 0x80 in seen


def test_what_is_hashed_is_what_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file changes between two looks at it: weights, header and hash are of one and the same content."""
    path, other = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    good().save(path)
    replace(good(), header=replace(good().header, name="b", generator=replace(CONFIG, slope=0.1))).save(other)
    first, second = path.read_bytes(), other.read_bytes()
    layout = checkpoint_header.read_layout

    def swap(name: object) -> object:
        found = layout(name)  # type: ignore[arg-type]
        path.write_bytes(second)
        return found

    monkeypatch.setattr("SRGAN3DLib.networks.checkpoint.read_layout", swap)
    loaded = Checkpoint.load(path)
    assert loaded.sha256 == hashlib.sha256(second).hexdigest() != hashlib.sha256(first).hexdigest()
    assert loaded.header.name == "b" and loaded.header.generator.slope == 0.1
    path.write_bytes(first)
    monkeypatch.setattr("SRGAN3DLib.networks.checkpoint.read_layout", lambda name: path.write_bytes(second[:-8]))
    with pytest.raises(CheckpointError, match="truncated"):
        Checkpoint.load(path)


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    good().save(path)

    def refuse(self: Path, *given: object, **more: object) -> object:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    for look in (Checkpoint.load, checkpoint_header.read_header):
        with pytest.raises(CheckpointError, match=r"a\.safetensors: cannot be read \(Permission denied\)"):
            look(path)
