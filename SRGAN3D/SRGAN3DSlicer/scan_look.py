"""The line below the input: contrast, spacing and noise of the chosen scan, in words."""

from typing import Any

import numpy as np
from slicer.i18n import tr as _

from SRGAN3DLib.contract.model_choice import THICK_SLICES

from . import mrml, results
from .summary import blur_words, noise_words, share_of_noise
from .tasks import direction_words

MOST_VOXELS = 2_000_000  # looked at; of a larger scan, whole slices spread over it


def line(node: Any) -> str:
    """`T1w, 0.9 x 1.1 x 2.3 mm (slices along S (foot-head)), little noise`; with the blur where an earlier result has it."""
    contrast = ", ".join(dict.fromkeys(contrast for _where, contrast in mrml.contrasts(node)))
    earlier = earlier_result(node)
    info = results.account(earlier) if earlier is not None else {}
    noise = noise_words(info) or share_of_noise(noise_share(np.asarray(mrml.view_of(node))))
    blur = blur_words(earlier, info) if info else ""
    return ", ".join(part for part in (contrast or _("contrast not stated"), _spacing(node), noise, blur) if part)


def earlier_result(node: Any) -> Any:
    """The newest result of this scan, which knows more about it; or None."""
    return results.latest_of(node)


def _spacing(node: Any) -> str:
    spacing = node.GetSpacing()
    shown = " x ".join(f"{s:.2g}" for s in spacing) + " mm"
    coarsest = max(range(3), key=lambda axis: spacing[axis])
    if spacing[coarsest] < THICK_SLICES * sorted(spacing)[1]:
        return shown
    return _("{shown}, thick slices along {direction}").format(shown=shown, direction=direction_words()[mrml.directions(node)[coarsest]])


def noise_share(array_kji: np.ndarray) -> float:
    """A robust estimate of the noise (standard deviation) as a share of the range from P1 to P99 of the foreground.

    It is the median size of second differences along J and I ([1 -2 1] along both): smooth tissue gives nearly 0, and the median
    ignores edges.
    """
    step = max(1, array_kji.size // MOST_VOXELS)
    slices = array_kji[step // 2 :: step].astype(np.float32)
    if min(slices.shape[1:]) < 3 or slices.shape[0] == 0:
        return 0.0
    low, high = np.percentile(slices[:, ::4, ::4], (1, 99))
    if high <= low:
        return 0.0
    along_j = slices[:, :-2] - 2 * slices[:, 1:-1] + slices[:, 2:]
    both = along_j[:, :, :-2] - 2 * along_j[:, :, 1:-1] + along_j[:, :, 2:]
    head = slices[:, 1:-1, 1:-1] > low + 0.1 * (high - low)
    values = np.abs(both[head])
    return float(1.4826 * np.median(values) / 6.0 / (high - low)) if values.size > 100 else 0.0
