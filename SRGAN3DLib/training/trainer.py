"""Training in one readable loop: content stage, then the GAN of [P1], in one RUN folder that resumes where it was left.

RUN/config.json the configuration · metrics.jsonl one line a step · validation.jsonl · tensorboard/ the same to look at ·
state.safetensors everything that a resume needs (both networks, both optimisers, EMA, step; batches and schedules are functions of
seed and step) · model.safetensors the content stage's best validated EMA generator · model-sharp.safetensors the EMA generator of
the GAN stage · report.md what came of it. Under `torchrun` the ranks share every batch, and the first of them writes.
"""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from SRGAN3DLib.contract.checkpoint_header import CheckpointHeader
from SRGAN3DLib.contract.configs import TrainConfig, train_config_text
from SRGAN3DLib.contract.errors import Cancelled, DeviceError, JobError, ResourceError
from SRGAN3DLib.contract.events import Log, Progress, Report
from SRGAN3DLib.contract.strict_json import to_json
from SRGAN3DLib.evaluation.metrics import sharpness
from SRGAN3DLib.evaluation.scoring import Case
from SRGAN3DLib.inference.devices import choose
from SRGAN3DLib.inference.tiling import is_out_of_memory
from SRGAN3DLib.networks.checkpoint import Checkpoint
from SRGAN3DLib.networks.generator import Conditions, Generator, with_conditions
from SRGAN3DLib.networks.patch_discriminator import make_discriminator, seen_beside
from SRGAN3DLib.volumes.files import make_folder, write_text

from . import state as training_state
from .datasets import TrainingSet
from .log import TrainingLog
from .loss_guard import TOLERATED, LossGuard
from .losses import adversarial_loss, content_loss, discriminator_loss, gradient_difference_loss, lattice_loss, r1_penalty, spectrum_loss
from .rank_norm import over_ranks
from .ranks import Ranks
from .report import write_report
from .resume import continued
from .run_folder import CONFIG, STATE
from .run_lock import RunLock, check_free
from .schedule import rate_share
from .validation import score, summary, super_resolve, unlikeness

PROTOCOL = "central box of {} voxels, gain over the best interpolation, dB"
CITATION = "Sanchez I., Vilaplana V.: Brain MRI super-resolution using 3D generative adversarial networks, arXiv 1812.11440"


