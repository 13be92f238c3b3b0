"""Training a synthesis model: the loop, stages and files of `Trainer`, on pairs, with a weight for every voxel.

Two things differ in a step. The content terms are weighted means (the body counts 1, what is not known 0), and a conditional
discriminator sees the inputs beside the image. Validation is the mean absolute error inside the mask beside that of the best mapping of
one input's intensity; the gain is 20 log10 of their ratio, dB.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from SRGAN3DLib.contract.checkpoint_header import CheckpointHeader
from SRGAN3DLib.contract.configs import TrainConfig
from SRGAN3DLib.contract.errors import JobError
from SRGAN3DLib.contract.events import Log, Report
from SRGAN3DLib.contract.strict_json import to_json

from .losses import weighted_content_loss, weighted_gradient_difference_loss
from .pair_report import NAME as PAIRS
from .pair_report import write_pair_report
from .paired_dataset import PairedCase, PairedSet
from .trainer import Trainer

CITATION = (
    "Sanchez I., Vilaplana V.: 3D Medical Image Synthesis using Generative Adversarial Networks, womENCourage 2017; "
    "Nie D. et al.: Medical Image Synthesis with Context-Aware Generative Adversarial Networks, MICCAI 2017"
)
PROTOCOL = "validation boxes inside the mask: 20 log10 of the best intensity mapping's MAE over the model's, dB"


class SynthesisTrainer(Trainer):
    """`SynthesisTrainer(config).fit(report)`; `config.synthesis` says what is made from what."""

    data: PairedSet

    def __init__(
        self, config: TrainConfig, report: Report = lambda event: None, data: PairedSet | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ):  # fmt: skip
        """Read and check the pairs, or take `data`. Raises `JobError`, `VolumeError` where no pair is fit."""
        if config.synthesis is None:
            raise JobError(f"{config.out}: a synthesis run needs its inputs and its output")
        self.synthesis = config.synthesis
        inputs = len(self.synthesis.inputs)
        if config.generator.input_channels != inputs:
            raise JobError(f"{config.out}: the network takes {config.generator.input_channels} images, the pairs have {inputs}")
        wanted = 1 + (inputs if self.synthesis.conditional else 0)
        if config.gan_steps and config.discriminator.input_channels != wanted:
            config = replace(config, discriminator=replace(config.discriminator, input_channels=wanted))
        super().__init__(config, report, PairedSet(config, cancelled) if data is None else data, cancelled)
        for check in self.data.checks:
            self.report(
                Log(
                    f"pair {check.subject}: target shows {100 * check.overlap:.0f} % of the body, mutual information "
                    f"{check.information:.3f} nats" + (f"; left out: {check.fault}" if check.fault else "")
                )
            )
        if self.ranks.first and not (self.run / PAIRS).exists():  # a run that goes on does not read again what was left out
            write_pair_report(self.run, self.data.checks, self.data.overlays, self.data.skipped)
        self._weight, self._inputs = torch.empty(0), torch.empty(0)

    def _make_networks(self) -> None:
        """As `Trainer` does; a network that starts from nothing begins at the targets' mean, which makes the first steps calm."""
        super()._make_networks()
        if self.config.init:
            return
        sums = [
            (float((laid.target * laid.weight).sum(dtype=np.float64)), float(laid.weight.sum(dtype=np.float64))) for laid in self.data.pairs
        ]
        with torch.no_grad():
            self.generator.output.weight.mul_(0.1)
            self.generator.output.bias.fill_(sum(total for total, _ in sums) / sum(weight for _, weight in sums))
        self.ema.load_state_dict(self.generator.state_dict())

    # ------------------------------------------------------------ one step
    def _made(self, batch: tuple[np.ndarray, ...]) -> tuple[Tensor, Tensor]:
        """G's answer to the inputs, and the target; the voxels' weights are kept for the losses of this step."""
        inputs, target, self._weight = (torch.from_numpy(part).to(self.device) for part in batch)
        self._inputs = inputs.contiguous(memory_format=self.layout)
        with self._autocast():
            return self.generator(self._inputs).float(), target.contiguous(memory_format=self.layout)

    def _content(self, sr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor]:
        content = weighted_content_loss(self.config.content, sr, hr, self._weight, self.synthesis.tolerance)
        if not self.config.gradient_difference_weight:
            return content, sr.new_zeros(())
        return content, weighted_gradient_difference_loss(sr, hr, self._weight)

    def _judged(self, image: Tensor) -> Tensor:
        """The image where it is known, and, for a conditional discriminator, the inputs beside it."""
        image = image * (self._weight > 0)
        if not self.synthesis.conditional:
            return image
        fine = [n // m for n, m in zip(image.shape[2:], self._inputs.shape[2:], strict=True)]
        inputs = self._inputs
        for axis, f in zip((2, 3, 4), fine, strict=True):
            inputs = inputs.repeat_interleave(f, dim=axis) if f > 1 else inputs
        return torch.cat([image, inputs], dim=1)

    # ------------------------------------------------------------ validation and export
    @cached_property
    def validation(self) -> list[tuple[Any, dict[str, float]]]:
        return [(case, {}) for case in self.ranks.share(self.data.cases)]

    @torch.no_grad()
    def _answer(self, case: PairedCase) -> np.ndarray:
        inputs = torch.from_numpy(np.ascontiguousarray(case.inputs))[None].to(self.device)
        with self._autocast():
            made = self.ema(inputs.contiguous(memory_format=self.layout)).float()
        return np.asarray(made[0, 0].cpu().numpy())

    def _score(self, case: PairedCase, sr: np.ndarray, truth: dict[str, float]) -> dict[str, Any]:
        return score_case(case, sr)

    def _header(self, name: str, metrics: dict[str, Any]) -> CheckpointHeader:
        config, synthesis = self.config, self.synthesis
        spacings = [mm for laid in self.data.pairs for mm in laid.geometry.spacing_ijk_mm]
        files = [
            {"file": path.name, "subject": laid.pair.subject, "licence": laid.pair.licence}
            for laid in self.data.pairs
            for path in laid.pair.files
        ]
        return CheckpointHeader(
            name=name,
            generator=config.generator,
            contrasts=tuple(dict.fromkeys(image.contrast or image.name for image in synthesis.inputs)),
            spacing_range_mm=(min(spacings), max(spacings)),
            training_data=tuple(files),
            training={
                "step": self.step,
                "config": {k: v for k, v in to_json(config).items() if k not in ("data", "validation", "out", "init")},
                "torch": torch.__version__,
            },
            metrics={"protocol": PROTOCOL, **metrics} if metrics else {},
            citation=CITATION,
            created=datetime.date.today().isoformat(),
            task="synthesis",
            inputs=synthesis.inputs,
            output=synthesis.output,
            working_spacing_kji_mm=synthesis.spacing_kji_mm,
        )


def score_case(case: PairedCase, made: np.ndarray) -> dict[str, Any]:
    """One row of figures in the network's scale."""
    truth, values = case.target[case.mask].astype(np.float64), made[case.mask].astype(np.float64)
    mae = float(np.abs(values - truth).mean())
    error = float(np.mean((values - truth) ** 2))
    high, low = np.percentile(truth, (99.9, 0.1))
    return {
        "scan": case.name,
        "degradation": case.degradation,
        "gain": float(20 * np.log10(case.mae_mapping / max(mae, 1e-12))),
        "psnr": float(10 * np.log10((high - low) ** 2 / max(error, 1e-12))),
        "mae": mae,
    }
