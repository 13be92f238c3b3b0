"""A RUN folder comes back from crashes, copies and repairs: whatever is damaged in it is named, and nothing else in it is touched.

Each file of a small run is damaged in many ways, by bytes and by values. The same command then ends with an exit code of 2 to 5 and
one line that names the file or the option, or it goes on where the damage does not matter. The exit code is never 1. Where it stops,
every file of the folder is as it was, and with the file mended the run goes on.
"""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from grids import FINE
from safetensors.torch import load_file, save_file

from SRGAN3DLib.app.cli import main
from SRGAN3DLib.contract.checkpoint_header import read_layout
from SRGAN3DLib.contract.configs import DiscriminatorConfig, GeneratorConfig, TrainConfig, train_config_text
from SRGAN3DLib.contract.errors import Cancelled
from SRGAN3DLib.training.trainer import Trainer
from SRGAN3DLib.volumes.volume import Volume

pytestmark = pytest.mark.usefixtures("one_thread")
VALUES = (None, "x", -1, 10**30, 1e300, math.inf, math.nan, [], {}, True, [[1]], "\0", "\ud800")
FILES = ("config.json", "split.json", "metrics.jsonl", "validation.jsonl", "state.safetensors", "model.safetensors")
EACH = 14  # damages of values drawn for each file of JSON, beside those of its bytes
Damage = tuple[str, Callable[[Path], None]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run stopped at step 6 of 8, in its GAN stage, with two scans; and the command that goes on with it."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("runs")
    (root / "scans").mkdir()
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, 24),) * 3, indexing="ij")
    head = ((k**2 + j**2 + i**2 < 0.8) * (500 + 80 * np.sin(9 * i) * np.cos(7 * j + 3 * k))).astype(np.float32)
    for name, array in (("anna", head), ("bert", head[::-1])):
        Volume.from_array(array, FINE).write(root / "scans" / f"{name}_T1w.nii")
    generator = GeneratorConfig(features=2, blocks=1, norm="none", upsampling="subpixel", blur_aware=True, interpolation_residual=True)
    judge = DiscriminatorConfig(features=2, dense=4)
    sizes: dict[str, Any] = {"steps": 4, "gan_steps": 4, "batch": 2, "patch": 6, "save_every": 2, "validate_every": 2, "validation_box": 24}
    base = TrainConfig(str(root / "scans"), str(root / "run"), generator=generator, discriminator=judge, device="cpu", precision="fp32")
    config = TrainConfig(**{**vars(base), **sizes, "validation_share": 0.5})
    trainer = Trainer(config)
    with pytest.raises(Cancelled):
        trainer.fit(lambda: trainer.step == 6)
    (root / "base.json").write_text(train_config_text(config))
    return root / "run", ["train", "--data", str(root / "scans"), "--config", str(root / "base.json"), "--quiet", "--out"]


def by_bytes(dice: random.Random) -> Iterator[Damage]:
    def cut(share: float) -> Callable[[Path], None]:
        return lambda path: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    def flip(path: Path) -> None:
        data = bytearray(path.read_bytes())
        for _ in range(8):
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        path.write_bytes(data)

    def folder(path: Path) -> None:
        path.unlink()
        path.mkdir()

    yield from ((f"cut to {share}", cut(share)) for share in (0.0, 0.3, 0.97))
    yield from ((f"bits flipped {n}", flip) for n in range(4))
    yield "a folder", folder
    yield "deep", lambda path: path.write_text("[" * 100_000)
    yield "zeros", lambda path: path.write_bytes(bytes(path.stat().st_size))
    yield "not UTF-8", lambda path: path.write_bytes(b"\xff\xfe{}\n")
    yield "a pickle", lambda path: path.write_bytes(b"\x80\x04K\x01.")


