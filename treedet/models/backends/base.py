"""What an engine must do: run the trunk. Anchors, decoding and suppression are shared by all engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

from treedet.models.trunk import TrunkOutput

Pixels: TypeAlias = npt.NDArray[np.uint8] | npt.NDArray[np.float32]


class Backend(Protocol):
    """An engine with a network loaded; device and precision are its own."""

    @property
    def device(self) -> str:
        """Kind of device it runs on, such as ``cpu``."""

    @property
    def precision(self) -> str:
        """``fp32`` or ``bf16``."""

    def trunk(self, pixels: Pixels) -> TrunkOutput:
        """Run a batch.

        Args:
            pixels: Uint8 ``[B, C, H, W]``, sides a multiple of the largest stride. Windows enlarged beforehand, as
                the tools that weights are imported from do, come as float32 on the same scale of 0 to 255.
        """

    def attributes(
        self, out: TrunkOutput, boxes: Sequence[Tensor], *, size: tuple[int, int], alone: bool = False
    ) -> Mapping[str, Tensor]:
        """Return what the attribute heads say about crowns.

        Args:
            out: What :meth:`trunk` returned for the batch.
            boxes: Float32 ``[N_b, 4]`` for each window, in its pixels.
            size: Height and width of the windows in pixels, without padding.
            alone: What lies around the boxes does not belong to them, as on a canvas of crops, and is not looked at.

        Returns:
            Logits ``[N, K]`` by attribute, N the sum of N_b, the crowns of the windows one after the other.
        """
