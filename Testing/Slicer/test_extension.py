"""The extension as the Extensions Index and CMake see it: its rules, and an installed tree that works by itself."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENTRY = ROOT / "Resources" / "SRGAN3D.json"
ALLOWED = {"$schema", "category", "scm_url", "scm_revision", "scm_type", "build_dependencies", "build_subdirectory", "enabled", "tier"}


def cmake_value(name: str) -> str:
    """As the Index finds it: one line, one pair of quotes, no variables."""
    found = re.findall(rf'^set\({name} "([^"$]*)"\)$', (ROOT / "CMakeLists.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(found) == 1, name
    return found[0]


def test_entry_keeps_the_rules_of_the_index() -> None:
    raw = ENTRY.read_bytes()
    entry = json.loads(raw)
    assert b"\r" not in raw and raw.endswith(b"}\n")
    assert {"$schema", "category", "scm_url"} <= set(entry) <= ALLOWED and 1 <= entry["tier"] <= 5
    assert entry["category"] == "Image Synthesis"
    assert entry["build_dependencies"] == cmake_value("EXTENSION_DEPENDS").split() == ["PyTorch"]
    repository = entry["scm_url"].removesuffix(".git").rsplit("/", 1)[1]
    assert entry["scm_url"].startswith("https://") and re.match(r"Slicer[-_]?|SlicerExtension-", repository)
    project = re.search(r"project\((\w+)", (ROOT / "CMakeLists.txt").read_text(encoding="utf-8"))
    assert project is not None and project.group(1) == ENTRY.stem and not ENTRY.stem.startswith("Slicer")
    assert cmake_value("EXTENSION_HOMEPAGE") == entry["scm_url"].removesuffix(".git")


def test_entry_is_formatted_as_the_index_formats_it() -> None:
    """Prettier with its plug-in for arrays: keys in the entries' usual order, each element of an array on a line of its own."""
    raw = ENTRY.read_text(encoding="utf-8")
    assert raw == json.dumps(json.loads(raw), indent=2) + "\n" and list(json.loads(raw)) == sorted(json.loads(raw))
    base = "https://raw.githubusercontent.com/Slicer/Slicer/main/Schemas/slicer-extension-catalog-entry-schema-"
    assert json.loads(raw)["$schema"] == f"{base}v1.0.1.json#"


def test_the_description_says_what_it_is_for() -> None:
    said = cmake_value("EXTENSION_DESCRIPTION")
    assert all(words in said for words in ("research use only", "not for diagnosis", "inferred")) and len(said) < 400
    assert "contributors" in cmake_value("EXTENSION_CONTRIBUTORS") and "(" in cmake_value("EXTENSION_CONTRIBUTORS")


def test_a_checkout_is_imported_without_a_change_of_sys_path() -> None:
    """Slicer has only the module's folder on its path; the library lies one folder up."""
    script = (
        "import sys\n"
        "before = list(sys.path)\n"
        "import SRGAN3DSlicer.logic, SRGAN3DLib\n"
        "from SRGAN3DLib.contract.checkpoint_header import catalogue\n"
        "assert sys.path == before and catalogue() and 'torch' not in sys.modules\n"
        "print(SRGAN3DLib.__file__)\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"PYTHONPATH": str(ROOT / "SRGAN3D")}
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(ROOT.anchor), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).name == "__init__.py"


def test_pictures_and_licence() -> None:
    base = cmake_value("EXTENSION_HOMEPAGE").replace("github.com", "raw.githubusercontent.com") + "/main/"
    icon, *shots = [cmake_value("EXTENSION_ICONURL"), *cmake_value("EXTENSION_SCREENSHOTURLS").split()]
    assert shots, "at least one screenshot"
    for url in (icon, *shots):
        assert url.startswith(base)
        head = (ROOT / url.removeprefix(base)).read_bytes()[:24]
        assert head.startswith(b"\x89PNG")
    assert struct.unpack(">II", (ROOT / icon.removeprefix(base)).read_bytes()[16:24]) == (128, 128)
    assert (ROOT / "LICENSE.txt").is_file() and len(cmake_value("EXTENSION_DESCRIPTION")) > 20


