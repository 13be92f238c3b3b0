"""The rooms of the house: which package may import which, and which doors must load nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "SRGAN3DLib"
HEAVY = {"torch", "SimpleITK", "nibabel", "pydicom", "scipy", "matplotlib"}

# room -> the rooms whose files it may import, beside its own; `volumes.files` names one file
MAY_IMPORT: dict[str, set[str]] = {
    "contract": set(),
    "volumes": {"contract"},
    "physics": {"contract"},
    "networks": {"contract", "volumes.files"},
    "inference": {"contract", "volumes", "physics", "networks"},
    "evaluation": {"contract", "volumes", "physics", "networks", "inference"},
    "training": {"contract", "volumes", "physics", "networks", "inference", "evaluation"},
    "app": {"contract", "volumes", "physics", "networks", "inference", "evaluation", "training"},
}


def imported_files(path: Path) -> set[str]:
    """The files of SRGAN3DLib that `path` imports, at its top or within functions, as `room.file`; `""` is the package itself."""
    package = path.parent.relative_to(ROOT).parts if LIBRARY in path.parents else ()
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names] if base.count(".") < 2 else [base]
        else:
            continue
        found |= {".".join(name.split(".")[1:3]) for name in names if name.split(".")[0] == "SRGAN3DLib"}
    return found


def library_files() -> list[Path]:
    return sorted(path for room in MAY_IMPORT for path in (LIBRARY / room).glob("*.py"))


def test_every_file_has_a_room() -> None:
    assert {path.name for path in LIBRARY.glob("*") if path.is_file()} == {"__init__.py", "__main__.py", "py.typed", "CMakeLists.txt"}
    rooms = {path.name for path in LIBRARY.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == {*MAY_IMPORT, "models"}


@pytest.mark.parametrize("path", library_files(), ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_imports_keep_to_the_table(path: Path) -> None:
    room = path.parent.name
    allowed = MAY_IMPORT[room] | {room}
    assert {name for name in imported_files(path) - {"__version__"} if name.split(".")[0] not in allowed and name not in allowed} == set()


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_no_circle_within_a_room(room: str) -> None:
    imports = {
        path.stem: {name.split(".")[1] for name in imported_files(path) if name.startswith(f"{room}.")}
        for path in (LIBRARY / room).glob("*.py")
    }
    while leaves := {name for name, needs in imports.items() if not needs & set(imports)}:
        imports = {name: needs for name, needs in imports.items() if name not in leaves}
    assert imports == {}, "these import each other"


def test_the_contract_needs_the_standard_library_only() -> None:
    for path in (LIBRARY / "contract").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names, path


def test_slicer_side_imports_the_contract_only() -> None:
    for path in (ROOT / "SRGAN3D").rglob("*.py"):
        assert {name.split(".")[0] for name in imported_files(path)} <= {"contract"}, path
        assert "import torch" not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c", "import SRGAN3DLib"),
        ("-c", "import SRGAN3DLib.app.cli"),
        ("-c", "from SRGAN3DLib.contract import " + ", ".join(sorted(path.stem for path in (LIBRARY / "contract").glob("[a-z]*.py")))),
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
