"""The errors a user can meet, each with the exit code the command line ends with.

Every message is one line that names the file (or the option) and the value that was wrong.
"""


class SRGAN3DError(Exception):
    """Parent of all errors this library raises on purpose."""

    exit_code = 1


class JobError(SRGAN3DError):
    """A job, an option or a configuration that does not make sense (exit code 2)."""

    exit_code = 2


class VolumeError(SRGAN3DError):
    """A volume that cannot be read, is unfit for the model, or cannot be written (exit code 3)."""

    exit_code = 3


class CheckpointError(SRGAN3DError):
    """A checkpoint that is absent, damaged, of another version or not ours (exit code 4)."""

    exit_code = 4


class ResourceError(SRGAN3DError):
    """Not enough memory, disk or time; says the least that would do (exit code 5)."""

    exit_code = 5


class DeviceError(ResourceError):
    """A device that is absent or computes wrongly (exit code 5)."""


class Cancelled(SRGAN3DError):
    """The user asked to stop; nothing was left behind (exit code 130)."""

    exit_code = 130
