"""Detections of many windows in the coordinates of their raster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from treedet.core.detections import Detections
from treedet.core.grid import Window
from treedet.errors import ConfigError

WINDOW_BITS = 32
"""A running number is the number of the window, then in this many bits the position in the window."""


@dataclass(frozen=True)
class Candidates:
    """Parallel arrays of detections that compete for the crowns of a raster.

    Attributes:
        boxes: Float64 ``[N, 4]``, pixels of the model grid, ``(xmin, ymin, xmax, ymax)``.
        scores: Float32 ``[N]``, 0 to 1.
        classes: Int64 ``[N]``, index into the label schema's classes.
        sides: Uint8 ``[N]``, bits of the sides that are cut by the window (:mod:`treedet.core.boxes`); 0 = whole.
        windows: Float64 ``[N, 4]``, the window each was seen in; of a joined crown, the box around its windows.
        order: Int64 ``[N]``, a different number for each detection of the raster: window, then position in it.
        edge: Bool ``[N]``, True where the crown touches the end of valid imagery.
        attributes: Float32 ``[N, K]`` probabilities for each attribute name.
    """

    boxes: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    sides: npt.NDArray[np.uint8]
    windows: npt.NDArray[np.float64]
    order: npt.NDArray[np.int64]
    edge: npt.NDArray[np.bool_]
    attributes: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.boxes)
        for name in ("boxes", "scores", "classes", "sides", "windows", "order", "edge"):
            shape, wanted = getattr(self, name).shape, (n, 4) if name in ("boxes", "windows") else (n,)
            if shape != wanted:
                raise ConfigError(f"candidates need {name} of shape {list(wanted)}, found {list(shape)}")
        for name, values in self.attributes.items():
            if values.ndim != 2 or len(values) != n:
                raise ConfigError(f"attribute {name!r} needs probabilities [{n}, K], found {list(values.shape)}")

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def cut(self) -> npt.NDArray[np.bool_]:
        """Bool ``[N]``: True where a window cuts the crown."""
        return np.asarray(self.sides != 0)

    @classmethod
    def empty(cls, attributes: Mapping[str, int] | None = None) -> Candidates:
        """Return no candidates; ``attributes`` gives the number of classes of each attribute.

        >>> len(Candidates.empty({"status": 2}))
        0
        """
        return cls(
            boxes=np.zeros((0, 4)),
            scores=np.zeros(0, np.float32),
            classes=np.zeros(0, np.int64),
            sides=np.zeros(0, np.uint8),
            windows=np.zeros((0, 4)),
            order=np.zeros(0, np.int64),
            edge=np.zeros(0, np.bool_),
            attributes={name: np.zeros((0, k), np.float32) for name, k in (attributes or {}).items()},
        )

    def take(self, index: npt.NDArray[Any] | slice) -> Candidates:
        """Return the candidates at ``index`` (positions, mask, or a slice, which copies nothing), in that order."""
        return Candidates(
            boxes=self.boxes[index],
            scores=self.scores[index],
            classes=self.classes[index],
            sides=self.sides[index],
            windows=self.windows[index],
            order=self.order[index],
            edge=self.edge[index],
            attributes={name: values[index] for name, values in self.attributes.items()},
        )

    def with_edge(self, edge: npt.NDArray[np.bool_]) -> Candidates:
        """Return the same candidates with what is known about the end of valid imagery, bool ``[N]``."""
        return replace(self, edge=edge)


def concat(parts: Sequence[Candidates]) -> Candidates:
    """Return candidates one after the other; parts without any need not name the attributes.

    Raises:
        ConfigError: Two parts have different attributes, or classes of an attribute.
    """
    shapes = [{name: values.shape[1] for name, values in part.attributes.items()} for part in parts]
    attributes = next((shape for shape in shapes if shape), {})
    for part, shape in zip(parts, shapes, strict=True):
        if shape != attributes and (len(part) or shape):
            raise ConfigError(f"candidates to be merged need the same attributes, found {attributes} and {shape}")
    filled = [part for part in parts if len(part)]
    if not filled:
        return Candidates.empty(attributes)
    if len(filled) == 1:
        return filled[0]
    return Candidates(
        boxes=np.concatenate([part.boxes for part in filled]),
        scores=np.concatenate([part.scores for part in filled]),
        classes=np.concatenate([part.classes for part in filled]),
        sides=np.concatenate([part.sides for part in filled]),
        windows=np.concatenate([part.windows for part in filled]),
        order=np.concatenate([part.order for part in filled]),
        edge=np.concatenate([part.edge for part in filled]),
        attributes={name: np.concatenate([part.attributes[name] for part in filled]) for name in attributes},
    )


def place(detections: Detections, window: Window, number: int) -> Candidates:
    """Return the detections of a window in the coordinates of its grid, clipped to the window; ``edge`` is False.

    Args:
        detections: What a model says about the window, with the sides that it cuts.
        window: The window on the model grid.
        number: Number of the window in the plan of the raster; it breaks ties.

    >>> one = Detections(np.array([[1, 2, 3, 4]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64),
    ...                  np.zeros(1, np.uint8))
    >>> place(one, Window(row=100, col=10, height=50, width=50), 7).boxes.tolist()
    [[11.0, 102.0, 13.0, 104.0]]
    """
    n = len(detections)
    xmin, ymin, xmax, ymax = window.box
    boxes = detections.boxes.astype(np.float64) + np.array([xmin, ymin, xmin, ymin], np.float64)
    return Candidates(
        boxes=np.clip(boxes, [xmin, ymin, xmin, ymin], [xmax, ymax, xmax, ymax]),
        scores=detections.scores,
        classes=detections.classes,
        sides=detections.sides,
        windows=np.tile(np.array(window.box, np.float64), (n, 1)),
        order=(np.int64(number) << WINDOW_BITS) + np.arange(n, dtype=np.int64),
        edge=np.zeros(n, np.bool_),
        attributes=dict(detections.attributes),
    )
