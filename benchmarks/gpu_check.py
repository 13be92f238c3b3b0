"""Is a GPU right and fast?  `python benchmarks/gpu_check.py [--device cuda] [--out FILE.json] [--dry-run]`

Within 8 minutes, with nothing but this checkout and made-up scans:
(a) agreement: every shipped model gives the CPU's fp32 result on the device, in fp32 to 1e-5 of the range, in bf16 to 0.02 dB of PSNR;
(b) memory: a limit that forces pieces does not change the result, and memory that runs out halves the pieces instead of ending the run;
(c) speed: seconds and HR voxels/s for a large output, beside MONAI's sliding window with the same weights (where MONAI is installed);
(d) the share of the speed of one bare convolution of the trunk, the device's own ceiling;
(e) training steps/s of preset fast, content and GAN; (f) peak memory of the device.
`--dry-run` does all of it in small on whatever device there is: the tests run it on the CPU. Absolute times name the device.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from bench_training import make_scans

from SRGAN3DLib import __version__
from SRGAN3DLib.contract.checkpoint_header import catalogue
from SRGAN3DLib.contract.configs import training_preset
from SRGAN3DLib.inference import tiling
from SRGAN3DLib.inference.devices import choose
from SRGAN3DLib.inference.super_resolver import SuperResolver
from SRGAN3DLib.networks.checkpoint import Checkpoint
from SRGAN3DLib.networks.compiled import CompiledGenerator
from SRGAN3DLib.networks.generator import Conditions
from SRGAN3DLib.training.datasets import TrainingSet
from SRGAN3DLib.training.trainer import Trainer
from SRGAN3DLib.volumes.volume import Volume

SEED = 20170331
TOLD = Conditions((0.5, 0.5, 0.5), 0.02)  # a medium blur, a little noise
FP32_BAR, BF16_BAR_DB = 1e-5, 0.02


def made_up_scan(side: int, spacing: float = 1.5) -> Volume:
    """A head of ellipsoids with texture and noise, (side, side, side) voxels."""
    axes = np.meshgrid(*[np.linspace(-1, 1, side, dtype=np.float32)] * 3, indexing="ij", sparse=True)
    head = np.zeros((side,) * 3, np.float32)
    for value, radius in ((260, 0.88), (60, 0.78), (420, 0.7), (640, 0.55), (110, 0.2)):
        head[sum((x / radius) ** 2 for x in axes) < 1] = value
    head *= 1 + 0.05 * np.sin(40 * axes[0]) * np.sin(55 * axes[1]) * np.sin(47 * axes[2])
    head += np.abs(np.random.default_rng(SEED).normal(0, 5, head.shape)).astype(np.float32)
    return Volume.from_array(head, np.diag([spacing, spacing, spacing, 1]))


def timed(work: Callable[[], Any], device: torch.device) -> float:
    """Seconds of one call, the device's queue included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begun = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def agreement(device: str, side: int) -> list[dict[str, Any]]:
    """(a): a row a model."""
    rows = []
    for name in catalogue():
        checkpoint = Checkpoint.load(name)
        factors = checkpoint.header.generator.factors
        volume = made_up_scan(side)
        cpu = SuperResolver(checkpoint, "cpu", "fp32")(volume, "gaussian").volume.array
        row: dict[str, Any] = {"model": name, "factors_kji": list(factors)}
        for precision in ("fp32", "bf16"):
            there = SuperResolver(checkpoint, device, precision)(volume, "gaussian").volume.array
            row[f"{precision}_difference"] = float(np.abs(there - cpu).max() / np.ptp(cpu))
            row[f"{precision}_psnr_of_difference_db"] = 10 * math.log10(np.ptp(cpu) ** 2 / max(float(np.mean((there - cpu) ** 2)), 1e-30))
        # a result of 27 dB, the quality of the shipped models, loses this much by a difference of that PSNR
        row["bf16_cost_db"] = 10 * math.log10(1 + 10 ** ((27 - row["bf16_psnr_of_difference_db"]) / 10))
        row["passed"] = row["fp32_difference"] <= FP32_BAR and row["bf16_cost_db"] <= BF16_BAR_DB
        rows.append(row)
    return rows


def memory_check(device: str, side: int) -> dict[str, Any]:
    """(b): pieces that a plan forces, and pieces that are halved because memory ran out, give the whole's result."""
    generator = Checkpoint.load("t1-x2").generator()
    network = CompiledGenerator(generator, torch.float32, device)
    image = made_up_scan(side).array / 640
    whole = tiling.run(network, image, told=TOLD)[0]
    shape = (side, side, side)
    pieces, ran = tiling.run(network, image, told=TOLD, forced=tiling.plan_of(network, shape, (2, 2, 2), (8, 8, 8)))
    trunk, calls = network.trunk, [0]

    def scarce(*given: Any) -> torch.Tensor:
        calls[0] += 1
        if calls[0] == 1:
            raise RuntimeError("out of memory (as if)")
        return trunk(*given)

    network.trunk = scarce  # type: ignore[method-assign]
    halved, after = tiling.run(network, image, told=TOLD)
    apart = max(float(np.abs(other - whole).max() / np.ptp(whole)) for other in (pieces, halved))
    passed = apart <= FP32_BAR and ran.pieces >= 8 and len(after.out_of_memory) == 1
    return {"pieces": ran.pieces, "halved": after.out_of_memory, "difference": apart, "passed": passed}


