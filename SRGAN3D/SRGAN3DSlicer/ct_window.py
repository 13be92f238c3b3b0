"""How a volume in HU is shown: the windows that a radiologist expects."""

from typing import Any

import slicer

WINDOWS = {"soft": (400.0, 40.0), "bone": (2000.0, 500.0)}  # (width, level) in HU


def is_hounsfield(node: Any) -> bool:
    """Whether it is one of our results in HU."""
    return node is not None and node.GetAttribute("SRGAN3D.Unit") == "HU"


def show_hounsfield(node: Any) -> None:
    """Soft tissue in grey, and the unit of the values as Slicer writes that of a CT."""
    display = node.GetDisplayNode()
    if display is not None:
        display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
    set_window(node, "soft")
    quantity, units = slicer.vtkCodedEntry(), slicer.vtkCodedEntry()
    quantity.SetValueSchemeMeaning("112031", "DCM", "Attenuation Coefficient")
    units.SetValueSchemeMeaning("[hnsf'U]", "UCUM", "Hounsfield unit")
    node.SetVoxelValueQuantity(quantity)
    node.SetVoxelValueUnits(units)


def set_window(node: Any, key: str) -> None:
    display = node.GetDisplayNode()
    if display is not None:
        display.AutoWindowLevelOff()
        display.SetWindowLevel(*WINDOWS[key])


def chosen(node: Any) -> str:
    """The id of the window that the volume has now; "" for any other."""
    display = node.GetDisplayNode()
    own = (display.GetWindow(), display.GetLevel()) if display is not None else None
    return next((key for key, window in WINDOWS.items() if window == own), "")
