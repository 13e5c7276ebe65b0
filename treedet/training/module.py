"""The Lightning module that trains a trunk."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from treedet.core.spec import ModelSpec
from treedet.errors import ConfigError, TrainingError
from treedet.models.anchors import anchor_boxes
from treedet.models.attribute_loss import attribute_loss, describe
from treedet.models.losses import Targets, detection_loss
from treedet.models.trunk import Trunk, TrunkOutput
from treedet.training.averaging import AveragedTrunk
from treedet.training.config import TrainConfig

log = logging.getLogger("treedet")

Validate = Callable[[Trunk], Mapping[str, float]]
"""Says how good a trunk is: ``val_f1`` and whatever else is worth a column of the history."""
LOSSES = ("loss", "loss_class", "loss_box")
ATTRIBUTE_LOSS = "loss_attributes"
COUNTERS = "crown_counters"


class CrownModule(pl.LightningModule):
    """Trains a trunk on windows with boxes; validates and keeps a moving average of its weights.

    A step whose loss or gradient is not finite is skipped on all devices: weights, optimiser state, average and
    normalisation statistics stay as they were.

    Args:
        spec: Architecture.
        config: Settings of the run.
        trunk: Weights to start from; None starts from random ones, drawn from the seed of the settings.
        fresh_rows: Bool, one per row of the class layer (anchors x classes, classes fastest): rows that were
            initialised afresh, the only ones that ``freeze="trunk"`` trains.
        heads: Training crowns of each class, for each attribute whose head learns; the others stay as they are.
        validate: Called with the averaged trunk every ``validate_every`` epochs; None for no validation. It runs on
            the first device alone.

    Raises:
        ConfigError: ``freeze="trunk"``, no row is fresh and no head learns, so nothing is left to train; or the rows
            do not fit.
    """

    def __init__(
        self,
        spec: ModelSpec,
        config: TrainConfig,
        *,
        trunk: Trunk | None = None,
        fresh_rows: Tensor | None = None,
        heads: Mapping[str, Sequence[int]] | None = None,
        validate: Validate | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.config = config
        self.validate = validate
        start = trunk or random_trunk(spec, config.seed)
        self.trunk = start.to(memory_format=torch.channels_last)
        self.heads = dict(heads or {})
        self.detects = True
        self.frozen: tuple[nn.Module, ...] = ()
        self.register_buffer("trained_rows", self._freeze(fresh_rows), persistent=False)
        self.averaged = AveragedTrunk(self.trunk, decay=config.ema_decay)
        side = config.samples.window_px
        self.register_buffer("anchors", anchor_boxes(spec, side, side), persistent=False)
        self.figures: Mapping[str, float] = {}
        self.loss_sums = torch.zeros(len(self.loss_names) + 1, dtype=torch.float64)
        self.skipped_steps = 0
        self._bad_in_row = 0
        self._last_loss = math.nan
        self._finite = True
        self._stepped = False
        self._statistics: list[Tensor] = []
        # A trunk fresh from a model file is in evaluation mode.
        self.train()

    @property
    def loss_names(self) -> tuple[str, ...]:
        """Losses that are written down, the sum first."""
        return (*LOSSES, ATTRIBUTE_LOSS) if self.heads else LOSSES

    def _freeze(self, fresh_rows: Tensor | None) -> Tensor:
        """Switch off the gradients of what stays, and return which class rows learn."""
        layer = self.trunk.head.classification_head.cls_logits
        rows = torch.ones(layer.out_channels, dtype=torch.bool)
        self.trunk.requires_grad_(True)
        if self.config.freeze == "backbone":
            self.trunk.backbone.body.requires_grad_(False)
            self.frozen = (self.trunk.backbone.body,)
        elif self.config.freeze == "trunk":
            rows = torch.zeros_like(rows) if fresh_rows is None else torch.as_tensor(fresh_rows, dtype=torch.bool)
            if rows.shape != (layer.out_channels,):
                raise ConfigError(
                    f"fresh_rows must hold {layer.out_channels} values, one per row of the class layer, found "
                    f"{list(rows.shape)}"
                )
            self.detects = bool(rows.any())
            if not self.detects and not self.heads:
                raise ConfigError(
                    "freeze='trunk' leaves nothing to train, since no class was initialised afresh and no attribute "
                    "has labels; take freeze='backbone' or 'none'"
                )
            self.trunk.requires_grad_(False)
            layer.requires_grad_(self.detects)
            self.frozen = (self.trunk.backbone, self.trunk.head)
        for name, head in self.trunk.attributes.items():
            head.requires_grad_(name in self.heads)
            if name not in self.heads:
                self.frozen += (head,)
        return rows.clone()

    def train(self, mode: bool = True) -> CrownModule:
        """Set the mode of all that learns; what is frozen keeps its normalisation statistics."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def on_train_epoch_start(self) -> None:
        """Forget the losses of the epoch before."""
        self.loss_sums = torch.zeros_like(self.loss_sums)

    def training_step(self, batch: tuple[Tensor, list[Targets]], batch_idx: int) -> Tensor:
        """Return the loss of one batch of ``(uint8 [B, 3, S, S], targets)``."""
        del batch_idx
        pixels, targets = batch
        # Kept from the first batch of a step; put back, if need be, after the backward pass, which wants them as is.
        self._statistics = self._statistics or [buffer.clone() for buffer in self.trunk.buffers()]
        total, parts = self._losses(pixels, targets)
        values = torch.stack([total.detach(), *parts])[: len(self.loss_names)].double().cpu()
        if not self.trainer.strategy.reduce_boolean_decision(bool(torch.isfinite(values).all())):
            self._finite = False
        else:
            self._last_loss = float(values[0])
            self.loss_sums += torch.cat([values, torch.ones(1, dtype=torch.float64)])
            self.log_dict(dict(zip(self.loss_names, values.float(), strict=True)), prog_bar=True)
        return total

    def _losses(self, pixels: Tensor, targets: list[Targets]) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Return what is minimised, and its parts: classes, boxes, attributes."""
        anchors, nothing = self.get_buffer("anchors"), pixels.new_zeros((), dtype=torch.float32)
        found, classes, boxes = None, nothing, nothing
        total: Tensor | None = None
        # A crop on a canvas is a crown as it stands; only on real ground is the trunk asked what it finds.
        if self.detects or any(target.context is None for target in targets):
            found = self.trunk(pixels)
        if self.detects and found is not None:
            with torch.autocast(pixels.device.type, enabled=False):
                loss = detection_loss(found.logits, found.deltas, anchors, targets, config=self.config.loss)
            total, classes, boxes = loss.total, loss.classes, loss.boxes
        if not self.heads:
            assert total is not None
            return total, (classes, boxes, nothing)
        said = self._attribute_loss(pixels, targets, found)
        weighted = self.config.heads.weight * said
        return weighted if total is None else total + weighted, (classes, boxes, said.detach())

    def _attribute_loss(self, pixels: Tensor, targets: list[Targets], found: TrunkOutput | None) -> Tensor:
        """Return the loss of the heads that learn; its draws depend on seed, step and device alone."""
        body = self.trunk.body(pixels) if found is None else found.body
        columns = [list(self.spec.labels.attributes).index(name) for name in self.heads]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(hash((self.config.seed, self.trainer.global_step, self.trainer.global_rank)))
            chosen = describe(targets, found=found, anchors=self.get_buffer("anchors"), config=self.config.heads)
            logits = self.trunk.say(
                body, chosen.boxes, size=(pixels.shape[2], pixels.shape[3]), context=chosen.context
            )
        with torch.autocast(pixels.device.type, enabled=False):
            return attribute_loss(
                {name: logits[name] for name in self.heads},
                chosen.said[:, columns],
                list(self.heads.values()),
                config=self.config.heads,
            )

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients, which are the mean over all devices by now, or drop them where they are not finite.

        Dropped gradients make the optimiser leave everything as it is, its own state included.
        """
        del gradient_clip_val, gradient_clip_algorithm
        self._mask_rows()
        learning = [p for p in self.trunk.parameters() if p.grad is not None]
        norm = nn.utils.clip_grad_norm_(learning, self.config.gradient_clip or math.inf)
        finite, self._finite = self._finite and bool(torch.isfinite(norm)), True
        before, self._statistics = self._statistics, []
        if finite:
            self._bad_in_row = 0
            self._stepped = True
            return
        with torch.no_grad():
            for buffer, value in zip(self.trunk.buffers(), before, strict=True):
                buffer.copy_(value)
        optimizer.zero_grad(set_to_none=True)
        self._count_bad(float(optimizer.param_groups[0]["lr"]))

    def _mask_rows(self) -> None:
        rows = self.get_buffer("trained_rows")
        for parameter in self.trunk.head.classification_head.cls_logits.parameters():
            if self.config.freeze == "trunk" and parameter.grad is not None:
                parameter.grad[~rows] = 0

    def _count_bad(self, rate: float) -> None:
        self.skipped_steps += 1
        self._bad_in_row += 1
        step = self.trainer.global_step + 1
        log.info("step %d: loss or gradient is not finite; skipped (%d so far)", step, self.skipped_steps)
        if self._bad_in_row >= self.config.bad_steps:
            raise TrainingError(
                f"training broke down: loss or gradient not finite for {self._bad_in_row} steps in a row up to step "
                f"{step}; last finite loss {self._last_loss:.4g}, learning rate {rate:.3g}; lower --learning_rate, "
                "or train with --precision 32-true"
            )

    def on_train_batch_end(self, outputs: object, batch: object, batch_idx: int) -> None:
        """Let the average follow, where the optimiser has made a step."""
        del outputs, batch, batch_idx
        if self._stepped:
            self.averaged.update(self.trunk)
            self._stepped = False

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Measure the averaged weights; the batch is a placeholder, since validation reads whole rasters."""
        del batch, batch_idx
        if self.validate is None:
            return
        figures: dict[str, float] = {}
        if self.trainer.is_global_zero:
            figures = {name: float(value) for name, value in self.validate(self.averaged.trunk).items()}
        self.figures = self.trainer.strategy.broadcast(figures)
        # Equal on all devices already; this keeps Lightning from asking for it.
        self.log_dict(dict(self.figures), sync_dist=True, batch_size=1, prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Optimiser without weight decay on biases and normalisation; warm-up, then cosine."""
        config = self.config
        learning = [p for p in self.trunk.parameters() if p.requires_grad]
        # Decay would move the class rows that freeze="trunk" keeps.
        decayed = [p for p in learning if p.ndim > 1 and config.freeze != "trunk"]
        plain = [p for p in learning if p.ndim <= 1 or config.freeze == "trunk"]
        groups: list[dict[str, Any]] = [{"params": plain, "weight_decay": 0.0}]
        if decayed:
            groups.insert(0, {"params": decayed, "weight_decay": config.weight_decay})
        optimizer: torch.optim.Optimizer
        if config.optimizer == "sgd":
            optimizer = torch.optim.SGD(
                groups, lr=config.learning_rate, momentum=config.momentum, nesterov=config.momentum > 0
            )
        else:
            optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        devices, gathered = 1, 1
        if self._trainer is not None:
            devices, gathered = self.trainer.world_size, self.trainer.accumulate_grad_batches
        return self.config.epochs * math.ceil(self.config.steps_per_epoch(devices) / gathered)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step as a share of its peak.

        A run shorter than its warm-up never reaches the peak: the first steps of Adam move every weight by the whole
        rate whatever the gradient, and rushed they undo what the starting model knows.
        """
        warmup = self.config.warmup_steps
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, self.steps - warmup))))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the counters that a resumed run goes on with."""
        checkpoint[COUNTERS] = {
            "skipped_steps": self.skipped_steps,
            "bad_in_row": self._bad_in_row,
            "last_loss": self._last_loss,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the counters of the run that is resumed."""
        counters = checkpoint[COUNTERS]
        self.skipped_steps = counters["skipped_steps"]
        self._bad_in_row = counters["bad_in_row"]
        self._last_loss = counters["last_loss"]


def random_trunk(spec: ModelSpec, seed: int) -> Trunk:
    """Return a trunk with random weights drawn from a seed; the global generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Trunk(spec)


def trunk_of(checkpoint: Mapping[str, Any], spec: ModelSpec, *, averaged: bool = True) -> Trunk:
    """Return the trunk that a training checkpoint holds, in evaluation mode.

    Args:
        checkpoint: What a training run saved.
        spec: Architecture it was trained with.
        averaged: The moving average rather than the weights of the last step.
    """
    prefix = "averaged.trunk." if averaged else "trunk."
    trunk = Trunk(spec)
    state = {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
    trunk.load_state_dict(state)
    return trunk.eval()
