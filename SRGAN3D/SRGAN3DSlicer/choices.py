"""The contents of the panel's combo boxes: ids as data, words as text."""

from typing import Any

import qt
from slicer.i18n import tr as _

from . import preferences


def data(combo: Any) -> str:
    """The id of the chosen item; "" without one."""
    return str(combo.itemData(combo.currentIndex) or "")


def fill(combo: Any, choices: dict[str, str]) -> None:
    """The chosen id stays chosen, where it is still among the choices."""
    before = data(combo)
    combo.clear()
    for key, text in choices.items():
        combo.addItem(text, key)
    combo.setCurrentIndex(max(0, combo.findData(before)))


def choose(combo: Any, key: str) -> bool:
    """Whether the id is among the choices; the first is chosen where it is not."""
    combo.setCurrentIndex(max(0, combo.findData(key)))
    return combo.findData(key) >= 0


def fill_devices(combo: Any, hello: dict | None) -> None:
    """Automatic, then every device by name. One that cannot be used has its reason as tooltip, and no id. The preferred one is chosen."""
    combo.clear()
    combo.addItem(_("Automatic"), "auto")
    for one in (hello or {}).get("devices") or [{"device": "cpu", "name": "", "usable": True, "reason": ""}]:
        if one["usable"]:
            combo.addItem(f"{one['device']}: {one['name']}" if one["name"] else one["device"], one["device"])
        else:
            combo.addItem(_("{device}: not usable").format(device=one["device"]), "")
            combo.setItemData(combo.count - 1, one["reason"], qt.Qt.ToolTipRole)
    preferred = preferences.device()
    if combo.findData(preferred) < 0:  # not seen yet, or gone: it stays chosen, and the worker will say what is wrong
        combo.addItem(preferred, preferred)
    combo.setCurrentIndex(combo.findData(preferred))


def reason(combo: Any) -> str:
    """Why the chosen device cannot be used."""
    return str(combo.itemData(combo.currentIndex, qt.Qt.ToolTipRole) or "")


def memory_limit(spin: Any) -> str | None:
    """As the worker reads it; 0 GB is no limit."""
    return f"{spin.value:g}G" if spin.value > 0 else None
