"""What a person sees on the terminal: events as a progress bar on stderr, results as tables on stdout."""

from __future__ import annotations

import json
import sys
import time
from types import TracebackType
from typing import Any

from SRGAN3DLib.contract.events import Event, Log, Progress
from SRGAN3DLib.contract.jobs import CheckJob, DemoJob, EvaluateJob, Job, ModelsJob, SuperResolveJob, SynthesizeJob
from SRGAN3DLib.contract.result_info import blur_in_words, condition, noise_in_words
from SRGAN3DLib.contract.synthesis import SYNTHETIC_WARNING

from .terminal import printable, say, show

PLAIN_EVERY_S = 10.0
WIDTH = 160  # of tables where stdout is no terminal
SHOWN = ("content", "adversarial", "d_loss", "best_gain")


class Console:
    """A `Report` for the terminal: a live bar where stderr is a terminal, elsewhere a plain line every ten seconds.

    A terminal that has gone away is no reason to stop the work: then nothing is shown any more.
    """

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

            stage, share = TextColumn("{task.description}", markup=False), TextColumn("{task.percentage:>3.0f} %")
            note = TextColumn("{task.fields[note]}", markup=False)
            self.bar = Bar(stage, BarColumn(), share, note, console=RichConsole(stderr=True), transient=True)
            self._try(self.bar.start)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._try(self.bar.stop) if self.bar is not None else None

    def report(self, event: Event) -> None:
        if isinstance(event, Log):
            if event.level == "warning" or not self.quiet:
                self._line(("warning: " if event.level == "warning" else "") + event.message)
        elif isinstance(event, Progress) and not self.quiet:
            self._progress(event)

    def _line(self, text: str) -> None:
        if self.bar is not None:
            self._try(self.bar.console.print, printable(text), markup=False, highlight=False)
        else:
            say(text)

    def _progress(self, event: Progress) -> None:
        note = "" if event.eta_s is None else f"{_clock(event.eta_s)} left"
        note += "".join(f"  {name} {event.values[name]:.4g}" for name in SHOWN if name in event.values)
        if self.bar is not None:
            self._try(self._draw, event, note)
        elif time.monotonic() - self.last_plain > PLAIN_EVERY_S:
            self.last_plain = time.monotonic()
            self._line(f"{event.stage}: {100 * event.done / event.total:.0f} % {note}".rstrip())

    def _draw(self, event: Progress, note: str) -> None:
        if event.stage not in self.tasks:
            self.tasks[event.stage] = self.bar.add_task(printable(event.stage), total=event.total, note=note)
        self.bar.update(self.tasks[event.stage], completed=event.done, total=event.total, note=note)

    def _try(self, draw: Any, *given: Any, **more: Any) -> None:
        try:
            draw(*given, **more)
        except (OSError, ValueError):
            self.bar, self.quiet = None, True


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}" if whole >= 3600 else f"{whole // 60}:{whole % 60:02}"


def print_result(job: Job, info: dict[str, Any]) -> None:
    """Print the result of a job for a person, on stdout."""
    if isinstance(job, SuperResolveJob):
        _print_super_resolve(info)
    elif isinstance(job, SynthesizeJob):
        _print_synthesis(info)
    elif isinstance(job, EvaluateJob) and job.task == "synthesis":
        for row in info["subjects"]:
            ratio = f"{row['mae_against_mapping']:.3f} of the best mapping's {row['mae_best_mapping']:.1f}"
            print(f"{row['subject']}: MAE {row['mae']:.1f}{' HU' if info['unit'] == 'HU' else ''}, {ratio}; PSNR {row['psnr']:.2f} dB")
        print(f"report: {info['report']}")
    elif isinstance(job, EvaluateJob):
        _print_scores(info["scans"], f"report: {info['report']}")
    elif isinstance(job, CheckJob):
        _print_checks(info)
    elif isinstance(job, DemoJob):
        _print_scores([info], f"volumes and picture in {info['folder']}/: LR.nii.gz, SR.nii.gz, HR.nii.gz, comparison.png")
    elif isinstance(job, ModelsJob):
        _print_models(info["models"], whole=job.name is not None)
    else:
        for key, value in info.items():
            show(f"{key}: {value}")


def _print_super_resolve(info: dict[str, Any]) -> None:
    results = info["done"] if info.get("batch") else [info]
    for one in results:
        size = " x ".join(str(n) for n in reversed(one["shape_kji"]))
        spacing = " x ".join(f"{s:.3g}" for s in one["spacing_ijk_mm"])
        told = f"blur (MTF along K, J, I) {blur_in_words(one['blur'])}; noise {noise_in_words(one['noise'])}"
        done_by = f"{one['model']['name']}, {one['device']} {one['precision']}, {one['seconds']:.1f} s"
        show(f"{one['output']}: {size} voxels of {spacing} mm; {done_by}; {told}")
        for name, file in one["outputs"].items():
            if file != one["output"]:
                show(f"  {name}: {file}")
    if info.get("batch"):
        skipped = f", {len(info['skipped'])} there already" if info["skipped"] else ""
        show(f"{len(results)} done, {len(info['failed'])} failed{skipped}")
        for one in info["failed"]:
            show(f"  {one['message']}")


def _print_synthesis(info: dict[str, Any]) -> None:
    size = " x ".join(str(n) for n in reversed(info["shape_kji"]))
    image = info["output_image"]
    unit = f" in {image['unit']}" if image["unit"] else ""
    done_by = f"{info['model']['name']}, {info['device']} {info['precision']}, {info['seconds']:.1f} s"
    print(f"{info['output']}: {image['contrast']}{unit}, {info['dtype']}, {size} voxels; {done_by}; {SYNTHETIC_WARNING}")


def _print_scores(rows: list[dict[str, Any]], last: str) -> None:
    from rich.console import Console as RichConsole
    from rich.table import Table
    from rich.text import Text

    table = Table(title="PSNR in dB (and SSIM) inside the head", title_style="")
    for name in ("scan", "degradation", "linear", "cubic", "Lanczos", "SR", "gain", "blur"):
        table.add_column(name, justify="left" if name in ("scan", "degradation", "blur") else "right")
    for row in rows:
        figures = [
            f"{row['table'][kind]['psnr']:.2f} ({row['table'][kind]['ssim']:.3f})" for kind in ("linear", "cubic", "lanczos", "result")
        ]
        scan = Text(printable(row["scan"]))  # a name may look like rich's markup
        degradation = condition(row["degradation"], row["noise_percent"])
        table.add_row(scan, degradation, *figures, f"{row['psnr_gain']:+.2f}", blur_in_words(row["blur"]))
    RichConsole(width=None if sys.stdout.isatty() else WIDTH).print(table)
    show(last)


def _print_models(models: list[dict[str, Any]], whole: bool) -> None:
    if not models:
        show("no model is shipped with this checkout")
    for model in models:
        factors = " x ".join(map(str, reversed(model["generator"]["factors"])))
        low, high = model["spacing_range_mm"]
        contrasts = ", ".join(model["contrasts"]) or "contrast not stated"
        if model["task"] == "synthesis":
            made = f"{model['output']['contrast']} from {', '.join(image['name'] for image in model['inputs'])}"
            print(f"{model['name']}: synthesis, {made}; spacing {low:.2f} to {high:.2f} mm; {model['megabytes']} MB, {model['licence']}")
            if whole:
                print(json.dumps(model, indent=1, ensure_ascii=False))
            continue
        trained = f"{contrasts}, {model['degradation']['kind']} blur, LR spacing {low:.2f} to {high:.2f} mm"
        show(f"{model['name']}: {factors}; trained on {trained}; {model['megabytes']} MB, {model['licence']}")
        if whole:
            for line in json.dumps(model, indent=1, ensure_ascii=False).split("\n"):
                show(line)


def _print_checks(info: dict[str, Any]) -> None:
    for row in info["scans"]:
        show(f"{row['scan']}: {row['verdict']}")
        for line in row["fitness"]:
            verdict = "as in training" if line["as_in_training"] else f"outside: {line['expect']}"
            show(f"  {line['fact']}: {line['shows']} ({verdict})")
    if info["failed"]:
        show(f"{len(info['scans'])} checked, {len(info['failed'])} failed")
