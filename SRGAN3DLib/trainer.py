"""Training in one readable loop: content stage, then the GAN of [P1], in one RUN folder that resumes where it was left.

RUN/config.json the configuration · metrics.jsonl one line a step · validation.jsonl · state.safetensors everything that a
resume needs (both networks, both optimisers, EMA, step; batches and schedules are functions of seed and step) ·
model.safetensors the content stage's best validated EMA generator · model-sharp.safetensors the EMA generator after the GAN stage.
"""

from __future__ import annotations

import datetime
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import training_state
from .checkpoint import Checkpoint
from .checkpoint_header import CheckpointHeader
from .configs import TrainConfig, from_json, to_json
from .datasets import TrainingSet, find_scans
from .devices import choose
from .errors import Cancelled, JobError, SRGAN3DError
from .events import Log, Progress, Report
from .files import write_text
from .intensity import IntensityScale
from .losses import adversarial_loss, content_loss, discriminator_loss, gradient_difference_loss
from .networks import Discriminator, Generator, with_blur
from .protocol import Case
from .volume import Volume

WARM_UP = 300
TOLERATED_BAD_STEPS = 20
CITATION = "Sanchez I., Vilaplana V.: Brain MRI super-resolution using 3D generative adversarial networks, arXiv 1812.11440"


