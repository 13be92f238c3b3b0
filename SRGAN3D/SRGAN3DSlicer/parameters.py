"""What the scene remembers of the panel. Device, added checkpoints and measured speeds are this computer's: QSettings has them."""

from typing import Annotated

from slicer import vtkMRMLScalarVolumeNode
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper


@parameterNodeWrapper
class Parameters:
    """`task`, `blur`, `noise`, `precision` and `flips` are ids, never translated texts. `model` counts for the task "other" only: a
    shipped name, or the key of an added checkpoint, which has no path. `roiID` is "" for the whole volume; 0 GB is no limit.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    outputVolume: vtkMRMLScalarVolumeNode
    roiID: str = ""
    task: str = "auto"
    model: str = ""
    blur: str = "auto"
    noise: str = "auto"
    precision: str = "auto"
    flips: str = "1"
    memoryLimitGB: Annotated[float, WithinRange(0, 1024)] = 0.0
    allFrames: bool = False
