"""PyTorch and the packages beside it: looked at without importing, installed on a click and never else."""

import importlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass

import slicer
from slicer.i18n import tr as _

from SRGAN3DLib.contract.errors import ResourceError

TORCH = (2, 4)
PACKAGES = ["safetensors>=0.4.3"]


@dataclass(frozen=True)
class State:
    """Of the Python that comes with Slicer. `text` is for the panel."""

    ready: bool
    text: str
    torch_fits: bool = True


def state() -> State:
    """importlib.metadata only: a look must not load torch into Slicer."""
    importlib.invalidate_caches()
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return State(False, _("PyTorch is not installed."), False)
    numbers = tuple(int(part) for part in version.split("+")[0].split(".")[:2] if part.isdigit())
    if numbers < TORCH:
        return State(
            False,
            _("PyTorch {version} is too old; {least} or newer is wanted.").format(version=version, least=f"{TORCH[0]}.{TORCH[1]}"),
            False,
        )
    absent = [name for name in PACKAGES if not _present(name.split(">=")[0])]
    if absent:
        return State(False, _("PyTorch {version}; {absent} is not installed.").format(version=version, absent=", ".join(absent)))
    return State(True, f"PyTorch {version}")


def _present(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def install() -> State:
    """Through the PyTorch extension's logic, which asks first; then the small packages. Raises `ResourceError` in one line."""
    if importlib.util.find_spec("PyTorchUtils") is None:
        raise ResourceError("the extension PyTorch is absent: install it in the Extensions Manager, restart, and click Install again")
    import PyTorchUtils

    if not state().torch_fits:
        minimum = f">={TORCH[0]}.{TORCH[1]}"
        try:
            module = PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=True, torchVersionRequirement=minimum)
        except Exception as error:  # pip, the network, the disk: whatever it raises is one line here
            raise ResourceError(f"PyTorch could not be installed ({_first_line(error)})") from None
        if module is None:
            raise ResourceError("PyTorch was not installed: the installation was refused")
    try:
        _ensure_packages()
    except Exception as error:
        raise ResourceError(f"{', '.join(PACKAGES)} could not be installed ({_first_line(error)})") from None
    return state()


def _ensure_packages() -> None:
    missing = [name for name in PACKAGES if not _present(name.split(">=")[0])]
    if not missing:
        return
    if importlib.util.find_spec("slicer.packaging") is not None:  # 5.12 and newer
        from slicer import packaging

        packaging.pip_ensure(missing, requester="SRGAN3D")
    elif slicer.util.confirmOkCancelDisplay(_("SRGAN3D needs {names}. Install it now?").format(names=", ".join(missing)), "SRGAN3D"):
        slicer.util.pip_install(" ".join(missing))
    else:
        raise ResourceError("refused")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
