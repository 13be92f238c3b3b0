"""A result in words: at most three lines for everyone, and the details for those who want them."""

import re
from collections.abc import Sequence
from typing import Any

from slicer.i18n import tr as _

from SRGAN3DLib.contract.result_info import noise_in_words
from SRGAN3DLib.contract.synthesis import SYNTHETIC_WARNING

from . import mrml, results
from .tasks import direction_words

SHARP, SOFT, BLURRED = 0.85, 0.5, 0.25  # of the scan's contrast that is left at the finest detail its grid can hold (MTF at Nyquist)
UNEVEN = 0.2  # difference of that between two directions that is worth a word


def lines(node: Any, info: dict[str, Any]) -> list[str]:
    """What the result is, what to think of it, what was noticed."""
    if not info:
        return [_("{name}: made by SRGAN3D, but its account cannot be read.").format(name=node.GetName())]
    opinion = SYNTHETIC_WARNING[:1].upper() + SYNTHETIC_WARNING[1:] + "." if results.is_synthetic(info) else _opinion(node, info)
    found = [_what(node), opinion]
    noticed = _noticed(node, info)
    return [*found, noticed] if noticed else found


def _what(node: Any) -> str:
    if node.GetImageData() is None:
        return _("The voxels of this result are missing.")
    size = " x ".join(map(str, node.GetImageData().GetDimensions()))
    spacing = " x ".join(f"{s:.2f}" for s in node.GetSpacing())
    return _("{size} voxels of {spacing} mm, made by {model}.").format(size=size, spacing=spacing, model=node.GetAttribute(results.MODEL))


def _opinion(node: Any, info: dict[str, Any]) -> str:
    detail = _inferred_below(node)
    share = (info.get("consistency") or {}).get("rms_of_range")
    if share is None:
        return _("Detail finer than {detail} is inferred. How far it agrees with your scan is not known.").format(detail=detail)
    text = _("Agrees with your scan to {percent:.2g} % of its range. Detail finer than {detail} is inferred.")
    return text.format(percent=100 * share, detail=detail)


def _inferred_below(node: Any) -> str:
    """The voxel of the scan along the axes that became finer, in words."""
    before = results.input_spacing(node)
    finer = [old for old, new in zip(before, node.GetSpacing(), strict=False) if new < 0.99 * old]
    if not finer:
        return _("the scan's voxels")
    low, high = min(finer), max(finer)
    return f"{low:.2g} mm" if high < 1.05 * low else _("{low:.2g} to {high:.2g} mm").format(low=low, high=high)


def _noticed(node: Any, info: dict[str, Any]) -> str:
    """Noise, blur, and the first warning."""
    words = [word for word in (noise_words(info), blur_words(node, info)) if word]
    warnings = [plain(line, node) for line in [*info.get("warnings", []), *info.get("fallbacks", [])] if line != SYNTHETIC_WARNING]
    text = "; ".join([*words, *warnings[:1]])
    if len(warnings) > 1:
        text += " " + _("({count} more under Details)").format(count=len(warnings) - 1)
    return text[:1].upper() + text[1:] + ("" if not text or text.endswith((".", ")")) else ".")


def noise_words(info: dict[str, Any]) -> str:
    """Of the noise that the library has estimated; "" where it has not."""
    percent = _noise_percent(info)
    return share_of_noise(percent / 100) if percent is not None else ""


def _noise_percent(info: dict[str, Any]) -> float | None:
    """The estimate, in percent of bright tissue."""
    noise = info.get("noise")
    percent = (noise.get("percent_estimated") or noise.get("percent")) if isinstance(noise, dict) else None
    return float(percent) if isinstance(percent, (int, float)) else None


def share_of_noise(share: float) -> str:
    if share < 0.02:
        return _("little noise")
    return _("some noise") if share < 0.05 else _("much noise")


