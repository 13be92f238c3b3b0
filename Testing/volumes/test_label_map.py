"""Label maps against scans: atlases of many labels, masks, stored as any type; scans of few grey levels, smooth or noisy."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

from SRGAN3DLib.contract.errors import VolumeError
from SRGAN3DLib.volumes.label_map import count_labels
from SRGAN3DLib.volumes.volume import Volume

N = 48


def atlas(labels: int, masked: bool = True, seed: int = 0) -> np.ndarray:
    """Connected pieces around random seeds, numbered without order; 0 outside a ball."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(N)] * 3, indexing="ij"), -1).reshape(-1, 3)
    nearest = cKDTree(rng.random((labels, 3)) * N).query(grid)[1].reshape(N, N, N)
    values = rng.choice(np.arange(1, 4000), labels, replace=False)[nearest]
    inside = ((grid - N / 2) ** 2).sum(1).reshape(N, N, N) < (0.45 * N) ** 2
    return np.where(inside, values, 0).astype(np.float32) if masked else values.astype(np.float32)


def head(levels: int, smooth: float = 0.0) -> np.ndarray:
    """A scan-like image of so many grey levels."""
    rng = np.random.default_rng(1)
    texture = ndimage.gaussian_filter(rng.normal(size=(N, N, N)), 3)
    scan = 100 + 60 * texture / texture.std() + rng.normal(0, 12, (N, N, N))
    scan = ndimage.gaussian_filter(scan, smooth) if smooth else scan
    low, high = np.percentile(scan, [1, 99])
    return np.clip(np.floor((scan - low) / (high - low) * levels), 0, levels - 1).astype(np.float32)


@pytest.mark.parametrize("labels", [3, 8, 20, 40, 300])
@pytest.mark.parametrize("stored", ["int16", "float32"])
def test_atlases(labels: int, stored: str) -> None:
    for masked in (True, False):
        array = atlas(labels, masked)
        assert count_labels(array, stored) == np.unique(array).size
    rng = np.random.default_rng(2)
    speckled = np.where(rng.random(array.shape) < 0.01, rng.choice(np.unique(array), array.shape), array)
    assert count_labels(speckled, stored) == np.unique(array).size


def test_masks_however_sparse() -> None:
    mask = np.zeros((N, N, N), np.float32)
    mask[3:5, 40:43, 40:42] = 1
    assert count_labels(mask) == 2
    mask[20, 20, 20] = mask[30, 30, 30] = 1
    assert count_labels(mask) == 2


@pytest.mark.parametrize("levels", [12, 16, 20, 32, 64, 256])
@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_scans_of_few_grey_levels(levels: int, smooth: float) -> None:
    assert count_labels(head(levels, smooth), "uint8") == 0


def test_scans_of_eight_levels_and_phantoms_of_real_numbers() -> None:
    assert count_labels(head(8), "uint8") == 0
    assert count_labels(atlas(30) * 10.5, "float32") == 0
    assert count_labels(np.arange(8.0, dtype=np.float32).reshape(2, 2, 2)) == 0


def test_an_atlas_is_refused_by_name(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(atlas(40).astype(np.int16), np.eye(4)), tmp_path / "aparc.nii.gz")
    with pytest.raises(VolumeError, match=r"aparc\.nii\.gz: looks like a label map: \d+ values"):
        Volume.read(tmp_path / "aparc.nii.gz")


@pytest.mark.shared
@pytest.mark.parametrize("levels", [12, 16, 32])
def test_real_scans_of_few_grey_levels(levels: int) -> None:
    data = Path(__file__).resolve().parents[3] / "shared" / "data"
    for source in sorted(data.glob("validation/*/*.nii.gz")):
        array = Volume.read(source).array
        low, high = np.percentile(array, [0.1, 99.8])
        assert count_labels(np.clip(np.floor((array - low) / (high - low) * levels), 0, levels - 1), "uint8") == 0, source
