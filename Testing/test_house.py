"""House rules that a person forgets: lists equal the tree, versions agree, links resolve, nothing names one machine."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

import SRGAN3DLib
from SRGAN3DLib.contract.checkpoint_header import catalogue, file_hash, read_header

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 4_200_000  # bytes; the Extensions Index allows 100 MB for the whole repository


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def own_files() -> list[Path]:
    """Files that git tracks or would; every file of a copy without git, less what is installed or made."""
    listed = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0 and listed.stdout:
        return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    made = {".git", ".venv", "demo", "runs", "build", "dist", "__pycache__"}
    return [path for path in ROOT.rglob("*") if path.is_file() and not made & set(path.relative_to(ROOT).parts)]


def cmake_list(name: str) -> set[str]:
    """The files that a CMake list names, relative to its folder: words between `set(MODULE_PYTHON_… ` and `)`."""
    blocks = re.findall(r"set\(MODULE_PYTHON_\w+\s([^)]*)\)", read(f"{name}/CMakeLists.txt"))
    words = [word for block in blocks for word in block.split()]
    assert len(words) == len(set(words)), "listed twice"
    return set(words)


def test_files_and_functions_are_short() -> None:
    """Files of up to 400 lines, functions of up to 60."""
    for path in own_files():
        if path.suffix != ".py":
            continue
        text = path.read_text(encoding="utf-8")
        name = path.relative_to(ROOT)
        assert len(text.splitlines()) <= 400, f"{name}: {len(text.splitlines())} lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                assert length <= 60, f"{name}: {node.name} has {length} lines"


def test_one_word_for_one_thing() -> None:
    """None of the words that we replaced: "must be" for "is wanted", "get" for "hear", `tile` in inference, `patch` in training."""
    replaced = re.compile(
        r"\b(?:(?:are|is) wanted(?!$)|cubelets?|upscal\w+|deaf|sweeps?|hears?|nobody's|until somebody|voxel size)\b", re.I | re.M
    )
    found = []
    for path in own_files():
        if path.suffix in (".py", ".md") and path.name != "test_house.py" and "Testing" not in path.parts:
            lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
            found += [f"{path.relative_to(ROOT)}:{number}: {hit[0]}" for number, line in lines for hit in replaced.finditer(line)]
    assert found == []


def test_readme_begins_with_the_two_commands() -> None:
    assert re.search(r"```\w*\n(.*?)```", read("README.md"), re.DOTALL).group(1) == "make demo\nmake test\n"  # type: ignore[union-attr]


def test_ci_runs_the_readme_command() -> None:
    assert "make test" in read(".ci/run").splitlines()
    assert "bash .ci/run" in read(".github/workflows/ci.yml")


def test_cmake_installs_the_library_whole() -> None:
    library = ROOT / "SRGAN3DLib"
    tree = {path for path in own_files() if library in path.parents and path.name != "CMakeLists.txt"}
    assert sorted(cmake_list("SRGAN3DLib") ^ {path.relative_to(library).as_posix() for path in tree}) == []


def test_cmake_installs_the_module_whole() -> None:
    module = ROOT / "SRGAN3D"
    tree = {path.relative_to(module).as_posix() for path in own_files() if module in path.parents}
    assert sorted(cmake_list("SRGAN3D") ^ (tree - {"CMakeLists.txt"})) == []


def test_every_model_has_its_card() -> None:
    models = ROOT / "SRGAN3DLib" / "models"
    assert {path.stem for path in models.glob("*.safetensors")} == {path.stem for path in models.glob("*.md")}


def test_one_version_everywhere() -> None:
    patterns = {
        "pyproject.toml": r'^version = "([^"]+)"',
        "CHANGELOG.md": r"^## \[(\d[^\]]*)\]",
        "CITATION.cff": r"^version: (\S+)",
    }
    found = {name: re.search(pattern, read(name), re.MULTILINE).group(1) for name, pattern in patterns.items()}  # type: ignore[union-attr]
    assert set(found.values()) == {SRGAN3DLib.__version__}, found


def test_licence_is_apache() -> None:
    text = read("LICENSE.txt")
    assert "Apache License" in text and "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text


def test_no_file_is_large() -> None:
    assert [path for path in own_files() if path.stat().st_size > LARGEST] == []


@pytest.mark.parametrize("path", [p for p in own_files() if p.suffix == ".md"], ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_resolve(path: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    assert [target for target in targets if target and not (path.parent / target).exists()] == []


def test_nothing_names_one_machine() -> None:
    places = re.compile(r"(?<![\w.])/(?:work|farm|root|tmp|home)/")
    found = []
    for path in own_files():
        data = path.read_bytes()
        if b"\0" not in data:
            lines = enumerate(data.decode("utf-8").splitlines(), 1)
            found += [f"{path.relative_to(ROOT)}:{number}" for number, line in lines if places.search(line)]
    assert found == []


def test_the_tables_show_the_models_as_they_are() -> None:
    script: dict = {"__name__": "model_table", "__file__": str(ROOT / "benchmarks" / "model_table.py")}
    exec(read("benchmarks/model_table.py"), script)
    for name, table in script["TABLES"].items():
        assert table() in read(name), "python benchmarks/model_table.py --write"


def test_every_model_has_its_card_and_is_small() -> None:
    for name, path in catalogue().items():
        card = path.with_suffix(".md").read_text(encoding="utf-8")
        assert file_hash(path) in card and card.startswith(f"# {name}\n")
        assert path.stat().st_size <= 4_000_000
        assert read_header(path).metrics["by_blur_told"]
