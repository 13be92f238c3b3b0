"""The GPU check, in small, on the processor: every part runs, and its report holds every figure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_a_dry_run_on_the_processor(tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu_check.py"), "--dry-run", "--device", "cpu", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "2"})
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(out.read_text(encoding="utf-8"))
    assert report["passed"] and report["device"] == "cpu"
    assert {row["model"] for row in report["agreement"]} >= {"t1-x2", "slice-x4"}
    assert report["memory"]["pieces"] >= 8 and "halved" in report["memory"]["halved"][0]
    assert report["speed"]["hr_voxels_per_s"] > 0 < report["training"]["gan_steps_per_s"]
