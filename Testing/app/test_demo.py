"""The demo's scan: fetched by pip and by nothing that lies in the current folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from SRGAN3DLib.app import demo
from SRGAN3DLib.contract.errors import ResourceError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("where", ["folder", "PYTHONPATH"])
def test_no_pip_of_the_current_folder_runs(tmp_path: Path, where: str) -> None:
    """A pip.py, or a module that pip imports, in the folder of the user or on PYTHONPATH."""
    for name in ("pip", "socket", "json", "zipfile", "subprocess"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w').close()\n")
    script = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}]\n"
        "import SRGAN3DLib.app.demo as d\n"
        "import os, subprocess\n"
        "os.chdir(sys.argv[1])\n"
        "os.environ['PYTHONPATH'] = sys.argv[2]\n"
        "try:\n    d.fetch(lambda event: None)\n"
        "except d.ResourceError as error:\n    print(error)\n"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0"}
    folder = tmp_path if where == "folder" else tmp_path / "elsewhere"
    folder.mkdir(exist_ok=True)
    path = "" if where == "folder" else str(tmp_path)
    done = subprocess.run([sys.executable, "-c", script, str(folder), path], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert "the demo scan could not be fetched" in done.stdout, done.stderr
    assert not (tmp_path / "executed").exists()


def test_what_pip_says_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    said = subprocess.CompletedProcess([], 1, "", "WARNING: retry\nERROR: No matching distribution found\n")
    monkeypatch.setattr(demo.subprocess, "run", lambda *given, **more: said)
    with pytest.raises(ResourceError, match=r"could not be fetched \(ERROR: No matching distribution found\); use a scan of your own"):
        demo.fetch(lambda event: None)
