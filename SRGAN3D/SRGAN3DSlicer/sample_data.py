"""A scan to try it on: Slicer's own MRHead made coarse, together with the true MRHead to compare with."""

import numpy as np
import slicer

from . import mrml, results

CATEGORY = "SRGAN3D"
NAME = "MRHeadCoarse"


def register() -> None:
    """Called once Slicer has started. Raises `ImportError` where it has no Sample Data."""
    import SampleData

    logic = SampleData.SampleDataLogic
    if hasattr(logic, "registerCustomSampleDataCategory"):  # 5.12 and newer
        logic.registerCustomSampleDataCategory(CATEGORY, title="Super-Resolution")
    logic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName=NAME,
        uris=["builtin:MRHead"],
        fileNames=[None],
        nodeNames=[NAME],
        customDownloader=download,
    )


def download(source=None) -> list:
    """MRHead (fetched by Sample Data, if it is not in its cache) and the same at twice the spacing."""
    import SampleData

    truth = SampleData.SampleDataLogic().downloadSample("MRHead")
    return [degrade(truth)]


def degrade(truth, factor: int = 2):
    """A new volume whose voxels are the means of factor^3 of `truth`'s, in the same place; odd remainders are cropped."""
    array = mrml.array_of(truth).astype(np.float32)
    shape = [n // factor for n in array.shape]
    cropped = array[tuple(slice(0, n * factor) for n in shape)]
    coarse = cropped.reshape(shape[0], factor, shape[1], factor, shape[2], factor).mean(axis=(1, 3, 5))
    scale = np.diag([factor, factor, factor, 1.0])
    scale[:3, 3] = (factor - 1) / 2
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", slicer.mrmlScene.GenerateUniqueName(NAME))
    mrml.fill(node, coarse, mrml.ijk_to_ras(truth) @ scale)
    node.SetAndObserveTransformNodeID(truth.GetTransformNodeID())
    node.CreateDefaultDisplayNodes()
    results.display_like(truth, node)
    return node
