"""The Slicer side of SRGAN3D: panel, logic, worker process, MRML. It never loads torch, and of SRGAN3DLib the contract only."""

import importlib.util
import sys
from pathlib import Path


def _find_library_of_a_checkout() -> None:
    """Make SRGAN3DLib importable where it lies one folder above the module, as in a checkout; sys.path stays as it is.

    An installed extension has both packages in one folder, which Slicer has put on sys.path: then nothing is done.
    """
    if "SRGAN3DLib" in sys.modules or importlib.util.find_spec("SRGAN3DLib") is not None:
        return
    folder = Path(__file__).resolve().parents[2] / "SRGAN3DLib"
    spec = importlib.util.spec_from_file_location("SRGAN3DLib", folder / "__init__.py", submodule_search_locations=[str(folder)])
    library = importlib.util.module_from_spec(spec)
    sys.modules["SRGAN3DLib"] = library
    spec.loader.exec_module(library)


_find_library_of_a_checkout()
