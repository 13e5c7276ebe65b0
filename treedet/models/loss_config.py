"""Settings of the detection loss, apart from torch so that a command line can be built without it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LossConfig:
    """Weights of the detection loss.

    Attributes:
        alpha: Weight of positives in the focal loss (Lin et al. 2017, equation 5).
        gamma: Focusing exponent.
        box_weight: Weight of the box loss relative to the class loss.
    """

    alpha: float = 0.25
    gamma: float = 2.0
    box_weight: float = 2.0
