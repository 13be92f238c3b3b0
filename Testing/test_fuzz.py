"""A few hundred of the damaged files of fuzz.py, and the ones that found a fault once."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from fuzz import good_files, try_case

HERE = Path(__file__).resolve().parent
FOUND = [("nifti", 1_003_893), ("metaimage", 1_000_216)]  # numpy warned of a NaN that was converted, and of infinity in a product


@pytest.mark.parametrize(("kind", "number"), FOUND)
def test_cases_that_found_a_fault(tmp_path: Path, kind: str, number: int) -> None:
    files = good_files(tmp_path)[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try_case(kind, number, files, tmp_path)


def test_damaged_files_end_in_our_errors() -> None:
    command = [sys.executable, str(HERE / "fuzz.py"), "--count", "150", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent, timeout=300)
    assert done.returncode == 0 and done.stdout.count("150 cases") == 3, done.stdout + done.stderr
