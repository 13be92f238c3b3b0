"""What the panel says of the choices, of a result to come, and of a run under way."""

from typing import Any

from slicer.i18n import tr as _

from SRGAN3DLib.contract.errors import SRGAN3DError
from SRGAN3DLib.contract.job_values import FLIPS
from SRGAN3DLib.contract.synthesis import SYNTHETIC_WARNING

from . import compare, forecast, mrml
from .preferences import Measured
from .tasks import Plan


def blurs() -> dict[str, str]:
    """Ids of the blur that the model is given, in words."""
    return {
        "auto": _("Automatic"),
        "unknown": _("Unknown (the model is given none)"),
        "gaussian": _("Gaussian, 1 voxel wide"),
        "box": _("Box (slices without gaps)"),
        "kspace": _("Limited by k-space (3-D acquisition)"),
    }


def noises() -> dict[str, str]:
    """Ids of the noise that the model is given, in words."""
    return {"auto": _("Automatic"), "unknown": _("Unknown (the model is given none)"), "0": _("Keep the noise of the scan")}


def precisions() -> dict[str, str]:
    return {"auto": _("Automatic"), "fp32": _("32 bits"), "bf16": _("16 bits (bf16)"), "fp16": _("16 bits (fp16)")}


def views() -> dict[str, str]:
    """Numbers of mirrored views, as ids."""
    return {"1": _("None"), **{str(n): _("Mean of {n}: {n} times the time").format(n=n) for n in FLIPS[1:]}}


def windows() -> dict[str, str]:
    """Ids of the windows of `ct_window`, in words."""
    return {"soft": _("Soft tissue (40 +- 200 HU)"), "bone": _("Bone (500 +- 1000 HU)")}


def modes() -> dict[str, str]:
    return {compare.FADE: _("Fade"), compare.SIDE_BY_SIDE: _("Side by side"), compare.CHECKERBOARD: _("Checkerboard")}


def against() -> dict[str, str]:
    return {compare.SCAN: _("with the scan"), compare.INTERPOLATION: _("with interpolation")}


def hindrance(closing: bool, headers: Any, torch_is_there: bool, node: Any, output: Any) -> str:
    """Why the button is off, in one line; "" where nothing is in the way."""
    if closing:
        return _("The scene is closing.")
    if not headers:
        return _("No model is installed: add a checkpoint file under Advanced.")
    reason = mrml.unfit(node)
    if not reason and output is not None and output.GetID() == node.GetID():
        reason = _("{name}: the output is the scan itself; choose another output").format(name=node.GetName())
    if reason:
        return sentence(reason, node)
    return "" if torch_is_there else _("PyTorch is not installed: use Install.")


def hindrance_of_synthesis(panel: Any, several: bool) -> str:
    """Why another contrast cannot be made; "" where nothing is in the way."""
    header = panel.header
    if header is None:
        return _("Choose a model.")
    if several:
        return _("Another contrast is made of one head at a time: close the list of scans.")
    try:
        found = panel.inputs.volumes(header, panel.node)
    except SRGAN3DError as error:
        return sentence(str(error), None)
    output = panel.ui.outputSelector.currentNode()
    if output is not None and output.GetID() in {node.GetID() for node in found.values()}:
        return _("The output is one of the inputs; choose another output.")
    return ""


def notice(synthetic: bool) -> str:
    """What always stands at the foot of the panel."""
    if synthetic:
        return _("Research software. {warning}.").format(warning=SYNTHETIC_WARNING[:1].upper() + SYNTHETIC_WARNING[1:])
    return _("Research software, not for diagnosis: detail finer than the voxels of the scan is inferred.")


def sentence(text: str, node: Any) -> str:
    """The line with a capital and a full stop; the name of a volume stays as it is."""
    named = node is not None and text.startswith(node.GetName())
    return (text if named else text[:1].upper() + text[1:]) + ("" if text.endswith(".") else ".")


def ahead(plan: Plan, node: Any, region: Any, speed: Measured | None, memory_limit: str, flips: int, frames: int) -> str:
    """Size, time and memory of the result to come."""
    shape = mrml.shape_kji(node) if region is None else tuple(b - a for a, b in reversed(region))
    found = forecast.forecast(plan, shape, node.GetSpacing(), speed, memory_limit, flips, frames)
    spacing = plan.result_spacing(shape, node.GetSpacing())
    text = _("Result: {size} voxels of {spacing} mm, {mb}.").format(
        size=" x ".join(map(str, reversed(found.shape_kji))),
        spacing=" x ".join(f"{s:.2f}" for s in spacing),
        mb=forecast.in_words(found.output_bytes),
    )
    if frames > 1:
        text += " " + _("{frames} frames.").format(frames=frames)
    return text + "\n" + needs(found.seconds, found.bytes_needed, found.measured)


def needs(seconds: float, count: float, measured: bool) -> str:
    about = (
        _("Takes about {time} and {memory} of memory.")
        if measured
        else _("Takes roughly {time} and {memory} of memory (not measured yet).")
    )
    return about.format(time=forecast.clock(max(1.0, seconds)), memory=forecast.in_words(count))


def notes(plan: Plan, node: Any) -> str:
    """What about this volume is unlike the training scans, a line each."""
    where = (mrml.directions(node), mrml.is_sheared(node), mrml.is_warped(node), mrml.contrasts(node))
    lines = forecast.warnings(plan.header, plan.factors, node.GetSpacing(), mrml.shape_kji(node), *where)
    return "\n".join(_("Note: {text}").format(text=line) for line in lines)


def progress(event: Any, volume: tuple[int, int] | None = None) -> str:
    """`Frame 2 of 3: computing, 45 %, 1 min 01 s left`; `volume` is (number, count) of a list."""
    stages = {"network": _("computing"), "writing": _("storing")}
    share = round(100 * event.done / event.total) if event.total else 0
    parts = [stages.get(event.stage, event.stage), f"{share} %"]
    if event.eta_s is not None:
        parts.append(_("{time} left").format(time=forecast.clock(event.eta_s)))
    text = ", ".join(parts)
    if event.values.get("parts"):
        frame = _("frame {part} of {parts}: ").format(part=int(event.values["part"]), parts=int(event.values["parts"]))
        text = frame + text
    if volume is not None:
        text = _("scan {part} of {parts}: ").format(part=volume[0], parts=volume[1]) + text
    return text[:1].upper() + text[1:]


def changed_options(ui: Any, data: Any) -> str:
    """Names what under Advanced is not as it comes, so that it is seen while that section is closed. `data` reads a combo's id."""
    found = []
    roi = ui.roiSelector.currentNode()
    if roi is not None:
        found.append(_("region {name}").format(name=roi.GetName()))
    for label, combo, usual in (
        (_("blur"), ui.blurCombo, "auto"),
        (_("noise"), ui.noiseCombo, "auto"),
        (_("device"), ui.deviceCombo, "auto"),
        (_("precision"), ui.precisionCombo, "auto"),
        (_("mirrored views"), ui.flipsCombo, "1"),
    ):
        if data(combo) not in (usual, ""):
            found.append(f"{label} {data(combo)}")
    if ui.memorySpin.value > 0:
        found.append(_("memory limit {limit:g} GB").format(limit=ui.memorySpin.value))
    return _("Advanced: {options}").format(options=", ".join(found)) if found else ""
