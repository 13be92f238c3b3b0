"""The options of the commands that train: `train` and `fit`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from SRGAN3DLib.contract.configs import PRESETS, read_train_config, training_preset
from SRGAN3DLib.contract.errors import JobError
from SRGAN3DLib.contract.jobs import DEGRADATIONS, FitJob, TrainJob, parse_factors

from .options import add_compute, add_series, makes

DATA_HELP = (
    "high-resolution scans: a file, a DICOM folder, a folder of such at any depth (volumes.csv beside them), a BIDS dataset, "
    "a .csv with a column file, or a .txt with a path a line"
)
RATES_AND_WEIGHTS = {
    "learning_rate": "of G in the content stage",
    "gan_learning_rate": "of G in the GAN stage",
    "discriminator_learning_rate": "of D",
    "adversarial_weight": "of D's judgement in G's loss",
    "gradient_difference_weight": "of the difference of the gradients in G's loss",
    "label_smoothing": "one-sided: D's target for real patches is 1 less this",
    "r1_weight": "of the R1 penalty on D's gradient at real patches",
    "gradient_clip": "largest norm of a gradient",
    "ema": "share that the exported mean of G keeps at every step",
    "unknown_blur": "share of patches whose blur the network is not told",
    "mtf_error": "largest error of the blur that it is told",
}


def add_train(verbs: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser("train", help="train a model; the same command again resumes")
    verb.add_argument("--data", required=True, metavar="DATA", help=DATA_HELP)
    verb.add_argument("--validation", metavar="DATA", help="scans of other subjects, for choosing the best step")
    verb.add_argument("--validation-share", type=float, metavar="SHARE", help="or keep this share of DATA's subjects for it, such as 0.2")
    verb.add_argument("--out", required=True, metavar="RUN", help="the run's folder")
    verb.add_argument("--factors", default="2,2,2", help="over I,J,K of the image, each 1 to 8 (default: 2,2,2)")
    verb.add_argument("--init", metavar="NAME|FILE", help="a model to start from: its trunk, and all of it where the factors agree")
    verb.add_argument("--preset", default="fast", choices=PRESETS, help="the network (default: fast)")
    verb.add_argument(
        "--degradation", default="random", choices=("random", *DEGRADATIONS), help="the blur of the patches (default: random)"
    )
    verb.add_argument("--steps", type=int, help="of both stages together")
    verb.add_argument("--gan-steps", type=int, help="of these, adversarial ones at the end (default: a fifth)")
    for name in ("seed", "batch", "patch", "validate-every", "save-every"):
        verb.add_argument(f"--{name}", type=int)
    verb.add_argument("--content", choices=("mse", "l1", "charbonnier"))
    verb.add_argument("--discriminator-features", type=int, metavar="NUMBER", help="channels of D at first (default: 64)")
    for name, text in RATES_AND_WEIGHTS.items():
        verb.add_argument(f"--{name.replace('_', '-')}", type=float, metavar="NUMBER", help=text)
    add_compute(verb)
    verb.add_argument("--config", metavar="FILE", help="a config.json of another run to start from; options given here win")
    verb.set_defaults(make=train_job)
    return verb


def train_job(args: argparse.Namespace) -> TrainJob:
    """The options of `train` as a job."""
    factors = parse_factors(args.factors)
    if args.config:
        base = read_train_config(args.config)
        share = 0.0 if args.validation else base.validation_share
        base = replace(base, data=args.data, out=args.out, validation=args.validation, validation_share=share)
    else:
        base = training_preset(args.preset, args.data, args.out, args.validation, factors)
        base = replace(base, degradation=replace(base.degradation, kind=args.degradation))
    names = ("seed", "validation_share", "batch", "patch", "validate_every", "save_every", "content", *RATES_AND_WEIGHTS)
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.steps is not None or args.gan_steps is not None:
        total = args.steps if args.steps is not None else base.steps + base.gan_steps
        gan = args.gan_steps if args.gan_steps is not None else total // 5
        if not 0 <= gan <= total:
            raise JobError(f"--gan-steps {gan} of --steps {total}: it must lie between 0 and --steps")
        given |= {"steps": total - gan, "gan_steps": gan}
    discriminator = base.discriminator
    if "patch" in given and discriminator.head == "flatten":  # a flatten head is as large as the patch
        k, j, i = (given["patch"] * f for f in base.generator.factors)
        discriminator = replace(discriminator, patch=(k, j, i))
    if args.discriminator_features is not None:
        discriminator = replace(discriminator, features=args.discriminator_features)
    base = replace(base, discriminator=discriminator)
    return TrainJob(replace(base, device=args.device, precision=args.precision, init=args.init or base.init, **given))


def add_fit(verbs: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(
        "fit", help="train a model for one scan of thick slices, from its own in-plane detail; the same command again resumes"
    )
    verb.add_argument("input", metavar="SCAN", help="NIfTI, NRRD or MetaImage file, or a DICOM folder")
    add_series(verb)
    verb.add_argument("-o", "--output", required=True, metavar="FILE", help="the .safetensors file to write, for super-resolve --model")
    verb.add_argument("--factor", type=int, help="slices made of one, 2 to 8 (default: down to the in-plane spacing)")
    verb.add_argument("--thickness", dest="thickness_mm", type=float, metavar="MM", help="FWHM of a slice (default: the slice spacing)")
    verb.add_argument("--init", default="auto", metavar="NAME|FILE", help="a model to start from; none starts from nothing (default: auto)")
    verb.add_argument("--minutes", type=float, default=10.0, help="of training (default: 10)")
    verb.add_argument("--steps", type=int, help="of training, in place of --minutes")
    verb.add_argument("--seed", type=int, default=0)
    add_compute(verb, ("auto", "fp32", "bf16"))
    return makes(verb, FitJob)


COMMANDS = (add_train, add_fit)