def places(data: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key in data if isinstance(data, dict) else range(min(len(data), 2)) if isinstance(data, list) else ():
        yield (*above, key)
        yield from places(data[key], (*above, key))


def spoil(data: Any, place: tuple[Any, ...], value: Any) -> Any:
    copy = json.loads(json.dumps(data))
    inner = copy
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return copy


def by_value(path: Path, dice: random.Random) -> Iterator[Damage]:
    """One value of the JSON in the file for another, at a random place."""
    lines = path.suffix == ".jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if lines else json.loads(path.read_text())
    every = [place for place in places(rows) if place and not (lines and len(place) == 1)]
    for _ in range(EACH):
        place, value = dice.choice(every), dice.choice(VALUES)
        spoilt = spoil(rows, place, value)
        text = "".join(json.dumps(row) + "\n" for row in spoilt) if lines else json.dumps(spoilt)
        yield f"{place} = {value!r:.40}", lambda path, text=text: path.write_text(text)  # type: ignore[misc]


def by_state(path: Path, dice: random.Random) -> Iterator[Damage]:
    """What stands in the state's own JSON, and its tensors."""
    facts, tensors = json.loads(read_layout(path)[1]["state"]), load_file(path)

    def saving(tensors: dict[str, torch.Tensor], facts: Any) -> Callable[[Path], None]:
        return lambda path: save_file(tensors, path, {"state": json.dumps(facts)})

    for _ in range(EACH + 6):
        place, value = dice.choice(list(places(facts))), dice.choice(VALUES)
        yield f"{place} = {value!r:.40}", saving(tensors, spoil(facts, place, value))
    names = sorted(tensors)
    for prefix in ("generator.", "ema.", "discriminator.", "g_optimiser.0.", "d_optimiser.1."):
        name = next(name for name in names if name.startswith(prefix) and tensors[name].is_floating_point())
        t = tensors[name]
        for what, other in (
            ("NaN", torch.full_like(t, math.nan)),
            ("another shape", torch.zeros(3, 5)),
            ("whole numbers", torch.ones(7, dtype=torch.int64)),
        ):
            yield f"{name}: {what}", saving({**tensors, name: other}, facts)
        yield f"{name}: missing", saving({key: value for key, value in tensors.items() if key != name}, facts)
    for extra in ("g_optimiser.x.step", "g_optimiser.0", "g_optimiser.99.exp_avg", "g_optimiser.-1.exp_avg", "generator.more"):
        yield f"{extra}: too much", saving({**tensors, extra: torch.zeros(2)}, facts)
    yield "no facts", lambda path: save_file(tensors, path)


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_and_nothing_is_lost(
    whole: tuple[Path, list[str]], name: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("SRGAN3DLib.training.report._pictures", lambda *_: [])  # they read nothing that is damaged here, and take seconds
    template, command = whole
    dice, run = random.Random(name), tmp_path / "run"
    damages = list(by_bytes(dice))
    if name.startswith("state"):
        damages += by_state(template / name, dice)
    elif not name.endswith(".safetensors"):
        damages += by_value(template / name, dice)
    bad, codes = [], []
    for what, damage in damages:
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(template, run)
        damage(run / name)
        before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
        try:
            code = main([*command, str(run)])
        except BaseException as error:  # main must never raise
            code, error_text = 1, repr(error)
        else:
            error_text = ""
        said = capsys.readouterr().err.strip() + error_text
        after = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file() and path.name in before}
        kept = {key: after.get(key) == value for key, value in before.items() if key != "config.json" or name == "config.json"}
        stopped_early = code != 0 and name != "model.safetensors"  # a damaged model is met when the report is written
        if code not in (0, 2, 3, 4, 5) or "Traceback" in said or (stopped_early and not all(kept.values())):
            bad.append((what, code, said[-300:], [key for key, same in kept.items() if not same]))
        if code and len(said.splitlines()) != 1:
            bad.append((what, code, "not one line: " + said[-300:], []))
        codes.append(code)
    assert bad == []
    assert sum(code != 0 for code in codes) >= len(codes) // 4  # a number may change unnoticed, a broken file may not
    if (run / name).is_dir():
        (run / name).rmdir()
    shutil.copytree(template, run, dirs_exist_ok=True)
    assert main([*command, str(run)]) == 0, capsys.readouterr().err


def test_they_are_many(whole: tuple[Path, list[str]]) -> None:
    count = sum(len(list(by_bytes(random.Random(0)))) for _ in FILES)
    count += 4 * EACH + len(list(by_state(whole[0] / "state.safetensors", random.Random(0))))
    assert count >= 150
