"""Loaded by Slicer's subject hierarchy by its file name; see context_menu.py."""

import qt
from AbstractScriptedSubjectHierarchyPlugin import AbstractScriptedSubjectHierarchyPlugin
from slicer.i18n import tr as _

from SRGAN3DSlicer import context_menu


class SRGAN3DSubjectHierarchyPlugin(AbstractScriptedSubjectHierarchyPlugin):
    """Adds "Super-resolve..." to the context menu of volumes. It owns no items."""

    filePath = __file__

    def __init__(self, scriptedPlugin):
        scriptedPlugin.name = "SRGAN3D"
        AbstractScriptedSubjectHierarchyPlugin.__init__(self, scriptedPlugin)
        self.item = 0
        self.action = qt.QAction(_("Super-resolve..."), scriptedPlugin)
        self.action.objectName = "SRGAN3DAction"
        self.action.connect("triggered()", self.onTriggered)

    def canAddNodeToSubjectHierarchy(self, node, parentItemID=None):
        return 0.0

    def canOwnSubjectHierarchyItem(self, itemID):
        return 0.0

    def roleForPlugin(self):
        return "N/A"

    def itemContextMenuActions(self):
        return [self.action]

    def showContextMenuActionsForItem(self, itemID):
        self.item = itemID
        self.action.visible = context_menu.volume_of_item(itemID) is not None

    def onTriggered(self):
        node = context_menu.volume_of_item(self.item)
        if node is not None:
            context_menu.open_panel_with(node)
