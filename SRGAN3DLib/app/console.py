"""What a person sees on the terminal: events as a progress bar on stderr, results as tables on stdout."""

from __future__ import annotations

import json
import sys
import time
from types import TracebackType
from typing import Any

from SRGAN3DLib.contract.events import Event, Log, Progress
from SRGAN3DLib.contract.jobs import DemoJob, EvaluateJob, Job, ModelsJob, SuperResolveJob
from SRGAN3DLib.contract.result_info import blur_in_words

PLAIN_EVERY_S = 10.0
SHOWN = ("content", "adversarial", "d_loss", "best_gain")


class Console:
    """A `Report` for the terminal. A live bar where stderr is one; elsewhere a plain line now and then."""

    def __init__(self, quiet: bool = False):
        self.quiet, self.live = quiet, sys.stderr.isatty() and not quiet
        self.bar: Any = None
        self.tasks: dict[str, Any] = {}
        self.last_plain = 0.0

    def __enter__(self) -> Console:
        if self.live:
            from rich.console import Console as RichConsole
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            share, note = TextColumn("{task.percentage:>3.0f} %"), TextColumn("{task.fields[note]}")
            self.bar = Bar(TextColumn("{task.description}"), BarColumn(), share, note, console=RichConsole(stderr=True), transient=True)
            self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.stop()

    def report(self, event: Event) -> None:
        if isinstance(event, Log):
            if event.level == "warning" or not self.quiet:
                self._line(("warning: " if event.level == "warning" else "") + event.message)
        elif isinstance(event, Progress) and not self.quiet:
            self._progress(event)

    def _line(self, text: str) -> None:
        if self.bar is not None:
            self.bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def _progress(self, event: Progress) -> None:
        note = "" if event.eta_s is None else f"{_clock(event.eta_s)} left"
        note += "".join(f"  {name} {event.values[name]:.4g}" for name in SHOWN if name in event.values)
        if self.bar is not None:
            if event.stage not in self.tasks:
                self.tasks[event.stage] = self.bar.add_task(event.stage, total=event.total, note=note)
            self.bar.update(self.tasks[event.stage], completed=event.done, total=event.total, note=note)
        elif time.monotonic() - self.last_plain > PLAIN_EVERY_S:
            self.last_plain = time.monotonic()
            self._line(f"{event.stage}: {100 * event.done / event.total:.0f} % {note}".rstrip())


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}" if whole >= 3600 else f"{whole // 60}:{whole % 60:02}"


def print_result(job: Job, info: dict[str, Any]) -> None:
    """The result of a job for a person, on stdout."""
    if isinstance(job, SuperResolveJob):
        _print_super_resolve(info)
    elif isinstance(job, EvaluateJob):
        _print_scores(info["scans"], f"report: {info['report']}")
    elif isinstance(job, DemoJob):
        _print_scores([info], f"volumes and picture in {info['folder']}/: LR.nii.gz, SR.nii.gz, HR.nii.gz, comparison.png")
    elif isinstance(job, ModelsJob):
        _print_models(info["models"], whole=job.name is not None)
    else:
        for key, value in info.items():
            print(f"{key}: {value}")


def _print_super_resolve(info: dict[str, Any]) -> None:
    results = info["done"] if info.get("batch") else [info]
    for one in results:
        size = " x ".join(str(n) for n in reversed(one["shape_kji"]))
        spacing = " x ".join(f"{s:.3g}" for s in one["spacing_ijk_mm"])
        done_by = f"{one['model']['name']}, {one['device']} {one['precision']}, {one['seconds']:.1f} s"
        print(f"{one['output']}: {size} voxels of {spacing} mm; {done_by}; blur (MTF along K, J, I) {blur_in_words(one['blur'])}")
    if info.get("batch"):
        print(f"{len(results)} done, {len(info['failed'])} failed" + "".join(f"\n  {one['message']}" for one in info["failed"]))


def _print_scores(rows: list[dict[str, Any]], last: str) -> None:
    from rich.console import Console as RichConsole
    from rich.table import Table

    table = Table(title="PSNR in dB (and SSIM) inside the head", title_style="")
    for name in ("scan", "degradation", "linear", "cubic", "Lanczos", "SR", "gain", "blur"):
        table.add_column(name, justify="left" if name in ("scan", "degradation", "blur") else "right")
    for row in rows:
        figures = [
            f"{row['table'][kind]['psnr']:.2f} ({row['table'][kind]['ssim']:.3f})" for kind in ("linear", "cubic", "lanczos", "result")
        ]
        table.add_row(row["scan"], row["degradation"], *figures, f"{row['psnr_gain']:+.2f}", blur_in_words(row["blur"]))
    RichConsole(width=None if sys.stdout.isatty() else 160).print(table)
    print(last)


def _print_models(models: list[dict[str, Any]], whole: bool) -> None:
    if not models:
        print("no model is shipped with this checkout")
    for model in models:
        factors = " x ".join(map(str, reversed(model["generator"]["factors"])))
        low, high = model["spacing_range_mm"]
        contrasts = ", ".join(model["contrasts"]) or "contrast not stated"
        trained = f"{contrasts}, {model['degradation']['kind']} blur, LR spacing {low:.2f} to {high:.2f} mm"
        print(f"{model['name']}: {factors}; trained on {trained}; {model['megabytes']} MB, {model['licence']}")
        if whole:
            print(json.dumps(model, indent=1, ensure_ascii=False))
