"""The Lightning module that trains a trunk."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from treedet.core.spec import ModelSpec
from treedet.models.anchors import anchor_boxes
from treedet.models.losses import Targets, detection_loss
from treedet.models.trunk import Trunk
from treedet.training.config import TrainConfig


class CrownModule(pl.LightningModule):
    """Trains a trunk on windows with boxes.

    Args:
        spec: Architecture.
        config: Settings of the run.
        trunk: Weights to start from; None starts from random ones.
    """

    def __init__(self, spec: ModelSpec, config: TrainConfig, *, trunk: Trunk | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.config = config
        self.trunk = (trunk or Trunk(spec)).to(memory_format=torch.channels_last)
        side = config.samples.window_px
        self.register_buffer("anchors", anchor_boxes(spec, side, side), persistent=False)

    def training_step(self, batch: tuple[Tensor, list[Targets]], batch_idx: int) -> Tensor:
        """Return the loss of one batch of ``(uint8 [B, 3, S, S], targets)``."""
        del batch_idx
        pixels, targets = batch
        out = self.trunk(pixels)
        anchors = self.get_buffer("anchors")
        with torch.autocast(pixels.device.type, enabled=False):
            loss = detection_loss(out.logits, out.deltas, anchors, targets, config=self.config.loss)
        self.log_dict({"loss": loss.total, "loss_class": loss.classes, "loss_box": loss.boxes}, prog_bar=True)
        return loss.total

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW without weight decay on biases and normalisation; warm-up, then cosine."""
        decayed = [p for p in self.trunk.parameters() if p.ndim > 1]
        plain = [p for p in self.trunk.parameters() if p.ndim <= 1]
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(
            groups,
            lr=self.config.learning_rate,
            weight_decay=self.config.weight_decay,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate(self, step: int) -> float:
        if step < self.config.warmup_steps:
            return (step + 1) / self.config.warmup_steps
        left = max(1, self.config.max_steps - self.config.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - self.config.warmup_steps) / left)))


def averaged_weights(checkpoint: dict[str, Any], spec: ModelSpec) -> Trunk:
    """Return a trunk with the averaged weights of a training checkpoint.

    Args:
        checkpoint: What Lightning saved, with weight averaging on.
        spec: Architecture it was trained with.
    """
    state = {k.removeprefix("trunk."): v for k, v in checkpoint["state_dict"].items() if k.startswith("trunk.")}
    trunk: nn.Module = Trunk(spec)
    trunk.load_state_dict(state)
    assert isinstance(trunk, Trunk)
    return trunk
