"""The options of the commands that train: `train` and `fit`.

An option of `train` without a value on the command line keeps that of `--config`, or of the preset. An option that is given always
counts: it wins over `--config`, or the command is refused.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from SRGAN3DLib.contract.configs import PRESETS, TrainConfig, read_train_config, training_preset
from SRGAN3DLib.contract.errors import JobError
from SRGAN3DLib.contract.job_values import DEGRADATIONS, PRECISIONS, parse_factors
from SRGAN3DLib.contract.jobs import FitJob, TrainJob

from .options import add_compute, add_series, makes
from .synthesis_options import add_synthesis, data_named, synthesis_run

DATA_HELP = (
    "high-resolution scans: a file, a DICOM folder, a folder of such at any depth (volumes.csv beside them), a BIDS dataset, "
    "a .csv with a column file, or a .txt with a path a line"
)
PATTERN_HELP = (
    "a regular expression with one group that finds the subject in a scan's path below DATA, such as '(patient[0-9]+)' "
    "(default: guessed from the names; the table is printed at the start)"
)
DEVICE_HELP = "auto, cpu, cuda, cuda:N or mps (default: auto)"
COUNTS = {
    "seed": "of everything that is drawn (default: 0)",
    "batch": "patches of a step (default: 3)",
    "patch": "their size along each axis, in voxels of the coarse grid (default: 28)",
    "validate_every": "so many steps (default: 500)",
    "save_every": "so many steps (default: 200)",
}
RATES_AND_WEIGHTS = {
    "learning_rate": "of G in the content stage",
    "gan_learning_rate": "of G in the GAN stage",
    "discriminator_learning_rate": "of D",
    "adversarial_weight": "of D's judgement in G's loss",
    "gradient_difference_weight": "of the difference of the gradients in G's loss",
    "spectrum_weight": "of the missing amplitude above half of Nyquist in G's loss, in the GAN stage",
    "lattice_weight": "of the pattern that repeats with the coarse grid in G's loss, in the GAN stage",
    "label_smoothing": "one-sided: D's target for real patches is 1 less this",
    "r1_weight": "of the R1 penalty on D's gradient at real patches",
    "gradient_clip": "largest norm of a gradient",
    "ema": "share that the exported mean of G keeps at every step",
    "unknown_blur": "share of patches whose blur the network is not told",
    "mtf_error": "largest error of the blur that it is told",
}
# options whose name is that of a field of `TrainConfig`
PLAIN = ("content", "device", "precision", "init", "subject_pattern", *COUNTS, *RATES_AND_WEIGHTS)


def add_train(verbs: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser("train", help="train a model; the same command again resumes")
    verb.add_argument("--data", metavar="DATA", help=DATA_HELP)
    add_synthesis(verb)
    verb.add_argument("--validation", metavar="DATA", help="scans of other subjects, for choosing the best step")
    verb.add_argument("--validation-share", type=float, metavar="SHARE", help="or keep this share of DATA's subjects for it, such as 0.2")
    verb.add_argument("--subject-pattern", metavar="REGEX", help=PATTERN_HELP)
    verb.add_argument("--out", required=True, metavar="RUN", help="the run's folder")
    verb.add_argument("--factors", help="over I,J,K of the image, each 1 to 8 (default: 2,2,2)")
    verb.add_argument("--init", metavar="NAME|FILE", help="a model to start from: its trunk, and all of it where the factors agree")
    verb.add_argument("--preset", choices=PRESETS, help="the network (default: fast)")
    verb.add_argument("--degradation", choices=("random", *DEGRADATIONS), help="the blur of the patches (default: random)")
    verb.add_argument("--steps", type=int, help="of both stages together; more than before lets a finished run go on (default: 10000)")
    verb.add_argument("--gan-steps", type=int, help="of these, adversarial ones at the end (default: a fifth, or the share of --config)")
    for name, text in COUNTS.items():
        verb.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="NUMBER", help=text)
    verb.add_argument("--content", choices=("mse", "l1", "charbonnier"), help="the content loss (default: charbonnier)")
    verb.add_argument("--discriminator-features", type=int, metavar="NUMBER", help="channels of D's first layer (default: 64)")
    for name, text in RATES_AND_WEIGHTS.items():
        verb.add_argument(f"--{name.replace('_', '-')}", type=float, metavar="NUMBER", help=text)
    verb.add_argument("--device", help=DEVICE_HELP)
    verb.add_argument("--precision", choices=PRECISIONS, help="fp16 on CUDA alone (default: auto)")
    verb.add_argument("--config", metavar="FILE", help="a config.json of another run to start from; options given here win")
    verb.set_defaults(make=train_job)
    return verb


def train_job(args: argparse.Namespace) -> TrainJob:
    """The options of `train` as a job. Raises `JobError`."""
    args.data = data_named(args)
    base = _start(args)
    if args.task == "synthesis":
        base = synthesis_run(args, base)
    given = {name: getattr(args, name) for name in PLAIN if getattr(args, name) is not None}
    if args.validation is not None or args.validation_share is not None:
        given |= {"validation": args.validation, "validation_share": args.validation_share or 0.0}
    if args.degradation is not None:
        given["degradation"] = replace(base.degradation, kind=args.degradation)
    if args.steps is not None or args.gan_steps is not None:
        given |= _stages(args, base)
    generator, discriminator = base.generator, base.discriminator
    if args.factors is not None:
        generator = replace(generator, factors=parse_factors(args.factors))
    if args.discriminator_features is not None:
        discriminator = replace(discriminator, features=args.discriminator_features)
    if discriminator.head == "flatten":  # it is as large as the patch
        k, j, i = (given.get("patch", base.patch) * f for f in generator.factors)
        discriminator = replace(discriminator, patch=(k, j, i))
    return TrainJob(replace(base, generator=generator, discriminator=discriminator, **given))


def _start(args: argparse.Namespace) -> TrainConfig:
    """The configuration that the options change: that of `--config`, or the preset's."""
    if not args.config:
        usual = (1, 1, 1) if args.task == "synthesis" else (2, 2, 2)
        factors = parse_factors(args.factors) if args.factors is not None else usual
        return training_preset(args.preset or ("synthesis" if args.task == "synthesis" else "fast"), args.data, args.out, factors=factors)
    base = read_train_config(args.config)
    if args.preset not in (None, base.preset):
        raise JobError(f"--preset {args.preset} with --config {args.config}: that file describes its own network; give one of the two")
    return replace(base, data=args.data, out=args.out)


