"""Settings of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field

from treedet.datasets.samples import SampleConfig
from treedet.errors import ConfigError
from treedet.models.losses import LossConfig


@dataclass(frozen=True)
class TrainConfig:
    """How long, how fast and with which precision a model is trained.

    Attributes:
        max_steps: Optimiser steps.
        batch_size: Windows in a batch.
        learning_rate: Peak of the learning rate; it rises linearly, then falls as a cosine.
        weight_decay: Decoupled weight decay (AdamW, Loshchilov and Hutter 2019).
        warmup_steps: Steps until the peak.
        ema_decay: Decay of the moving average of weights that is kept as the model.
        gradient_clip: Largest norm of a gradient.
        steps_per_epoch: Steps between checkpoints.
        precision: Trainer precision; bf16 halves the time where the processor has it.
        workers: Background processes that draw windows.
        seed: Seed of weights and windows.
        samples: How windows are drawn.
        loss: Weights of the loss.
    """

    max_steps: int = 5000
    batch_size: int = 8
    learning_rate: float = 8e-4
    weight_decay: float = 0.05
    warmup_steps: int = 200
    ema_decay: float = 0.998
    gradient_clip: float = 5.0
    steps_per_epoch: int = 100
    precision: str = "bf16-mixed"
    workers: int = 1
    seed: int = 0
    samples: SampleConfig = field(default_factory=SampleConfig)
    loss: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self) -> None:
        if self.max_steps < 1 or self.batch_size < 1 or self.steps_per_epoch < 1:
            raise ConfigError("max_steps, batch_size and steps_per_epoch must be at least 1")
        if not self.learning_rate > 0 or not 0 <= self.ema_decay < 1:
            raise ConfigError("learning_rate must be positive and ema_decay at least 0 and below 1")