def blur_words(node: Any, info: dict[str, Any]) -> str:
    """How sharp the scan was, as the model was informed; "" where that is not known."""
    blur = info.get("blur") or {}
    mtf = [value for value, factor in zip(blur.get("mtf_kji") or [], info.get("factors_kji") or [1, 1, 1], strict=False) if factor > 1]
    if not mtf:
        return ""
    mean = sum(mtf) / len(mtf)
    word = _("sharp") if mean >= SHARP else _("normal sharpness") if mean >= SOFT else _("soft") if mean >= BLURRED else _("very soft")
    if max(mtf) - min(mtf) > UNEVEN and len(mtf) == 3:
        softest = mrml.directions(node)[2 - blur["mtf_kji"].index(min(mtf))]
        return _("{word}, softest along {direction}").format(word=word, direction=direction_words()[softest])
    return _("the scan is {word}").format(word=word) if word != _("normal sharpness") else _("the scan has normal sharpness")


def plain(text: str, node: Any) -> str:
    """A line of the library with anatomical directions in place of the array's axes."""
    names = dict(zip("IJK", mrml.directions(node), strict=True))

    def translated(match: re.Match[str]) -> str:
        return match.group(1) + re.sub(r"[IJK]", lambda axis: names[axis.group()], match.group(2))

    return re.sub(r"(\b(?:along|axis|axes) )([IJK](?:(?:, | and )[IJK])*)\b", translated, text).replace(" of the array", "")


def details(node: Any, info: dict[str, Any]) -> str:
    """One fact a line: for a report, a paper or a question."""
    blur, model = info.get("blur") or {}, info.get("model") or {}
    consistency = info.get("consistency") or {}
    source = results.source_of(node)
    rows = [
        (_("Result"), node.GetName()),
        (_("Input"), source.GetName() if source is not None else node.GetAttribute("SRGAN3D.Input") or "?"),
        (_("Model"), model.get("name", "?")),
        ("SHA-256", model.get("sha256", "?")),
        (_("Chosen because"), (info.get("choice") or {}).get("reason", "")),
        (_("Factors"), _by_direction(node, info.get("factors_kji"), "{:d}")),
        (_("Voxels"), _by_direction(node, _reversed(info.get("spacing_ijk_mm")), "{:.3f} mm")),
        (
            _("Blur"),
            ""
            if results.is_synthetic(info)
            else f"{blur.get('source', '?')}; {_('MTF at Nyquist')} {_by_direction(node, blur.get('mtf_kji'), '{:.2f}')}",
        ),
        (_("Noise"), noise_in_words(info["noise"]) if info.get("noise") else ""),
        (_("Agreement with the scan"), "" if results.is_synthetic(info) else results.agreement(info)),
        (_("Back projection"), "" if results.is_synthetic(info) else _("yes") if consistency.get("back_projection") else _("no")),
        (_("Mirrored views"), str(info.get("flips", 1))),
        (_("Device"), f"{info.get('device', '?')} {info.get('precision', '?')}, {info.get('seconds', '?')} s"),
        (_("Version"), str(info.get("version", "?"))),
        *((_("Warning"), line) for line in [*info.get("warnings", []), *info.get("fallbacks", [])]),
        (_("Cite"), citation(info)),
    ]
    return "\n".join(f"{label}: {plain(str(value), node)}" for label, value in rows if value)


def _reversed(values: Sequence[float] | None) -> list[float] | None:
    return list(reversed(values)) if values else None


def _by_direction(node: Any, values_kji: Sequence[float] | None, form: str) -> str:
    """`R 0.45 mm, A 0.55 mm, S 1.15 mm`."""
    if not values_kji:
        return _("not known")
    pairs = dict(zip(mrml.directions(node), reversed(values_kji), strict=True))
    return ", ".join(f"{direction} {form.format(pairs[direction])}" for direction in "RAS")


def citation(info: dict[str, Any]) -> str:
    model = info.get("model") or {}
    papers = "I. Sánchez, V. Vilaplana: Brain MRI super-resolution using 3D generative adversarial networks, arXiv 1812.11440, 2018; "
    if results.is_synthetic(info):
        papers = "I. Sánchez, V. Vilaplana: 3D Medical Image Synthesis using Generative Adversarial Networks, womENCourage 2017; " + papers
    return (
        papers
        + f"computed with SRGAN3D {info.get('version', '')}, model {model.get('name', '?')} (SHA-256 {str(model.get('sha256', '?'))[:12]})."
    )
