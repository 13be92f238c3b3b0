"""Metrics of the evaluation protocol (method.md, section 5; the referee defines them). Arrays are (K, J, I)."""

from __future__ import annotations

import numpy as np

BORDER = 4  # HR voxels left out at every face


def head_mask(hr: np.ndarray) -> np.ndarray:
    """Bool, the head without the outer `BORDER` voxels: above 10 % of P99, closed by two voxels, filled."""
    from scipy import ndimage

    mask = ndimage.binary_closing(hr > 0.1 * np.percentile(hr, 99), iterations=2)
    mask = ndimage.binary_fill_holes(mask)
    inside = np.zeros(hr.shape, bool)
    inside[tuple(slice(BORDER, -BORDER) for _ in range(3))] = True
    return mask & inside


def truth_range(hr: np.ndarray) -> float:
    """P99.9 - P0.1 of the truth: the data range of every figure."""
    high, low = np.percentile(hr, (99.9, 0.1))
    return float(high - low)


def psnr(hr: np.ndarray, sr: np.ndarray, mask: np.ndarray, data_range: float) -> float:
    """Peak signal-to-noise ratio inside `mask`, dB; infinite where the two agree."""
    mse = float(np.mean(np.square(hr[mask].astype(np.float64) - sr[mask])))
    return float(10 * np.log10(data_range**2 / mse)) if mse > 0 else float("inf")


def all_metrics(hr: np.ndarray, sr: np.ndarray, mask: np.ndarray, data_range: float) -> dict[str, float]:
    """PSNR (dB), SSIM (3-D Gaussian window, sigma 1.5), NRMSE and MAE (shares of the data range), inside `mask`."""
    from skimage.metrics import structural_similarity

    difference = hr[mask].astype(np.float64) - sr[mask]
    _, ssim = structural_similarity(
        hr.astype(np.float64), sr.astype(np.float64), data_range=data_range, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=True,
    )  # fmt: skip
    return {
        "psnr": psnr(hr, sr, mask, data_range),
        "ssim": float(ssim[mask].mean()),
        "nrmse": float(np.sqrt(np.mean(difference**2)) / data_range),
        "mae": float(np.abs(difference).mean() / data_range),
    }


def phase_pattern(hr: np.ndarray, sr: np.ndarray, mask: np.ndarray, data_range: float, factors: tuple[int, int, int]) -> float:
    """The lattice that an upsampling network leaves: how far the voxels of a coarse cell differ, on the mean over flat tissue.

    Standard deviation, over the positions in a cell, of the mean of `sr` - `hr` at that position, as a share of the data range: the truth's
    own anatomy does not count. Flat tissue: the cells within the mask, brighter than half of the truth's P99, whose truth varies least
    (the flattest fifth of them).
    """
    shape = [n // f for n, f in zip(hr.shape, factors, strict=True)]

    def cells(array: np.ndarray) -> np.ndarray:
        (k, j, i), (fk, fj, fi) = shape, factors
        inside = array[: k * fk, : j * fj, : i * fi].reshape(k, fk, j, fj, i, fi)
        return inside.transpose(0, 2, 4, 1, 3, 5).reshape(k * j * i, fk * fj * fi)

    truth = cells(hr)
    tissue = cells(mask).all(axis=1) & (truth.mean(axis=1) > 0.5 * np.percentile(hr, 99))
    if not tissue.any():
        return 0.0
    varied = truth[tissue].std(axis=1)
    flat = varied <= np.quantile(varied, 0.2)
    means = [cells(array)[tissue][flat].mean(axis=0, dtype=np.float64) for array in (sr, hr)]
    return float((means[0] - means[1]).std() / data_range)


def sharpness(array: np.ndarray, mask: np.ndarray, data_range: float) -> dict[str, float]:
    """Mean gradient magnitude inside `mask` (share of the range a voxel) and the share of power above half of Nyquist."""
    array = array.astype(np.float64)
    squares = np.zeros(array.shape)
    for component in np.gradient(array):
        squares += component**2
    tapered = array - array.mean()
    for axis, n in enumerate(array.shape):
        tapered *= np.expand_dims(np.hanning(n), [a for a in range(3) if a != axis])
    power = np.abs(np.fft.rfftn(tapered)) ** 2
    power[..., 1 : (array.shape[-1] + 1) // 2] *= 2  # the half that rfftn leaves out
    k, j, i = array.shape
    radius = np.sqrt(np.fft.fftfreq(k)[:, None, None] ** 2 + np.fft.fftfreq(j)[None, :, None] ** 2 + np.fft.rfftfreq(i)[None, None] ** 2)
    return {
        "gradient": float(np.sqrt(squares[mask]).mean() / data_range),
        "high_band": float(power[radius > 0.25].sum() / power.sum()),
    }
