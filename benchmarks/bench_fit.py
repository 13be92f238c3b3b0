"""`srgan3d fit` beside the package eclare: a real scan degraded further along its slice axis; the scan itself is the truth.

python benchmarks/bench_fit.py SCAN --eclare PYTHON [--steps N] [--n-patches N] [--batch-size N] [--crop N] [--out FILE]

PYTHON is the interpreter of an environment that holds eclare (pip install eclare). Both run on the CPU with as many threads as
OMP_NUM_THREADS says, side by side; what counts is the CPU time of training: choose --n-patches so that eclare gets at least as much.
eclare can only go down to the in-plane spacing; its slices there are brought to the truth's in two ways, and both are told.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

import SRGAN3DLib
from SRGAN3DLib.contract.checkpoint_header import file_hash, read_header
from SRGAN3DLib.evaluation.metrics import all_metrics
from SRGAN3DLib.evaluation.scoring import Case
from SRGAN3DLib.physics.degradations import FWHM_PER_SIGMA
from SRGAN3DLib.physics.interpolation import KINDS, interpolate
from SRGAN3DLib.volumes.volume import Volume

FACTOR = 2
VIEWS = (1, 8)  # eclare, too, takes the mean over several directions
# Runs eclare's own command; says what CPU time had passed when its training was over.
ECLARE = """
import json, sys, time
import eclare.eclare as e
from eclare.main import main
inner, trained = e.apply_to_vol, []
def watched(*a):
    trained.append(time.process_time())
    return inner(*a)
