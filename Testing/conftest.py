"""What all tests share. Tests marked `shared` need the scans and the referee beside the checkout, and are deselected without them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from untrained import save_untrained

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if (SHARED / "data").is_dir():
        return
    away = [item for item in items if item.get_closest_marker("shared")]
    items[:] = [item for item in items if not item.get_closest_marker("shared")]
    config.hook.pytest_deselected(items=away)


@pytest.fixture(autouse=True)
def _two_threads() -> None:
    """Tests share the machine: torch, where a test has loaded it, keeps to two threads."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() > 2:
        torch.set_num_threads(2)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Tiny tensors run faster on one thread, and the same on every machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scans (train/, validation/, volumes.csv); for tests marked `shared`."""
    return SHARED / "data"


@pytest.fixture(scope="session")
def referee() -> ModuleType:
    """The independent judge of the protocol, as a module; for tests marked `shared`."""
    spec = importlib.util.spec_from_file_location("referee", SHARED / "referee" / "referee.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@lru_cache(maxsize=1)
def _head() -> np.ndarray:
    shape_kji = (40, 48, 44)
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape_kji), indexing="ij")
    head = np.zeros(shape_kji)
    for value, centre, radii in (
        (260, (0, 0, 0), (0.86, 0.90, 0.82)),  # scalp
        (60, (0, 0, 0), (0.78, 0.82, 0.74)),  # skull
        (420, (0, 0, 0), (0.70, 0.74, 0.66)),  # grey matter
        (640, (0, 0, 0), (0.54, 0.58, 0.50)),  # white matter
        (110, (0.10, 0, 0.16), (0.22, 0.30, 0.09)),  # ventricles
        (110, (0.10, 0, -0.16), (0.22, 0.30, 0.09)),
        (330, (-0.50, -0.20, 0.05), (0.16, 0.22, 0.20)),
    ):
        inside = sum(((x - c) / r) ** 2 for x, c, r in zip((k, j, i), centre, radii, strict=True)) < 1
        head[inside] = value
    texture = 1 + 0.06 * np.sin(19 * k + 3 * j) * np.sin(23 * j - 5 * i) * np.sin(17 * i + 2)
    noise = np.random.default_rng(20170331).normal(0, 4, shape_kji)
    return np.maximum(head * texture + noise, 0).astype(np.float32)


@pytest.fixture
def small_head() -> np.ndarray:
    """A made-up head, float32 (40, 48, 44) = (K, J, I): nested ellipsoids with edges, texture and a little noise; always the same."""
    return _head().copy()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """x2, 4 features: does a small volume in a blink."""
    return save_untrained(tmp_path_factory.mktemp("models") / "tiny.safetensors")


@pytest.fixture(scope="session")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """x2, wide and deep: takes long enough to be cancelled."""
    return save_untrained(tmp_path_factory.mktemp("models") / "slow.safetensors", features=48, blocks=8, upsampling="resize-conv")
