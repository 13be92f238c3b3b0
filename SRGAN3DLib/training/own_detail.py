"""How good a model is on a scan's own detail: an in-plane axis is degraded as the slices are, super-resolved and compared.

Only the block that `fit` keeps apart is scored, so the figure holds for detail that the model was not trained on. The models are run as
`super-resolve` runs them: told the blur, and corrected by back-projection with the slice profile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

from SRGAN3DLib.contract.configs import GeneratorConfig
from SRGAN3DLib.networks.generator import Conditions, with_conditions
from SRGAN3DLib.physics.back_projection import give_back
from SRGAN3DLib.physics.degradations import Degradation
from SRGAN3DLib.physics.interpolation import interpolate

from .datasets import FOREGROUND
from .slices import Block, Slices

PROTOCOL = (
    "PSNR over cubic interpolation inside the head, dB, on the in-plane detail of the fitted scan, degraded as its slices are, "
    "in a quarter of its plane that was kept apart from training"
)
CONTEXT = 8  # LR voxels around the block that the networks see and that are not scored
MOST_SLICES = 32  # of the scan that are looked at
Model = Callable[[np.ndarray], np.ndarray]
Case = tuple[np.ndarray, np.ndarray, np.ndarray]


def model_of(network: nn.Module, config: GeneratorConfig, slices: Slices, device: torch.device) -> Model:
    """A network, with its slices on K, as a function of an LR array (K, J, I); back-projected where it can be told the blur."""
    operator = Degradation(slices.factors, (slices.blur,) * 3)

    @torch.no_grad()
    def run(lr: np.ndarray) -> np.ndarray:
        image = torch.from_numpy(lr)[None, None].to(device)
        sr = network(with_conditions(image, config, Conditions(operator.mtf))).float()[0, 0].cpu().numpy()
        result = np.ascontiguousarray(sr)
        if config.blur_aware:
            give_back(lr, result, operator)
        return result

    return run


def gains_db(array: np.ndarray, slices: Slices, block: Block, models: dict[str, Model]) -> dict[str, float]:
    """The gain of each model over cubic interpolation, dB, over both in-plane axes of `array` (K, J, I; bright tissue 1)."""
    errors = dict.fromkeys(("cubic", *models), 0.0)
    for lr, hr, scored in _cases(array, slices, block):
        for name in errors:
            made = interpolate(lr, slices.factors, "cubic") if name == "cubic" else models[name](lr)
            errors[name] += float(np.square(made - hr, dtype=np.float64)[scored].sum())
    return {name: float(10 * np.log10(max(errors["cubic"], 1e-12) / max(errors[name], 1e-12))) for name in models}


def _cases(array: np.ndarray, slices: Slices, block: Block) -> Iterator[Case]:
    """(LR, HR, the voxels to score) with the degraded axis on K, for each in-plane axis."""
    start = max(0, (array.shape[0] - MOST_SLICES) // 2)
    part = array[start : start + MOST_SLICES]
    for degraded, other in ((1, 2), (2, 1)):
        order = (degraded, 0, other)
        low, high = _grown(block, degraded, part.shape[degraded], round(CONTEXT * slices.factor * slices.step(degraded)))
        side, end = _grown(block, other, part.shape[other], CONTEXT)
        cut = [slice(None)] * 3
        cut[degraded], cut[other] = slice(low, high), slice(side, end)
        turned = part[tuple(cut)].transpose(order)
        fine = slices.fine_rows(degraded, turned.shape[0])
        fine = fine[: len(fine) // slices.factor * slices.factor]
        if not len(fine):
            continue
        hr = np.tensordot(fine, turned, 1).astype(np.float32)
        lr = np.tensordot(slices.coarse_rows(len(fine), slices.width), hr, 1).astype(np.float32)
        scored = _inside(hr)
        step = slices.step(degraded)
        rows = (np.arange(len(hr)) + 0.5) * step + low
        scored[(rows < block.first_ji[degraded - 1]) | (rows >= block.end_ji[degraded - 1])] = False
        columns = np.arange(side, end)
        scored[:, :, (columns < block.first_ji[other - 1]) | (columns >= block.end_ji[other - 1])] = False
        yield np.ascontiguousarray(lr), hr, scored


def _grown(block: Block, axis: int, n: int, by: int) -> tuple[int, int]:
    return max(0, block.first_ji[axis - 1] - by), min(n, block.end_ji[axis - 1] + by)


def _inside(hr: np.ndarray) -> np.ndarray:
    """The head: tissue with its holes filled, slice by slice along the axis of the scan's slices (here the second)."""
    from scipy import ndimage

    tissue = hr > FOREGROUND
    return np.stack([ndimage.binary_fill_holes(ndimage.binary_closing(tissue[:, k], iterations=2)) for k in range(hr.shape[1])], axis=1)
