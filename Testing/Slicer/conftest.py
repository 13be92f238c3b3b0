"""The module's folder becomes importable, as Slicer makes it; `slicer` is Slicer's own MRML (slicer-core)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SRGAN3D"), str(ROOT)]
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ["OMP_NUM_THREADS"] = "1"  # of the workers that these tests start
os.environ["SRGAN3D_PYTHON"] = sys.executable


@pytest.fixture
def scene() -> Iterator[Any]:
    """A new scene that knows sequences and has a subject hierarchy."""
    one = slicer.vtkMRMLScene()
    sequences = slicer.vtkSlicerSequencesLogic()
    sequences.SetMRMLScene(one)
    slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(one)
    yield one
    one.Clear(True)


@pytest.fixture
def add_volume(scene: Any, small_head: np.ndarray) -> Any:
    """add_volume(matrix, array=small_head, name=..., kind=...) -> a volume node of the scene, with a display node."""
    from SRGAN3DSlicer import mrml

    def add(matrix: np.ndarray, array: np.ndarray = small_head, name: str = "Kopf ü", kind: str = "vtkMRMLScalarVolumeNode") -> Any:
        node = scene.AddNewNodeByClass(kind, name)
        mrml.fill(node, array, matrix)
        node.CreateDefaultDisplayNodes()
        return node

    return add


@pytest.fixture
def app(scene: Any) -> Any:
    """The parts of Slicer's application that slicer-core lacks, and PySide6 in the manners of PythonQt."""
    import slicer_double

    return slicer_double.install(scene)


@pytest.fixture
def bench(app: Any, tiny_model: Path) -> Iterator[Any]:
    """A panel with one scan and a label map in its scene, on a made-up process."""
    import pythonqt
    import slicer_double
    from bench import Bench
    from panels import make

    Bench.add_volume("vtkMRMLLabelMapVolumeNode", "labels")
    Bench.add_volume()
    one = make(tiny_model)
    yield one
    one.widget.cleanup()
    app.processEvents()  # what was to be done once the views have their size
    assert pythonqt.swallowed == [] and slicer_double.boxes == []


@pytest.fixture(scope="session")
def tiny_synthesis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained checkpoint that makes a CT from T1w and T2w."""
    import torch

    from SRGAN3DLib.contract.checkpoint_header import CheckpointHeader
    from SRGAN3DLib.contract.configs import GeneratorConfig
    from SRGAN3DLib.contract.synthesis import InputImage, ct_output
    from SRGAN3DLib.networks.checkpoint import Checkpoint
    from SRGAN3DLib.networks.generator import Generator

    torch.manual_seed(3)
    config = GeneratorConfig(factors=(1, 1, 1), features=4, blocks=1, norm="none", upsampling="subpixel", input_channels=2)
    inputs = (InputImage("T1w", "T1w"), InputImage("T2w", "T2w"))
    header = CheckpointHeader("tiny-ct", config, task="synthesis", inputs=inputs, output=ct_output())
    path = tmp_path_factory.mktemp("synthesis") / "tiny-ct.safetensors"
    Checkpoint(header, Generator(config).state_dict()).save(path)
    return path
