"""Several ranks: real processes under torch.distributed.run, Gloo on the CPU, against one process with the whole batch."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from grids import FINE
from torch import distributed, nn

from SRGAN3DLib.contract.configs import DegradationConfig, DiscriminatorConfig, GeneratorConfig, TrainConfig
from SRGAN3DLib.contract.errors import JobError, ResourceError
from SRGAN3DLib.contract.strict_json import to_json
from SRGAN3DLib.training.rank_norm import RankBatchNorm3d, over_ranks
from SRGAN3DLib.training.ranks import Ranks
from SRGAN3DLib.training.trainer import Trainer
from SRGAN3DLib.volumes.volume import Volume

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def launch(words: list[str], **options: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "SRGAN3DLib", *words]
    return subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload, no-any-return]


def rows(run: Path) -> list[dict]:
    log = run / "metrics.jsonl"
    whole = [json.loads(line) for line in (log.read_text().splitlines() if log.exists() else ()) if line.endswith("}")]
    return [{key: value for key, value in row.items() if key not in ("seconds", "waited")} for row in whole]


@pytest.fixture
def small(tmp_path: Path, small_head: np.ndarray) -> TrainConfig:
    """Every term at once: batch norm in both networks (its last means are over 2^3 voxels of each patch), a gradient penalty, the blur
    told, two stages."""
    heads = {"scans/one": small_head, "scans/two": small_head[::-1] * 2}
    heads |= {"judges/three": small_head[:, ::-1], "judges/four": small_head[::-1]}
    for name, array in heads.items():
        path = tmp_path / f"{name}_T1w.nii.gz"
        path.parent.mkdir(exist_ok=True)
        Volume.from_array(array, FINE).write(path)
    generator = GeneratorConfig(features=4, blocks=1, norm="batch", upsampling="subpixel", blur_aware=True, interpolation_residual=True)
    judge = DiscriminatorConfig(features=4, dense=8)
    base = TrainConfig(str(tmp_path / "scans"), str(tmp_path / "one"), str(tmp_path / "judges"), generator, judge)
    sizes = {"steps": 14, "gan_steps": 10, "batch": 4, "patch": 12, "save_every": 4, "validate_every": 100, "validation_box": 32}
    more = {"gradient_difference_weight": 0.1, "label_smoothing": 0.1, "r1_weight": 0.1, "r1_every": 3}
    return dataclasses.replace(base, degradation=DegradationConfig("box"), device="cpu", precision="fp32", **sizes, **more)  # type: ignore[arg-type]


@pytest.mark.slow
def test_two_ranks_one_of_them_killed_and_resumed_are_one_process(small: TrainConfig, tmp_path: Path, one_thread: None) -> None:
    """Losses to 1e-4 through both stages; the rank that is left ends by itself, with a line, and the same command goes on."""
    Trainer(small).fit()
    (tmp_path / "config.json").write_text(json.dumps(to_json(small)))
    run = tmp_path / "two"
    words = ["train", "--config", str(tmp_path / "config.json"), "--out", str(run), "--device", "cpu", "--precision", "fp32", "--quiet"]
    words += ["--data", small.data, "--validation", str(small.validation)]
    pair = launch(words)
    while pair.poll() is None and len(rows(run)) < 6:
        time.sleep(0.01)
    second = next(p for p in psutil.Process(pair.pid).children(recursive=True) if p.environ().get("RANK") == "1")
    second.send_signal(signal.SIGKILL)
    _, said = pair.communicate(timeout=120)
    assert pair.returncode != 0 and ("rank 0 of 2: another rank has ended" in said or "srgan3d: cancelled" in said), said
    assert 6 <= len(rows(run)) < 24
    pair = launch(words)
    _, said = pair.communicate(timeout=300)
    assert pair.returncode == 0, said
    one, two = rows(tmp_path / "one"), rows(run)
    assert [row["step"] for row in two] == list(range(1, 25)) and "r1" in two[15]
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for key, value in a.items():
            # Norms, and the share of two norms, are sums of squares of small gradients, which rounding reaches first. The discriminator's
            # figures are squares of differences from targets of size 1: after a gradient penalty, fp32 rounding reaches 1e-5 of those.
            rel = 1e-3 if "norm" in key or key == "adversarial_share" else 1e-4
            assert b[key] == pytest.approx(value, rel=rel, abs=1e-5 if key.startswith(("d_", "r1")) else 1e-6), (a["step"], key)
    judged = [json.loads((path / "validation.jsonl").read_text().splitlines()[-1]) for path in (tmp_path / "one", run)]
    assert judged[1]["gains"] == pytest.approx(judged[0]["gains"], abs=0.002) and len(judged[1]["gains"]) == 2
    assert (run / "report.md").exists() and (run / "model-sharp.safetensors").exists()


def test_a_folder_is_shared_out(tmp_path: Path, tiny_model: Path, small_head: np.ndarray) -> None:
    """Each rank its files, the first prints for all and has the exit code."""
    (tmp_path / "in").mkdir()
    for name in ("a", "c", "d"):
        Volume.from_array(small_head[:16, :16, :16], FINE).write(tmp_path / "in" / f"{name}.nii.gz")
    (tmp_path / "in" / "b.nii.gz").write_bytes(b"no scan")  # of the second rank
    words = ["super-resolve", str(tmp_path / "in"), str(tmp_path / "out"), "--model", str(tiny_model), "--device", "cpu", "--json"]
    pair = launch(words, stdout=subprocess.PIPE)
    out, said = pair.communicate(timeout=120)
    info = json.loads(out)  # one answer, not two
    assert [Path(row["output"]).name for row in info["done"]] == ["a.nii.gz", "c.nii.gz", "d.nii.gz"]
    assert [Path(row["input"]).name for row in info["failed"]] == ["b.nii.gz"]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == ["a.nii.gz", "c.nii.gz", "d.nii.gz"]
    assert pair.returncode != 0 and "exitcode  : 3" in said and "rank 1: " in said


# ------------------------------------------------------------ by themselves


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    distributed.init_process_group("gloo", store=distributed.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_batch_norm_over_ranks_is_batch_norm(alone: None) -> None:
    """Values, running statistics, gradients and second gradients of PyTorch's own."""
    torch.manual_seed(0)
    own = nn.Sequential(nn.Conv3d(2, 3, 3), nn.BatchNorm3d(3), nn.LeakyReLU(0.2))
    torch.nn.init.normal_(own[1].weight)
    ranked = nn.Sequential(nn.Conv3d(2, 3, 3), nn.BatchNorm3d(3), nn.LeakyReLU(0.2))
    ranked.load_state_dict(own.state_dict())
    over_ranks(ranked)
    assert isinstance(ranked[1], RankBatchNorm3d)
    seen = []
    for network in (own, ranked):
        x = torch.linspace(-1, 2, 4 * 2 * 5**3).sin().mul(3).reshape(4, 2, 5, 5, 5).requires_grad_()
        y = network(x)
        (slope,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        slope.square().sum().backward()
        seen.append([y, slope, network[0].weight.grad, network[1].weight.grad, *network[1].buffers()])
        network.eval()
        seen[-1].append(network(x))
    for a, b in zip(*seen, strict=True):
        assert torch.allclose(a.double(), b.double(), rtol=1e-4, atol=1e-4 * a.detach().double().abs().max().item())


def test_ranks_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert Ranks.here() == Ranks(0, 1)
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, value)
    here = Ranks.here()
    assert here == Ranks(3, 4, 1, 2) and not here.first and list(here.share(range(10))) == [3, 7]
    assert here.device("cpu") == "cpu" and here.device("cuda") == "cuda:1"
    with pytest.raises(JobError, match="'cuda:0' with 4 ranks"):
        here.device("cuda:0")
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(JobError, match="RANK=first"):
        Ranks.here()


def test_what_ranks_cannot_do(small: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ranks, "here", staticmethod(lambda: Ranks(0, 3)))
    with pytest.raises(JobError, match="batch 4: 3 ranks cannot share it"):
        Trainer(small)
    with pytest.raises(ResourceError, match="rank 0 of 3: another rank has ended"), Ranks(0, 3).watched():
        raise RuntimeError("[pair.cc:534] Connection closed by peer [127.0.0.1]:4211")
    with pytest.raises(RuntimeError, match="shape"), Ranks(0, 3).watched():
        raise RuntimeError("a fault of ours: shape")
