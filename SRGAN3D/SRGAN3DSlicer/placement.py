"""How the factors of a model lie along the axes of a volume."""

from collections.abc import Sequence

from SRGAN3DLib.contract.checkpoint_header import CheckpointHeader
from SRGAN3DLib.contract.configs import Factors
from SRGAN3DLib.contract.errors import JobError
from SRGAN3DLib.contract.job_values import place_factors

TOO_FINE = 0.7  # of the spacing within the slices: thinner slices than this add voxels and no detail


def placed_factors(header: CheckpointHeader, spacing_ijk: Sequence[float], factors: int | Factors | None = None) -> Factors:
    """The model's factors along I, J, K of a volume: as asked, else along its thick axis. Raises `JobError` if it has others."""
    asked = None if factors is None else (factors,) * 3 if isinstance(factors, int) else tuple(factors)
    own = tuple(reversed(header.generator.factors))
    try:
        order = place_factors(own, tuple(spacing_ijk), asked)
    except JobError:
        raise JobError(f"factors {asked}: must be those of model {header.name}, {own}, along I, J, K in any order") from None
    return tuple(own[axis] for axis in order)


def thins_slices(header: CheckpointHeader) -> bool:
    return sum(factor > 1 for factor in header.generator.factors) == 1


def too_fine(factors: Sequence[int], spacing_ijk: Sequence[float]) -> bool:
    """Whether the new slices would be much thinner than the voxels are wide."""
    within = [s for s, f in zip(spacing_ijk, factors, strict=True) if f == 1]
    return bool(within) and min(s / f for s, f in zip(spacing_ijk, factors, strict=True) if f > 1) < TOO_FINE * min(within)