def speed(device: str, side: int) -> dict[str, Any]:
    """(c), (d), (f): the shipped x2 network for an output of (2 side)^3 voxels, in the precision that auto takes."""
    choice = choose(device)
    generator = Checkpoint.load("t1-x2").generator()
    network = CompiledGenerator(generator, choice.dtype, choice.device)
    image = made_up_scan(side).array / 640
    if choice.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(choice.device)
    tiling.run(network, image[:32, :32, :32], told=TOLD)
    seconds = min(timed(lambda: tiling.run(network, image, told=TOLD), choice.device) for _ in range(2))
    row = {"precision": choice.precision, "output": [2 * side] * 3, "seconds": seconds, "hr_voxels_per_s": (2 * side) ** 3 / seconds}
    if choice.device.type == "cuda":
        row["peak_mib"] = torch.cuda.max_memory_allocated(choice.device) / 2**20
    row["monai_seconds"] = monai_seconds(generator, image, choice.device)
    operations = 2 * 27 * generator.config.features**2 * (2 * generator.config.blocks + 2) * side**3
    row["trunk_share_of_bare_convolution"] = (operations / seconds) / bare_convolution(choice.device, choice.dtype, side)
    return row


def monai_seconds(generator: torch.nn.Module, image: np.ndarray, device: torch.device) -> float | None:
    """MONAI's SlidingWindowInferer at its defaults (windows of 64^3, overlap 0.25), fp32; None without MONAI."""
    try:
        from monai.inferers import SlidingWindowInferer
    except ImportError:
        return None
    channels = generator.config.channels  # type: ignore[union-attr]
    x = torch.cat([torch.from_numpy(image)[None, None], torch.full((1, channels - 1, *image.shape), 0.5)], dim=1).to(device)
    network, inferer = generator.to(device), SlidingWindowInferer(roi_size=(64, 64, 64))
    with torch.inference_mode():
        seconds = timed(lambda: inferer(x, network), device)
    generator.cpu()
    return seconds


def bare_convolution(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """Operations a second of one 32 -> 32 convolution of 3^3, channels-last: what the device gives."""
    layout = torch.contiguous_format if device.type == "mps" else torch.channels_last_3d
    x = torch.randn(1, 32, side, side, side, device=device).to(dtype).contiguous(memory_format=layout)
    kernel = torch.randn(32, 32, 3, 3, 3, device=device).to(dtype).contiguous(memory_format=layout)
    with torch.inference_mode():
        best = min(timed(lambda: torch.nn.functional.conv3d(x, kernel, padding=1), device) for _ in range(4))
    return 2 * 27 * 32 * 32 * side**3 / best


def training_speed(device: str, steps: int, side: int) -> dict[str, float]:
    """(e): steps a second of preset fast on made-up scans, content and GAN; the first step of each is left out."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "scans").mkdir()
        make_scans(Path(folder) / "scans", count=2, side=side)
        base = training_preset("fast", str(Path(folder) / "scans"), str(Path(folder) / "run"))
        config = replace(base, device=device, steps=1, gan_steps=1, seed=SEED)
        data, found = TrainingSet(config), {}
        for stage, at in (("content", 0), ("gan", 1)):
            trainer = Trainer(config, data=data)
            trainer.step = at
            batch = data.batch(0)
            trainer.train_step(batch)
            found[f"{stage}_steps_per_s"] = steps / timed(
                lambda t=trainer, b=batch: [t.train_step(b) for _ in range(steps)], trainer.device
            )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="write the figures as JSON, too")
    parser.add_argument("--dry-run", action="store_true", help="all of it in small")
    args = parser.parse_args()
    torch.manual_seed(SEED)
    choice = choose(args.device)
    device = str(choice.device)
    name = torch.cuda.get_device_name(choice.device) if choice.device.type == "cuda" else device
    small = args.dry_run
    report: dict[str, Any] = {"device": name, "torch": torch.__version__, "SRGAN3D": __version__, "seed": SEED, "dry_run": small}
    report["cudnn"] = torch.backends.cudnn.version() if choice.device.type == "cuda" else None
    report["agreement"] = agreement(device, 20 if small else 64)
    report["memory"] = memory_check(device, 36 if small else 96)
    report["speed"] = speed(device, 24 if small else 128)
    report["training"] = training_speed(device, 1 if small else 20, 64 if small else 160)
    report["passed"] = all(row["passed"] for row in report["agreement"]) and report["memory"]["passed"]
    for row in report["agreement"]:
        figures = f"fp32 {row['fp32_difference']:.1e} of the range, bf16 costs {row['bf16_cost_db']:.4f} dB at 27 dB"
        print(f"{row['model']:16s}{figures}: {'passed' if row['passed'] else 'FAILED'}")
    print(f"memory          {json.dumps(report['memory'])}")
    print(f"speed           {json.dumps(report['speed'])}")
    print(f"training        {json.dumps(report['training'])}")
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return int(not report["passed"])


if __name__ == "__main__":
    sys.exit(main())
