"""The layers of the house: imports point down only, siblings never import each other, and the doors load nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "SRGAN3DLib"
CONTRACT = {"errors", "configs", "events", "jobs", "checkpoint_header"}  # all that Slicer's own process may import
HEAVY = {"torch", "SimpleITK", "nibabel", "scipy", "matplotlib"}

LAYERS = (  # lowest first; __init__ stands outside: it imports nothing until a name is asked for
    "errors",
    "configs events files memory loss_guard",
    "ranks",
    "jobs checkpoint_header geometry",
    "nifti itk_files phase_kernels",
    "volume intensity degradations networks devices losses metrics interpolation blur_estimator rank_norm",
    "protocol console arrays scans",
    "split",
    "checkpoint tiling datasets compiled training_state training_log pictures consistency",
    "super_resolver validation",
    "training_report",
    "trainer",
    "evaluation fit",
    "demo",
    "run",
    "worker",
    "cli",
    "__main__",
)
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names.split()}


def library_imports(path: Path) -> set[str]:
    """Names of the modules of SRGAN3DLib that the file imports, at its top or within functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = (path.parent.name if node.level else "") + ("." if node.level and node.module else "") + (node.module or "")
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "SRGAN3DLib" else [base]
        found |= {name.split(".")[1] for name in names if name.startswith("SRGAN3DLib.")}
    return found - {"__version__"}


def test_every_file_has_a_layer() -> None:
    present = {path.stem for path in LIBRARY.glob("*.py")} - {"__init__"}
    assert sorted(present - set(LAYER)) == [], "give these a layer"
    assert sorted(set(LAYER) - present) == [], "these are gone"


@pytest.mark.parametrize("path", sorted(LIBRARY.glob("*.py")), ids=lambda path: path.stem)
def test_imports_point_down(path: Path) -> None:
    own = LAYER.get(path.stem, 0 if path.stem == "__init__" else len(LAYERS))
    assert {name for name in library_imports(path) if LAYER.get(name, len(LAYERS)) >= own} == set()


def test_slicer_side_imports_the_contract_only() -> None:
    for path in (ROOT / "SRGAN3D").rglob("*.py"):
        assert library_imports(path) <= CONTRACT, path
        assert "import torch" not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c", "import SRGAN3DLib"),
        ("-c", "import SRGAN3DLib.cli"),
        ("-c", "from SRGAN3DLib import " + ", ".join(sorted(CONTRACT))),
        ("-m", "SRGAN3DLib", "--help"),
    ],
    ids=["package", "cli", "contract", "help"],
)
def test_the_doors_load_nothing_heavy(arguments: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-X", "importtime", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)
    lines = done.stderr.splitlines()
    assert done.returncode == 0, "\n".join(line for line in lines if not line.startswith("import time:"))
    loaded = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines if line.startswith("import time:")}
    assert "SRGAN3DLib" in loaded
    assert loaded & HEAVY == set()