def test_repository_is_small() -> None:
    """100 MB with .git, less what is not part of it."""
    away = {".venv", "demo", "runs", "build", "dist", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}
    total = 0
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in away]
        total += sum((Path(folder) / name).lstat().st_size for name in files)
    assert total < 100e6


def test_checker_of_the_index() -> None:
    """Where EXTENSIONS_INDEX names a checkout of it (its script needs Python 3.12)."""
    if "EXTENSIONS_INDEX" not in os.environ:
        return
    index = Path(os.environ["EXTENSIONS_INDEX"])
    import jsonschema

    schema = json.loads(next((index / "schemas").glob("*v1.0.1.json")).read_text(encoding="utf-8"))
    jsonschema.validate(json.loads(ENTRY.read_text(encoding="utf-8")), schema)
    spec = importlib.util.spec_from_file_location("check", index / "scripts" / "check_description_files.py")
    check = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(check)  # type: ignore[union-attr]
    assert "Image Synthesis" in check.ACCEPTED_EXTENSION_CATEGORIES


def test_ui_has_good_manners() -> None:
    """Names are Python identifiers used once, every control has a tooltip, and the tabs visit each in turn."""
    tree = ET.parse(ROOT / "SRGAN3D" / "Resources" / "UI" / "SRGAN3D.ui")
    names = [one.get("name") for one in tree.iter("widget")]
    assert len(names) == len(set(names)) and all(str(name).isidentifier() for name in names)
    controls = {"qMRMLNodeComboBox", "QComboBox", "QPushButton", "QCheckBox", "QDoubleSpinBox", "QSlider"}
    bare = [
        one.get("name") for one in tree.iter("widget") if one.get("class") in controls and one.find("property[@name='toolTip']") is None
    ]
    assert bare == []
    tabs = {one.text for one in tree.iter("tabstop")}
    assert {one.get("name") for one in tree.iter("widget") if one.get("class") in controls} <= tabs


def test_installed_tree_works_by_itself(tiny_model: Path, tmp_path: Path) -> None:
    """Configure and install with plain CMake; then import from the installed folder alone, and super-resolve by its worker."""
    cmake = shutil.which("cmake", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert cmake, "cmake is one of the test packages"
    here, plain, there = Path(__file__).parent / "stand_in", tmp_path / "plain", tmp_path / "sc ü "
    configure = [cmake, "-S", str(ROOT), "-B", str(tmp_path / "build"), f"-DSlicer_DIR={here}", f"-DCMAKE_INSTALL_PREFIX={plain}"]
    for language in ("C", "CXX"):  # as Slicer's own template the project names no language; no compiler is needed here
        configure += [f"-DCMAKE_{language}_COMPILER={cmake}", f"-DCMAKE_{language}_COMPILER_FORCED=1"]
    for command in ([*configure, "-DBUILD_TESTING=ON"], [cmake, "--install", str(tmp_path / "build")]):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    plain.rename(there)
    modules = there / "lib" / "qt-scripted-modules"
    assert {path.name for path in modules.iterdir()} == {"SRGAN3D.py", "SRGAN3DSlicer", "SRGAN3DLib", "Resources"}
    script = (
        "import sys, numpy as np, slicer, SRGAN3DLib\n"
        "from SRGAN3DSlicer import logic, mrml\n"
        "assert logic.__file__.startswith(sys.argv[1]) and SRGAN3DLib.__file__.startswith(sys.argv[1])\n"
        "from SRGAN3DLib.contract.checkpoint_header import catalogue\n"
        "assert all(str(path).startswith(sys.argv[1]) for path in catalogue().values())\n"
        "scene = slicer.vtkMRMLScene()\n"
        "node = scene.AddNewNodeByClass('vtkMRMLScalarVolumeNode', 'v')\n"
        "mrml.fill(node, np.random.default_rng(0).normal(100, 20, (20, 22, 24)).astype('f4'), np.eye(4))\n"
        "one = logic.Logic()\n"
        "out = one.superResolve(node, model=sys.argv[2])\n"
        "one.cleanup()\n"
        "assert mrml.shape_kji(out) == (40, 44, 48) and 'torch' not in sys.modules\n"
        "print('whole')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(modules), "SRGAN3D_PYTHON": sys.executable}
    done = subprocess.run(
        [sys.executable, "-c", script, str(modules), str(tiny_model)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout == "whole\n", done.stderr
