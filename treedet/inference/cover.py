"""Canopy cover: the area of the union of crown ellipses, counted on a grid of points."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from treedet.core.grid import Grid

POINTS_PER_SIDE = 1024
CHUNK = 500_000
"""Rows of crowns marked at a time, which bounds memory whatever the size of crowns."""


class CanopyCover:
    """Counts the points of a regular grid that lie in at least one crown ellipse.

    Overlapping crowns count once, memory is constant, and the error of the share is that of systematic point
    sampling (dot grid), far below 1 % for a million points.

    Args:
        grid: The model grid of the crowns.
        points_per_side: Most points along the longer side of the grid.
    """

    def __init__(self, grid: Grid, *, points_per_side: int = POINTS_PER_SIDE) -> None:
        self._spacing = max(1.0, max(grid.width, grid.height) / points_per_side)
        self._columns = math.ceil(grid.width / self._spacing)
        self._rows = math.ceil(grid.height / self._spacing)
        # Where runs of covered points begin (+1) and end (-1) in each row; a running sum tells which are covered.
        self._ends = np.zeros((self._rows, self._columns + 1), dtype=np.int32)
        self._cell_m2 = self._spacing**2 * grid.gsd_x * grid.gsd_y

    def add(self, boxes: npt.NDArray[np.float64]) -> None:
        """Mark the points in the ellipses inscribed in boxes ``[N, 4]``, in pixels of the grid."""
        scaled = boxes / self._spacing - 0.5
        first = np.clip(np.ceil(scaled[:, 1]).astype(np.int64), 0, self._rows)
        last = np.clip(np.floor(scaled[:, 3]).astype(np.int64) + 1, first, self._rows)
        ends = np.cumsum(last - first)
        start = 0
        while start < len(boxes):
            done = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, done + CHUNK, side="right")))
            self._mark(scaled[start:stop], first[start:stop], last[start:stop])
            start = stop

    def _mark(
        self, boxes: npt.NDArray[np.float64], first: npt.NDArray[np.int64], last: npt.NDArray[np.int64]
    ) -> None:
        """Mark the run of points that each ellipse covers in each of its rows."""
        size = last - first
        crown = np.repeat(np.arange(len(boxes)), size)
        row = np.arange(len(crown)) - np.repeat(np.cumsum(size) - size, size) + first[crown]
        centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, np.maximum((boxes[:, 2:] - boxes[:, :2]) / 2, 1e-9)
        away = (row - centre[crown, 1]) / half[crown, 1]
        reach = half[crown, 0] * np.sqrt(np.clip(1 - away**2, 0, None))
        begin = np.clip(np.ceil(centre[crown, 0] - reach).astype(np.int64), 0, self._columns)
        end = np.clip(np.floor(centre[crown, 0] + reach).astype(np.int64) + 1, begin, self._columns)
        np.add.at(self._ends, (row, begin), 1)
        np.add.at(self._ends, (row, end), -1)

    @property
    def hectares(self) -> float:
        """Area of the union in hectares."""
        covered = np.cumsum(self._ends, axis=1, dtype=np.int32) > 0
        return float(np.count_nonzero(covered)) * self._cell_m2 / 1e4