def _stages(args: argparse.Namespace, base: TrainConfig) -> dict[str, int]:
    """The steps of both stages; without --gan-steps the two keep their proportion."""
    before = base.steps + base.gan_steps
    total = args.steps if args.steps is not None else before
    gan = args.gan_steps if args.gan_steps is not None else total * base.gan_steps // before
    if total < 1 or not 0 <= gan <= total:
        raise JobError(f"--steps {total}, --gan-steps {gan}: --steps must be at least 1, and --gan-steps 0 to --steps")
    return {"steps": total - gan, "gan_steps": gan}


def add_fit(verbs: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(
        "fit", help="train a model for one scan of thick slices, from its own in-plane detail; the same command again resumes"
    )
    verb.add_argument("input", metavar="SCAN", help="NIfTI, NRRD or MetaImage file, or a DICOM folder")
    add_series(verb)
    verb.add_argument("-o", "--output", required=True, metavar="FILE", help="the .safetensors file to write, for super-resolve --model")
    verb.add_argument("--factor", type=int, help="slices made of one, 2 to 8 (default: down to the in-plane spacing)")
    text = "FWHM of a slice (default: what the scan's header says, else the slice spacing)"
    verb.add_argument("--thickness", dest="thickness_mm", type=float, metavar="MM", help=text)
    text = "a model to start from, and to compare with; none starts from nothing (default: auto, the shipped model of that factor)"
    verb.add_argument("--init", default="auto", metavar="NAME|FILE", help=text)
    verb.add_argument("--minutes", type=float, default=10.0, help="of training (default: 10)")
    verb.add_argument("--steps", type=int, help="of training, in place of --minutes")
    verb.add_argument("--seed", type=int, default=0, help="of everything that is drawn (default: 0)")
    add_compute(verb, ("auto", "fp32", "bf16"))
    return makes(verb, FitJob)


COMMANDS = (add_train, add_fit)
