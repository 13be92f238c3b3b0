"""The files that a run leaves in its folder, so that it removes its own and no others."""

from __future__ import annotations

import contextlib
from pathlib import Path

CONFIG, METRICS, VALIDATION, STATE = "config.json", "metrics.jsonl", "validation.jsonl", "state.safetensors"
MODEL, SHARP_MODEL, REPORT, CURVES, TENSORBOARD = "model.safetensors", "model-sharp.safetensors", "report.md", "curves.png", "tensorboard"
SPLIT, FIT = "split.json", "fit.json"
OWN = (CONFIG, METRICS, VALIDATION, STATE, MODEL, SHARP_MODEL, REPORT, CURVES, SPLIT)
OWN_PATTERNS = ("validation_*.png", f"{TENSORBOARD}/events.out.tfevents.*", ".srgan3d-*.part")


def remove_own_files(run: Path) -> None:
    """Remove what a fit wrote into `run`, fit.json last. A file that the system does not give up is left there."""
    paths = [run / name for name in OWN] + [path for pattern in OWN_PATTERNS for path in run.glob(pattern)]
    for path in [*paths, run / FIT]:
        if path.is_file() or path.is_symlink():
            with contextlib.suppress(OSError):
                path.unlink()
    remove_if_empty(run / TENSORBOARD)


def remove_if_empty(folder: Path) -> list[str]:
    """Remove the folder if nothing lies in it; returns the names of what does."""
    with contextlib.suppress(OSError):  # not empty, or not there
        folder.rmdir()
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
