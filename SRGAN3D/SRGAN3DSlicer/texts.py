"""What the panel says of a model, of a result to come and of one that is there."""

import html
from typing import Any

from slicer.i18n import tr as _

from SRGAN3DLib.contract.jobs import FLIPS

from . import forecast, model_card, mrml
from .logic import laid, output_name


def blurs() -> dict[str, str]:
    """Ids of what the model can be told of the blur, in words; ids are kept, words are translated."""
    return {
        "auto": _("Automatic"),
        "unknown": _("Unknown (tell the model nothing)"),
        "gaussian": _("Gaussian, 1 voxel wide"),
        "box": _("Box (slices without gaps)"),
        "kspace": _("k-space limited (3-D acquisition)"),
    }


def precisions() -> dict[str, str]:
    return {"auto": _("Automatic"), "fp32": _("32 bits"), "bf16": _("16 bits (bf16)"), "fp16": _("16 bits (fp16)")}


def views() -> dict[str, str]:
    """Numbers of mirrored views, as ids."""
    return {"1": _("None: the scan as it is"), **{str(n): _("Mean of {n}: {n} times the time").format(n=n) for n in FLIPS[1:]}}


def modes() -> dict[str, str]:
    return {"fade": _("Fade"), "checkerboard": _("Checkerboard"), "side by side": _("Side by side")}


def hindrance(closing: bool, header: Any, torch_is_there: bool, node: Any) -> str:
    """What stands in the way of a click, in one line; "" if nothing does."""
    if closing:
        return _("the scene is closing")
    if header is None:
        return _("no model: add a checkpoint file")
    return mrml.unfit(node) if torch_is_there else _("PyTorch is wanted: use Install")


def card(header: Any, voxels_per_s: float | None) -> str:
    """The model's card as a small table."""
    if header is None:
        return _("No model came with this installation. Add a checkpoint file.")
    speed = _("{s:.1f} s a million voxels").format(s=1e6 / voxels_per_s) if voxels_per_s else _("not measured yet")
    rows = [*model_card.lines(header), (_("Time here"), speed)]
    cells = "".join(f"<tr><td>{html.escape(a)}:&nbsp;</td><td>{html.escape(b)}</td></tr>" for a, b in rows)
    return f"<table>{cells}</table>"


def ahead(header: Any, node: Any, region: Any, voxels_per_s: float | None, memory_limit: str, flips: int) -> str:
    """Size, memory and time of the result to come."""
    shape = mrml.shape_kji(node) if region is None else tuple(b - a for a, b in reversed(region))
    factors = laid(header, node.GetSpacing())
    found = forecast.forecast(header, shape, voxels_per_s, memory_limit, factors, flips)
    spacing = [s / f for s, f in zip(node.GetSpacing(), factors, strict=True)]
    about = _("about {time}") if found.timed else _("roughly {time} (not measured on this machine yet)")
    return _("Result: {name}, {size} voxels of {spacing} mm, {mb}. Memory: {memory}. Time: {time}.").format(
        name=output_name(node.GetName(), factors),
        size=" x ".join(map(str, reversed(found.shape_kji))),
        spacing=" x ".join(f"{s:.2f}" for s in spacing),
        mb=forecast.in_words(found.output_bytes),
        memory=forecast.in_words(found.bytes_needed),
        time=about.format(time=forecast.clock(max(1.0, found.seconds))),
    )


def notes(header: Any, node: Any, suggested: Any) -> str:
    """What about this volume lies outside what the model saw, and the model that would suit it better, a line each."""
    where = (node.GetSpacing(), mrml.shape_kji(node), mrml.is_sheared(node), mrml.is_warped(node), mrml.contrasts(node))
    lines = forecast.warnings(header, *where)
    if suggested is not None and suggested is not header and suggested.generator.factors != header.generator.factors:
        lines.append(_("For this spacing the model {name} is suggested.").format(name=model_card.title(suggested.name, suggested)))
    return "\n".join(_("Note: {text}").format(text=line) for line in lines)


def progress(event: Any) -> str:
    """What the worker is about, and for how long yet."""
    stages = {"network": _("Computing"), "writing": _("Storing")}
    left = "" if event.eta_s is None else _(", {time} left").format(time=forecast.clock(event.eta_s))
    return stages.get(event.stage, event.stage) + left


def citation(info: dict) -> str:
    return (
        "I. Sánchez, V. Vilaplana: Brain MRI super-resolution using 3D generative adversarial networks, arXiv 1812.11440, 2018; "
        f"computed with SRGAN3D {info.get('version', '')}, model {info['model']['name']} (SHA-256 {info['model']['sha256'][:12]})."
    )
