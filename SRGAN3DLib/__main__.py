"""`python -m SRGAN3DLib ...` and the command `srgan3d ...`: takes the signals over, then loads the command line."""

import sys

from .app.interrupts import Interrupts, leave


def main() -> int:
    """Run the command of `sys.argv`; returns the exit code."""
    interrupts = Interrupts()
    interrupts.install()
    try:
        from .app.cli import main as run_command

        return run_command(interrupts=interrupts)
    except KeyboardInterrupt:  # a second signal while the first was being answered
        leave()


if __name__ == "__main__":
    sys.exit(main())
