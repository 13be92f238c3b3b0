"""No plan can change the answer; plans fit their budgets; memory limits hold in a real process."""

from __future__ import annotations

import itertools
import json
import math
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from lively import TOLD, lively, plain

from SRGAN3DLib.contract.configs import Factors, GeneratorConfig, preset
from SRGAN3DLib.contract.errors import Cancelled, ResourceError
from SRGAN3DLib.inference import memory, tiling
from SRGAN3DLib.networks.compiled import CompiledGenerator
from SRGAN3DLib.networks.generator import Generator
from SRGAN3DLib.physics.intensity import IntensityScale

Triple = tuple[int, int, int]
SCALE = IntensityScale(20.0, 80.0)


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(50, 40, shape).astype(np.float32)


def whole(generator: Generator, image: np.ndarray, scale: IntensityScale = SCALE) -> np.ndarray:
    """The plain network's forward of the whole volume, in the units of the input."""
    batch = image[None] if image.ndim == 4 else image[None, None]
    return np.asarray(scale.undo(plain(generator, torch.from_numpy(scale.apply(batch))).numpy()[0, 0]))


def assert_equal(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.shape == wanted.shape and found.dtype == np.float32
    spread = max(np.ptp(wanted), SCALE.gain)  # of a volume of one voxel the values themselves have no range
    assert np.abs(found - wanted).max() <= 1e-5 * spread


sizes = st.tuples(*[st.integers(1, 11)] * 2, st.integers(1, 45)).flatmap(st.permutations).map(tuple)
configs = st.builds(
    GeneratorConfig,
    factors=st.tuples(*[st.sampled_from((1, 2, 3, 4))] * 3),
    features=st.just(4),
    blocks=st.sampled_from((1, 2)),
    norm=st.sampled_from(("batch", "none")),
    upsampling=st.sampled_from(("resize-conv", "subpixel", "subpixel-nn")),
    blur_aware=st.booleans(),
    noise_aware=st.booleans(),
    interpolation_residual=st.booleans(),
)


@given(
    config=configs,
    shape=sizes,
    parts=st.tuples(*[st.integers(1, 3)] * 3),
    tile=st.tuples(*[st.sampled_from((2, 5, 40))] * 3),
    slab=st.sampled_from((1, 150, 1 << 16)),
    seed=st.integers(0, 99),
)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_no_plan_changes_the_answer(config: GeneratorConfig, shape: Triple, parts: Triple, tile: Triple, slab: int, seed: int) -> None:
    assume(math.prod(shape) * math.prod(config.factors) <= 30_000)
    assume(math.prod(math.ceil(n / t) for n, t in zip(shape, tile, strict=True)) <= 100)
    generator, image = lively(config, seed), noise(shape, seed)
    network = CompiledGenerator(generator)
    network.slab_voxels = slab
    plan = tiling.plan_of(network, shape, tiling._triple(min(p, n) for p, n in zip(parts, shape, strict=True)), tile)
    heard: list[tuple[float, float]] = []
    found, info = tiling.run(network, image, told=TOLD, scale=SCALE, forced=plan, on_progress=lambda *now: heard.append(now))
    assert_equal(found, whole(generator, image))
    assert info.pieces == len(plan.cores) and info.out_of_memory == []
    done, total = (list(column) for column in zip(*heard, strict=True))
    assert done == sorted(done) and done[-1] == pytest.approx(math.prod(shape)) and set(total) == {math.prod(shape)}


@given(config=configs, shape=st.tuples(*[st.sampled_from((2, 19, 33, 52))] * 3), share=st.floats(0.01, 1.2))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_no_budget_changes_the_answer(config: GeneratorConfig, shape: Triple, share: float) -> None:
    """The plans that a memory limit leads to, on sizes that can be cut."""
    assume(math.prod(shape) * math.prod(config.factors) <= 150_000)
    generator, image = lively(config), noise(shape)
    network = CompiledGenerator(generator)
    plan = tiling.plan(network, shape, share * tiling.plan(network, shape, 1e12).scratch_bytes)
    assert_equal(tiling.run(network, image, told=TOLD, scale=SCALE, forced=plan)[0], whole(generator, image))


def test_thin_slabs_and_several_images() -> None:
    generator = lively(GeneratorConfig((1, 2, 2), features=4, blocks=1, input_channels=2, interpolation_residual=True))
    network, image = CompiledGenerator(generator), noise((2, 2, 40, 33))
    plan = tiling.plan_of(network, (2, 40, 33), (1, 2, 2), (2, 8, 8))
    assert_equal(tiling.run(network, image, scale=SCALE, forced=plan)[0], whole(generator, image))
    assert_equal(tiling.run(network, image, scale=SCALE)[0], whole(generator, image))


@pytest.mark.parametrize("views", [1, 2, 4, 8])
def test_the_mean_over_mirrored_views(views: int) -> None:
    """Each view is mirrored back to its place, in pieces as whole; progress runs once from nothing to all."""
    generator, image = lively(GeneratorConfig((1, 2, 3), features=4, blocks=1, interpolation_residual=True)), noise((5, 9, 20))
    network = CompiledGenerator(generator)
    mirrored = list(itertools.islice(itertools.product([()], [(), (0,)], [(), (1,)], [(), (2,)]), views))
    axes = [sum(one, ()) for one in mirrored]
    wanted = np.mean([np.flip(whole(generator, np.flip(image, one).copy()), one) for one in axes], axis=0, dtype=np.float64)
    heard: list[float] = []
    plan = tiling.plan_of(network, (5, 9, 20), (1, 2, 2), (2, 5, 40))
    found, info = tiling.run(network, image, scale=SCALE, flips=views, forced=plan, on_progress=lambda done, _: heard.append(done))
    assert_equal(found, wanted.astype(np.float32))
    assert info.pieces == 4 * views and heard == sorted(heard) and heard[-1] == pytest.approx(image.size)


def test_the_input_is_left_alone() -> None:
    network, image = CompiledGenerator(lively(GeneratorConfig(features=4, blocks=1))), noise((5, 6, 7))
    before = image.copy()
    tiling.run(network, image, scale=SCALE)
    tiling.run(network, np.asfortranarray(image), scale=SCALE)
    assert np.array_equal(image, before)


@pytest.fixture(scope="module")
def paper() -> CompiledGenerator:
    return CompiledGenerator(Generator(preset("paper")).eval())


@pytest.mark.parametrize("shape", [(512, 512, 512), (180, 256, 256), (2, 512, 512), (7, 300, 1)])
@pytest.mark.parametrize("budget", [3e8, 2e9, 2e10])
def test_plans_fit_and_fill_the_volume(paper: CompiledGenerator, shape: Triple, budget: float) -> None:
    start = time.process_time()
    plan = tiling.plan(paper, shape, budget)
    assert time.process_time() - start < 5
    assert plan.scratch_bytes <= budget
    corners = [sorted({core[axis] for core in plan.cores}) for axis in range(3)]
    for axis, n in enumerate(shape):  # the parts of each axis follow on each other, from 0 to its end
        assert corners[axis][0][0] == 0 and corners[axis][-1][1] == n
        assert all(a[1] == b[0] for a, b in itertools.pairwise(corners[axis]))
    assert set(plan.cores) == set(itertools.product(*corners)) and len(plan.cores) == len(set(plan.cores))


def test_more_memory_means_less_work(paper: CompiledGenerator) -> None:
    plans = [tiling.plan(paper, (256, 256, 256), budget) for budget in (3e8, 1e9, 3e9, 1e11)]
    counts = [len(plan.cores) for plan in plans]
    assert counts == sorted(counts, reverse=True) and counts[-1] == 1
    assert tiling.plan(paper, (256, 256, 256), -1).scratch_bytes < 2e8  # none fits: the smallest there is


def test_cancelled_between_planes_and_tiles() -> None:
    network, image = CompiledGenerator(lively(GeneratorConfig(features=4, blocks=1))), noise((20, 9, 9))
    network.slab_voxels = 200
    plan = tiling.plan_of(network, (20, 9, 9), (2, 1, 1), (5, 9, 9))
    answers = 0

    def cancelled() -> bool:
        nonlocal answers
        answers += 1
        return answers == stop

    for stop in (1, 4, 1000):
        answers = 0
        if stop < 1000:
            with pytest.raises(Cancelled):
                tiling.run(network, image, forced=plan, cancelled=cancelled)
            assert answers == stop
        else:
            tiling.run(network, image, forced=plan, cancelled=cancelled)
            assert answers > 12  # asked again and again: two pieces of several steps, four tiles


class Scarce(CompiledGenerator):
    """Memory for `trunk` and `tail` of so many voxels, and no more."""

    trunk_voxels, tail_voxels = 10**9, 10**9
    message = "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."

    def trunk(self, image: torch.Tensor, *rest: Any, **more: Any) -> torch.Tensor:
        if image[0, 0].numel() > self.trunk_voxels:
            raise RuntimeError(self.message)
        return super().trunk(image, *rest, **more)

    def tail(self, features: torch.Tensor, *rest: Any) -> torch.Tensor:
        if features[0, 0].numel() > self.tail_voxels:
            raise MemoryError
        return super().tail(features, *rest)


def test_goes_on_in_halves_where_memory_runs_out() -> None:
    generator, image = lively(GeneratorConfig((2, 1, 3), features=4, blocks=1)), noise((30, 9, 11))
    network, heard = Scarce(generator), list[float]()
    network.trunk_voxels, network.tail_voxels = 25 * 99, 1200
    found, info = tiling.run(network, image, scale=SCALE, on_progress=lambda done, total: heard.append(done))
    assert_equal(found, whole(generator, image))
    assert any("(30, 9, 11)" in line for line in info.out_of_memory) and len(info.out_of_memory) >= 3
    assert info.pieces >= 2 and heard[-1] == pytest.approx(30 * 9 * 11)


def test_memory_that_never_suffices_and_other_failures() -> None:
    network, image = Scarce(lively(GeneratorConfig(features=4, blocks=1))), noise((4, 4, 4))
    network.trunk_voxels = 0
    with pytest.raises(ResourceError, match=r"even in the smallest piece.*can't allocate"):
        tiling.run(network, image)
    network.message = "weight should have at least three dimensions"
    with pytest.raises(RuntimeError, match="three dimensions"):
        tiling.run(network, image)


def test_too_small_a_limit_names_the_least_that_would_do() -> None:
    network, image = CompiledGenerator(lively(GeneratorConfig(features=16, blocks=1))), noise((24, 25, 26))
    with pytest.raises(ResourceError, match=r"memory limit 100M: too little for 26 x 25 x 24 voxels") as caught:
        tiling.run(network, image, memory_limit=100 << 20)
    named = re.search(r"least limit that would do is (\d+)M", str(caught.value))
    assert named
    least = int(named[1]) << 20
    assert least < memory.resident_bytes() + (200 << 20)
    _, info = tiling.run(network, image, memory_limit=least)
    assert info.limit_bytes == least


def test_without_a_limit_the_machine_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    network, image = CompiledGenerator(lively(GeneratorConfig(features=4, blocks=1))), noise((8, 8, 8))
    monkeypatch.setattr(memory, "available_bytes", lambda: 10 << 20)
    with pytest.raises(ResourceError, match="7M of memory free: too little"):
        tiling.run(network, image)


LIMITED = """
import json, sys
import numpy as np, torch
from SRGAN3DLib.inference import memory
from SRGAN3DLib.inference import tiling
from SRGAN3DLib.networks.compiled import CompiledGenerator
from SRGAN3DLib.contract.configs import GeneratorConfig
from SRGAN3DLib.networks.generator import Generator
torch.manual_seed(0)
torch.set_num_threads(2)
generator = Generator(GeneratorConfig(features=32, blocks=1, norm="none", upsampling="subpixel")).eval()
image = np.random.default_rng(0).random((64, 100, 100), np.float32)
held = memory.resident_bytes()
limit = held + int(sys.argv[1]) * 2**20
output, info = tiling.run(CompiledGenerator(generator), image, memory_limit=limit)
print(json.dumps([memory.peak_bytes() - held, limit - held, info.pieces, float(output.mean()), float(output[77, 91, 92])]))
"""


def test_the_limit_holds_in_a_real_process() -> None:
    root = Path(__file__).resolve().parents[2]
    seen: list[list[float]] = []
    for megabytes in (150, 400):
        done = subprocess.run([sys.executable, "-c", LIMITED, str(megabytes)], cwd=root, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        seen.append(json.loads(done.stdout))
    (tight_peak, tight, pieces, *tight_values), (wide_peak, wide, one, *wide_values) = seen
    assert tight_peak <= tight and wide_peak <= wide
    assert pieces > one == 1
    assert np.allclose(tight_values, wide_values, rtol=0, atol=1e-6)


def test_factors_are_not_mixed_up() -> None:
    factors: Factors = (1, 2, 3)
    network = CompiledGenerator(lively(GeneratorConfig(factors, features=4, blocks=0)))
    assert tiling.run(network, noise((4, 5, 6)))[0].shape == (4, 10, 18)
