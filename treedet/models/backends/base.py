"""What an engine must do: run the trunk. Anchors, decoding and suppression are shared by all engines."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from treedet.models.trunk import TrunkOutput


class Backend(Protocol):
    """An engine with a network loaded; device and precision are its own."""

    @property
    def device(self) -> str:
        """Kind of device it runs on, such as ``cpu``."""

    @property
    def precision(self) -> str:
        """``fp32`` or ``bf16``."""

    def trunk(self, pixels: npt.NDArray[np.uint8]) -> TrunkOutput:
        """Run a batch.

        Args:
            pixels: Uint8 ``[B, C, H, W]``, sides a multiple of the largest stride.
        """

    def attributes(self, pyramid: list[Tensor], boxes: list[Tensor]) -> list[dict[str, Tensor]]:
        """Return class probabilities ``[N, K]`` by attribute name for the boxes ``[N, 4]`` of each window."""
