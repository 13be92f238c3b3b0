"""The models to choose from, one line on each, and the card of one; all from the header alone."""

import html

from slicer.i18n import tr as _

from SRGAN3DLib.contract.checkpoint_header import CheckpointHeader, catalogue, find_model, read_header
from SRGAN3DLib.contract.errors import CheckpointError, SRGAN3DError

from . import preferences
from .placement import thins_slices
from .tasks import in_order


def models() -> dict[str, CheckpointHeader]:
    """Shipped name or key of an added checkpoint -> header, the default first. A file that cannot be read is left out."""
    found = {}
    for key in [*catalogue(), *preferences.added_models()]:
        try:
            found[key] = read_header(model_file(key))
        except SRGAN3DError:
            continue
    return in_order(found)


def model_file(key: str) -> str:
    """The file of a shipped name or of the key of an added checkpoint. Raises `CheckpointError`."""
    added, file = preferences.added_models().get(key), preferences.file_of_key(key)[0]
    if file and added is None:
        raise CheckpointError(f"{file}: this checkpoint is not on this computer any more, or it has changed; add it again")
    return str(find_model(added.path if added is not None else key))


def missing(key: str) -> str:
    """What to say of a model that a scene asks for and this computer does not have."""
    file, sha256 = preferences.file_of_key(key)
    if not file:
        return _("The model {name}, chosen in this scene, is not installed here; another stands in its place.").format(name=key)
    text = _("The checkpoint {file} (SHA-256 {sha}...), chosen in this scene, is not on this computer: add it under Advanced.")
    return text.format(file=file, sha=sha256[:12])


def title(key: str, header: CheckpointHeader) -> str:
    """One line: what the model is for."""
    factors = header.generator.factors
    if header.output is not None:
        inputs = " + ".join(image.name for image in header.inputs)
        use = _("{output} from {inputs}").format(output=header.output.contrast, inputs=inputs)
    elif thins_slices(header):
        use = _("thins slices x{factor}").format(factor=max(factors))
    elif len(set(factors)) == 1:
        use = _("x{factor} in all directions").format(factor=factors[0])
    else:
        use = "x".join(map(str, reversed(factors)))
    if is_sharp(header):
        use += _(", sharper texture, less exact")
    where = "" if key == header.name else f" ({preferences.file_of_key(key)[0] or key})"
    return f"{header.name}: {use}{where}"


def is_sharp(header: CheckpointHeader) -> bool:
    """Whether it was trained, or blended, towards texture by a discriminator."""
    training = header.training
    steps = (training.get("config") or {}).get("gan_steps", 0) if isinstance(training.get("config"), dict) else 0
    return header.name.endswith("-sharp") or "blend" in training or bool(steps)


def card(header: CheckpointHeader, seconds_a_million: float | None) -> str:
    """The card as a small table; `seconds_a_million` is the time for a million voxels of the input on this computer."""
    low, high = header.spacing_range_mm
    scans = [str(one.get("scan") or one.get("name") or one.get("file") or "?").removesuffix(".nii.gz") for one in header.training_data]
    gains = header.metrics.get("by_blur_told", {}).get("auto", {}) if isinstance(header.metrics, dict) else {}
    rows = [
        (_("Contrasts"), ", ".join(header.contrasts) or _("not stated")),
        (_("Voxels"), _("{low:.1f} to {high:.1f} mm").format(low=low, high=high) if high > 0 else _("not stated")),
        (_("Gain"), _gain(gains)),
        (_("Trained on"), _("{count} scans").format(count=len(scans)) if len(scans) > 4 else ", ".join(scans) or _("not stated")),
        (_("Licence"), header.licence),
        (_("Time here"), _("{s:.1f} s a million voxels").format(s=seconds_a_million) if seconds_a_million else ""),
    ]
    cells = "".join(f"<tr><td>{html.escape(a)}:&nbsp;</td><td>{html.escape(b)}</td></tr>" for a, b in rows if b)
    return f"<table>{cells}</table>"


def _gain(by_degradation: dict) -> str:
    """Mean gain over interpolation on scans that were not trained on."""
    values = [one.get("psnr_gain") for one in by_degradation.values() if isinstance(one, dict)]
    numbers = [value for value in values if isinstance(value, (int, float))]
    if not numbers:
        return ""
    return _("{low:+.1f} to {high:+.1f} dB PSNR over interpolation, on other scans").format(low=min(numbers), high=max(numbers))
