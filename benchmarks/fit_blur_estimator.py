"""Fit and measure the blur estimator: python benchmarks/fit_blur_estimator.py --data TRAIN [--test VALIDATION ...] [--write]

Degrades every training scan (at several spacings) by the protocol's blurs and by widths between, fits the ridge regressions of
`SRGAN3DLib/blur_estimator.py`, prints their error leaving one subject out, and on the test scans.
"""

from __future__ import annotations

import argparse
import datetime
import json
from dataclasses import dataclass

import numpy as np

from SRGAN3DLib.blur_estimator import LEAST_VOXELS, WEIGHTS, axis_features, combine
from SRGAN3DLib.configs import Factors
from SRGAN3DLib.datasets import COARSEST_MM, coarsen
from SRGAN3DLib.degradations import Degradation, Draw, sample
from SRGAN3DLib.intensity import IntensityScale
from SRGAN3DLib.jobs import DEGRADATIONS
from SRGAN3DLib.scans import find_scans

SCALES = (1.0, 1.15, 1.33)
RIDGES = (3.0, 10.0, 30.0, 100.0)  # the best on subjects left out is taken, for each set of weights


@dataclass(frozen=True)
class Row:
    """One degraded scan: features (axes, 55) and true MTF (axes,) of the axes that were blurred."""

    subject: str
    blur: str
    features: np.ndarray
    mtf: np.ndarray


def kinds_of(truth_kji: tuple[int, ...]) -> list[tuple[str, Factors]]:
    """The sets of weights a scan can teach, and how it is degraded for each."""
    slices = [("slices", tuple(n if a == axis else 1 for a in range(3))) for axis in truth_kji for n in (2, 3, 4, 5)]
    whole = [("isotropic", (2, 2, 2)), ("coarse", (3, 3, 3)), ("coarse", (4, 4, 4))] if len(truth_kji) == 3 else []
    return whole + slices  # type: ignore[return-value]


def rows_of(folder: str, draws: dict[str, int], scales: tuple[float, ...], rng: np.random.Generator) -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = {name: [] for name in ("isotropic", "coarse", "slices")}
    for scan in find_scans(folder):
        volume = scan.read()
        truth_kji = scan.truth(volume.geometry.spacing_kji_mm)
        whole = np.asarray(IntensityScale.fit(volume.array).apply(volume.array), np.float32)
        for scale in scales:
            if scale > 1 and (len(truth_kji) < 3 or max(volume.geometry.spacing_kji_mm) * scale > COARSEST_MM + 0.2):
                continue
            array = whole if scale == 1 else coarsen(whole, scale)
            for name, factors in kinds_of(truth_kji):
                if all(f == 1 or n // f >= LEAST_VOXELS for n, f in zip(array.shape, factors, strict=True)):
                    rows[name] += _degraded(scan.subject, array, factors, draws.get(name, 0), rng)
        print(f"{scan.path.name}: {', '.join(f'{len(found)} {name}' for name, found in rows.items())}", flush=True)
    return rows


def _degraded(subject: str, array: np.ndarray, factors: Factors, draws: int, rng: np.random.Generator) -> list[Row]:
    named = [(kind, Draw(Degradation.named(kind, factors))) for kind in DEGRADATIONS]
    axes, rows = [axis for axis, f in enumerate(factors) if f > 1], []
    for kind, draw in named + [("random", sample("random", factors, rng)) for _ in range(draws)]:
        lr = draw.add_noise(draw.degradation.forward(array), rng)
        features = np.stack([axis_features(lr, axis) for axis in axes])
        if np.isfinite(features).all():
            rows.append(Row(subject, kind, features, np.array(draw.degradation.mtf)[axes]))
    return rows


def ridge(x: np.ndarray, y: np.ndarray, strength: float) -> dict:
    centre, scale = x.mean(axis=0), x.std(axis=0) + 1e-6
    z = np.clip((x - centre) / scale, -4, 4)
    weights = np.linalg.solve(z.T @ z + strength * np.eye(z.shape[1]), z.T @ (y - y.mean()))
    return {"centre": centre, "scale": scale, "weights": weights, "intercept": y.mean()}


def fit(rows: list[Row], strength: float) -> dict:
    fitted = {"axis": ridge(np.concatenate([r.features for r in rows]), np.concatenate([r.mtf for r in rows]), strength)}
    if len(rows[0].mtf) > 1:
        fitted["mean"] = ridge(np.stack([r.features.mean(axis=0) for r in rows]), np.array([r.mtf.mean() for r in rows]), strength)
    return fitted


def rms(fitted: dict, rows: list[Row]) -> float:
    return float(np.sqrt(np.mean(np.concatenate([(combine(fitted, r.features) - r.mtf) ** 2 for r in rows]))))


def left_out(rows: list[Row], strength: float) -> dict[str, float]:
    subjects = sorted({r.subject for r in rows})
    return {s: round(rms(fit([r for r in rows if r.subject != s], strength), [r for r in rows if r.subject == s]), 3) for s in subjects}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--test", nargs="*", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="store the weights where the library reads them")
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    rows = rows_of(args.data, {"isotropic": 8, "coarse": 3, "slices": 1}, SCALES, rng)
    tests = [rows_of(folder, {}, (1.0,), rng) for folder in args.test]
    facts: dict = {"seed": args.seed, "created": datetime.date.today().isoformat()}
    for name, mine in rows.items():
        tried = {strength: left_out(mine, strength) for strength in RIDGES}
        strength = min(RIDGES, key=lambda s: np.mean(list(tried[s].values())))
        fitted, errors = fit(mine, strength), tried[strength]
        print(f"{name}: ridge {strength} of", {s: round(float(np.mean(list(e.values()))), 3) for s, e in tried.items()})
        print(f"{name}: RMS error of the MTF, one subject left out: {errors}, mean {np.mean(list(errors.values())):.3f}")
        for row in (row for test in tests for row in test[name]):
            shown = ", ".join(f"{v:.2f}" for v in combine(fitted, row.features))
            print(f"  {row.subject:24} {row.blur:9} true {row.mtf[0]:.2f}  estimated {shown}")
        for folder, test in zip(args.test, tests, strict=True):
            if test[name]:
                print(f"{name}: RMS error on {folder}: {rms(fitted, test[name]):.3f}")
        lists = {part: {key: np.asarray(value).round(6).tolist() for key, value in one.items()} for part, one in fitted.items()}
        facts[name] = lists | {"rms_left_out": errors, "ridge": strength}
    if args.write:
        WEIGHTS.write_text(json.dumps(facts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
