"""The models to choose from, and the card of each, from the header alone."""

from pathlib import Path

from slicer.i18n import tr as _

from SRGAN3DLib.contract.checkpoint_header import CheckpointHeader, catalogue, find_model, read_header
from SRGAN3DLib.contract.errors import SRGAN3DError


def models(added: list[str]) -> dict[str, CheckpointHeader]:
    """Name (shipped) or path (added by the user) -> header; what cannot be read is left out."""
    found = {}
    for key in [*catalogue(), *added]:
        try:
            found[key] = read_header(find_model(key))
        except SRGAN3DError:
            continue
    return found


def title(key: str, header: CheckpointHeader) -> str:
    i, j, k = reversed(header.generator.factors)
    where = "" if key == header.name else f" ({Path(key).name})"
    return f"{header.name}: {i}x{j}x{k}, {', '.join(header.contrasts) or 'any contrast'}{where}"


def lines(header: CheckpointHeader) -> list[tuple[str, str]]:
    """(label, value) rows for a person."""
    i, j, k = reversed(header.generator.factors)
    low, high = header.spacing_range_mm
    scans = [str(one.get("scan") or one.get("name") or one.get("file") or "?").removesuffix(".nii.gz") for one in header.training_data]
    rows = [
        (_("Factors"), _("{i} x {j} x {k} along I, J, K").format(i=i, j=j, k=k)),
        (_("Contrast"), ", ".join(header.contrasts) or _("not stated")),
        (_("Spacing"), _("{low:.2f} to {high:.2f} mm").format(low=low, high=high) if high > 0 else _("not stated")),
        (
            _("Blur"),
            _("trained on {blur}").format(blur=blur(header)) + (_("; is told the blur of the scan") if header.generator.blur_aware else ""),
        ),
        (_("Data"), ", ".join(scans) or _("not stated")),
        (_("Licence"), header.licence),
    ]
    if header.created:
        rows.append((_("Created"), header.created))
    return rows


def blur(header: CheckpointHeader) -> str:
    """What the training scans were blurred with."""
    return "a mixture of box, gaussian and k-space" if header.degradation.kind == "random" else header.degradation.kind


def told(info: dict) -> str:
    """What the model was told of the scan's blur, and where that came from."""
    found = info.get("blur", {})
    mtf = found.get("mtf_kji")
    return f"{found.get('source')}" + (f", MTF at Nyquist {' / '.join(f'{v:.2f}' for v in mtf)} along K, J, I" if mtf else "")


def measured(header: CheckpointHeader, info: dict) -> str:
    """What the result can honestly say of what was measured and what was inferred."""
    factors = header.generator.factors
    many = factors[0] * factors[1] * factors[2]
    text = _(
        "Measured: the input's voxels{grid}.\n"
        "Inferred: every voxel of the result; for each measured value there are {many}.\n"
        "Consistency: {agreement}.\n"
        "The model was trained on {blur} blur; of this scan's blur it was told: {told}. "
        "Detail finer than the input's grid comes from the training scans, and no diagnosis may rest on it."
    )
    return text.format(grid=_grid(info), many=many, blur=blur(header), told=told(info), agreement=_agreement(info))


def _grid(info: dict) -> str:
    """The part of the input that was taken, in voxels and mm."""
    if not {"shape_kji", "factors_kji", "spacing_ijk_mm"} <= info.keys():
        return ""
    counts = [n // f for n, f in zip(info["shape_kji"], info["factors_kji"], strict=True)]
    spacing = [s * f for s, f in zip(info["spacing_ijk_mm"], reversed(info["factors_kji"]), strict=True)]
    return _(", {size} of {spacing} mm").format(
        size=" x ".join(map(str, reversed(counts))), spacing=" x ".join(f"{s:.2f}" for s in spacing)
    )


def _agreement(info: dict) -> str:
    """The consistency figure as a sentence; plainly, where there is none."""
    found = info.get("consistency") or {}
    if found.get("rms_of_range") is None:
        return _("not available ({reason})").format(reason=found.get("assumes", _("the worker gave none")))
    text = _(
        "blurred and sampled again, the result differs from the scan by {percent:.2g} % of its range (RMS), if the scan had a {assumes}"
    )
    return text.format(percent=100 * found["rms_of_range"], assumes=found["assumes"])
