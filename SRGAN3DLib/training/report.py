"""The report of a training run for people: RUN/report.md with curves, a table and a picture under each blur.

`write_report(RUN)` needs the folder only, and the validation scans for the pictures. It may be called on any run at any time.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from SRGAN3DLib.contract.configs import TrainConfig, read_train_config
from SRGAN3DLib.contract.errors import JobError, VolumeError
from SRGAN3DLib.evaluation.pictures import comparison
from SRGAN3DLib.evaluation.scoring import Case
from SRGAN3DLib.networks.checkpoint import Checkpoint
from SRGAN3DLib.physics.interpolation import interpolate
from SRGAN3DLib.volumes.files import whole_file, write_text
from SRGAN3DLib.volumes.subjects import SOURCES

from .log import read_log
from .run_folder import CONFIG, CURVES, METRICS, MODEL, REPORT, SHARP_MODEL, SPLIT, VALIDATION
from .split import read_split
from .validation import super_resolve, validation_cases

MODELS = {"SR": MODEL, "SR sharp": SHARP_MODEL}
COLOURS = ("#1f77b4", "#d95f02", "#2ca02c", "#7b3294")
SMOOTH = 50  # the running mean in the curves goes over a fiftieth of the steps


def write_report(run: str | Path) -> Path:
    """Write RUN/report.md and the PNGs it shows; returns its path. Raises `JobError` for a folder without a run."""
    run = Path(run)
    try:
        config = read_train_config(run / CONFIG)
    except JobError as error:
        raise JobError(f"{run}: not the folder of a training run ({error})") from None
    steps, validations = read_log(run / METRICS), read_log(run / VALIDATION)
    lines = [f"# Training run {run.resolve().name}", "", *_what(config, steps), *_data(run, config)]
    if steps:
        _curves(run / CURVES, config, steps, validations)
        lines += ["## Curves", "", f"![loss, gain and discriminator by step]({CURVES})", ""]
    lines += [*_table(config, validations), *_pictures(run, config)]
    write_text(run / REPORT, "\n".join(lines).rstrip() + "\n")
    return run / REPORT


def _what(config: TrainConfig, steps: list[dict[str, Any]]) -> list[str]:
    g, factors = config.generator, " x ".join(map(str, reversed(config.generator.factors)))
    lines = [
        f"Preset `{config.preset}`, enlarging by {factors} (I, J, K), degradation {config.degradation.kind}, seed {config.seed}.",
        "",
        f"- generator: {g.features} features, {g.blocks} blocks, norm {g.norm}, {g.upsampling}"
        + (", told the blur" if g.blur_aware else "")
        + (", told the noise" if g.noise_aware else "")
        + (", predicts the difference to interpolation" if g.interpolation_residual else ""),
        f"- content stage: {config.steps} steps, {config.content}, rate {config.learning_rate:g}; "
        f"batch {config.batch} of {config.patch}^3 LR voxels, EMA {config.ema:g}, gradients clipped at {config.gradient_clip:g}",
    ]
    if config.gan_steps:
        rates = f"{config.gan_learning_rate:g} (G) and {config.discriminator_learning_rate:g} (D)"
        more = f"label smoothing {config.label_smoothing:g}, R1 {config.r1_weight:g}"
        lines.append(f"- GAN stage: {config.gan_steps} steps, adversarial weight {config.adversarial_weight:g}, rates {rates}, {more}")
    if steps:
        spent, waited = (max(1e-9, sum(row.get(key, 0) for row in steps)) for key in ("seconds", "waited"))
        speed = len(steps) * config.batch * config.patch**3 * int(np.prod(g.factors)) / (spent + waited)
        reached = f"step {steps[-1]['step']} of {config.steps + config.gan_steps} reached"
        lines.append(f"- {reached}; {speed:.3g} HR voxels/s, {100 * waited / (spent + waited):.1f} % of the time spent waiting for data")
    return [*lines, ""]


def _data(run: Path, config: TrainConfig) -> list[str]:
    """The training scans, from the header of a model, and the validation scans."""
    path = next((run / name for name in MODELS.values() if (run / name).exists()), None)
    if path is None:
        return []
    lines = ["## Data", "", "| training scan | subject | licence |", "|---|---|---|"]
    for entry in Checkpoint.load(path).header.training_data:
        lines += [f"| {_cell(entry.get('file'))} | {_cell(entry.get('subject'))} | {_cell(entry.get('licence')) or 'not stated'} |"]
    judged = f"Validation: `{_cell(Path(config.validation).name)}`." if config.validation else "No validation folder."
    if not (run / SPLIT).exists():
        return [*lines, "", judged, ""]
    lines += ["", f"{judged} The split by subject is in [split.json](split.json).", "", *_subjects(run)]
    return [*lines, ""]


def _subjects(run: Path) -> list[str]:
    """Who is on which side of the split, and how the names were found."""
    by_subject: dict[tuple[str, str, str], int] = {}
    for row in read_split(run / SPLIT).values():
        if row["role"] != "skipped":
            key = (row["role"], row.get("subject", ""), SOURCES.get(row.get("subject_from", ""), ""))
            by_subject[key] = by_subject.get(key, 0) + 1
    lines = ["| subject | side | scans | known from |", "|---|---|---|---|"]
    return lines + [f"| {_cell(subject)} | {role} | {count} | {source} |" for (role, subject, source), count in by_subject.items()]


def _cell(text: Any) -> str:
    """A text of a file, made safe for a table: one line, no bars."""
    return " ".join(str(text or "").split()).replace("|", "\\|")


def _curves(path: Path, config: TrainConfig, steps: list[dict[str, Any]], validations: list[dict[str, Any]]) -> None:
    """Loss, gain by degradation, and the outputs of D: one panel each, where there are values."""
    from matplotlib.figure import Figure

    kinds = _kinds(validations)
    panels = 1 + bool(kinds) + any("d_real" in row for row in steps)
    figure = Figure(figsize=(4.6 * panels, 3.2), dpi=80, layout="constrained")
    axes = iter(figure.subplots(1, panels, squeeze=False)[0])
    more = {"content": "its content term"} if config.gan_steps or config.gradient_difference_weight else {}
    _lines(next(axes), steps, {"loss": "G's loss", **more}, log=True)
    if kinds:
        ax = next(axes)
        for kind, colour in zip(kinds, itertools.cycle(COLOURS)):
            ax.plot([r["step"] for r in validations], [r.get(f"gain_{kind}") for r in validations], ".-", label=kind, color=colour)
        ax.axhline(0, color="grey", linewidth=0.8)
        ax.set_title(f"gain over the best {'mapping (MAE)' if config.synthesis else 'interpolation'}, dB", fontsize=10)
        ax.legend(fontsize=8)
    if panels > 1 + bool(kinds):
        _lines(next(axes), [r for r in steps if "d_real" in r], {"d_real": "D(real)", "d_fake": "D(fake)"}, log=False)
    for ax in figure.axes:
        ax.set_xlabel("step", fontsize=9)
        ax.tick_params(labelsize=8)
        ax.grid(alpha=0.3)
        if config.gan_steps and config.steps < steps[-1]["step"]:
            ax.axvline(config.steps, color="grey", linestyle=":", linewidth=1)
    with whole_file(path) as part:
        figure.savefig(part, format="png")


def _lines(ax: Any, rows: list[dict[str, Any]], names: dict[str, str], log: bool) -> None:
    """One panel: running means, over the single steps in pale."""
    x = np.array([row["step"] for row in rows])
    for (name, label), colour in zip(names.items(), COLOURS, strict=False):
        y = np.array([row.get(name, np.nan) for row in rows], float)
        ax.plot(x, y, color=colour, alpha=0.25, linewidth=0.6)
        width = max(1, len(y) // SMOOTH)
        ax.plot(x[width - 1 :], np.convolve(y, np.ones(width) / width, "valid"), color=colour, label=label, linewidth=1.4)
    if log:
        ax.set_yscale("log")
    ax.set_title(" and ".join(names.values()), fontsize=10)
    ax.legend(fontsize=8)


def _kinds(validations: list[dict[str, Any]]) -> list[str]:
    return [key[5:] for key in validations[-1] if key.startswith("gain_")] if validations else []


def _table(config: TrainConfig, validations: list[dict[str, Any]]) -> list[str]:
    """The best step of the content stage and, after a GAN stage, the last step."""
    kinds = _kinds(validations)
    content = [row for row in validations if kinds and row["step"] <= config.steps]
    shown = []
    if content:
        shown.append(("best of the content stage", max(content, key=lambda row: _mean_gain(row, kinds))))
    if kinds and validations[-1]["step"] > config.steps:
        shown.append(("after the GAN stage", validations[-1]))
    if not shown:
        return []
    head = "| model | step | degradation | gain, dB | worst scan, dB | PSNR, dB | SSIM | gradient / truth's | high band / truth's |"
    lines = ["## Validation", "", head, "|---|---|---|---|---|---|---|---|---|"]
    for title, row in shown:
        for kind in kinds:
            worst = min((g for case, g in row.get("gains", {}).items() if case.endswith(f" {kind}")), default=float("nan"))
            names = [f"{name}_{kind}" for name in ("ssim", "gradient_ratio", "high_band_ratio")]
            rest = [f"{row[name]:.3f}" if name in row else "" for name in names]
            psnr = f"{row[f'psnr_{kind}']:.2f}" if f"psnr_{kind}" in row else ""
            figures = f"{row.get(f'gain_{kind}', float('nan')):+.2f} | {worst:+.2f} | {psnr} | {' | '.join(rest)}"
            lines.append(f"| {title} | {row['step']} | {kind} | {figures} |")
    over = "the best of linear, cubic B-spline and Lanczos-3"
    if config.synthesis:
        over = "the best mapping of one input's intensity, by the MAE inside the mask; the pairs are in [pairs.md](pairs.md)"
    note = f"Central box of {config.validation_box} voxels of every scan; gain over {over}."
    return [*lines, "", note + " The step was chosen on these scans, so the figures are slightly too good.", ""]


def _mean_gain(row: dict[str, Any], kinds: list[str]) -> float:
    gains = [row.get(f"gain_{kind}", -np.inf) for kind in kinds]
    return float(np.mean(gains))


def _pictures(run: Path, config: TrainConfig) -> list[str]:
    """The first validation scan under each degradation: best interpolation, the run's models, the truth."""
    networks = {name: Checkpoint.load(run / file).generator() for name, file in MODELS.items() if (run / file).exists()}
    if not networks or config.synthesis or not (config.validation or config.validation_share):
        return []
    lines = ["## Pictures", ""]
    try:
        for case in _first_cases(run, config):
            images = {case.best_interpolation: interpolate(case.lr, case.factors, case.best_interpolation)}
            images |= {name: super_resolve(network, case, config.generator) for name, network in networks.items()}
            captions = {name: f"{case.best_psnr + case.gain(image):.2f} dB" for name, image in images.items()}
            name = f"validation_{case.condition.replace(' ', '').replace('%', '')}.png"
            comparison(run / name, f"{case.name}, {case.degradation}", {**images, "HR": case.hr}, case.lr, case.factors, captions)
            _shrink(run / name)
            lines += [f"![{case.name} under {case.degradation}]({name})", ""]
    except (JobError, VolumeError) as error:  # scans that are gone must not cost the report
        lines += [f"No pictures: {error}", ""]
    return lines


def _first_cases(run: Path, config: TrainConfig) -> Iterator[Case]:
    seen = set()
    for case in validation_cases(config, run):
        if case.condition in seen:  # the next scan begins
            return
        seen.add(case.condition)
        yield case


def _shrink(path: Path) -> None:
    """Reduce a picture to 256 colours, which are enough for grey pictures and error maps: a third of the bytes."""
    from PIL import Image

    with Image.open(path) as image:
        small = image.convert("RGB").quantize(256)
    with whole_file(path) as part:
        small.save(part, format="PNG", optimize=True)
