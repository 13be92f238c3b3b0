"""How fast a model is on this computer, and how much memory the worker holds: measured on small made-up blocks before the first click.

The blocks go through the worker as any volume does. The larger one is chosen so that both take at most about two seconds.
"""

import importlib.util
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from SRGAN3DLib.contract.errors import SRGAN3DError
from SRGAN3DLib.contract.events import Done
from SRGAN3DLib.contract.jobs import SuperResolveJob, job_to_json

from . import model_card, preferences

FIRST, LARGEST = 24, 96  # voxels along each axis of a block
SECONDS = 1.2  # that the larger block may take
UNIT = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))


class Measurement:
    """One at a time; `on_done` is called when a figure is there. Whatever fails here is silent: the forecast stays rough."""

    def __init__(self, logic: Any, on_done: Callable[[], None]):
        self.logic, self.on_done = logic, on_done
        self.job_id: str | None = None
        self.folder: Path | None = None
        self.tried: set[tuple[str, str]] = set()  # not again and again, if it fails

    def begin(self, key: str, kind: str) -> None:
        """Of the model `key` on the preferred device, which is of the `kind` cpu, cuda or mps."""
        client = self.logic.client
        if self.job_id is not None or client.hello is None or client.busy() or (key, kind) in self.tried:
            return
        self.tried.add((key, kind))
        try:
            file = model_card.model_file(key)
        except SRGAN3DError:
            return
        self.folder = Path(tempfile.mkdtemp(prefix="SRGAN3D-"))
        self._send(key, file, kind, FIRST)

    def cancel(self) -> None:
        """A click comes first."""
        if self.job_id is not None:
            job_id, self.job_id = self.job_id, None
            self.logic.client.cancel(job_id)
        self._clean()

    def _send(self, key: str, file: str, kind: str, size: int) -> None:
        try:
            source = self.folder / "block.npy"
            np.save(source, _block(size))
            target = str(self.folder / "result.npy")
            job = SuperResolveJob(str(source), target, model=file, device=preferences.device(), ijk_to_ras=UNIT)
            request = job_to_json(job)
            request["request"] = request.pop("job")
            self.job_id = self.logic.client.submit(request, lambda answer: self._on_answer(answer, key, file, kind, size))
            self.logic.tick(True)
        except (OSError, SRGAN3DError):
            self._clean()

    def _on_answer(self, answer: Any, key: str, file: str, kind: str, size: int) -> None:
        if not isinstance(answer, (Done, Exception)):
            return
        if self.job_id is None or isinstance(answer, Exception):
            self.job_id = None
            self._clean()
            return
        self.job_id = None
        seconds = max(float(answer.info.get("seconds") or 0.0), 1e-3)
        larger = min(LARGEST, int((SECONDS * size**3 / seconds) ** (1 / 3)))
        if size == FIRST and larger > FIRST:
            self._send(key, file, kind, larger)
            return
        base = resident_bytes((self.logic.client.hello or {}).get("pid"))
        precision = str(answer.info.get("precision", "fp32"))
        preferences.set_measured(key, kind, preferences.Measured(size**3 / seconds, precision, base))
        self._clean()
        self.on_done()

    def _clean(self) -> None:
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None


def _block(size: int) -> np.ndarray:
    """A smooth ball in noise, (K, J, I) float32: something whose blur can be estimated."""
    k, j, i = np.indices((size,) * 3, dtype=np.float32) - (size - 1) / 2
    ball = 500.0 / (1.0 + np.exp(np.sqrt(k**2 + j**2 + i**2) - 0.35 * size))
    return (ball + np.random.default_rng(0).normal(50.0, 5.0, ball.shape)).astype(np.float32)


def resident_bytes(pid: Any) -> int:
    """What a process holds in memory; 0 where psutil is not installed or the process is gone."""
    if not isinstance(pid, int) or importlib.util.find_spec("psutil") is None:
        return 0
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
