"""Degradations: how a scanner turns the fine grid into the coarse one. Linear, separable, with exact adjoints.

Along each axis a degradation is an (m, n) float64 matrix, m = n // factor, on the cell-centred grid of method.md
section 2: LR cell r covers HR cells f*r ... f*r + f - 1. Rows sum to 1; the far side of a border is mirrored
(kspace: periodic). HR voxels beyond m*f get zero columns, so odd sizes need no special case. Since the whole operator is
the Kronecker product of its axes, its pseudo-inverse is the product of theirs: exact, no iteration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np

from SRGAN3DLib.contract.configs import Factors, NoiseConfig
from SRGAN3DLib.contract.errors import JobError

Kind = Literal["box", "gaussian", "kspace", "sinc"]
SYMBOL = 1024  # frequencies of an endless axis
LOBES = 8  # of the sinc, on either side
A = TypeVar("A")  # a numpy array or a torch tensor
FWHM_PER_SIGMA = 2 * np.sqrt(2 * np.log(2))
MASKED_BELOW = 0.04  # of bright tissue: air, in a masked scan


@dataclass(frozen=True)
class AxisBlur:
    """The blur along one axis.

    `width` is in LR voxels: the FWHM of a gaussian, the full width of a box (below 1: slices with gaps; above 1:
    overlapping slices). For kspace it is the transfer left at the edge of the acquired band: 1 is the ideal
    low-pass, below 1 a raised-cosine apodisation. `sinc` is kspace cut to `LOBES` and mirrored at the border: local, for work in pieces.
    """

    kind: Kind
    width: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in ("box", "gaussian", "kspace", "sinc"):
            raise JobError(f"blur {self.kind!r}: must be box, gaussian or kspace")
        most = 1 if self.kind in ("kspace", "sinc") else 16
        if not 0 < self.width <= most:
            raise JobError(f"blur width {self.width} of {self.kind}: above 0, at most {most}")

    @property
    def mtf(self) -> float:
        """Modulation transfer at the LR Nyquist frequency (half a cycle per LR voxel), 0 to 1."""
        if self.kind == "box":
            return float(abs(np.sinc(self.width / 2)))
        if self.kind == "gaussian":
            return float(np.exp(-0.5 * (np.pi * self.width / FWHM_PER_SIGMA) ** 2))
        return self.width

    @property
    def reach(self) -> int:
        """LR voxels beyond its own that a row of `matrix` looks at, at most; kspace looks at all."""
        if self.kind == "sinc":
            return LOBES + 1
        return int(np.ceil(self.width / 2 if self.kind == "box" else 4 * self.width / FWHM_PER_SIGMA)) + 1

    def transfer_power(self, factor: int) -> np.ndarray:
        """factor * A A^T of an endless axis, over frequencies from 0 to LR Nyquist: (SYMBOL // 2 + 1,), 1 at 0 but for rounding."""
        if factor == 1:
            return np.ones(SYMBOL // 2 + 1)
        if self.kind == "kspace":  # periodic: the window itself, squared
            return np.asarray((1 - (1 - self.width) * np.sin(0.5 * np.pi * np.linspace(0, 1, SYMBOL // 2 + 1)) ** 2) ** 2)
        m = 2 * self.reach + 1
        row = self.matrix((2 * m + 1) * factor, factor)[m]
        shifted = [float(row[lag * factor :] @ row[: len(row) - lag * factor]) for lag in range(m + 1)]
        frequencies = np.arange(SYMBOL // 2 + 1) * (2 * np.pi / SYMBOL)
        waves = np.cos(np.outer(frequencies, np.arange(1, m + 1)))
        return np.asarray(factor * (shifted[0] + 2 * waves @ np.asarray(shifted[1:])))

    def matrix(self, n: int, factor: int) -> np.ndarray:
        """(n // factor, n) float64 matrix; the identity where factor is 1 and the blur is an ideal one."""
        m = n // factor
        if m == 0:
            raise JobError(f"{n} voxels cannot be reduced by a factor of {factor}")
        if factor == 1:
            return np.eye(n)
        rows = np.zeros((m, n))
        core = {"box": _box_rows, "gaussian": _gaussian_rows, "kspace": _kspace_rows, "sinc": _sinc_rows}[self.kind]
        rows[:, : m * factor] = core(m, factor, self.width)
        return rows


def _scatter_mirrored(rows: np.ndarray, r: int, j: np.ndarray, weights: np.ndarray) -> None:
    n = rows.shape[1]
    j = np.where(j < 0, -1 - j, j)
    j = np.where(j >= n, 2 * n - 1 - j, j)
    np.add.at(rows[r], np.clip(j, 0, n - 1), weights / weights.sum())


def _local_rows(m: int, factor: int, reach: int, kernel: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Each row is `kernel` of the HR voxels' distances from the LR cell's centre, as far as `reach` of them, mirrored at the border."""
    rows = np.zeros((m, m * factor))
    for r in range(m):
        centre = factor * r + (factor - 1) / 2
        j = np.arange(int(np.floor(centre)) - reach, int(np.ceil(centre)) + reach + 1)
        _scatter_mirrored(rows, r, j, kernel(j - centre))
    return rows


def _box_rows(m: int, factor: int, width: float) -> np.ndarray:
    half = width * factor / 2

    def overlap(x: np.ndarray) -> np.ndarray:
        return np.clip(np.minimum(x + 0.5, half) - np.maximum(x - 0.5, -half), 0, None)

    return _local_rows(m, factor, int(np.ceil(half)) + factor, overlap)


def _gaussian_rows(m: int, factor: int, width: float) -> np.ndarray:
    sigma = width * factor / FWHM_PER_SIGMA
    return _local_rows(m, factor, int(np.ceil(4 * sigma)) + factor, lambda x: np.asarray(np.exp(-0.5 * (x / sigma) ** 2)))


def _kspace_rows(m: int, factor: int, edge: float) -> np.ndarray:
    """Every row is one kernel, shifted: the inverse transform of the window at (r's centre) - (j's centre), periodic."""
    n = m * factor
    k = np.arange((m + 1) // 2)  # |k| < m / 2
    window = 1 - (1 - edge) * np.sin(0.5 * np.pi * k / (m / 2)) ** 2
    weights = np.where(k == 0, 1, 2) * window / n
    offsets = np.arange(n) + (factor - 1) / 2
    kernel = np.cos(2 * np.pi / n * np.outer(offsets, k)) @ weights
    return np.asarray(kernel[(factor * np.arange(m)[:, None] - np.arange(n)[None, :]) % n])


def _sinc_rows(m: int, factor: int, edge: float) -> np.ndarray:
    """The kernel of `_kspace_rows` for endless scans, under a cosine-squared window."""
    k = np.linspace(0, 1, 129)
    weights = (1 - (1 - edge) * np.sin(0.5 * np.pi * k) ** 2) * _trapezoid(len(k))

    def kernel(x: np.ndarray) -> np.ndarray:
        x = x / factor
        return np.asarray(np.cos(np.pi * np.outer(x, k)) @ weights * np.cos(0.5 * np.pi * x / (LOBES + 0.5)) ** 2)

    return _local_rows(m, factor, LOBES * factor, kernel)


def _trapezoid(n: int) -> np.ndarray:
    weights = np.full(n, 1.0 / (n - 1))
    weights[[0, -1]] /= 2
    return weights


@dataclass(frozen=True)
class Degradation:
    """A separable degradation of arrays whose last three axes are (K, J, I).

    `blurs` over (K, J, I). Works on numpy arrays and torch tensors alike, any leading axes, in their own precision.

    >>> Degradation.named("box", (1, 1, 2)).forward(np.array([[[1.0, 3.0, 5.0, 9.0]]])).tolist()
    [[[2.0, 7.0]]]
    """

    factors: Factors
    blurs: tuple[AxisBlur, AxisBlur, AxisBlur]

    @staticmethod
    def named(kind: str, factors: Factors) -> Degradation:
        """`box`, `gaussian` (FWHM one LR voxel) or `kspace` along every axis: the three of the protocol."""
        blur = AxisBlur(kind)  # type: ignore[arg-type]
        return Degradation(factors, (blur, blur, blur))

    @staticmethod
    def slice_profile(factor: int, thickness: float, spacing: float, profile: Kind = "gaussian", axis: int = 0) -> Degradation:
        """Slices of `thickness` mm every `spacing` mm (a gap where thinner, an overlap where thicker) along one axis."""
        if thickness <= 0 or spacing <= 0:
            raise JobError(f"slice thickness {thickness} mm, spacing {spacing} mm: both above 0")
        factors = tuple(factor if a == axis else 1 for a in range(3))
        blur = AxisBlur(profile, thickness / spacing)
        return Degradation(factors, (blur, blur, blur))  # type: ignore[arg-type]

    @property
    def mtf(self) -> tuple[float, float, float]:
        """Transfer at LR Nyquist over (K, J, I); 1 along axes that are not reduced."""
        return tuple(b.mtf if f > 1 else 1.0 for b, f in zip(self.blurs, self.factors, strict=True))  # type: ignore[return-value]

    @property
    def norm(self) -> float:
        """The largest eigenvalue of f A A^T (f: fine voxels in a coarse one) on a grid of any size: 1 for box, up to 6.6 in three axes."""
        return float(np.prod([blur.transfer_power(f).max() for blur, f in zip(self.blurs, self.factors, strict=True)]))

    def matrices(self, shape_kji: tuple[int, ...]) -> list[np.ndarray]:
        return [b.matrix(n, f) for b, n, f in zip(self.blurs, shape_kji, self.factors, strict=True)]

    def forward(self, array: A) -> A:
        """(..., K, J, I) HR -> (..., K//f, J//f, I//f) LR."""
        return _apply(self.matrices(array.shape[-3:]), array)  # type: ignore[attr-defined]

    def adjoint(self, array: A, shape_kji: tuple[int, int, int]) -> A:
        """LR -> HR of `shape_kji`: <A x, y> = <x, A^T y>."""
        return _apply([m.T for m in self.matrices(shape_kji)], array)

    def pseudo_inverse(self, array: A, shape_kji: tuple[int, int, int]) -> A:
        """LR -> the HR array of least norm whose degradation is nearest to it (method.md section 2, A+)."""
        return _apply([np.linalg.pinv(m, rcond=1e-10) for m in self.matrices(shape_kji)], array)


def _apply(matrices: list[np.ndarray], array: Any) -> Any:
    """One matrix an axis, the axes taken from the last backwards; an identity axis is skipped."""
    for axis, matrix in zip((-3, -2, -1), matrices, strict=True):
        if matrix.shape[0] == matrix.shape[1] and np.array_equal(matrix, np.eye(len(matrix))):
            continue
        if isinstance(array, np.ndarray):
            moved = np.tensordot(array, matrix.astype(array.dtype, copy=False), axes=(axis, 1))
            array = np.moveaxis(moved, -1, axis)
        else:  # torch; its name is not needed here
            moved = array.transpose(axis, -1) @ array.new_tensor(matrix.T)
            array = moved.transpose(axis, -1)
    return array


@dataclass(frozen=True)
class Draw:
    """One draw of the `random` degradation: the operator, and what is not linear (noise, bias field).

    `noise` is the standard deviation per quadrature channel. `correlation`, where not empty, says along K, J, I what the
    reconstruction left of it: its transfer at Nyquist under a smoothing filter (1: white), or, below 0, minus the share of the band
    that was acquired before zero-filling. `masked`: air was set to 0, as skull stripping does.
    """

    degradation: Degradation
    noise: float = 0.0
    bias: tuple[float, ...] = ()
    correlation: tuple[float, ...] = ()
    masked: bool = False

    def bias_field(self, k: np.ndarray, j: np.ndarray, i: np.ndarray) -> np.ndarray:
        """exp of a quadratic polynomial over the box [-1, 1]^3 at the coordinates k, j, i (1-D); float32 (K, J, I)."""
        k, j, i = k[:, None, None], j[None, :, None], i[None, None, :]
        terms = (k, j, i, k * k - 0.5, j * j - 0.5, i * i - 0.5, k * j, j * i, i * k)
        return np.asarray(np.exp(sum(c * t for c, t in zip(self.bias, terms, strict=True))), np.float32)

    def add_noise(self, array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Rician noise of standard deviation `noise` (units of the array) per quadrature channel; `masked`: none where there is air."""
        if not self.noise:
            return array
        real, imaginary = (self._noise_field(array.shape, rng) * np.float32(self.noise) for _ in range(2))
        noisy = np.asarray(np.hypot(array + real, imaginary), array.dtype)
        return np.where(array < MASKED_BELOW, array.dtype.type(0), noisy) if self.masked else noisy

    def _noise_field(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Standard normal noise (K, J, I), filtered along each axis as `correlation` says; its standard deviation stays 1."""
        field = rng.standard_normal(shape, dtype=np.float32)
        for axis, transfer in enumerate(self.correlation):
            if transfer == 1:
                continue
            n = shape[axis]
            k = np.fft.rfftfreq(n) * 2  # of Nyquist
            window = np.exp(np.log(transfer) * k**2) if transfer > 0 else (k <= -transfer).astype(float)
            full = np.concatenate([window, window[1 : (n + 1) // 2]])
            window = np.expand_dims(window / np.sqrt(np.mean(full**2)), [a for a in range(len(shape)) if a != axis])
            field = np.fft.irfft(np.fft.rfft(field, axis=axis) * window, n, axis=axis).astype(np.float32)
        return field


def sample(kind: str, factors: Factors, rng: np.random.Generator, noise: float = 0.0, mixture: NoiseConfig | None = None) -> Draw:
    """Draw what one training volume goes through.

    A protocol kind is drawn as it is. `random` is the mixture of method.md section 4: gaussian, box and kspace as in
    the protocol for two draws in three, otherwise widths between them per axis (gaussian FWHM 0.7 to 1.4 LR
    voxels, box 0.7 to 1.3, kspace apodised to 0.3 to 1 at the edge), Rician noise as `mixture` says (by default up to 2 % of
    the bright tissue in one of five), a bias field of up to about 20 % in one of four.
    """
    if kind != "random":
        return Draw(Degradation.named(kind, factors), noise)
    family: Kind = rng.choice(["gaussian", "box", "kspace"], p=[0.33, 0.29, 0.38])
    low, high = {"gaussian": (0.7, 1.4), "box": (0.7, 1.3), "kspace": (0.3, 1.0)}[family]
    widths = rng.uniform(low, high, 3) if rng.random() < 1 / 3 else np.ones(3)
    blurs = tuple(AxisBlur(family, float(w)) for w in widths)
    mixture = mixture or NoiseConfig()
    level = float(rng.uniform(0, mixture.most)) if rng.random() < mixture.share else 0.0
    bias = tuple(float(c) for c in rng.normal(0, 0.06, 9)) if rng.random() < 1 / 4 else ()
    correlation: tuple[float, ...] = ()
    if level and rng.random() < mixture.correlated:  # zero-filled from 0.6 to 0.95 of the band, or smoothed, along some axes
        filled = rng.random() < 0.5
        transfers = -rng.uniform(0.6, 0.95, 3) if filled else rng.uniform(0.1, 0.8, 3)
        correlation = tuple(float(t) if rng.random() < 0.7 else 1.0 for t in transfers)
    masked = bool(level) and rng.random() < mixture.masked
    return Draw(Degradation(factors, blurs), level, bias, correlation, masked)  # type: ignore[arg-type]
