"""What the scene remembers of the panel. Device, models added by the user and speeds are the machine's: QSettings has them."""

from typing import Annotated

from slicer import vtkMRMLScalarVolumeNode
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper


@parameterNodeWrapper
class Parameters:
    """`model`, `blur`, `precision` and `flips` are ids, never translated texts; `model` is "" for the one that suits the volume,
    `roiID` is "" for the whole volume; 0 GB is no limit.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    outputVolume: vtkMRMLScalarVolumeNode
    roiID: str = ""
    model: str = ""
    blur: str = "auto"
    precision: str = "auto"
    flips: str = "1"
    memoryLimitGB: Annotated[float, WithinRange(0, 1024)] = 0.0
    allFrames: bool = False
