"""How the tool that imported weights come from runs them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from treedet.errors import ConfigError

Setting = Literal["treedet", "original"]
"""How a model is run: as treedet runs every model, or as the tool it was imported from does."""


@dataclass(frozen=True)
class OriginalSetting:
    """Windows, enlargement, suppression and caps of the tool that weights were imported from.

    Followed only by those who ask for it, to compare results box for box. The defaults are DeepForest's.

    Attributes:
        tool: Name of the tool.
        patch_px: Side of its windows, in pixels of the raster as it is.
        overlap_px: Pixels that neighbouring windows share.
        short_side_px: Windows are enlarged, bilinearly, until their short side has this many pixels ...
        long_side_px: ... or their long side has this many.
        iou_within: IoU above which the worse of two detections of one class in one window is dropped.
        iou_between: IoU above which the worse of two detections of a raster is dropped, whatever their class.
        candidates: Anchors looked at in each level of the pyramid.
        max_detections: Detections kept in a window.

    Raises:
        ConfigError: A value is out of range.
    """

    tool: str = "DeepForest"
    patch_px: int = 400
    overlap_px: int = 20
    short_side_px: int = 800
    long_side_px: int = 1333
    iou_within: float = 0.05
    iou_between: float = 0.15
    candidates: int = 1000
    max_detections: int = 300

    def __post_init__(self) -> None:
        for name in ("patch_px", "short_side_px", "long_side_px", "candidates", "max_detections"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, found {getattr(self, name)}")
        if not 0 <= self.overlap_px < self.patch_px:
            raise ConfigError(
                f"overlap_px must be at least 0 and less than patch_px ({self.patch_px}), found {self.overlap_px}"
            )
        for name in ("iou_within", "iou_between"):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 <= value <= 1):
                raise ConfigError(f"{name} must be a share from 0 to 1, found {value}")

    @property
    def enlargement(self) -> float:
        """Pixels the network sees for each pixel of a full window's side.

        >>> OriginalSetting().enlargement
        2.0
        """
        return self.scale(self.patch_px, self.patch_px)

    def scale(self, height: int, width: int) -> float:
        """Return by how much a window of this size is enlarged.

        >>> OriginalSetting().scale(100, 400)
        3.3325
        """
        short, long = min(height, width), max(height, width)
        return min(self.short_side_px / short, self.long_side_px / long)
