"""PyTorch and the packages beside it: looked for without importing them, and installed on a click only."""

import importlib
import importlib.metadata
import importlib.util
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass

import slicer
from slicer.i18n import tr as _

from SRGAN3DLib.contract.errors import ResourceError

TORCH = (2, 4)
PACKAGES = ["safetensors>=0.4.3", "psutil>=5.9"]
EXTENSION = "PyTorch"


@dataclass(frozen=True)
class State:
    """Of the Python that comes with Slicer. `text` is for the panel."""

    ready: bool
    text: str
    torch_fits: bool = True


def state() -> State:
    """By importlib.metadata: a look must not load torch into Slicer."""
    importlib.invalidate_caches()
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return State(False, _("PyTorch is not installed."), False)
    numbers = tuple(int(part) for part in version.split("+")[0].split(".")[:2] if part.isdigit())
    if numbers < TORCH:
        least = f"{TORCH[0]}.{TORCH[1]}"
        return State(False, _("PyTorch {version} is too old; it must be {least} or newer.").format(version=version, least=least), False)
    absent = _absent()
    if absent:
        return State(False, _("PyTorch {version} is there, but not {absent}.").format(version=version, absent=", ".join(absent)))
    return State(True, f"PyTorch {version}")


def download() -> str:
    """What a click on Install fetches, and how much."""
    here = state()
    if here.ready:
        return ""
    if here.torch_fits:
        return _("Install downloads {names} (1 MB).").format(names=", ".join(_names(_absent())))
    if sys.platform == "darwin":
        size = _("0.1 GB")
    elif shutil.which("nvidia-smi"):
        size = _("3 GB, for the NVIDIA card")
    else:
        size = _("0.2 GB, or 3 GB if you choose a build for NVIDIA cards")
    return _("Install downloads PyTorch ({size}) and {names} (1 MB) by pip.").format(size=size, names=", ".join(_names(PACKAGES)))


def _absent() -> list[str]:
    return [name for name in PACKAGES if not _present(name.split(">=")[0])]


def _names(packages: list[str]) -> list[str]:
    return [name.split(">=")[0] for name in packages]


def _present(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def install(on_step: Callable[[str], None] = lambda text: None) -> State:
    """Through the PyTorch extension's logic, which asks the user first; then the small packages. `on_step` gets what is done next.

    Raises `ResourceError` in one line.
    """
    if not state().torch_fits:
        if importlib.util.find_spec("PyTorchUtils") is None:
            _install_extension(on_step)
        _install_torch(on_step)
    try:
        _ensure_packages(on_step)
    except Exception as error:
        raise ResourceError(f"{', '.join(PACKAGES)} could not be installed ({_first_line(error)})") from None
    return state()


def _install_extension(on_step: Callable[[str], None]) -> None:
    """The extension is a dependency of ours: it is absent where the module runs from a checkout. Always ends in a `ResourceError`."""
    model = getattr(getattr(slicer, "app", None), "extensionsManagerModel", lambda: None)()
    if model is None:
        raise ResourceError(
            "the extension PyTorch is absent: install it in the Extensions Manager, restart Slicer, and click Install again"
        )
    on_step(_("Installing the extension PyTorch"))
    try:
        model.interactive = False  # no popups
        done = model.isExtensionInstalled(EXTENSION) or model.installExtensionFromServer(EXTENSION)
    except Exception as error:
        raise ResourceError(f"the extension PyTorch could not be installed ({_first_line(error)})") from None
    if not done:
        raise ResourceError("the extension PyTorch could not be installed: try the Extensions Manager")
    raise ResourceError("the extension PyTorch is installed now: restart Slicer, and click Install again")


def _install_torch(on_step: Callable[[str], None]) -> None:
    import PyTorchUtils

    on_step(_("Installing PyTorch (step 1 of 2); this takes some minutes"))
    minimum = f">={TORCH[0]}.{TORCH[1]}"
    try:
        module = PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=True, torchVersionRequirement=minimum)
    except Exception as error:  # of pip, the network or the disk
        raise ResourceError(f"PyTorch could not be installed ({_first_line(error)})") from None
    if module is None:
        raise ResourceError("PyTorch was not installed: the installation was refused")


def _ensure_packages(on_step: Callable[[str], None]) -> None:
    missing = _absent()
    if not missing:
        return
    on_step(_("Installing {names} (step 2 of 2)").format(names=", ".join(_names(missing))))
    if importlib.util.find_spec("slicer.packaging") is not None:  # 5.12 and newer
        from slicer import packaging

        packaging.pip_ensure(missing, requester="SRGAN3D")
    elif slicer.util.confirmOkCancelDisplay(_("SRGAN3D needs {names}. Install it now?").format(names=", ".join(missing)), "SRGAN3D"):
        slicer.util.pip_install(" ".join(missing))
    else:
        raise ResourceError("refused")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
