"""How fast is training?  `python benchmarks/bench_training.py [--data DATA] [--steps 12] [--rounds 4] [--threads 2] [--gan]`

(a) The share of a short real run that its steps wait for data: waiting / (waiting + computing), the first two steps left out.
(b) The training step against the plain loop: the same trainer, weights and batches, in turns, but fp32, contiguous, no autocast, and
[P1]'s upsampling as it is written: replicate, then convolve. Time is the process's CPU time per thread, so that other work on the
machine counts little; the fastest of all rounds stands. And how far the losses lie apart, step for step. Without --data the scans are
made up: ellipsoids with texture, 160^3 voxels of 1 mm.
(c) The ceiling that this processor sets to (b) where a network is body convolutions: one of them alone, forward and both gradients, on
a batch like the run's, as ours lays it out against fp32 contiguous.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from plain_network import as_written

from SRGAN3DLib import __version__
from SRGAN3DLib.contract.configs import PRESETS, TrainConfig, training_preset
from SRGAN3DLib.contract.job_values import parse_factors
from SRGAN3DLib.training.datasets import TrainingSet
from SRGAN3DLib.training.trainer import Trainer
from SRGAN3DLib.volumes.volume import Volume

SEED = 20170331
WAIT_BAR, SPEED_BAR = 0.10, 2.5


class PlainTrainer(Trainer):
    """What one would write first."""

    layout = torch.contiguous_format

    def _place(self, network: Any) -> Any:
        return super()._place(as_written(network))


def make_scans(folder: Path, count: int = 3, side: int = 160) -> None:
    axes = np.meshgrid(*[np.linspace(-1, 1, side, dtype=np.float32)] * 3, indexing="ij", sparse=True)
    for number in range(count):
        rng = np.random.default_rng([SEED, number])
        head = np.zeros((side,) * 3, np.float32)
        for value, radius in ((260, 0.88), (60, 0.78), (420, 0.7), (640, 0.55), (110, 0.2)):
            radii = radius * rng.uniform(0.9, 1.1, 3)
            head[sum((x / r) ** 2 for x, r in zip(axes, radii, strict=True)) < 1] = value
        head *= 1 + 0.05 * np.sin(40 * axes[0]) * np.sin(55 * axes[1]) * np.sin(47 * axes[2])
        Volume.from_array(head + rng.normal(0, 5, head.shape), np.eye(4)).write(folder / f"head{number}_T1w.nii")


def data_wait(config: TrainConfig, data: TrainingSet) -> tuple[float, float]:
    """(share of the time waited, seconds a step) of a real run."""
    Trainer(config, data=data).fit()
    rows = [json.loads(line) for line in (Path(config.out) / "metrics.jsonl").read_text().splitlines()][2:]
    waited, computed = sum(row["waited"] for row in rows), sum(row["seconds"] for row in rows)
    return waited / (waited + computed), computed / len(rows)


def compare(config: TrainConfig, data: TrainingSet, rounds: int, threads: int) -> tuple[dict[str, float], list[float]]:
    """(CPU seconds a step and thread of each, relative differences of the losses), the two in turns on the same batches."""
    plain = replace(config, precision="fp32", out=config.out + "-plain")
    trainers = {"ours": Trainer(config, data=data), "plain": PlainTrainer(plain, data=data)}
    times: dict[str, list[float]] = {name: [] for name in trainers}
    differences = []
    for step in range(rounds + 1):  # the first one warms up
        batch, losses = data.batch(step), {}
        for name, trainer in trainers.items():
            begun = time.process_time()
            losses[name] = trainer.train_step(batch)["loss"]
            times[name].append((time.process_time() - begun) / threads)
        differences.append(abs(losses["ours"] - losses["plain"]) / losses["plain"])
    return {name: min(each[1:]) for name, each in times.items()}, differences


def convolution_ratio(config: TrainConfig, dtype: torch.dtype, rounds: int) -> float:
    """How many times as fast as in fp32 contiguous one 3^3 convolution of the generator's body is in `dtype` channels-last."""
    features = config.generator.features
    tensors = [torch.randn(config.batch, features, *[config.patch] * 3), torch.randn(features, features, 3, 3, 3)]

    def seconds(dtype: torch.dtype, layout: torch.memory_format) -> float:
        x, kernel = (tensor.to(dtype).contiguous(memory_format=layout).requires_grad_() for tensor in tensors)
        begun = time.process_time()
        y = torch.nn.functional.conv3d(x, kernel, padding=1)
        torch.autograd.grad(y, [x, kernel], y.detach())
        return time.process_time() - begun

    pairs = [(seconds(torch.float32, torch.contiguous_format), seconds(dtype, torch.channels_last_3d)) for _ in range(5 * rounds)]
    plain, ours = (min(times) for times in zip(*pairs, strict=True))
    return plain / ours


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="real scans, as for srgan3d train (default: made up)")
    parser.add_argument("--preset", default="fast", choices=PRESETS)
    parser.add_argument("--factors", default="2,2,2", help="over I,J,K")
    parser.add_argument("--steps", type=int, default=12, help="of the run whose waiting is measured")
    parser.add_argument("--rounds", type=int, default=4, help="turns of the two loops; the fastest stands")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--gan", action="store_true", help="adversarial steps, not content steps")
    parser.add_argument("--out", type=Path, help="write the figures as JSON, too")
    args = parser.parse_args()
    if args.steps < 3 or args.rounds < 1:
        parser.error("--steps from 3, --rounds from 1")
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        if not args.data:
            (Path(folder) / "scans").mkdir()
            make_scans(Path(folder) / "scans")
        config = training_preset(
            args.preset, args.data or str(Path(folder) / "scans"), str(Path(folder) / "run"), None, parse_factors(args.factors)
        )
        stages = {"steps": 0, "gan_steps": args.steps} if args.gan else {"steps": args.steps, "gan_steps": 0}
        config = replace(config, **stages, seed=SEED, device="cpu")
        data = TrainingSet(config)
        share, seconds = data_wait(config, data)
        best, differences = compare(replace(config, out=str(Path(folder) / "ours")), data, args.rounds, args.threads)
        precision = Trainer(replace(config, out=str(Path(folder) / "ours")), data=data).dtype
    ratio = best["plain"] / best["ours"]
    ceiling = convolution_ratio(config, precision, args.rounds)
    about = {
        "SRGAN3D": __version__,
        "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "precision": str(precision),
    }
    about |= {"preset": args.preset, "factors_ijk": args.factors, "stage": "GAN" if args.gan else "content", "threads": args.threads}
    print(", ".join(f"{key} {value}" for key, value in {**about, "batch": config.batch, "patch": config.patch, "seed": SEED}.items()))
    print(f"data wait    {share:8.1%} of the time, {seconds:.2f} s a step; bar {WAIT_BAR:.0%}: {'met' if share <= WAIT_BAR else 'MISSED'}")
    print(f"plain step   {best['plain']:8.2f} s of CPU time a thread (fp32, contiguous)")
    told = f"bar {SPEED_BAR} x: {'met' if ratio >= SPEED_BAR else 'MISSED'}"
    print(f"our step     {best['ours']:8.2f} s, {ratio:.2f} x as fast; {told}")
    print(f"losses       apart by {differences[0]:.1e} of their size from the same weights, then by at most {max(differences[1:]):.1e}")
    print(f"convolution  {ceiling:8.2f} x as fast alone, forward and backward: what the processor gives")
    if args.out:
        figures = {
            "data_wait_share": share,
            "seconds": seconds,
            **best,
            "ratio": ratio,
            "convolution": ceiling,
            "loss_differences": differences,
        }
        args.out.write_text(json.dumps({**about, **figures}, indent=1) + "\n")
    return int(share > WAIT_BAR or ratio < SPEED_BAR)


if __name__ == "__main__":
    sys.exit(main())
