"""One click from start to end: what is asked of the logic, and what becomes of its progress, results and errors."""

import time
from typing import Any

from slicer.i18n import tr as _

from SRGAN3DLib.contract.checkpoint_header import file_hash
from SRGAN3DLib.contract.errors import Cancelled, SRGAN3DError
from SRGAN3DLib.contract.events import Log, Progress

from . import bug_report, choices, forecast, model_card, mrml, preferences, texts
from .batch import FAILED, Batch
from .slots import scroll_to, slot
from .states import Machine, State

FEWEST_TIMED = 50_000  # voxels of a run that says more about the speed than the measurement on small blocks


class RunControl:
    """Of one `Panel`, whose display it writes to."""

    def __init__(self, panel: Any):
        self.panel, self.machine = panel, Machine()
        self.run: Any = None  # a run of the logic, or a Batch
        self.begun = 0.0
        self.timed: tuple[str, int] = ("", 0)  # model key and voxels of the run

    def fault(self, error: Exception) -> None:
        self.panel.fault(error)

    def abort(self) -> None:
        """After a fault of ours: nobody is called any more, and the panel is free."""
        if self.machine.busy:
            run, self.run = self.run, None
            if run is not None:
                run.silence()
                run.cancel()
            self.machine.go(State.FAILED)

    def start(self) -> None:
        """The click. Results and errors come by the callbacks below."""
        self.panel.measurement.cancel()
        self.machine.go(State.STARTING)
        self.panel.display.say(_("Starting"))
        self.begun = time.monotonic()
        try:
            if self.panel.scans.is_on:
                self.run = Batch(
                    self.panel.logic, self.panel.scans.volumes(), self._options, self.on_batch, self.on_progress, self.on_batch_end
                )
                self._log_start(self.panel.node)
                self.run.start()
            else:
                self._start_one(self.panel.ui.inputSelector.currentNode())
        except SRGAN3DError as error:
            self.on_error(error)
        self.panel.refresh()

    def _start_one(self, node: Any) -> None:
        roi = self.panel.ui.roiSelector.currentNode()
        self.timed = (self.panel.models.plan_for(node).key, mrml.voxel_count(node, roi))
        self._log_start(node)
        if self.panel.models.is_synthesis:
            self._start_synthesis(node, roi)
            return
        self.run = self.panel.logic.superResolveAsync(
            node,
            self.panel.ui.outputSelector.currentNode(),
            roi=roi,
            allFrames=bool(self.panel.ui.allFramesCheck.checked) and mrml.frames_of(node) is not None,
            onProgress=self.on_progress,
            onDone=self.on_done,
            onError=self.on_error,
            **self._options(node),
        )

    def _start_synthesis(self, node: Any, roi: Any) -> None:
        options = self._options(node)
        self.run = self.panel.logic.synthesizeAsync(
            self.panel.inputs.volumes(self.panel.header, node),
            self.panel.ui.outputSelector.currentNode(),
            roi=roi,
            onProgress=self.on_progress,
            onDone=self.on_done,
            onError=self.on_error,
            **{name: options[name] for name in ("model", "device", "precision", "memoryLimit", "flips")},
        )

    def _options(self, node: Any) -> dict[str, Any]:
        """Of `Logic.superResolveAsync`, for one scan or each of a list."""
        plan = self.panel.models.plan_for(node)
        return {
            "model": model_card.model_file(plan.key),
            "factors": plan.factors,
            "spacing": plan.spacing,
            "device": preferences.device(),
            "precision": choices.data(self.panel.ui.precisionCombo),
            "blur": choices.data(self.panel.ui.blurCombo),
            "noise": choices.data(self.panel.ui.noiseCombo),
            "memoryLimit": choices.memory_limit(self.panel.ui.memorySpin),
            "flips": int(choices.data(self.panel.ui.flipsCombo)),
        }

    def check_options(self, node: Any) -> dict[str, Any]:
        """Of `Logic.checkAsync`: those that a check shares with a run."""
        options = self._options(node)
        return {name: options[name] for name in ("model", "device", "precision", "blur", "noise", "memoryLimit")}

    def start_check(self) -> None:
        """The click on "Check on this scan"."""
        panel = self.panel
        panel.measurement.cancel()
        self.machine.go(State.STARTING)
        panel.display.say(_("Checking on this scan"))
        self.begun = time.monotonic()
        state = panel.check.state()
        try:
            self._log_start(panel.node)
            self.run = panel.logic.checkAsync(
                panel.node,
                onProgress=self.on_check_progress,
                onDone=lambda run: self.on_check_done(run, state),
                onError=self.on_error,
                **self.check_options(panel.node),
            )
        except SRGAN3DError as error:
            self.on_error(error)
        panel.refresh()

    @slot
    def on_check_progress(self, event: Any) -> None:
        """The bar only shows that work goes on: a check has no steps worth counting."""
        if isinstance(event, Log):
            self.on_progress(event)

    @slot
    def on_check_done(self, run: Any, state: tuple[Any, ...]) -> None:
        self.machine.go(State.DONE)
        self.run = None
        self.panel.display.say(_("Checked in {time}.").format(time=forecast.clock(time.monotonic() - self.begun)))
        self.panel.display.log(f"checked: {run.row['verdict']}")
        self.panel.check.remember(state, run.row)
        self.panel.refresh()
        scroll_to(self.panel.ui.checkLabel)

    def cancel(self) -> None:
        """The panel is free at once. The worker stops computing by itself, or is ended."""
        if self.run is not None:
            self.run.cancel()

    @slot
    def on_progress(self, event: Any) -> None:
        if isinstance(event, Log):
            self.panel.display.log(event.message if event.level == "info" else _("Warning: {text}").format(text=event.message))
            return
        if self.machine.state is State.STARTING:
            self.machine.go(State.RUNNING)
            self.panel.refresh()
        if not isinstance(event, Progress) or self.machine.state is not State.RUNNING:
            return
        share, volume = event.done / event.total if event.total else 0.0, None
        if isinstance(self.run, Batch):
            volume = (self.run.number, len(self.run.ids))
            share = (volume[0] - 1 + share) / volume[1]
        self.panel.ui.progressBar.setRange(0, 100)
        self.panel.ui.progressBar.setValue(round(100 * share))
        self.panel.display.say(texts.progress(event, volume))

    @slot
    def on_done(self, run: Any) -> None:
        self.machine.go(State.DONE)
        node, info = run.nodes[0], run.infos[0]
        self._remember_speed(info, len(run.infos))
        text = _("Done in {time}: {name}").format(time=forecast.clock(time.monotonic() - self.begun), name=node.GetName())
        self.panel.display.say(f"{text} ({'; '.join(run.notes)})" if run.notes else text)
        self.panel.display.log(f"done: {info['device']} {info['precision']}, {info.get('seconds')} s, blur {info.get('blur', 'not asked')}")
        for line in info.get("fallbacks", []):
            self.panel.display.log(_("Warning: {text}").format(text=line))
        self.run = None
        self.panel.result.first_look(node)
        self.panel.refresh()
        scroll_to(self.panel.ui.resultGroup)

    def _remember_speed(self, info: dict[str, Any], count: int) -> None:
        """A run on a whole scan says more than the measurement on small blocks."""
        key, voxels = self.timed
        if info.get("seconds") and voxels >= FEWEST_TIMED and count == 1:
            kind = info["device"].split(":")[0]
            before = preferences.measured(key, kind)
            speed = preferences.Measured(
                voxels * info.get("flips", 1) / info["seconds"], info["precision"], before.base_bytes if before else 0
            )
            preferences.set_measured(key, kind, speed)

    @slot
    def on_batch(self) -> None:
        self.panel.updating = True
        self.panel.scans.follow(self.run.states, self.run.errors)
        self.panel.updating = False

    @slot
    def on_batch_end(self, batch: Batch) -> None:
        """Of a list: how many are done, and why the first one failed."""
        failed = [one for one, state in batch.states.items() if state == FAILED]
        self.run = batch
        self.on_batch()
        self.run = None
        done = len(batch.results)
        self.machine.go(State.DONE if done == len(batch.ids) else State.FAILED if failed else State.CANCELLED)
        text = _("{done} of {count} scans done.").format(done=done, count=len(batch.ids))
        self.panel.display.say(" ".join([text, *(_("Failed: {text}").format(text=batch.errors[one]) for one in failed[:1])]))
        for one in failed:
            self.panel.display.log(f"failed: {batch.errors[one]}")
        if batch.results:
            self.panel.result.first_look(next(reversed(batch.results.values())))
        self.panel.refresh()
        scroll_to(self.panel.ui.statusLabel)

    @slot
    def on_error(self, error: Exception) -> None:
        self.run = None
        cancelled = isinstance(error, Cancelled)
        self.machine.go(State.CANCELLED if cancelled else State.FAILED)
        text = str(error) if str(error) != "cancelled" else _("nothing was changed")
        self.panel.display.say((_("Cancelled: {text}") if cancelled else _("Failed: {text}")).format(text=text))
        self.panel.display.log(f"{type(error).__name__}: {error}")
        if self.panel.logic.client.process is not None and not cancelled:
            self.panel.display.log(self.panel.logic.client.process.error_text())
        self.panel.refresh_torch()
        scroll_to(self.panel.ui.applyButton, self.panel.ui.statusLabel)

    def _log_start(self, node: Any) -> None:
        """The line that a bug report begins with."""
        options = self._options(node)
        sha256 = file_hash(options.pop("model"))
        self.panel.display.log(bug_report.start_line(node, self.panel.header, sha256, options))
