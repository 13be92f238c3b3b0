"""The files that a run leaves in its folder, so that it removes its own and no others."""

from __future__ import annotations

import contextlib
from pathlib import Path

CONFIG, METRICS, VALIDATION, STATE = "config.json", "metrics.jsonl", "validation.jsonl", "state.safetensors"
MODEL, SHARP_MODEL, REPORT, CURVES, TENSORBOARD = "model.safetensors", "model-sharp.safetensors", "report.md", "curves.png", "tensorboard"
SPLIT, FIT = "split.json", "fit.json"
OWN = (CONFIG, METRICS, VALIDATION, STATE, MODEL, SHARP_MODEL, REPORT, CURVES, SPLIT)
OWN_PATTERNS = ("validation_*.png", f"{TENSORBOARD}/events.out.tfevents.*", ".srgan3d-*.part")


def remove_own_files(run: Path, made_folder: bool) -> list[str]:
    """Remove what a fit wrote into `run`, fit.json last; and the folder if the fit made it and nothing else lies in it.

    Returns the names of what was left.
    """
    paths = [run / name for name in OWN] + [path for pattern in OWN_PATTERNS for path in run.glob(pattern)]
    for path in [*paths, run / FIT]:
        if path.is_file() or path.is_symlink():
            path.unlink()
    for folder in (run / TENSORBOARD, *([run] if made_folder else [])):
        with contextlib.suppress(OSError):  # not empty, or not there
            folder.rmdir()
    return sorted(path.name for path in run.iterdir()) if run.is_dir() else []
