"""The Slicer side of SRGAN3D: panel, logic, worker process, MRML. Never torch; of SRGAN3DLib the contract only."""

import sys
from pathlib import Path

_beside = Path(__file__).resolve().parents[1]  # installed, SRGAN3DLib lies beside this package; in a checkout, one folder up
if not (_beside / "SRGAN3DLib").is_dir() and str(_beside.parent) not in sys.path:
    sys.path.append(str(_beside.parent))