e.apply_to_vol = watched
main(sys.argv[2:])
open(sys.argv[1], "w").write(json.dumps({"training": trained[0], "total": time.process_time()}))
"""


def run(command: list[str], folder: Path) -> float:
    """CPU seconds of a command. Ends the program with its last words where it fails."""
    with (folder / "log.txt").open("wb+") as log:
        child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            log.seek(0)
            sys.exit(f"{' '.join(command[:4])} ...: failed\n" + log.read().decode(errors="replace")[-2000:])
    return usage.ru_utime + usage.ru_stime


def ours(lr: Path, folder: Path, steps: int, seed: int, init: str) -> list[tuple[str, np.ndarray, dict[str, Any]]]:
    """Name, result and times: the scan as it is, and the mean over its mirrored views."""
    folder.mkdir()
    model, out = folder / "fit.safetensors", folder / "sr.nii.gz"
    program = [sys.executable, "-m", "SRGAN3DLib"]
    options = ["--factor", str(FACTOR), "--steps", str(steps), "--seed", str(seed), "--init", init, "--device", "cpu"]
    fitting = run([*program, "fit", str(lr), "-o", str(model), *options], folder)
    name, rows = f"srgan3d fit, {steps} steps from {read_header(model).training['config']['init'] or 'nothing'}", []
    for flips in VIEWS:
        call = [*program, "super-resolve", str(lr), str(out), "--model", str(model), "--device", "cpu", "--flips", str(flips)]
        times = {"training": fitting, "total": fitting + run(call, folder)}
        rows.append((name + (f", {flips} mirrored views" if flips > 1 else ""), Volume.read(out).array, times))
    return rows


def eclare(python: str, lr: Path, folder: Path, n_patches: int, batch: int, thickness: float) -> tuple[Volume, dict[str, Any]]:
    folder.mkdir()
    times = folder / "eclare.json"
    options = ["--in-fpath", str(lr), "--out-dir", str(folder), "--n-patches", str(n_patches), "--batch-size", str(batch)]
    options += ["--relative-slice-thickness", str(thickness)]
    run([python, "-c", ECLARE, str(times), *options], folder)
    return Volume.read(folder / lr.name.replace(".nii", "_eclare.nii")), json.loads(times.read_text())


def to_truth(made: Volume, truth: Volume, profile: bool) -> np.ndarray:
    """eclare's fine slices at the truth's places: as they are there (cubic), or as slices of the truth's width (gaussian) show them."""
    from scipy import ndimage

    first, step = (np.linalg.solve(made.geometry.ijk_to_ras, truth.geometry.ijk_to_ras @ v) for v in ((0, 0, 0, 1.0), (0, 0, 1.0, 0)))
    places = first[2] + step[2] * np.arange(truth.array.shape[0])
    print(f"eclare's grid against the truth's: first voxel {np.round(first[:3], 3)}, step {np.round(step[:3], 4)}")
    if profile:
        rows = np.exp(-0.5 * ((np.arange(made.array.shape[0])[None] - places[:, None]) / (step[2] / FWHM_PER_SIGMA)) ** 2)
    else:
        rows = ndimage.map_coordinates(np.eye(made.array.shape[0]), np.meshgrid(places, np.arange(made.array.shape[0]), indexing="ij"),
                                       order=3, mode="nearest")  # fmt: skip
    rows /= rows.sum(axis=1, keepdims=True)
    return np.asarray(np.tensordot(rows, made.array, axes=(1, 0)), np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path)
    parser.add_argument("--eclare", metavar="PYTHON")
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--n-patches", type=int, default=4096)
    parser.add_argument("--batch-size", type=int, default=16, help="of eclare, whose own default of 128 leaves a short run hardly a step")
    parser.add_argument("--crop", type=int, help="only the central so many in-plane voxels: eclare runs for long on a CPU")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "fit.md")
    args = parser.parse_args()
    whole = Volume.read(args.scan)
    axis = int(np.argmax(whole.geometry.spacing_kji_mm))
    order = (axis, *(a for a in range(3) if a != axis))
    truth = whole.permute(order)  # type: ignore[arg-type]
    n, *plane = truth.array.shape
    box = [
        (0, n // FACTOR * FACTOR),
        *((max(0, (m - args.crop) // 2), min(m, (m + args.crop) // 2)) if args.crop else (0, m) for m in plane),
    ]
    grid = truth.geometry.crop(box)
    truth = truth.with_array(truth.array[tuple(slice(*pair) for pair in box)], grid)
    case = Case.make(args.scan.name, truth.array, (FACTOR, 1, 1), "gaussian")
    rows: list[tuple[str, dict[str, float], dict[str, Any]]] = []

    def score(name: str, array: np.ndarray, times: dict[str, Any] | None = None) -> None:
        figures = all_metrics(case.hr, array, case.mask, case.data_range)
        rows.append((name, figures, times or {}))
        print(f"{name}: {figures['psnr']:.2f} dB, SSIM {figures['ssim']:.4f} {times or ''}", flush=True)

    for kind in KINDS:
        score(kind, interpolate(case.lr, case.factors, kind))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lr = folder / "lr.nii.gz"
        coarse = truth.with_array(case.lr, grid.coarsen(case.factors))
        coarse.write(lr)
        with ThreadPoolExecutor() as pool:
            fits = [pool.submit(ours, lr, folder / init, args.steps, args.seed, init) for init in ("auto", "none")]
            spacing = coarse.geometry.spacing_kji_mm
            thickness = spacing[0] / min(spacing)
            if args.eclare:
                other = pool.submit(eclare, args.eclare, lr, folder / "eclare", args.n_patches, args.batch_size, thickness)
            for one in fits:
                for made_by, array, times in one.result():
                    score(made_by, array, times)
        if args.eclare:
            made, times = other.result()
            for profile, how in ((False, "as they are"), (True, "through the truth's slice profile")):
                score(f"eclare, {args.n_patches} patches, its slices {how}", to_truth(made, truth, profile), times)
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(table(args, case, rows), encoding="utf-8")


def table(args: argparse.Namespace, case: Case, rows: list[tuple[str, dict[str, float], dict[str, Any]]]) -> str:
    version = ""
    if args.eclare:
        code = "from importlib.metadata import version as v; print('eclare', v('eclare'), 'on torch', v('torch'))"
        version = subprocess.run([args.eclare, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    names = ("steps", "n_patches", "batch_size", "crop", "seed")
    options = " ".join(f"--{name.replace('_', '-')} {getattr(args, name)}" for name in names if getattr(args, name) is not None)
    lines = [
        "# `srgan3d fit` beside eclare",
        "",
        f"`python benchmarks/bench_fit.py {args.scan.name} --eclare PYTHON {options}`",
        "",
        f"{args.scan.name} (SHA-256 {file_hash(args.scan)[:16]}), degraded by {FACTOR} along its slice axis (gaussian, FWHM 1 LR voxel),",
        "is the truth itself; head mask and data range of the protocol (method.md, section 5). Each method is told the slices' FWHM.",
        f"SRGAN3D {SRGAN3DLib.__version__}, seed {args.seed}, torch {torch.__version__}; {version}; {platform.machine()} CPU,",
        f"{os.environ.get('OMP_NUM_THREADS', 'all')} thread(s). CPU seconds, not wall time: loading and, for fit, its measuring included.",
        "",
        "| method | PSNR, dB | over cubic, dB | SSIM | CPU s, training | CPU s, with inference |",
        "|---|---|---|---|---|---|",
    ]
    cubic = next(figures["psnr"] for name, figures, _ in rows if name == "cubic")
    for name, figures, times in rows:
        seconds = [f"{times[key]:.0f}" if times else "" for key in ("training", "total")]
        lines.append(f"| {name} | {figures['psnr']:.2f} | {figures['psnr'] - cubic:+.2f} | {figures['ssim']:.4f} | {' | '.join(seconds)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
