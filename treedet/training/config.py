"""Settings of a training run."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from treedet.datasets.sample_config import SampleConfig
from treedet.errors import ConfigError
from treedet.models.loss_config import HeadConfig, LossConfig

Freeze = Literal["none", "backbone", "trunk"]
Optimizer = Literal["adamw", "sgd"]
Precision = Literal["auto", "32-true", "bf16-mixed"]

OWN_FLAGS = {
    "max_epochs": "epochs",
    "min_epochs": "epochs",
    "max_steps": "epochs",
    "min_steps": "epochs",
    "limit_train_batches": "windows_per_epoch",
    "overfit_batches": "windows_per_epoch",
    "precision": "precision",
    "gradient_clip_val": "gradient_clip",
    "gradient_clip_algorithm": "gradient_clip",
    "check_val_every_n_epoch": "validate_every",
    "val_check_interval": "validate_every",
    "limit_val_batches": "validate_every",
    "logger": "logger",
    "fast_dev_run": "epochs",
    "num_sanity_val_steps": "",
    "use_distributed_sampler": "",
    "enable_checkpointing": "",
    "reload_dataloaders_every_n_epochs": "",
    "default_root_dir": "",
}
"""Trainer flags that the run settles itself, with the setting that stands for each ('' where there is none)."""


@dataclass(frozen=True)
class TrainConfig:
    """How long, how fast and with which precision a model is trained.

    The defaults are those of fine-tuning; training from random weights wants a longer warm-up and many more epochs.

    Attributes:
        epochs: Times that ``windows_per_epoch`` windows are seen.
        windows_per_epoch: Windows drawn in an epoch, by all devices together; rounded down to whole batches.
        batch_size: Windows in a batch, on each device.
        optimizer: ``adamw`` (Loshchilov and Hutter 2019) or ``sgd`` with Nesterov momentum.
        learning_rate: Peak of the learning rate; it rises linearly, then falls to 0 as a cosine over all steps. SGD
            wants about ten times the value that is right for AdamW.
        weight_decay: Decay of weights (decoupled for AdamW); biases and normalisation have none.
        momentum: Momentum of SGD; AdamW takes no notice.
        warmup_steps: Optimiser steps until the peak.
        ema_decay: Decay of the moving average of weights that is validated and kept as the model. It rises to this as
            ``(1 + t) / (10 + t)`` after t steps, so that the start does not weigh on short runs; 0 for no averaging.
        gradient_clip: Largest norm of a gradient; 0 for no limit.
        precision: ``32-true``, ``bf16-mixed``, or ``auto``: bf16 where the processor computes it natively.
        workers: Background processes that draw windows, per device; 0 draws them between the steps.
        seed: Seed of windows, and of weights where none are given.
        freeze: ``none`` trains everything; ``backbone`` leaves the ResNet body as it is, its normalisation statistics
            included; ``trunk`` leaves everything as it is but the class rows that were initialised afresh and the
            attribute heads, so that crowns are found as before.
        patience: Epochs without a better validation F1 after which training stops; 0 for never.
        bad_steps: Steps in a row with a loss or gradient that is not finite, after which training is given up.
        validate_every: Epochs from one validation to the next.
        samples: How windows are drawn.
        loss: Weights of the detection loss.
        heads: How attribute heads are trained.
        trainer: Further flags for Lightning's Trainer: ``devices``, ``strategy``, ``accelerator``, ``profiler``, ...
    """

    epochs: int = 12
    windows_per_epoch: int = 400
    batch_size: int = 8
    optimizer: Optimizer = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    momentum: float = 0.9
    warmup_steps: int = 50
    ema_decay: float = 0.998
    gradient_clip: float = 5.0
    precision: Precision = "auto"
    workers: int = 1
    seed: int = 0
    freeze: Freeze = "none"
    patience: int = 10
    bad_steps: int = 10
    validate_every: int = 1
    samples: SampleConfig = field(default_factory=SampleConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    heads: HeadConfig = field(default_factory=HeadConfig)
    trainer: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("epochs", "windows_per_epoch", "batch_size", "bad_steps", "validate_every"):
            self._demand(name, getattr(self, name) >= 1, "at least 1")
        for name in ("warmup_steps", "workers", "seed", "patience"):
            self._demand(name, getattr(self, name) >= 0, "0 or more")
        for name in ("weight_decay", "gradient_clip"):
            self._demand(name, 0 <= getattr(self, name) < math.inf, "a number of 0 or more")
        for name in ("ema_decay", "momentum"):
            self._demand(name, 0 <= getattr(self, name) < 1, "at least 0 and below 1")
        self._demand("learning_rate", 0 < self.learning_rate < math.inf, "a number above 0")
        for name, accepted in (("optimizer", Optimizer), ("freeze", Freeze), ("precision", Precision)):
            self._demand(name, getattr(self, name) in get_args(accepted), f"one of {', '.join(get_args(accepted))}")
        if self.windows_per_epoch < self.batch_size:
            raise ConfigError(
                f"windows_per_epoch is {self.windows_per_epoch}, less than one batch of {self.batch_size}; raise it, "
                "or lower batch_size"
            )
        _check_flags(self.trainer)

    def _demand(self, name: str, fine: bool, accepted: str) -> None:
        if not fine:
            raise ConfigError(f"{name} must be {accepted}, found {getattr(self, name)!r}")

    def steps_per_epoch(self, devices: int = 1) -> int:
        """Return the batches that each of some devices sees in an epoch.

        >>> TrainConfig(windows_per_epoch=100, batch_size=8).steps_per_epoch()
        12
        """
        return max(1, self.windows_per_epoch // (self.batch_size * devices))


def _check_flags(flags: Mapping[str, Any]) -> None:
    if not flags:
        return
    # Imported here: a command line is built from these settings, and its help must not load Lightning.
    import pytorch_lightning as pl  # noqa: PLC0415

    known = set(inspect.signature(pl.Trainer.__init__).parameters) - {"self"}
    for name in flags:
        if name in OWN_FLAGS:
            instead = f"; set {OWN_FLAGS[name]} instead" if OWN_FLAGS[name] else ""
            raise ConfigError(f"trainer flag {name!r} is settled by the training run{instead}")
        if name not in known:
            accepted = ", ".join(sorted(known - set(OWN_FLAGS)))
            raise ConfigError(f"trainer flag {name!r} is unknown; accepted are {accepted}")
