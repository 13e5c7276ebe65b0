"""What a model says about one window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from treedet.errors import ConfigError


@dataclass(frozen=True)
class Detections:
    """Parallel arrays about one window, validated when built.

    Attributes:
        boxes: Float32 ``[N, 4]``, window pixels, ``(xmin, ymin, xmax, ymax)``.
        scores: Float32 ``[N]``, 0 to 1.
        classes: Int64 ``[N]``, index into the label schema's classes.
        sides: Uint8 ``[N]``, bits of the sides that are cut by the window (:mod:`treedet.core.boxes`); 0 = whole.
        attributes: Float32 ``[N, K]`` probabilities for each attribute name.
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    sides: npt.NDArray[np.uint8]
    attributes: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.boxes)
        shapes = {"scores": self.scores.shape, "classes": self.classes.shape, "sides": self.sides.shape}
        if self.boxes.shape != (n, 4) or any(shape != (n,) for shape in shapes.values()):
            raise ConfigError(f"detections need boxes [N, 4] and arrays [N], found {self.boxes.shape} and {shapes}")
        for name, values in self.attributes.items():
            if values.ndim != 2 or len(values) != n:
                raise ConfigError(f"attribute {name!r} needs probabilities [{n}, K], found {values.shape}")
        if not np.isfinite(self.boxes).all() or not np.isfinite(self.scores).all():
            raise ConfigError("detections hold a coordinate or score that is not finite")

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def cut(self) -> npt.NDArray[np.bool_]:
        """Bool ``[N]``: True where the window cuts the crown."""
        return np.asarray(self.sides != 0)

    @classmethod
    def empty(cls, attributes: Mapping[str, int] | None = None) -> Detections:
        """Return no detections; ``attributes`` gives the number of classes of each attribute.

        >>> len(Detections.empty({"status": 2}))
        0
        """
        return cls(
            boxes=np.zeros((0, 4), np.float32),
            scores=np.zeros(0, np.float32),
            classes=np.zeros(0, np.int64),
            sides=np.zeros(0, np.uint8),
            attributes={name: np.zeros((0, k), np.float32) for name, k in (attributes or {}).items()},
        )

    def take(self, index: npt.NDArray[Any]) -> Detections:
        """Return the detections at ``index`` (positions or mask), in that order."""
        return Detections(
            boxes=self.boxes[index],
            scores=self.scores[index],
            classes=self.classes[index],
            sides=self.sides[index],
            attributes={name: values[index] for name, values in self.attributes.items()},
        )
