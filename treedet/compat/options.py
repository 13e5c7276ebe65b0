"""What a user may say about weights of another tool; no torch here, so that ``--help`` needs none."""

from __future__ import annotations

import math
from dataclasses import dataclass

from treedet.core.labels import LabelSchema
from treedet.errors import ConfigError


@dataclass(frozen=True)
class ImportOptions:
    """What the file of weights may not say.

    Attributes:
        labels: Names of the classes in the order of their numbers; by default those the file names.
        label_dict: JSON or YAML file with a number for each class, such as DeepForest's config, instead of labels.
        gsd: Ground metres per pixel of the imagery the model was trained on; DeepForest's trees are of 0.1 m.
        patch_size: Side of its windows in pixels of that imagery; by default what the file says, else 400.
        score_threshold: Least score of a detection; by default what the file says, else 0.1.

    Raises:
        ConfigError: A value is out of range.
    """

    labels: tuple[str, ...] | None = None
    label_dict: str | None = None
    gsd: float = 0.1
    patch_size: int | None = None
    score_threshold: float | None = None

    def __post_init__(self) -> None:
        if self.labels is not None and self.label_dict is not None:
            raise ConfigError("labels= and label_dict= both name the classes; give one of them")
        if self.labels is not None:
            LabelSchema(self.labels)  # refuses names that are empty or there twice
        if not (math.isfinite(self.gsd) and self.gsd > 0):
            raise ConfigError(f"gsd must be a positive number of metres, found {self.gsd}")
        if self.patch_size is not None and self.patch_size < 32:
            raise ConfigError(f"patch_size must be at least 32 pixels, found {self.patch_size}")
        if self.score_threshold is not None and not 0 <= self.score_threshold <= 1:
            raise ConfigError(f"score_threshold must be from 0 to 1, found {self.score_threshold}")
