"""The panel's scenarios and the self-test in a real Slicer, where SLICER_EXECUTABLE names one; with a window and without."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODULES = HERE.parents[1] / "SRGAN3D"


def test_in_a_real_slicer() -> None:
    """Without SLICER_EXECUTABLE nothing is claimed: Testing/README.md says that no test ran there."""
    slicer = os.environ.get("SLICER_EXECUTABLE")
    for window in ([], ["--no-main-window"]) if slicer else ():
        command = [slicer, "--testing", "--no-splash", *window, "--additional-module-path", str(MODULES)]
        command += ["--python-script", str(HERE / "run_in_slicer.py")]
        environment = {"SRGAN3D_PYTHON": sys.executable, **os.environ}  # Slicer itself need not have torch
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=540)
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
