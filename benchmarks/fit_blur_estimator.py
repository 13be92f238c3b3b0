"""Train and measure the blur estimator: python benchmarks/fit_blur_estimator.py --data TRAIN [--test VALIDATION ...] [--write]

Scans are few and much alike, so every draw makes one less like itself before it is degraded: a coarser grid, another contrast, a
transfer of the fine grid's own (smoothed, apodised, zero-filled), a region; then the mixture of blurs that the models are trained
with, noise, a bias field. The networks of `SRGAN3DLib/physics/blur_estimator.py` learn the transfer at Nyquist from its features of these.
Prints their error on subjects left out, and on the test scans under the protocol's blurs; `--write` stores them for the library.
Two cores make the draws in some 20 minutes; the same seed makes the same ones on any number of them.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.interpolate import PchipInterpolator

from SRGAN3DLib.contract.configs import Factors
from SRGAN3DLib.contract.job_values import DEGRADATIONS
from SRGAN3DLib.physics.blur_estimator import LEAST_VOXELS, RANGE, SLOPE, WEIGHTS, answers, combine, features_of, inputs, standardised
from SRGAN3DLib.physics.degradations import FWHM_PER_SIGMA, AxisBlur, Degradation, sample
from SRGAN3DLib.physics.intensity import IntensityScale
from SRGAN3DLib.training.datasets import coarsen, through
from SRGAN3DLib.volumes.scans import find_scans

DRAWS = 24  # of each variant of a scan
COARSEST_MM = 1.6
LEAST_SIDE = 100  # voxels of a scan that is blurred along every axis
HIDDEN, EPOCHS, NETWORKS, BATCH, RATE = (96, 48), 30, 3, 256, 3e-3
EPOCHS_MORE, RATE_MORE = 25, 1e-3  # of networks that are continued
QUANTILE = 0.65  # of the transfers that would explain the features: 0.1 too low costs t1-x2 some 0.4 dB, 0.1 too high 0.1
SOFTEST = 0.2  # nothing is learnt of how much softer a blur is

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Row:
    """One axis of one degraded scan: what the networks are given, and the true MTF."""

    subject: str
    x: np.ndarray
    mtf: float


@cache
def scans_of(folder: str) -> list[tuple[str, str, np.ndarray, tuple[int, ...], Triple]]:
    """(subject, file, array scaled to bright tissue = 1, axes that are truth, spacing in mm) of each scan."""
    found = []
    for scan in find_scans(folder):
        volume = scan.read()
        array = np.asarray(IntensityScale.fit(volume.array).apply(volume.array), np.float32)
        spacing = volume.geometry.spacing_kji_mm
        found.append((scan.subject, scan.path.name, array, tuple(scan.truth(spacing)), spacing))
    return found


# ---- scans made unlike themselves


def another_contrast(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A smooth curve over the intensities: none, a rising one, or one that reorders the tissues."""
    kind = rng.choice(["none", "rising", "any"], p=[0.35, 0.4, 0.25])
    if kind == "none":
        return array
    knots = np.array([0, 0.25, 0.5, 0.75, 1.0, 1.6])
    values = np.append(0, np.cumsum(rng.uniform(0.3, 1.7, 5)) if kind == "rising" else rng.uniform(0.15, 1.1, 5))
    curve = PchipInterpolator(knots, values / values[4] if kind == "rising" else values)
    x = np.linspace(0, 1.6, 4096)
    return np.asarray(np.interp(array, x, curve(x)) + np.minimum(array, 0) + 0.3 * np.maximum(array - 1.6, 0), np.float32)


def own_transfer(n: int, rng: np.random.Generator) -> np.ndarray | None:
    """What the fine grid's own scanner let through, as a periodic (n, n) filter; None: all of it."""
    kind = rng.choice(["none", "smooth", "apodised", "zero-filled"], p=[0.5, 0.2, 0.15, 0.15])
    k = np.fft.rfftfreq(n) / 0.5
    if kind == "none":
        return None
    if kind == "smooth":
        transfer = np.exp(-0.5 * (np.pi * k * rng.uniform(0.3, 0.9) / FWHM_PER_SIGMA) ** 2)
    elif kind == "apodised":
        transfer = 1 - (1 - rng.uniform(0.1, 0.9)) * np.sin(0.5 * np.pi * k) ** 2
    else:
        transfer = 1 / (1 + np.exp((k - rng.uniform(0.65, 0.95)) / 0.02))
    kernel = np.fft.irfft(transfer, n)
    return np.stack([np.roll(kernel, i) for i in range(n)])


