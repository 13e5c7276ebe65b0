"""Crowns as parallel arrays, what is merged, kept in parts and turned into a table, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from treedet.core.grid import Grid


@dataclass(frozen=True)
class CrownArrays:
    """Crowns on a model grid.

    Attributes:
        boxes: Float64 ``[N, 4]``, pixels of the model grid, ``(xmin, ymin, xmax, ymax)``.
        scores: Float32 ``[N]``.
        classes: Int64 ``[N]``, index into the schema's classes.
        cut: Bool ``[N]``: still cut by a window edge after merging.
        edge: Bool ``[N]``: touches the end of valid imagery.
        attributes: Float32 ``[N, K]`` probabilities by attribute name.
    """

    boxes: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    cut: npt.NDArray[np.bool_]
    edge: npt.NDArray[np.bool_]
    attributes: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, index: npt.NDArray[Any]) -> CrownArrays:
        """Return the crowns at ``index`` (positions or mask)."""
        return CrownArrays(
            boxes=self.boxes[index],
            scores=self.scores[index],
            classes=self.classes[index],
            cut=self.cut[index],
            edge=self.edge[index],
            attributes={name: values[index] for name, values in self.attributes.items()},
        )

    def scaled(self, grid: Grid, other: Grid) -> CrownArrays:
        """Return the crowns in pixels of another grid of the same ground."""
        scale = np.array([other.width / grid.width, other.height / grid.height] * 2)
        return replace(self, boxes=self.boxes * scale)

    @classmethod
    def concat(cls, parts: Sequence[CrownArrays], attributes: Mapping[str, int]) -> CrownArrays:
        """Return crowns one after the other; ``attributes`` gives the classes of each attribute, for none at all."""
        none = cls(
            boxes=np.zeros((0, 4)),
            scores=np.zeros(0, np.float32),
            classes=np.zeros(0, np.int64),
            cut=np.zeros(0, bool),
            edge=np.zeros(0, bool),
            attributes={name: np.zeros((0, k), np.float32) for name, k in attributes.items()},
        )
        every = [none, *parts]
        return cls(
            boxes=np.concatenate([p.boxes for p in every]),
            scores=np.concatenate([p.scores for p in every]),
            classes=np.concatenate([p.classes for p in every]),
            cut=np.concatenate([p.cut for p in every]),
            edge=np.concatenate([p.edge for p in every]),
            attributes={name: np.concatenate([p.attributes[name] for p in every]) for name in attributes},
        )

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """Centres of the boxes, float64 ``[N, 2]`` of ``(x, y)`` in pixels."""
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2


def said(probabilities: npt.NDArray[np.float32], *, min_p: float | None = None) -> npt.NDArray[np.int64]:
    """Return the class that is said of each crown, int64 ``[N]``: the most probable one, or -1 for none.

    The one place where probabilities become names: tables, summaries and pictures all come here.

    Args:
        probabilities: Float32 ``[N, K]`` of one attribute; a row that holds NaN says nothing.
        min_p: Least probability of the most probable class, compared in float32, as ``x_p`` shows it; a crown
            below it has no value.

    >>> said(np.array([[0.9, 0.1], [0.4, 0.6], [np.nan, np.nan]], np.float32), min_p=0.7).tolist()
    [0, -1, -1]
    """
    highest = probabilities.max(axis=1, initial=0.0)
    least = np.float32(0.0 if min_p is None else min_p)
    return np.where(highest >= least, probabilities.argmax(axis=1), -1).astype(np.int64)
