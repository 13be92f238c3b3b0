"""The module as Slicer finds it. For now it loads and says what is to come; the panel is the next piece of work.

Slicer's own process never loads torch: of SRGAN3DLib only the contract is imported (errors, configs, events, jobs,
checkpoint_header), and the computation will run in a process of its own.
"""

import sys
from pathlib import Path

import qt
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)


class SRGAN3D(ScriptedLoadableModule):
    """Name, category and credits."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Super-Resolution (SRGAN3D)")
        self.parent.categories = [_("Image Synthesis")]
        self.parent.dependencies = []
        self.parent.contributors = ["SRGAN3D contributors"]
        self.parent.helpText = _("Super-resolution of 3-D head MRI: the selected volume on a finer grid, in the same place.")
        self.parent.acknowledgementText = _(
            "After I. Sánchez and V. Vilaplana, 3D Medical Image Synthesis using Generative Adversarial Networks (womENCourage 2017), "
            "and Brain MRI super-resolution using 3D generative adversarial networks (arXiv 1812.11440)."
        )


class SRGAN3DWidget(ScriptedLoadableModuleWidget):
    """One text, and no control whose function does not exist yet."""

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        models = ", ".join(SRGAN3DLogic().shippedModels()) or _("none")
        text = _(
            "This panel is to come: choose a volume, click Super-resolve, see the result in the same place, on a finer grid.\n\n"
            "The program itself is here: in a terminal, srgan3d super-resolve INPUT OUTPUT does it on a saved volume.\n\n"
            "Models in this installation: {models}"
        ).format(models=models)
        label = qt.QLabel(text)
        label.wordWrap = True
        label.textInteractionFlags = qt.Qt.TextSelectableByMouse
        self.layout.addWidget(label)
        self.layout.addStretch(1)


class SRGAN3DLogic(ScriptedLoadableModuleLogic):
    """What works without a panel."""

    def shippedModels(self):
        """The models that came with this installation: list of names."""
        folder = str(libraryFolder())
        if folder not in sys.path:
            sys.path.append(folder)
        from SRGAN3DLib.checkpoint_header import catalogue

        return list(catalogue())


def libraryFolder():
    """The folder that holds SRGAN3DLib: this file's own once installed, the one above it in a checkout."""
    here = Path(__file__).resolve().parent
    return here if (here / "SRGAN3DLib").is_dir() else here.parent


class SRGAN3DTest(ScriptedLoadableModuleTest):
    """Run by Reload and Test, and by ctest."""

    def runTest(self):
        self.setUp()
        self.test_modelsAreListedWithoutTorch()

    def test_modelsAreListedWithoutTorch(self):
        before = "torch" in sys.modules
        self.assertIsInstance(SRGAN3DLogic().shippedModels(), list)
        self.assertEqual("torch" in sys.modules, before)
