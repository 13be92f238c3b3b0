"""The records of a run: metrics.jsonl (one line a step), validation.jsonl, and the same for TensorBoard where that is installed.

A run that was killed leaves lines of steps that its state does not hold, and perhaps half a line. They are removed when the run goes on.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from SRGAN3DLib.contract.errors import JobError
from SRGAN3DLib.contract.events import Log, Report
from SRGAN3DLib.evaluation.scoring import Case
from SRGAN3DLib.physics.interpolation import interpolate
from SRGAN3DLib.volumes.files import write_errors_named, write_text

TAGS = {  # of a step's figures, in TensorBoard
    "loss": "loss/generator",
    "content": "loss/content",
    "gradient_difference": "loss/gradient_difference",
    "spectrum": "loss/spectrum",
    "lattice": "loss/lattice",
    "adversarial": "loss/adversarial",
    "d_loss": "loss/discriminator",
    "r1": "loss/r1",
    "d_real": "discriminator/real",
    "d_fake": "discriminator/fake",
    "learning_rate": "rate/generator",
    "d_learning_rate": "rate/discriminator",
    "gradient_norm": "gradient/generator",
    "d_gradient_norm": "gradient/discriminator",
    "adversarial_share": "gradient/adversarial_share",
}


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log, without half a last line; none where there is no log. Raises `JobError` naming a line that is damaged."""
    try:
        lines = path.read_bytes().splitlines() if path.exists() else []
    except OSError as error:
        raise JobError(f"{path}: cannot be read ({error.strerror or error})") from None
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(_row(line, rows[-1]["step"] if rows else 0))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if number == len(lines) and line.startswith(b"{") and not line.endswith(b"}"):  # the run was killed while it wrote
                break
            reason = " ".join(str(error).split())[:100]
            raise JobError(
                f"{path}: line {number} is damaged ({reason}); mend it, or move the file away: the state does not need it"
            ) from None
    return rows


def _row(line: bytes, after: int) -> dict[str, Any]:
    """A line's figures: a step after `after`, numbers, and gains by case. Raises `ValueError`, `KeyError`, `TypeError`."""
    row: dict[str, Any] = json.loads(line.decode("utf-8"))
    if not isinstance(row["step"], int) or isinstance(row["step"], bool) or not after < row["step"] < 2**62:
        raise ValueError(f"step {ascii(row['step'])[:40]} after {after}")
    for name, value in row.items():
        for one in value.values() if name == "gains" else [value]:
            if not isinstance(one, float) and (not isinstance(one, int) or abs(one) >= 2**62):
                raise ValueError(f"{ascii(name)[:40]} is no number")
    return row


def open_log(path: Path, step: int) -> IO[str]:
    """Open a log to append after the line of `step`. Later lines (of a run that was killed) and half a last line are removed."""
    if path.exists():
        write_text(path, "".join(json.dumps(row) + "\n" for row in read_log(path) if row["step"] <= step))
    with write_errors_named(path):
        return path.open("a", encoding="utf-8")


class TrainingLog:
    """The records of RUN, open to append after `step`. A context manager. Raises `ResourceError` when the disk is full."""

    def __init__(self, run: Path, step: int, report: Report):
        self.run, self.board = run, None
        self.files = {name: open_log(run / f"{name}.jsonl", step) for name in ("metrics", "validation")}
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            report(Log("the package tensorboard is not installed: no RUN/tensorboard (metrics.jsonl has the figures)"))
            return
        with write_errors_named(run / "tensorboard"):
            self.board = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(OSError) if error else write_errors_named(self.run):  # the first error is the one to report
            for file in self.files.values():
                file.close()
            if self.board is not None:
                self.board.close()

    def step(self, row: dict[str, Any], voxels: int) -> None:
        """One training step that made `voxels` HR voxels in `seconds`, after `waited` seconds for its batch."""
        step, seconds = row["step"], row["seconds"] + row["waited"]
        with self._line("metrics", row):
            if self.board is not None:
                figures = {tag: row[name] for name, tag in TAGS.items() if name in row}
                figures |= {
                    "speed/hr_voxels_per_s": voxels / max(seconds, 1e-4),
                    "speed/data_wait_share": row["waited"] / max(seconds, 1e-4),
                }
                for tag, value in figures.items():
                    self.board.add_scalar(tag, value, step)

    def validation(self, row: dict[str, Any], case: Any, sr: np.ndarray | None) -> None:
        """One validation, with a picture of one case of super-resolution: best interpolation, result and truth side by side."""
        with self._line("validation", row):
            if self.board is not None:
                for name, value in row.items():
                    if isinstance(value, float):
                        figure, kind = name.rsplit("_", 1)
                        self.board.add_scalar(f"validation_{figure}/{kind}", value, row["step"])
                if isinstance(case, Case) and sr is not None:
                    title = f"{case.name} {case.degradation}: {case.best_interpolation}, SR, HR"
                    self.board.add_image(title, panel(case, sr), row["step"], dataformats="HW")
                self.board.flush()

    @contextlib.contextmanager
    def _line(self, name: str, row: dict[str, Any]) -> Iterator[None]:
        with write_errors_named(self.run / f"{name}.jsonl"):
            self.files[name].write(json.dumps(row) + "\n")
            self.files[name].flush()
        with write_errors_named(self.run / "tensorboard"):
            yield


def panel(case: Case, sr: np.ndarray) -> np.ndarray:
    """(J, 3 * I) grey values 0 to 1: the middle slices across K."""
    low, high = np.percentile(case.hr, (0.5, 99.8))
    images = (interpolate(case.lr, case.factors, case.best_interpolation), sr, case.hr)
    row = np.concatenate([image[image.shape[0] // 2, ::-1] for image in images], axis=1)
    return np.asarray(np.clip((row - low) / max(high - low, 1e-6), 0, 1), np.float32)
