"""The panel fits a narrow and low screen, in English and in a language whose texts are a third longer; nothing is cut off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pythonqt
import slicer
import slicer_double
from bench import Bench
from panels import make
from PySide6 import QtWidgets
from unhappy_scenarios import end

WIDTH, HEIGHT = 460, 700
WARNINGS = ["the scan is too small or too smooth to estimate its blur; the network was told nothing", "spacing 0.90 x 1.10 x 2.30 mm"]


@pytest.fixture(params=[0.0, 1 / 3], ids=["English", "a third longer"])
def bench(request: pytest.FixtureRequest, app: Any) -> Iterator[Bench]:
    slicer_double.language["longer by"] = request.param
    Bench.add_volume(name="MPRAGE sagittal T1w", matrix=np.diag([1.3, 1.4, 1.5, 1]))
    one = make("t1-x2")
    one.choose(one.ui.taskCombo, "auto")
    one.widget.parent._target.show()
    yield one
    one.widget.cleanup()
    app.processEvents()
    slicer_double.language["longer by"] = 0.0
    assert pythonqt.swallowed == []


def idle(bench: Bench) -> None:
    pass


def unusual_scan(bench: Bench) -> None:
    """Three notes, and two options that are not as usual."""
    bench.ui.inputSelector.setCurrentNode(bench.add_volume(name="AX T2 tse", matrix=np.diag([0.9, 0.3, 6.5, 1]), array=None))
    bench.ui.memorySpin.setValue(3.5)
    bench.choose(bench.ui.blurCombo, "kspace")


def about_the_model(bench: Bench) -> None:
    bench.ui.aboutButton.setChecked(True)


def by_hand(bench: Bench) -> None:
    bench.choose_model("t1-x2-sharp")


def several(bench: Bench) -> None:
    for name in ("second", "third"):
        bench.add_volume(name=name)
    bench.ui.severalButton.setChecked(True)
    bench.panel.scans.tick(bench.panel.scans.ids)


def no_torch(bench: Bench) -> None:
    bench.panel.display.torch(False, slicer_double.tr("PyTorch is not installed. Install downloads PyTorch (0.2 GB, or 3 GB with CUDA)."))


def running(bench: Bench) -> None:
    bench.click()
    bench.process.say(event="progress", id=bench.process.asked()["id"], stage="network", done=30, total=120, eta_s=4261.0)
    bench.logic.pump()
    assert bench.panel.machine.state.value == "running"


def failed(bench: Bench) -> None:
    bench.click()
    end(bench, "ResourceError", "memory limit 512M: too little for 44 x 48 x 40 voxels; the least limit that would do is 900M")
    bench.logic.pump()
    assert bench.panel.machine.state.value == "failed"


def done(bench: Bench) -> None:
    """With a comparison open, two results to choose from, and warnings."""
    for _ in range(2):
        bench.click()
        bench.finish(warnings=WARNINGS)
    assert bench.ui.fadeSlider.isVisible() and bench.ui.resultSelector.isVisible()


def checked(bench: Bench) -> None:
    """The verdict of a check below the button, with its facts."""
    import check_scenarios

    check_scenarios.offered(bench)
    bench.ui.checkButton.click()
    bench.logic.pump()
    check_scenarios.answer(bench)
    bench.ui.checkDetailsButton.setChecked(True)
    assert bench.ui.checkDetailsLabel.isVisible()


def cut_off(window: QtWidgets.QWidget) -> list[str]:
    """Visible widgets whose text needs more room than they have."""
    found = []
    for widget in window.findChildren(QtWidgets.QWidget):
        if not widget.isVisible() or not widget.objectName() or widget.objectName().startswith("qt_"):
            continue
        if isinstance(widget, QtWidgets.QLabel) and widget.wordWrap():
            bad = widget.heightForWidth(widget.width()) > widget.height()
        elif isinstance(widget, QtWidgets.QLabel | QtWidgets.QPushButton | QtWidgets.QCheckBox):
            bad = widget.sizeHint().width() > widget.width()
        else:
            continue
        if bad or widget.mapTo(window, widget.rect().bottomRight()).x() >= window.width():
            found.append(f"{widget.objectName()}: {widget.text()!r} needs {widget.sizeHint()}, has {widget.size()}")
    return found


@pytest.mark.parametrize("state", [idle, unusual_scan, about_the_model, by_hand, several, no_torch, running, failed, done, checked])
def test_the_panel_fits(bench: Bench, state: Any) -> None:
    state(bench)
    window = bench.widget.parent._target
    for _ in range(3):
        slicer.app.processEvents()
        needed = max(window.layout().totalHeightForWidth(WIDTH), window.layout().totalMinimumSize().height())
        window.resize(WIDTH, needed)
    slicer.app.processEvents()
    assert not bench.ui.logText.isVisible()
    assert window.minimumSizeHint().width() <= WIDTH
    assert needed <= HEIGHT
    assert cut_off(window) == []


def test_a_made_up_translation_is_longer() -> None:
    slicer_double.language["longer by"] = 1 / 3
    try:
        lengths = [len(slicer_double.tr("x" * n)) for n in (9, 30, 300)]
    finally:
        slicer_double.language["longer by"] = 0.0
    assert [round(long / n, 1) for long, n in zip(lengths, (9, 30, 300), strict=True)] == [1.3, 1.3, 1.3]
    assert slicer_double.tr("Several...") == "Several..."


def test_the_failure_scrolls_into_sight(app: Any, tiny_model: Path) -> None:
    """Slicer's module panel is a scroll area, and may be less high than the panel."""
    from PySide6 import QtCore

    Bench.add_volume()
    bench = make(tiny_model)
    area = QtWidgets.QScrollArea()
    area.setWidgetResizable(True)
    area.resize(WIDTH, 200)
    area.setWidget(bench.widget.parent._target)
    area.show()
    bench.click()
    end(bench, "ResourceError", "the disk is full")
    bench.logic.pump()
    app.processEvents()
    label = bench.ui.statusLabel._target
    top = label.mapTo(area.viewport(), QtCore.QPoint(0, 0)).y()
    assert area.verticalScrollBar().value() > 0 and top >= 0 and top + label.height() <= area.viewport().height()
    area.takeWidget()
    area.close()
    bench.widget.cleanup()