class Trainer:
    """`Trainer(config).fit(report)`; the same call again goes on where the last one stopped."""

    layout = torch.channels_last_3d  # twice as fast as contiguous (benchmarks/bench_training.py)

    def __init__(
        self, config: TrainConfig, report: Report = lambda event: None, data: TrainingSet | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ):  # fmt: skip
        """Read the scans, or take `data`; `cancelled` may end that. Raises `JobError` where RUN is in use, or of another configuration."""
        self.run, self.ranks = Path(config.out), Ranks.here()
        self.report = report if self.ranks.first else lambda event: None
        if self.ranks.first:
            check_free(self.run)
        if data is None and config.degradation.kind == "slice-profile":
            raise JobError("degradation slice-profile: is what `fit` does to one scan; choose random, gaussian, box or kspace to train")
        self.config = config = continued(self.run, config)
        if config.batch % self.ranks.world:
            raise JobError(f"batch {config.batch}: {self.ranks.world} ranks cannot share it evenly")
        choice = choose(self.ranks.device(config.device), config.precision)
        if choice.precision == "fp16" and choice.device.type != "cuda":
            raise DeviceError(f"precision fp16 on {choice.device}: training in fp16 needs a CUDA device; use auto, bf16 or fp32")
        self.device, self.dtype = choice.device, choice.dtype
        self.ranks.join(self.device)
        self.data = TrainingSet(config, cancelled) if data is None else data
        if self.ranks.first:
            make_folder(self.run)
            with RunLock(self.run):
                write_text(self.run / CONFIG, train_config_text(config))
                self.data.write_split()
            for line in self.data.subjects_table():
                self.report(Log(line))
        for path, reason in self.data.skipped:
            self.report(Log(f"skipped {path.name}: {reason}"))
        for note in self.data.notes:
            self.report(Log(note, "warning"))
        self._make_networks()
        self.guard = LossGuard()
        self.log: TrainingLog | None = None
        self.step, self.saved, self.best_gain, self.least_unlike = 0, 0, -math.inf, math.inf
        self.validation_due = False  # the last step was interrupted before its validation
        self.beside: Tensor | None = None  # what a conditional D sees beside an image, in this step
        self.total = config.steps + config.gan_steps

    def _make_networks(self) -> None:
        config = self.config
        torch.manual_seed(config.seed)
        self.generator = self._place(Generator(config.generator))
        if config.init and not (self.run / STATE).exists():  # a run that goes on has its own weights
            fresh = Checkpoint.load(config.init).start(self.generator)
            self.report(Log(f"started from {config.init}" + (f"; new: {', '.join(fresh)}" if fresh else "")))
        self.ema = self._place(Generator(config.generator)).eval()
        self.ema.load_state_dict(self.generator.state_dict())
        self.discriminator = self._place(make_discriminator(config.discriminator, config.generator)) if config.gan_steps else None
        self.g_optimiser = torch.optim.Adam(self.generator.parameters(), lr=config.learning_rate)
        self.d_optimiser = None
        if self.discriminator is not None:
            self.d_optimiser = torch.optim.Adam(self.discriminator.parameters(), lr=config.discriminator_learning_rate, betas=(0.5, 0.999))
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)

    def _place(self, network: Any) -> Any:
        network = over_ranks(network) if self.ranks.world > 1 else network
        return network.to(self.device, memory_format=self.layout)

    # ------------------------------------------------------------ the loop
    def fit(self, cancelled: Callable[[], bool] = lambda: False) -> dict[str, Any]:
        """Train to the end. Returns the run's facts. Raises `Cancelled` with the state saved, `ResourceError` with the last one kept."""
        try:
            with self.ranks.watched(), RunLock(self.run) if self.ranks.first else nullcontext():
                return self._fit(cancelled)
        except ResourceError as error:
            kept = f"the state of step {self.saved} is kept, and the same command goes on from there"
            raise ResourceError(f"{error}; {kept if self.saved else 'nothing was kept yet'}") from None
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise ResourceError(f"{self.run}: memory ran out in step {self.step + 1}; a smaller --batch or --patch takes less") from None

    def _fit(self, cancelled: Callable[[], bool]) -> dict[str, Any]:
        if training_state.load(self):
            self.saved = self.step
            self.report(Log(f"resumed {self.run} at step {self.step} of {self.total}"))
        self.ranks.agree(self.step, f"{self.run}: the ranks see different states; every one needs the same folder")
        cases = len(self.data.cases)
        self.report(Log(f"validating on {cases} cases" if cases else "no validation scans: the last step of each stage is exported"))
        if self.ranks.first:
            with TrainingLog(self.run, self.step, self.report) as self.log:
                self._steps(cancelled)
            write_report(self.run)
        else:
            self._steps(cancelled)
        self.ranks.leave()
        best = self.best_gain if math.isfinite(self.best_gain) else None
        return {"run": str(self.run), "steps": self.step, "best_gain_db": best, "report": str(self.run / "report.md")}

    def _steps(self, cancelled: Callable[[], bool]) -> None:
        started, first, share = time.monotonic(), self.step, slice(self.ranks.rank, None, self.ranks.world)
        voxels = self.config.batch * self.config.patch**3 * math.prod(self.config.generator.factors)
        if self.validation_due:
            self._milestones(cancelled)
        waiting = time.monotonic()
        for batch in self.data.batches(self.step, self.total, share):
            waited = time.monotonic() - waiting
            if self.ranks.any(cancelled(), self.device):
                self._stop()
            begun = time.monotonic()
            losses = self.train_step(batch)
            self.step += 1
            row = {"step": self.step, **losses, "seconds": round(time.monotonic() - begun, 4), "waited": round(waited, 4)}
            if self.log is not None:
                self.log.step(row, voxels)
            per_step = (time.monotonic() - started) / (self.step - first)
            shown = {**losses, "best_gain": self.best_gain} if math.isfinite(self.best_gain) else losses
            self.report(Progress(f"training ({self.stage})", self.step, self.total, per_step * (self.total - self.step), shown))
            self._milestones(cancelled)
            waiting = time.monotonic()

    def _stop(self) -> None:
        self._save()
        raise Cancelled(f"{self.run}: stopped at step {self.step} of {self.total}, the state is saved; the same command goes on from there")

    def _milestones(self, cancelled: Callable[[], bool] = lambda: False) -> None:
        config = self.config
        last = self.step in (config.steps, self.total)
        if self.step % config.validate_every == 0 or last:
            self.validation_due = True
            self.validate(cancelled)
            self.validation_due = False
        if last or (self.step % config.save_every == 0 and not self.guard.bad):  # never save what may be spoilt
            self._save()

    def _save(self) -> None:
        if self.ranks.first:
            training_state.save(self)
        self.saved = self.step

    @property
    def stage(self) -> str:
        return "content" if self.step <= self.config.steps else "GAN"

    # ------------------------------------------------------------ one step
    def train_step(self, batch: tuple[np.ndarray, ...]) -> dict[str, float]:
        """One update of G (and of D in the GAN stage) on one batch; a step that `LossGuard` finds bad changes nothing.

        Both gradients are taken before either network moves. Figures are means over the batch of all ranks.
        """
        adversarial = self.step >= self.config.steps
        self._set_rates(adversarial)
        buffers = [(b, b.clone()) for part in (self.generator, self.discriminator) if part is not None for b in part.buffers()]
        sr, hr = self._made(batch)
        figures = self._losses(sr, hr, adversarial)
        updates = [(self.generator, self.g_optimiser, "")]
        if adversarial and self.d_optimiser is not None:
            updates.append((self.discriminator, self.d_optimiser, "d_"))
        losses = self._means(figures)
        for network, optimiser, prefix in updates:
            losses[f"{prefix}gradient_norm"] = self._finish_gradient(network, optimiser)
            losses[f"{prefix}learning_rate"] = optimiser.param_groups[0]["lr"]
        fault = self.guard.fault(losses)
        if not fault:
            for _, optimiser, _ in updates:
                self.scaler.step(optimiser)
            self._update_ema()
        else:
            for buffer, before in buffers:  # batch norm's means have seen the batch
                buffer.copy_(before)
            self._leave_out(fault)
        self.scaler.update()
        return losses

    def _made(self, batch: tuple[np.ndarray, ...]) -> tuple[Tensor, Tensor]:
        """G's answer to a batch, and the truth."""
        lr, hr, mtf, noise = (torch.from_numpy(part).to(self.device) for part in batch)
        lr, hr = lr.contiguous(memory_format=self.layout), hr.contiguous(memory_format=self.layout)
        told = with_conditions(lr, self.config.generator, Conditions(mtf, noise))
        adversarial = self.step >= self.config.steps
        self.beside = seen_beside(told, self.config.generator) if adversarial and self.config.discriminator.conditional else None
        with self._autocast():
            return self.generator(told).float(), hr

    def _content(self, sr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor]:
        """The content loss of an answer, and its gradient difference where that counts."""
        gradient = gradient_difference_loss(sr, hr) if self.config.gradient_difference_weight else sr.new_zeros(())
        return content_loss(self.config.content, sr, hr), gradient

    def _losses(self, sr: Tensor, hr: Tensor, adversarial: bool) -> dict[str, Tensor]:
        """Equation (2), and (1) where it is due; leaves the gradients in G and D."""
        config = self.config
        content, gradient_difference = self._content(sr, hr)
        loss, figures = config.content_weight * content, {"content": content}
        if config.gradient_difference_weight:
            figures["gradient_difference"] = gradient_difference
            loss = loss + config.gradient_difference_weight * figures["gradient_difference"]
        if adversarial and config.spectrum_weight:
            figures["spectrum"] = spectrum_loss(sr, hr)
            loss = loss + config.spectrum_weight * figures["spectrum"]
        if adversarial and config.lattice_weight:
            figures["lattice"] = lattice_loss(sr, hr, config.generator.factors)
            loss = loss + config.lattice_weight * figures["lattice"]
        gradient = torch.autograd.grad(self.scaler.scale(loss), sr)[0]  # at G's output, where the two terms can be compared
        if adversarial:
            assert self.discriminator is not None
            with self._autocast():  # one pass: batch norm of each alone would take away the very difference that D is to see
                real, fake = self.discriminator(torch.cat([self._judged(hr), self._judged(sr)])).float().chunk(2)
            figures["adversarial"] = config.adversarial_weight * adversarial_loss(fake)
            pull = torch.autograd.grad(self.scaler.scale(figures["adversarial"]), sr, retain_graph=True)[0]
            figures |= {"content_pull": gradient.square().mean(), "adversarial_pull": pull.square().mean()}
            gradient, loss = gradient + pull, loss + figures["adversarial"]
            figures |= self._discriminator_losses(real, fake, hr)
        self.g_optimiser.zero_grad(set_to_none=True)
        sr.backward(gradient)
        return {**figures, "loss": loss}

    def _judged(self, image: Tensor) -> Tensor:
        """What D sees of an image: it, and, if D is conditional, what it was made from."""
        return image if self.beside is None else torch.cat([image, self.beside.to(image)], dim=1)

    def _discriminator_losses(self, real: Tensor, fake: Tensor, hr: Tensor) -> dict[str, Tensor]:
        """Equation (1) of D's outputs for HR and SR, and R1 where it is due; leaves its gradient in D, and none in G."""
        config = self.config
        assert self.discriminator is not None and self.d_optimiser is not None
        loss = discriminator_loss(real, fake, config.label_smoothing)
        figures = {"d_loss": loss, "d_real": real.mean(), "d_fake": fake.mean()}
        if config.r1_weight and self.step % config.r1_every == 0:
            seen = self._judged(hr).clone().requires_grad_()
            figures["r1"] = r1_penalty(self.discriminator(seen), seen)  # in fp32: a squared gradient is small
            loss = loss + 0.5 * config.r1_weight * config.r1_every * figures["r1"]
        self.d_optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward(inputs=list(self.discriminator.parameters()))
        return figures

    def _means(self, figures: dict[str, Tensor]) -> dict[str, float]:
        """Figures of the whole batch, as numbers."""
        values = torch.stack([value.detach().float() for value in figures.values()])
        self.ranks.average([values])
        losses = dict(zip(figures, values.tolist(), strict=True))
        if "adversarial" in losses:  # is the GAN more than a decoration?
            pulls = [math.sqrt(losses.pop(f"{name}_pull")) for name in ("adversarial", "content")]
            losses["adversarial_share"] = pulls[0] / sum(pulls) if sum(pulls) else 0.0
        return losses

    def _finish_gradient(self, network: nn.Module, optimiser: torch.optim.Optimizer) -> float:
        """Mean over the ranks, fp16's loss scale taken out, clipped. Returns the norm before clipping."""
        self.ranks.average([p.grad for p in network.parameters() if p.grad is not None])
        self.scaler.unscale_(optimiser)
        return float(torch.nn.utils.clip_grad_norm_(network.parameters(), self.config.gradient_clip))

    def _leave_out(self, fault: str) -> None:
        self.report(Log(f"step {self.step + 1}: {fault}: step left out", "warning"))
        if self.guard.bad >= TOLERATED:
            raise JobError(
                f"{self.run}: {self.guard.bad} bad steps in a row, the last since {fault}; the state of step {self.saved} is intact; "
                "begin another run with a lower --learning-rate or --gradient-clip"
            )

    def _autocast(self) -> torch.autocast:
        low = self.dtype != torch.float32
        return torch.autocast(self.device.type, dtype=self.dtype if low else torch.bfloat16, enabled=low)

    def _set_rates(self, adversarial: bool) -> None:
        config = self.config
        shape = rate_share(self.step - config.steps, config.gan_steps) if adversarial else rate_share(self.step, config.steps)
        for group in self.g_optimiser.param_groups:
            group["lr"] = shape * (config.gan_learning_rate if adversarial else config.learning_rate)
        if self.d_optimiser is not None:
            for group in self.d_optimiser.param_groups:
                group["lr"] = shape * config.discriminator_learning_rate

    @torch.no_grad()
    def _update_ema(self) -> None:
        keep = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for mean, now in zip(self.ema.state_dict().values(), self.generator.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(now, 1 - keep)
            else:
                mean.copy_(now)

    # ------------------------------------------------------------ validation and export
    @cached_property
    def validation(self) -> list[tuple[Case, dict[str, float]]]:
        """This rank's share of the validation cases, each with the sharpness of its truth."""
        return [(case, sharpness(case.hr, case.mask, case.data_range)) for case in self.ranks.share(self.data.cases)]

    def validate(self, cancelled: Callable[[], bool] = lambda: False) -> None:
        """The EMA generator by the protocol on the central box of every validation scan; the best by its mean gain is exported."""
        rows, shown = [], None
        for case, truth in self.validation:
            if self.ranks.world == 1 and cancelled():
                self._stop()
            sr = self._answer(case)
            rows.append(self._score(case, sr, truth))
            shown = (case, sr) if shown is None else shown
        means = summary(self.ranks.gather(rows))
        if not self.ranks.first:
            return
        gains = {name[5:]: value for name, value in means.items() if name.startswith("gain_")}
        row = {"step": self.step, **means}
        if self.log is not None:
            self.log.validation(row, *(shown or (None, None)))
        if gains:
            self.report(Log(f"step {self.step}: " + ", ".join(f"{kind} {value:+.2f} dB" for kind, value in gains.items())))
        mean = float(np.mean([*gains.values()])) if gains else math.inf
        if self.step <= self.config.steps and mean >= self.best_gain:
            self.best_gain = mean if gains else -math.inf
            self.export("model.safetensors", row)
        if self.step > self.config.steps and (unlike := unlikeness(means)) <= self.least_unlike:
            self.least_unlike = unlike if gains else math.inf
            self.export("model-sharp.safetensors", {**row, "unlikeness": unlike} if gains else {})

    def _answer(self, case: Any) -> np.ndarray:
        """The EMA generator's image for a validation case."""
        with self._autocast():
            return super_resolve(self.ema, case, self.config.generator, self.device)

    def _score(self, case: Any, sr: np.ndarray, truth: dict[str, float]) -> dict[str, Any]:
        return score(case, sr, truth)

    def export(self, name: str, metrics: dict[str, Any]) -> None:
        """The EMA generator as an ordinary checkpoint in RUN."""
        Checkpoint(self._header(name.removesuffix(".safetensors"), metrics), self.ema.state_dict()).save(self.run / name)

    def _header(self, name: str, metrics: dict[str, Any]) -> CheckpointHeader:
        """What the checkpoint says about itself."""
        config = self.config
        scans = {v.scan.path: v.scan for v in self.data.volumes}
        laid = [(volume.spacing_mm, way) for volume in self.data.volumes for way in volume.orders]
        spacings = [mm[axis] * f for mm, way in laid for axis, f in zip(way, config.generator.factors, strict=True)]
        return CheckpointHeader(
            name=name,
            generator=config.generator,
            degradation=config.degradation,
            back_projection=config.generator.blur_aware,
            contrasts=tuple(sorted({s.contrast for s in scans.values() if s.contrast})),
            spacing_range_mm=(min(spacings), max(spacings)),
            training_data=tuple({"file": path.name, "subject": s.subject, "licence": s.licence} for path, s in sorted(scans.items())),
            training={
                "step": self.step,
                "config": {k: v for k, v in to_json(config).items() if k not in ("data", "validation", "out", "init")}
                | {"init": Path(config.init).name if config.init else None},
                "torch": torch.__version__,
            },
            metrics={"protocol": PROTOCOL.format(config.validation_box), **metrics} if metrics else {},
            citation=CITATION,
            created=datetime.date.today().isoformat(),
        )
