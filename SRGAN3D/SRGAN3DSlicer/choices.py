"""What stands in the panel's combo boxes: ids as data, words as text."""

from typing import Any

import qt
from slicer.i18n import tr as _

from . import model_card, preferences


def data(combo: Any) -> str:
    """The id of what is chosen; "" without one."""
    return str(combo.itemData(combo.currentIndex) or "")


def fill(combo: Any, choices: dict[str, str]) -> None:
    combo.clear()
    for key, text in choices.items():
        combo.addItem(text, key)


def fill_models(combo: Any) -> dict:
    """Returns the headers by id."""
    headers = model_card.models(preferences.added_models())
    fill(combo, {key: model_card.title(key, header) for key, header in headers.items()})
    return headers


def fill_devices(combo: Any, hello: dict | None) -> None:
    """Automatic, then every device by name; the unusable ones say why in their tooltip, and have no id. The preferred one is chosen."""
    fill(combo, {"auto": _("Automatic")})
    for one in (hello or {}).get("devices") or [{"device": "cpu", "name": "", "usable": True, "reason": ""}]:
        if one["usable"]:
            combo.addItem(f"{one['device']}: {one['name']}" if one["name"] else one["device"], one["device"])
        else:
            combo.addItem(_("{device}: not usable").format(device=one["device"]), "")
            combo.setItemData(combo.count - 1, one["reason"], qt.Qt.ToolTipRole)
    wanted = preferences.device()
    if combo.findData(wanted) < 0:  # not seen yet, or gone: what was asked stays asked, and the worker will say
        combo.addItem(wanted, wanted)
    combo.setCurrentIndex(combo.findData(wanted))


def reason(combo: Any) -> str:
    """Why the chosen device cannot be used."""
    return str(combo.itemData(combo.currentIndex, qt.Qt.ToolTipRole) or "")


def memory_limit(spin: Any) -> str | None:
    """As the worker reads it; 0 GB is no limit."""
    return f"{spin.value:g}G" if spin.value > 0 else None
