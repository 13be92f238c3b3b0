"""Geometry: the half-voxel rule by hand, then for any oblique, sheared, left-handed matrix."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from SRGAN3DLib.contract.errors import JobError, VolumeError
from SRGAN3DLib.volumes.geometry import Geometry, ras_from_lps, slabs, volume_shape

# A grid of 4 x 3 x 2 voxels (K, J, I): I goes left 2 mm, J goes up 3 mm, K goes forward 1 mm; first centre at (10, 20, 30).
BY_HAND = np.array([[-2.0, 0, 0, 10], [0, 0, 1, 20], [0, 3, 0, 30], [0, 0, 0, 1]])


@st.composite
def matrices(draw: st.DrawFn) -> np.ndarray:
    """Two rotations around a stretch give shear of any direction; a sign gives handedness."""
    number = st.floats(-1, 1)
    a, b = (np.linalg.qr(np.eye(3) * 2 + np.array(draw(st.lists(number, min_size=9, max_size=9))).reshape(3, 3))[0] for _ in range(2))
    stretch = [draw(st.floats(0.2, 5)) for _ in range(3)]
    matrix = np.eye(4)
    matrix[:3, :3] = a @ np.diag(stretch) @ b
    matrix[:3, 0] *= draw(st.sampled_from([-1, 1]))
    matrix[:3, 3] = [draw(st.floats(-300, 300)) for _ in range(3)]
    return matrix


geometries = st.builds(Geometry, st.tuples(*[st.integers(1, 300)] * 3), matrices())
factors = st.tuples(*[st.integers(1, 4)] * 3)


@given(geometries, st.permutations(range(3)))
def test_axes_in_another_order_leave_every_voxel_where_it_is(geometry: Geometry, order: list[int]) -> None:
    """Voxel (i, j, k) of the new grid is the old one that `array.transpose` puts there."""
    turned = geometry.permute(order)
    assert turned.shape_kji == tuple(geometry.shape_kji[axis] for axis in order)
    new_kji = np.array([3.0, 1.0, 2.0])
    old_kji = np.empty(3)
    old_kji[order] = new_kji
    places = [g.ijk_to_ras @ [*kji[::-1], 1] for g, kji in ((turned, new_kji), (geometry, old_kji))]
    np.testing.assert_allclose(*places, rtol=0, atol=1e-9)
    assert turned.permute(np.argsort(order).tolist()) == geometry


def test_an_order_that_is_none() -> None:
    with pytest.raises(JobError, match=r"order \(0, 0, 1\) of \(K, J, I\)"):
        Geometry((4, 3, 2), BY_HAND).permute((0, 0, 1))


def test_by_hand() -> None:
    geometry = Geometry((4, 3, 2), BY_HAND)
    assert geometry.spacing_ijk_mm == (2, 3, 1) and geometry.spacing_kji_mm == (1, 3, 2)
    assert not geometry.is_left_handed and not geometry.is_sheared
    corners = geometry.corners_ras()
    np.testing.assert_allclose(corners[0], [11, 19.5, 28.5])  # half a voxel before the first centre
    np.testing.assert_allclose(corners[1], [11, 23.5, 28.5])  # K is the fastest
    np.testing.assert_allclose(corners[7], [7, 23.5, 37.5])


def test_refine_by_hand() -> None:
    fine = Geometry((4, 3, 2), BY_HAND).refine((1, 3, 2))
    assert fine.shape_kji == (4, 9, 4) and fine.spacing_ijk_mm == (1, 1, 1)
    np.testing.assert_allclose(fine.ijk_to_ras[:3, 3], [10.5, 20, 29])  # a quarter of 2 mm back along I, a third of 3 mm along J


def test_coarsen_by_hand() -> None:
    coarse = Geometry((4, 3, 2), BY_HAND).coarsen((2, 2, 1))
    assert coarse.shape_kji == (2, 1, 2)  # the third row of J is cropped at the high end
    assert coarse.spacing_ijk_mm == (2, 6, 2)
    np.testing.assert_allclose(coarse.ijk_to_ras[:3, 3], [10, 20.5, 31.5])


@given(geometries, factors)
def test_refine_keeps_the_box(geometry: Geometry, f: tuple[int, int, int]) -> None:
    fine = geometry.refine(f)
    assert fine.box_distance_mm(geometry) < 1e-9
    assert fine.is_left_handed == geometry.is_left_handed
    np.testing.assert_allclose(np.array(fine.spacing_kji_mm) * f, geometry.spacing_kji_mm)


@given(geometries, factors)
def test_coarsen_undoes_refine(geometry: Geometry, f: tuple[int, int, int]) -> None:
    back = geometry.refine(f).coarsen(f)
    assert back.shape_kji == geometry.shape_kji
    np.testing.assert_allclose(back.ijk_to_ras, geometry.ijk_to_ras, atol=1e-9)


@given(geometries, factors)
def test_coarse_cells_are_the_cropped_fine_box(geometry: Geometry, f: tuple[int, int, int]) -> None:
    shape = tuple(n // k * k for n, k in zip(geometry.shape_kji, f, strict=True))
    if min(shape) == 0:
        with pytest.raises(VolumeError, match="cannot be reduced"):
            geometry.coarsen(f)
        return
    assert geometry.coarsen(f).box_distance_mm(Geometry(shape, geometry.ijk_to_ras)) < 1e-9


@given(matrices())
def test_lps_flip_is_its_own_inverse(matrix: np.ndarray) -> None:
    flipped = ras_from_lps(matrix)
    np.testing.assert_array_equal(flipped[:2], -matrix[:2])
    np.testing.assert_array_equal(flipped[2:], matrix[2:])
    np.testing.assert_array_equal(ras_from_lps(flipped), matrix)


def test_shear_and_handedness() -> None:
    sheared = BY_HAND.copy()
    sheared[:3, 1] += [1e-3, 0, 0]
    assert Geometry((2, 2, 2), sheared).is_sheared
    assert Geometry((2, 2, 2), BY_HAND @ np.diag([1, -1, 1, 1])).is_left_handed


def test_immutable_hashable_and_compared_by_value() -> None:
    source = BY_HAND.copy()
    one, two = Geometry((4, 3, 2), source), Geometry((4, 3, 2), BY_HAND)
    source[0, 0] = 99
    assert one == two and hash(one) == hash(two) and len({one, two}) == 1
    assert one != Geometry((4, 3, 3), BY_HAND) and one != "a grid"
    signed = np.where(BY_HAND == 0, -0.0, BY_HAND)
    assert hash(Geometry((4, 3, 2), signed)) == hash(one)
    with pytest.raises(ValueError, match="read-only"):
        one.ijk_to_ras[0, 0] = 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({(0, 3): np.nan}, "not finite"),
        ({(0, 0): np.inf}, "not finite"),
        ({(0, 0): 0}, r"spacing \[0., 3., 1.\] mm"),
        ({(0, 0): 0, (2, 0): 3}, "singular"),
        ({(3, 0): 1}, "not affine"),
    ],
)
def test_bad_matrices(change: dict[tuple[int, int], float], words: str) -> None:
    matrix = BY_HAND.copy()
    for place, value in change.items():
        matrix[place] = value
    with pytest.raises(VolumeError, match=words) as caught:
        Geometry((4, 3, 2), matrix)
    assert "\n" not in str(caught.value)


def test_bad_shapes_and_factors() -> None:
    with pytest.raises(VolumeError, match="4 x 4"):
        Geometry((4, 3, 2), np.eye(3))
    for shape in ((0, 3, 2), (3, 2), (2, 2, 2, 2)):
        with pytest.raises(VolumeError, match="shape"):
            Geometry(shape, BY_HAND)  # type: ignore[arg-type]
    for bad in ((0, 1, 1), (1.5, 1, 1), (2, 2)):
        with pytest.raises(JobError, match="factors"):
            Geometry((4, 3, 2), BY_HAND).refine(bad)  # type: ignore[arg-type]


def test_volume_shape() -> None:
    assert volume_shape((8, 7, 6)) == (6, 7, 8)
    assert volume_shape((8, 7, 2, 1, 1)) == (2, 7, 8)
    for sizes, words in (((8, 7), "2-D"), ((8, 1, 6), "2-D"), ((8, 7, 6, 3), "4-D"), ((8, 0, 6), "without voxels")):
        with pytest.raises(VolumeError, match=words):
            volume_shape(sizes)


@settings(max_examples=30)
@given(st.tuples(*[st.integers(1, 40)] * 3), st.integers(1, 2000))
def test_slabs_cover_everything_once(shape: tuple[int, int, int], voxels: int) -> None:
    seen = [k for slab in slabs(shape, voxels) for k in range(shape[0])[slab]]
    assert seen == list(range(shape[0]))


@pytest.mark.parametrize("shape", [(7, 11, 13), (1, 3, 5), (40, 41, 42)])
def test_another_shape_fills_the_same_box(shape: tuple[int, int, int]) -> None:
    from grids import SHEARED

    geometry = Geometry((10, 12, 14), SHEARED)
    again = geometry.resampled(shape)
    assert again.shape_kji == shape and again.box_distance_mm(geometry) < 1e-9
