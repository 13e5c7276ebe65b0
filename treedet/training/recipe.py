"""What a fine-tuning makes of the annotation and of the starting model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from treedet.datasets.crops import CropSet
from treedet.errors import ConfigError
from treedet.training.head_plan import HeadRecipe

Annotation = Literal["check", "partial", "complete"]


@dataclass(frozen=True)
class Recipe:
    """What is made of the annotation and of the starting model.

    Attributes:
        annotation: What ground without a crown means where there is no AOI: ``check`` asks the starting model and
            stops where it disagrees, ``complete`` takes it as background, ``partial`` leaves out what the starting
            model confidently finds there.
        classes: Classes to detect; by default those of the annotation. A single one stands for all crowns.
        comes_from: Class of the starting model that a new class starts as a copy of.
        from_scratch: Start from random weights instead of the model's.
        model_gsd: Metres per pixel the model shall see; by default set from the crowns.
        max_crown: Widest crown expected, in metres; by default set from the crowns.
        validation_share: Share of crowns held out, where no validation rasters are given; 0 for none.
        memory_mb: Pixels of all rasters together that are kept decoded, in MiB.
        heads: What is made of the attributes in the annotation.
        crops: Crops that heads learn from besides, or instead where there is no raster.
        crops_share: Share of training windows that are canvases of crops, where there are rasters too.
        scenes: Rendered scenes that windows are drawn from besides; their crowns are of the first class.
        scenes_weight: Share of windows drawn from them, relative to a set (or to all rasters, without sets) of 1.
    """

    annotation: Annotation = "check"
    classes: tuple[str, ...] | None = None
    comes_from: Mapping[str, str] = field(default_factory=dict)
    from_scratch: bool = False
    model_gsd: float | None = None
    max_crown: float | None = None
    validation_share: float = 0.2
    memory_mb: float = 2048.0
    heads: HeadRecipe = field(default_factory=HeadRecipe)
    crops: CropSet | None = None
    crops_share: float = 0.5
    scenes: int = 0
    scenes_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.annotation not in ("check", "partial", "complete"):
            raise ConfigError(f"annotation {self.annotation!r} is unknown; accepted are check, partial, complete")
        if not 0 <= self.validation_share < 1:
            raise ConfigError(f"validation_share must be at least 0 and below 1, found {self.validation_share}")
        if self.scenes < 0 or not 0 < self.scenes_weight < math.inf:
            raise ConfigError(
                f"scenes must be 0 or more and their weight above 0, found {self.scenes} and {self.scenes_weight}"
            )
        if not 0 < self.crops_share < 1:
            raise ConfigError(f"crops_share must be above 0 and below 1, found {self.crops_share}")
