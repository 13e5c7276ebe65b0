"""Settings of the losses, apart from torch so that a command line can be built without it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from treedet.errors import ConfigError


@dataclass(frozen=True)
class LossConfig:
    """Weights of the detection loss.

    Attributes:
        alpha: Weight of positives in the focal loss (Lin et al. 2017, equation 5).
        gamma: Focusing exponent.
        box_weight: Weight of the box loss relative to the class loss.
        evenness: How alike windows count, whatever their number of crowns: 0 weights all crowns alike, so that open
            ground with few of them is hardly learned beside closed forest; 1 weights all windows alike.

    Raises:
        ConfigError: ``evenness`` is not a share.
    """

    alpha: float = 0.25
    gamma: float = 2.0
    box_weight: float = 2.0
    evenness: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.evenness <= 1:
            raise ConfigError(f"evenness must be from 0 to 1, found {self.evenness}")


@dataclass(frozen=True)
class HeadConfig:
    """How attribute heads are trained.

    Attributes:
        weight: Weight of their loss beside the detection loss, where both are trained.
        balance: ``logits`` makes all classes as probable beforehand (logit adjustment, Menon et al. 2021), for the
            best mean over classes; ``effective`` weights them by their effective number (Cui et al. 2019); ``none``
            keeps the shares of the training crowns.
        strength: Of the logit adjustment; 1 evens classes out, less keeps some of their shares.
        smoothing: Share of each label that is spread over all classes (label smoothing, Szegedy et al. 2016).
        jitter: Most that each side of an annotated box is moved, as a share of its width or height.
        hide_context: Share of crowns whose surroundings are hidden, so that heads work without.

    Raises:
        ConfigError: A value is out of its range.
    """

    weight: float = 1.0
    balance: Literal["none", "logits", "effective"] = "none"
    strength: float = 1.0
    smoothing: float = 0.05
    jitter: float = 0.1
    hide_context: float = 0.25

    def __post_init__(self) -> None:
        if self.balance not in ("none", "logits", "effective"):
            raise ConfigError(f"balance {self.balance!r} is unknown; accepted are none, logits, effective")
        for name, most in (("smoothing", 1.0), ("jitter", 0.5), ("hide_context", 1.0)):
            if not 0 <= getattr(self, name) <= most:
                raise ConfigError(f"{name} must be from 0 to {most:g}, found {getattr(self, name)}")
        for name in ("weight", "strength"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be a number of 0 or more, found {getattr(self, name)}")
