"""`python -m SRGAN3DLib ...` is the command `srgan3d ...`."""

import sys

from .app.cli import main

if __name__ == "__main__":
    sys.exit(main())