def some_factors(shape: tuple[int, ...], truth: tuple[int, ...], rng: np.random.Generator) -> tuple[Factors, tuple[int, ...]]:
    """Along every axis or into slices, and the axes of which something can be learnt."""
    if len(truth) >= 2 and min(shape) >= LEAST_SIDE and rng.random() < 0.6:
        return (int(rng.choice([2, 3, 4], p=[0.6, 0.15, 0.25])),) * 3, truth
    axis, factor = truth[rng.integers(len(truth))], int(rng.integers(2, 6))
    return tuple(factor if a == axis else 1 for a in range(3)), (axis,)  # type: ignore[return-value]


def region(array: np.ndarray, factors: Factors, rng: np.random.Generator) -> np.ndarray:
    """A block of any size: half of the draws are nearly whole, the others down to two fifths of each side."""
    least = 0.8 if rng.random() < 0.4 else 0.35
    cut = []
    for n, f in zip(array.shape, factors, strict=True):
        side = max(int(n * rng.uniform(least, 1)) // f * f, min(n // f * f, 20 * f))
        start = int((n - side) * np.clip(rng.normal(0.5, 0.2), 0, 1))
        cut.append(slice(start, start + side))
    return array[tuple(cut)]


def masked(lr: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The background set to 0, as skull stripping does: all air, or all that lies outside an ellipsoid as well."""
    kept = lr > 0.04
    if rng.random() < 0.5:
        axes = np.ogrid[tuple(slice(-1, 1, 1j * n) for n in lr.shape)]
        kept &= sum((x / rng.uniform(0.55, 0.95)) ** 2 for x in axes) < 1
    return np.where(kept, lr, np.float32(0))


def rows_of_variant(folder: str, seed: int, number: int) -> list[Row]:
    """What one variant of one scan teaches: a pure function of its arguments."""
    rng = np.random.default_rng([seed, number])
    scans = scans_of(folder)
    share = np.array([2.5 if len(truth) == 3 else 1.0 for *_, truth, _ in scans])
    subject, _, array, truth, spacing = scans[rng.choice(len(scans), p=share / share.sum())]
    scale = rng.uniform(1, max(1.0, COARSEST_MM / max(spacing))) if len(truth) == 3 and rng.random() < 0.6 else 1.0
    array = another_contrast(coarsen(array, scale) if scale > 1.03 else array, rng)
    rows: list[Row] = []
    for _ in range(DRAWS):
        factors, axes = some_factors(array.shape, truth, rng)
        if all(f == 1 or n // f >= LEAST_VOXELS for n, f in zip(array.shape, factors, strict=True)):
            rows += drawn(subject, region(array, factors, rng), spacing, factors, axes, rng)
    return rows


def drawn(subject: str, array: np.ndarray, spacing: Triple, factors: Factors, axes: tuple[int, ...], rng: np.random.Generator) -> list[Row]:
    draw = sample("random", factors, rng)
    if rng.random() < 0.15:  # softer than the models' mixture
        widths = rng.uniform(1.2, 2.0, 3) if rng.random() < 0.5 else np.full(3, rng.uniform(1.2, 2.0))
        k, j, i = (AxisBlur("gaussian", float(width)) for width in widths)
        draw = replace(draw, degradation=Degradation(factors, (k, j, i)))
    blurs, owns = draw.degradation.matrices(array.shape), [own_transfer(n, rng) for n in array.shape]
    array = through(array, [blur if own is None else blur @ own for blur, own in zip(blurs, owns, strict=True)], 0)
    noise = float(rng.choice([0.03, 0.1]) * rng.uniform(0, 1)) if rng.random() < 0.6 else 0.0
    lr = replace(draw, noise=noise).add_noise(np.ascontiguousarray(array), rng)
    if draw.bias:
        lr = lr * draw.bias_field(*(np.linspace(-1, 1, n, dtype=np.float32) for n in lr.shape))
    return rows_of(subject, masked(lr, rng) if rng.random() < 0.35 else lr, spacing, draw.degradation, axes)


def rows_of(subject: str, lr: np.ndarray, spacing: Triple, degradation: Degradation, axes: tuple[int, ...]) -> list[Row]:
    """`spacing` is that of the fine grid."""
    k, j, i = (mm * f for mm, f in zip(spacing, degradation.factors, strict=True))
    features = features_of(lr, degradation.factors, (k, j, i), IntensityScale.fit(lr))
    fit = [axis for axis in axes if np.isfinite(features[axis]).all()]
    return [Row(subject, inputs(features, axis, degradation.factors), degradation.mtf[axis]) for axis in fit]


# ---- networks


def train(rows: list[Row], seed: int) -> dict[str, Any]:
    """Networks as the library reads them. Every subject has its say, whatever the number of its scans."""
    x, y = np.stack([row.x for row in rows]), np.array([row.mtf for row in rows]).clip(SOFTEST, 1)
    centre, scale = np.nanmean(x, axis=0), np.nanstd(x, axis=0) + 1e-6
    z = torch.tensor(standardised(x, centre, scale), dtype=torch.float32)
    weight = _weight(rows)
    networks = [_one_network(z, torch.tensor(y, dtype=torch.float32), weight, seed + number) for number in range(NETWORKS)]
    return {"centre": rounded(centre), "scale": rounded(scale), "networks": networks}


def continued(start: dict[str, Any], rows: list[Row], seed: int) -> dict[str, Any]:
    """The networks of `start`, and beside them copies of them that learnt from `rows` too: the first know whole clean scans best, the
    others crops, masked and noisy scans. Their mean is better on each than either is on what it knows least."""
    x, y = np.stack([row.x for row in rows]), np.array([row.mtf for row in rows]).clip(SOFTEST, 1)
    z = torch.tensor(standardised(x, start["centre"], start["scale"]), dtype=torch.float32)
    weight = _weight(rows)
    more = [
        _one_network(z, torch.tensor(y, dtype=torch.float32), weight, seed + number, layers)
        for number, layers in enumerate(start["networks"])
    ]
    return {"centre": start["centre"], "scale": start["scale"], "networks": [*start["networks"], *more]}


def _weight(rows: list[Row]) -> torch.Tensor:
    _, index, count = np.unique([row.subject for row in rows], return_inverse=True, return_counts=True)
    return torch.tensor(1 / np.sqrt(count[index]))


def _one_network(z: torch.Tensor, y: torch.Tensor, weight: torch.Tensor, seed: int, start: list | None = None) -> list:
    """The loss is that of an asymmetric Laplace distribution whose spread is learnt too: a quantile, drawn to what most scans have, and
    what cannot be told weighs little. `start`: the layers to continue from."""
    torch.manual_seed(seed)
    sizes = (z.shape[1], *HIDDEN, 2)
    linear = [torch.nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    between = [torch.nn.Sequential(torch.nn.LeakyReLU(SLOPE), torch.nn.Dropout(0.1)) for _ in HIDDEN]
    network = torch.nn.Sequential(*(layer for pair in zip(linear, between, strict=False) for layer in pair), linear[-1])
    for layer, (values, bias) in zip(linear, start or [], strict=False):
        layer.weight.data, layer.bias.data = torch.tensor(values), torch.tensor(bias)
    epochs, rate = (EPOCHS, RATE) if start is None else (EPOCHS_MORE, RATE_MORE)
    steps = epochs * (len(y) // BATCH + 1)
    optimiser = torch.optim.AdamW(network.parameters(), rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        chosen = torch.multinomial(weight, BATCH, replacement=True)
        guess, log_spread = network(z[chosen] + 0.1 * torch.randn(BATCH, z.shape[1])).unbind(1)
        spread, above = torch.exp(log_spread.clamp(-3.5, 0.5)), y[chosen] - guess
        likelihood = torch.log(spread) + 2 * torch.maximum(QUANTILE * above, (QUANTILE - 1) * above) / spread
        loss = (likelihood * spread.detach()).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return [[rounded(layer.weight.detach().numpy()), rounded(layer.bias.detach().numpy())] for layer in linear]


def rounded(values: np.ndarray) -> list:
    return np.vectorize(lambda v: float(f"{v:.4g}"))(values).tolist()  # type: ignore[no-any-return]


def rms(estimates: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt(np.mean((np.clip(estimates, *RANGE) - np.clip(truth, *RANGE)) ** 2)))


def left_out(rows: list[Row], seed: int) -> dict[str, float]:
    """RMS error of the MTF, an axis on its own, for every subject when trained on the others."""
    errors = {}
    for subject in sorted({row.subject for row in rows}):
        mine = [row for row in rows if row.subject == subject]
        fitted = train([row for row in rows if row.subject != subject], seed)
        errors[subject] = round(rms(answers(fitted, np.stack([row.x for row in mine]))[0], np.array([row.mtf for row in mine])), 3)
    return errors


# ---- whole scans, by the protocol


def judged(fitted: dict, folder: str) -> dict[str, float]:
    """RMS error of what the library would say of each scan under each blur of the protocol, by the kind of the grid."""
    errors: dict[str, list[float]] = {}
    for subject, name, array, truth, spacing in scans_of(folder):
        slices = [tuple(f if a == axis else 1 for a in range(3)) for axis in truth for f in (2, 4)]
        whole = [(2, 2, 2), (4, 4, 4)] if len(truth) >= 2 and min(array.shape) >= LEAST_SIDE else []
        for factors in (*whole, *slices):
            axes = tuple(axis for axis, f in enumerate(factors) if f > 1)
            if any(array.shape[axis] // factors[axis] < LEAST_VOXELS for axis in axes):
                continue
            for kind in DEGRADATIONS:
                degradation = Degradation.named(kind, factors)  # type: ignore[arg-type]
                rows = rows_of(subject, degradation.forward(array), spacing, degradation, axes)
                if len(rows) < len(axes):
                    continue
                estimates = combine(*answers(fitted, np.stack([row.x for row in rows])))[0]
                shown = ", ".join(f"{value:.2f}" for value in estimates)
                print(f"  {name:28} {factors} {kind:9} true {rows[0].mtf:.2f}  estimated {shown}")
                group = f"{'slices' if len(axes) == 1 else 'isotropic'} x{max(factors)}"
                errors.setdefault(group, []).append(rms(estimates, np.array([row.mtf for row in rows])) ** 2)
    return {group: round(float(np.sqrt(np.mean(squares))), 3) for group, squares in sorted(errors.items())}


def kept_rows(args: argparse.Namespace) -> list[Row]:
    """The draws, made now or before."""
    if args.rows and args.rows.exists():
        with np.load(args.rows) as kept:
            return [Row(str(subject), x, float(mtf)) for subject, x, mtf in zip(*(kept[n] for n in ("subject", "x", "mtf")), strict=True)]
    variants = max(1, args.draws // DRAWS)
    rows: list[Row] = []
    with ProcessPoolExecutor(args.workers) as pool:
        found = pool.map(rows_of_variant, [args.data] * variants, [args.seed] * variants, range(variants))
        for number, some in enumerate(found, 1):
            rows += some
            if number % 20 == 0:
                print(f"{number} of {variants} variants, {len(rows)} rows", flush=True)
    if args.rows:
        x, mtf = np.stack([row.x for row in rows]), np.array([row.mtf for row in rows])
        np.savez(args.rows, subject=[row.subject for row in rows], x=x, mtf=mtf)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--test", nargs="*", default=[])
    parser.add_argument("--draws", type=int, default=12000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rows", type=Path, help="keep the draws in this .npz file; where it is there, take them from it")
    parser.add_argument("--write", action="store_true", help="store the networks where the library reads them")
    parser.add_argument("--continue", dest="start", type=Path, help="keep these networks, and add copies that learn from the draws too")
    args = parser.parse_args()
    rows = kept_rows(args)
    facts: dict[str, Any] = {"seed": args.seed, "draws": args.draws, "rows": len(rows), "created": datetime.date.today().isoformat()}
    facts |= {"torch": torch.__version__}
    if args.start:
        fitted = continued(json.loads(args.start.read_text(encoding="utf-8")), rows, args.seed)
    else:
        errors = left_out(rows, args.seed)
        print(f"RMS error of the MTF, one subject left out: {errors}, mean {np.mean(list(errors.values())):.3f}", flush=True)
        fitted = train(rows, args.seed)
        facts |= {"rms_left_out": errors}
    for folder in args.test:
        print(f"RMS error on {folder}: {judged(fitted, folder)}", flush=True)
    if args.write:
        WEIGHTS.write_text(json.dumps(facts | fitted) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
