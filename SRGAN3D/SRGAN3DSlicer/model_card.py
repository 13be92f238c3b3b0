"""The models to choose from, and the card of each, from the header alone."""

from pathlib import Path

from SRGAN3DLib.checkpoint_header import CheckpointHeader, catalogue, find_model, read_header
from SRGAN3DLib.errors import SRGAN3DError


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
    scans = [str(one.get("scan") or one.get("name") or one.get("file") or "?") for one in header.training_data]
    rows = [
        ("Factors", f"{i} x {j} x {k} along I, J, K"),
        ("Contrast", ", ".join(header.contrasts) or "not stated"),
        ("Spacing", f"{low:.2f} to {high:.2f} mm" if high > 0 else "not stated"),
        ("Blur", f"trained on {header.degradation.kind}" + ("; is told the blur of the scan" if header.generator.blur_aware else "")),
        ("Data", ", ".join(scans) or "not stated"),
        ("Licence", header.licence),
    ]
    if header.created:
        rows.append(("Created", header.created))
    return rows


def measured(header: CheckpointHeader, info: dict) -> str:
    """What the result can honestly say of what was measured and what was inferred."""
    factors = header.generator.factors
    many = factors[0] * factors[1] * factors[2]
    blur = info.get("blur", {})
    mtf = blur.get("mtf_kji")
    told = f"{blur.get('source')}" + (f", MTF at Nyquist {' / '.join(f'{v:.2f}' for v in mtf)} along K, J, I" if mtf else "")
    return (
        f"Measured: the input's voxels. Inferred: every voxel of the result; for each measured value there are {many}. "
        f"The model was trained on {header.degradation.kind} blur; of this scan's blur it was told: {told}. "
        "Detail finer than the input's grid comes from the training scans, and no diagnosis may rest on it."
    )
