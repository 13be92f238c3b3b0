"""Fit and measure the blur estimator: python benchmarks/fit_blur_estimator.py --data TRAIN [--test VALIDATION] [--write]

Degrades every training scan (at three spacings) by the protocol's blurs and by widths between, fits the ridge regression of
`SRGAN3DLib/blur_estimator.py`, prints its error leaving one subject out, and on the test scans.
"""

from __future__ import annotations

import argparse
import datetime
import json

import numpy as np

from SRGAN3DLib.blur_estimator import WEIGHTS, axis_features
from SRGAN3DLib.datasets import COARSEST_MM, coarsen, find_scans
from SRGAN3DLib.degradations import Degradation, Draw, sample
from SRGAN3DLib.intensity import IntensityScale
from SRGAN3DLib.volume import Volume

SCALES = (1.0, 1.1, 1.2, 1.33, 1.45)
RIDGE = 30.0
Row = tuple[str, str, int, float, np.ndarray]  # subject, blur, axis, true MTF, features


def rows_of(folder: str, draws: int, scales: tuple[float, ...], rng: np.random.Generator) -> list[Row]:
    rows = []
    for scan in find_scans(folder):
        if not scan.truth_kji:
            continue
        volume = Volume.read(scan.path)
        whole = np.asarray(IntensityScale.fit(volume.array).apply(volume.array), np.float32)
        for scale in scales:
            if scale > 1 and (len(scan.truth_kji) < 3 or max(volume.geometry.spacing_kji_mm) * scale > COARSEST_MM + 0.2):
                continue
            array = whole if scale == 1 else coarsen(whole, scale)
            factors = tuple(2 if axis in scan.truth_kji else 1 for axis in range(3))
            named = [(kind, Draw(Degradation.named(kind, factors))) for kind in ("box", "gaussian", "kspace")]
            drawn = [("random", sample("random", factors, rng)) for _ in range(draws)]
            for kind, draw in named + drawn:
                lr = draw.add_noise(draw.degradation.forward(array), rng)
                rows += [(scan.subject, kind, axis, draw.degradation.mtf[axis], axis_features(lr, axis)) for axis in scan.truth_kji]
        print(f"{scan.path.name}: {len(rows)} rows", flush=True)
    return [row for row in rows if np.isfinite(row[4]).all()]


def fit(rows: list[Row]) -> dict:
    x, y = np.stack([row[4] for row in rows]), np.array([row[3] for row in rows])
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-6
    z = np.clip((x - mean) / scale, -4, 4)
    weights = np.linalg.solve(z.T @ z + RIDGE * np.eye(z.shape[1]), z.T @ (y - y.mean()))
    return {"mean": mean, "scale": scale, "weights": weights, "intercept": y.mean()}


def predict(fitted: dict, rows: list[Row]) -> np.ndarray:
    z = np.clip((np.stack([row[4] for row in rows]) - fitted["mean"]) / fitted["scale"], -4, 4)
    return np.clip(fitted["intercept"] + z @ fitted["weights"], 0.2, 1.0)


def rms(fitted: dict, rows: list[Row]) -> float:
    return float(np.sqrt(np.mean((predict(fitted, rows) - [row[3] for row in rows]) ** 2)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--test")
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="store the weights where the library reads them")
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    rows = rows_of(args.data, args.draws, SCALES, rng)
    subjects = sorted({row[0] for row in rows})
    left_out = [rms(fit([r for r in rows if r[0] != s]), [r for r in rows if r[0] == s]) for s in subjects]
    print(
        "RMS error of the MTF, one subject left out:",
        {s: round(e, 3) for s, e in zip(subjects, left_out, strict=True)},
        "mean",
        round(float(np.mean(left_out)), 3),
    )
    fitted = fit(rows)
    if args.test:
        test = rows_of(args.test, 0, (1.0,), rng)
        for row, value in zip(test, predict(fitted, test), strict=True):
            print(f"{row[0]:24} {row[1]:9} axis {row[2]}  true {row[3]:.2f}  estimated {value:.2f}")
        print("RMS error on the test scans:", round(rms(fitted, test), 3))
    if args.write:
        facts = {key: np.asarray(value).round(6).tolist() for key, value in fitted.items()}
        facts |= {"range": [0.2, 1.0], "subjects": subjects, "rms_left_out": round(float(np.mean(left_out)), 3), "seed": args.seed}
        facts["created"] = datetime.date.today().isoformat()
        WEIGHTS.write_text(json.dumps(facts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
