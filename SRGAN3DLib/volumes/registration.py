"""Rigid registration of one scan onto another of the same head, by SimpleITK; only its matrix changes, never its voxels."""

from __future__ import annotations

from typing import Any

import numpy as np

from SRGAN3DLib.contract.errors import VolumeError

from .geometry import Geometry, ras_from_lps
from .volume import Volume

BINS = 50
SAMPLES = 0.2
SEED = 20170331
FURTHEST_MM, FURTHEST_DEGREES = 60.0, 45.0


def register_rigid(fixed: Volume, moving: Volume) -> tuple[Geometry, dict[str, Any]]:
    """The geometry that lays `moving` onto `fixed`, and how well: mutual information before and after, shift (mm), turn (degrees).

    Mattes mutual information on three resolutions. Raises `VolumeError` where it does not converge or moves the scan implausibly far.
    """
    import SimpleITK as sitk

    a, b = (sitk.Cast(_image(volume), sitk.sitkFloat32) for volume in (fixed, moving))
    start = sitk.CenteredTransformInitializer(a, b, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.GEOMETRY)
    start = sitk.Euler3DTransform(start)
    start.SetTranslation((0.0, 0.0, 0.0))
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(SAMPLES, SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 100)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(start, inPlace=True)
    try:
        before = -float(method.MetricEvaluate(a, b))
        method.Execute(a, b)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[-160:]
        raise VolumeError(f"{moving.path or 'the second scan'}: rigid registration failed ({reason})") from None
    matrix = np.eye(4)  # from a point of `fixed` to the point of `moving`, LPS
    rotation, centre = np.reshape(start.GetMatrix(), (3, 3)), np.array(start.GetCenter())
    matrix[:3, :3] = rotation
    matrix[:3, 3] = np.array(start.GetTranslation()) + centre - rotation @ centre
    geometry = Geometry(moving.geometry.shape_kji, ras_from_lps(np.linalg.inv(matrix) @ ras_from_lps(moving.geometry.ijk_to_ras)))
    turn = float(np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))))
    shift = float(np.linalg.norm(start.GetTranslation()))
    if shift > FURTHEST_MM or turn > FURTHEST_DEGREES:
        raise VolumeError(
            f"{moving.path or 'the second scan'}: registration would move it by {shift:.0f} mm and turn it by {turn:.0f} degrees"
        )
    after = -float(method.GetMetricValue())
    return geometry, {"information_before": before, "information_after": after, "shift_mm": shift, "turn_degrees": turn}


def _image(volume: Volume) -> Any:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(volume.array)
    lps, spacing = ras_from_lps(volume.geometry.ijk_to_ras), np.array(volume.geometry.spacing_ijk_mm)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    return image
