"""The command-line options of synthesis: the command `synthesize`, and what it adds to `train`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from SRGAN3DLib.contract.configs import TrainConfig
from SRGAN3DLib.contract.errors import JobError
from SRGAN3DLib.contract.jobs import SynthesizeJob
from SRGAN3DLib.contract.synthesis import TASKS, InputImage, OutputImage, SynthesisConfig, ct_output

from .options import PAIRS_HELP, add_compute, add_flips, add_memory_limit, makes

SYNTHESIS_OPTIONS = (
    "inputs", "target", "unit", "model_spacing", "coarse", "patch_kji", "tolerance", "outside_weight", "conditional", "flip_views",
)  # fmt: skip


def add_synthesize(verbs: Any) -> argparse.ArgumentParser:
    """`srgan3d synthesize T1.nii.gz --also T2w=T2.nii.gz OUT --model FILE`."""
    verb: argparse.ArgumentParser = verbs.add_parser("synthesize", help="make another modality of the same head, such as CT from MRI")
    verb.add_argument("input", metavar="IN", help="the model's first input: NIfTI, NRRD or MetaImage file, or a DICOM folder")
    verb.add_argument("output", metavar="OUT", help=".nii.gz, .nii, .nrrd or .mha")
    text = "a further input of the model, such as T2w=T2.nii.gz; once for each"
    verb.add_argument("--also", action="append", default=[], metavar="NAME=FILE", help=text)
    verb.add_argument("--model", required=True, metavar="NAME|FILE", help="a model for synthesis: a shipped name or a .safetensors file")
    text = "how further inputs on other grids are brought to the first one's (default: linear)"
    verb.add_argument("--interpolation", default="linear", choices=("linear", "cubic"), help=text)
    text = "move the further inputs onto the first one before (default: none)"
    verb.add_argument("--register", default="none", choices=("none", "rigid"), help=text)
    add_flips(verb)
    add_compute(verb)
    add_memory_limit(verb)
    made = makes(verb, SynthesizeJob)
    plain = verb.get_default("make")

    def make(args: argparse.Namespace) -> SynthesizeJob:
        args.also = parse_also(args.also)
        return plain(args)  # type: ignore[no-any-return]

    verb.set_defaults(make=make)
    return made


def parse_also(words: list[str]) -> dict[str, str]:
    """`["T2w=T2.nii.gz"]` -> `{"T2w": "T2.nii.gz"}`. Raises `JobError`."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, file = word.partition("=")
        if not (name and equals and file):
            raise JobError(f"--also {word!r}: must be NAME=FILE, such as T2w=T2.nii.gz")
        if name in found:
            raise JobError(f"--also {word!r}: {name} is given twice")
        found[name] = file
    return found


def add_synthesis(verb: argparse.ArgumentParser) -> None:
    """The options of `train` that belong to the task synthesis."""
    verb.add_argument("--task", default=TASKS[0], choices=TASKS, help="super-resolution (default), or synthesis, which needs --pairs")
    verb.add_argument("--pairs", metavar="PAIRS", help=PAIRS_HELP)
    verb.add_argument("--inputs", metavar="NAMES", help="of the pairs' images, such as T1w,T2w (default: all columns; mr)")
    verb.add_argument("--target", metavar="CONTRAST", help="what is made: CT, FLAIR, ... (default: CT)")
    verb.add_argument("--unit", choices=("HU", "none"), help="of the target (default: HU for CT, else none)")
    text = "spacing of the grid that the model works on, mm along K,J,I in RAS order (default: each scan's own)"
    verb.add_argument("--model-spacing", metavar="MM", help=text)
    text = "voxels of a cell that the network works on, such as 1,2,2: it sees so many times as far (default: 1,1,1)"
    verb.add_argument("--coarse", metavar="K,J,I", help=text)
    verb.add_argument("--patch-kji", metavar="K,J,I", help="voxels of a patch (default: 48,48,48)")
    verb.add_argument("--tolerance", type=int, choices=(0, 1), help="voxels of misregistration that cost nothing (default: 0)")
    verb.add_argument("--outside-weight", type=float, metavar="SHARE", help="of voxels outside the mask in the loss (default: 0.1)")
    verb.add_argument("--conditional", action="store_const", const=True, help="let the discriminator see the inputs, too")
    verb.add_argument("--flip-views", choices=("all", "left-right", "none"), help="mirrored views in training (default: left-right)")


def data_named(args: argparse.Namespace) -> str:
    """What `--data` or, for synthesis, `--pairs` names. Raises `JobError` for the one that is missing or does not belong here."""
    if args.task == "synthesis":
        if not args.pairs or args.data:
            raise JobError("--task synthesis: needs --pairs, and no --data; " + PAIRS_HELP)
        return str(args.pairs)
    given = [name for name in ("pairs", *SYNTHESIS_OPTIONS) if getattr(args, name) is not None]
    if given:
        raise JobError(f"--{given[0].replace('_', '-')}: only with --task synthesis")
    if not args.data:
        raise JobError("train: --data must name the scans")
    return str(args.data)


def synthesis_run(args: argparse.Namespace, base: TrainConfig) -> TrainConfig:
    """`base` as a run from pairs; an option that is not given keeps what `base` has. Raises `JobError`, `VolumeError`."""
    before = base.synthesis
    if before is None:
        contrast = args.target or "CT"
        names = args.inputs.split(",") if args.inputs else names_in(args.pairs, contrast)
        before = SynthesisConfig(tuple(InputImage(n.strip(), n.strip()) for n in names), _output(contrast, args.unit))
        base = replace(base, content="l1", learning_rate=1e-3, batch=2)
    elif args.inputs or args.target or args.unit:
        raise JobError("--inputs, --target, --unit: are those of --config; give none of them with it")
    given: dict[str, Any] = {
        "spacing_kji_mm": _triple(args.model_spacing, float, "--model-spacing"),
        "patch_kji": _triple(args.patch_kji, int, "--patch-kji"),
        "tolerance": args.tolerance,
        "outside_weight": args.outside_weight,
        "conditional": args.conditional,
        "flips": args.flip_views,
    }
    synthesis = replace(before, **{key: value for key, value in given.items() if value is not None})
    network = replace(base.generator, input_channels=len(synthesis.inputs), blur_aware=False, interpolation_residual=False)
    coarse = _triple(args.coarse, int, "--coarse")
    return replace(base, generator=replace(network, coarse=coarse) if coarse else network, synthesis=synthesis)


def _output(contrast: str, unit: str | None) -> OutputImage:
    hu = unit == "HU" or (unit is None and contrast == "CT")
    return ct_output(contrast) if hu else OutputImage(contrast)


def names_in(pairs: str, contrast: str) -> tuple[str, ...]:
    """The inputs that the first whole pair has. Raises `VolumeError`."""
    from SRGAN3DLib.volumes.pairs import find_pairs

    found = find_pairs(pairs, (), "" if Path(pairs).is_file() else contrast)
    whole = [pair for pair in found if pair.inputs]
    if not whole:
        raise JobError(f"{pairs}: no pair is whole ({found[0].problem})")
    return tuple(whole[0].inputs)


def _triple(text: str | None, kind: type, option: str) -> Any:
    if text is None:
        return None
    try:
        numbers = tuple(kind(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) == 1:
        numbers *= 3
    if len(numbers) != 3 or not all(0 < number < 1e6 for number in numbers):
        raise JobError(f"{option} {text!r}: must be three numbers above 0 along K,J,I, such as 1,2,2")
    return numbers


COMMANDS = (add_synthesize,)
