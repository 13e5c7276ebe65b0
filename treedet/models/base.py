"""What the pipeline asks of a model: windows in, detections out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from treedet.core.detections import Detections
from treedet.core.spec import ModelSpec
from treedet.core.suppression import MergeConfig


class WindowDetector(Protocol):
    """Finds crowns in windows; the network and the blob detector are peers."""

    @property
    def spec(self) -> ModelSpec:
        """What the model is and how it is to be used."""

    @property
    def identity(self) -> Mapping[str, str]:
        """What results depend on, for resume: digest of weights, kind of device, precision."""

    def detect(
        self, pixels: npt.NDArray[np.uint8], *, sides: Sequence[int], threshold: float, merge: MergeConfig
    ) -> list[Detections]:
        """Find crowns in windows of one size.

        Args:
            pixels: Uint8 ``[B, C, H, W]``.
            sides: For each window, bits of the sides beyond which the raster goes on.
            threshold: Least score of a detection.
            merge: Rule by which detections of one crown give way to the best.

        Returns:
            One entry per window, boxes in pixels of the window.
        """