class Trainer:
    """`Trainer(config).fit(report)`; the same call again goes on where the last one stopped."""

    def __init__(self, config: TrainConfig, report: Report = lambda event: None):
        self.config, self.report, self.run = config, report, Path(config.out)
        self.data = TrainingSet(config)
        self._prepare_folder()
        for path, reason in self.data.skipped:
            report(Log(f"skipped {path.name}: {reason}"))
        choice = choose(config.device, config.precision)
        self.device, self.dtype = choice.device, choice.dtype
        torch.manual_seed(config.seed)
        self.generator = self._place(Generator(config.generator))
        self.ema = self._place(Generator(config.generator)).eval()
        self.ema.load_state_dict(self.generator.state_dict())
        self.discriminator = self._place(Discriminator(config.discriminator)) if config.gan_steps else None
        self.g_optimiser = torch.optim.Adam(self.generator.parameters(), lr=config.learning_rate)
        self.d_optimiser = None
        if self.discriminator is not None:
            self.d_optimiser = torch.optim.Adam(self.discriminator.parameters(), lr=config.discriminator_learning_rate, betas=(0.5, 0.999))
        self.step, self.best_gain, self.bad_steps = 0, -math.inf, 0
        self.validation: list[Case] | None = None
        self.total = config.steps + config.gan_steps

    def _place(self, network: Any) -> Any:
        return network.to(self.device, memory_format=torch.channels_last_3d)

    def _prepare_folder(self) -> None:
        """RUN with its config; an old RUN of another configuration is refused, never mixed."""
        try:
            self.run.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise JobError(f"{self.run}: cannot be made ({error.strerror})") from None
        path = self.run / "config.json"
        if path.exists():
            try:
                old = from_json(TrainConfig, json.loads(path.read_text(encoding="utf-8")), str(path))
            except (OSError, ValueError) as error:
                raise JobError(f"{path}: not a readable configuration ({error}); give --out another folder") from None
            if (
                replace(old, out=self.config.out, data=self.config.data, validation=self.config.validation, device=self.config.device)
                != self.config
            ):
                raise JobError(f"{self.run}: holds a run of another configuration; give --out another folder, or delete it")
        write_text(path, json.dumps(to_json(self.config), indent=1) + "\n")

    # ------------------------------------------------------------ the loop
    def fit(self, cancelled: Callable[[], bool] = lambda: False) -> dict[str, Any]:
        """Train to the end. Returns the run's facts. Raises `Cancelled` with the state saved."""
        if training_state.load(self):
            self.report(Log(f"resumed {self.run} at step {self.step} of {self.total}"))
        started, first = time.monotonic(), self.step
        metrics = training_state.open_log(self.run / "metrics.jsonl", self.step)
        with metrics:
            waiting = time.monotonic()
            for batch in self.data.batches(self.step, self.total):
                waited = time.monotonic() - waiting
                if cancelled():
                    training_state.save(self)
                    raise Cancelled(f"{self.run}: stopped at step {self.step} of {self.total}; the same command goes on from there")
                begun = time.monotonic()
                losses = self.train_step(batch)
                self.step += 1
                row = {"step": self.step, **losses, "seconds": round(time.monotonic() - begun, 4), "waited": round(waited, 4)}
                metrics.write(json.dumps(row) + "\n")
                metrics.flush()
                per_step = (time.monotonic() - started) / (self.step - first)
                shown = {**losses, "best_gain": self.best_gain} if math.isfinite(self.best_gain) else losses
                self.report(Progress(f"training ({self.stage})", self.step, self.total, per_step * (self.total - self.step), shown))
                self._milestones()
                waiting = time.monotonic()
        return {"run": str(self.run), "steps": self.step, "best_gain_db": self.best_gain if math.isfinite(self.best_gain) else None}

    def _milestones(self) -> None:
        config = self.config
        last = self.step in (config.steps, self.total)
        if self.step % config.validate_every == 0 or last:
            self.validate()
        if self.step == self.total and config.gan_steps:
            self.export("model-sharp.safetensors", {})
        if self.step % config.save_every == 0 or last:
            training_state.save(self)

    @property
    def stage(self) -> str:
        return "content" if self.step <= self.config.steps else "GAN"

    def train_step(self, batch: tuple[np.ndarray, np.ndarray, np.ndarray]) -> dict[str, float]:
        """One update of G (and of D in the GAN stage) on one batch; a step whose loss or gradient is not finite changes nothing."""
        lr, hr, mtf = (torch.from_numpy(part).to(self.device) for part in batch)
        lr, hr = lr.contiguous(memory_format=torch.channels_last_3d), hr.contiguous(memory_format=torch.channels_last_3d)
        adversarial = self.step >= self.config.steps
        self._set_rates(adversarial)
        buffers = [(b, b.clone()) for part in (self.generator, self.discriminator) if part is not None for b in part.buffers()]
        with self._autocast():
            sr = self.generator(with_blur(lr, mtf) if self.config.generator.blur_aware else lr).float()
        losses = self._update_discriminator(hr, sr.detach()) if adversarial else {}
        losses |= self._update_generator(hr, sr, adversarial)
        if math.isfinite(losses["loss"]) and math.isfinite(losses["gradient_norm"]):
            self.bad_steps = 0
            self._update_ema()
        else:
            self.bad_steps += 1
            for buffer, before in buffers:  # batch norm's means have seen the batch
                buffer.copy_(before)
            self.report(Log(f"step {self.step + 1}: loss {losses['loss']}, gradient {losses['gradient_norm']}: step left out", "warning"))
            if self.bad_steps >= TOLERATED_BAD_STEPS:
                raise SRGAN3DError(
                    f"{self.run}: {self.bad_steps} steps in a row were not finite; lower --learning-rate; the last state is intact"
                )
        return losses

    def _update_discriminator(self, hr: Tensor, sr: Tensor) -> dict[str, float]:
        assert self.discriminator is not None and self.d_optimiser is not None
        with self._autocast():
            real, fake = self.discriminator(hr).float(), self.discriminator(sr).float()
        loss = discriminator_loss(real, fake)
        self.d_optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.discriminator.parameters(), self.config.gradient_clip)
        if bool(norm.isfinite()):
            self.d_optimiser.step()
        return {"d_loss": loss.item(), "d_real": real.mean().item(), "d_fake": fake.mean().item()}

    def _update_generator(self, hr: Tensor, sr: Tensor, adversarial: bool) -> dict[str, float]:
        config = self.config
        content = content_loss(config.content, sr, hr)
        loss, losses = config.content_weight * content, {"content": content.item()}
        if config.gradient_difference_weight:
            difference = gradient_difference_loss(sr, hr)
            loss = loss + config.gradient_difference_weight * difference
            losses["gradient_difference"] = difference.item()
        if adversarial:
            assert self.discriminator is not None
            self.discriminator.requires_grad_(False)
            with self._autocast():
                fake = self.discriminator(sr).float()
            term = config.adversarial_weight * adversarial_loss(fake)
            losses |= {"adversarial": term.item(), "adversarial_share": _gradient_share(loss, term, sr)}
            loss = loss + term
        self.g_optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if adversarial and self.discriminator is not None:
            self.discriminator.requires_grad_(True)
        norm = torch.nn.utils.clip_grad_norm_(self.generator.parameters(), config.gradient_clip)
        if bool(norm.isfinite()) and bool(loss.isfinite()):
            self.g_optimiser.step()
        return losses | {"loss": loss.item(), "gradient_norm": norm.item(), "learning_rate": self.g_optimiser.param_groups[0]["lr"]}

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def _set_rates(self, adversarial: bool) -> None:
        """Warm-up, then a cosine down to 1 % of the rate at each stage's end."""
        config = self.config
        step, total = (self.step - config.steps, config.gan_steps) if adversarial else (self.step, config.steps)
        warm = min(1.0, (step + 1) / min(WARM_UP, max(1, total // 10)))
        shape = warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / max(1, total))))
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
    def validate(self) -> None:
        """Gain of the EMA generator by the protocol on the central box of every validation scan; the best is exported."""
        gains = self._gains() if self.config.validation else {}
        means = {f"gain_{kind}": float(np.mean([g for (_, k), g in gains.items() if k == kind])) for kind in sorted({k for _, k in gains})}
        mean = float(np.mean(list(means.values()))) if means else math.inf
        row = {"step": self.step, **means, "gains": {f"{name} {kind}": round(g, 3) for (name, kind), g in gains.items()}}
        with training_state.open_log(self.run / "validation.jsonl", self.step - 1) as file:
            file.write(json.dumps(row) + "\n")
        if means:
            self.report(Log(f"step {self.step}: " + ", ".join(f"{key[5:]} {value:+.2f} dB" for key, value in means.items())))
        if self.step <= self.config.steps and mean >= self.best_gain:
            self.best_gain = mean if means else -math.inf
            self.export("model.safetensors", row)

    def _cases(self) -> list[Case]:
        """The validation scans' central boxes under the three degradations of the protocol (or the one trained for)."""
        cases, box, factors = [], self.config.validation_box, self.config.generator.factors
        kind = self.config.degradation.kind
        for scan in find_scans(self.config.validation or ""):
            if any(f > 1 and axis not in scan.truth_kji for axis, f in enumerate(factors)) and len(scan.truth_kji) < 2:
                continue
            array = Volume.read(scan.path).array
            middle = tuple(slice(max(0, (n - box) // 2), max(0, (n - box) // 2) + box) for n in array.shape)
            for name in ("box", "gaussian", "kspace") if kind == "random" else (kind,):
                cases.append(Case.make(scan.path.name, array[middle], factors, name))
        return cases

    @torch.no_grad()
    def _gains(self) -> dict[tuple[str, str], float]:
        if self.validation is None:
            self.validation = self._cases()
        gains = {}
        for case in self.validation:
            scale = IntensityScale.fit(case.lr)
            lr = torch.from_numpy(np.asarray(scale.apply(case.lr), np.float32))[None, None].to(self.device)
            if self.config.generator.blur_aware:
                from .degradations import Degradation

                lr = with_blur(lr, Degradation.named(case.degradation, case.factors).mtf)
            with self._autocast():
                sr = self.ema(lr.contiguous(memory_format=torch.channels_last_3d)).float()
            gains[case.name, case.degradation] = case.gain(scale.undo(sr[0, 0].cpu().numpy()))
        return gains

    def export(self, name: str, metrics: dict[str, Any]) -> None:
        """The EMA generator as an ordinary checkpoint in RUN."""
        config = self.config
        scans = {v.scan.path: v.scan for v in self.data.volumes}
        spacings = [s * f for v in self.data.volumes for s, f in zip(v.spacing_mm, config.generator.factors, strict=True)]
        header = CheckpointHeader(
            name=name.removesuffix(".safetensors"),
            generator=config.generator,
            degradation=config.degradation,
            contrasts=tuple(sorted({s.contrast for s in scans.values() if s.contrast})),
            spacing_range_mm=(min(spacings), max(spacings)),
            training_data=tuple({"file": path.name, "subject": s.subject, "licence": s.licence} for path, s in sorted(scans.items())),
            training={
                "step": self.step,
                "config": {k: v for k, v in to_json(config).items() if k not in ("data", "validation", "out")},
                "torch": torch.__version__,
            },
            metrics={"protocol": f"central box of {config.validation_box} voxels, gain over the best interpolation, dB", **metrics}
            if metrics
            else {},
            citation=CITATION,
            created=datetime.date.today().isoformat(),
        )
        Checkpoint(header, self.ema.state_dict()).save(self.run / name)


def _gradient_share(content: Tensor, adversarial: Tensor, sr: Tensor) -> float:
    """|adversarial gradient at G's output| / (|content gradient| + |adversarial gradient|), RMS: is the GAN more than a decoration?"""
    a, c = (torch.autograd.grad(term, sr, retain_graph=True)[0].square().mean().sqrt() for term in (adversarial, content))
    return float(a / (a + c)) if float(a + c) > 0 else 0.0
