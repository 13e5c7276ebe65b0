"""Rows of overlapping windows of one size that cover a grid, or the part of it around an AOI."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from treedet.core.grid import Grid, Window
from treedet.errors import ConfigError


@dataclass(frozen=True)
class TilingConfig:
    """How large windows may be and how much neighbours share.

    Attributes:
        window_px: Largest side of a window, in pixels of the model grid; a multiple of ``multiple``.
        overlap_px: Pixels that neighbouring windows share at least; should exceed the widest crown.
        multiple: Sides are multiples of this: the largest stride of the network.
        steady: Every window is ``window_px`` wide and exactly ``overlap_px`` from the next, but for the last, which
            ends at the edge: how other tools place windows. Otherwise they are spread evenly.

    Raises:
        ConfigError: A value is out of range.
    """

    window_px: int = 1536
    overlap_px: int = 256
    multiple: int = 64
    steady: bool = False

    def __post_init__(self) -> None:
        if self.multiple < 1:
            raise ConfigError(f"multiple must be at least 1, found {self.multiple}")
        if self.window_px < 1 or self.window_px % self.multiple:
            raise ConfigError(
                f"window_px must be a positive multiple of {self.multiple}, found {self.window_px}; "
                f"use {max(1, round(self.window_px / self.multiple)) * self.multiple}"
            )
        if not 0 <= self.overlap_px < self.window_px:
            raise ConfigError(
                f"overlap_px must be at least 0 and less than window_px ({self.window_px}), found "
                f"{self.overlap_px}; make the window larger or the overlap smaller"
            )


@dataclass(frozen=True)
class TilePlan:
    """Windows on a model grid, row by row.

    Attributes:
        grid: The model grid.
        height: Rows of every window.
        width: Columns of every window.
        overlap_px: Pixels neighbours share at least.
        rows: Windows from top to bottom, left to right. A row without windows in the AOI is an empty tuple, so the
            number of a row does not depend on the AOI.
        tops: First rows of the windows of the full plan, without any AOI.
        lefts: First columns of the windows of the full plan.
    """

    grid: Grid
    height: int
    width: int
    overlap_px: int
    rows: tuple[tuple[Window, ...], ...]
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    @property
    def n_windows(self) -> int:
        """Number of windows in the plan."""
        return sum(len(row) for row in self.rows)

    def next_top(self, row_index: int) -> float:
        """Return the top, in pixels, of the next row that has windows after ``row_index``, or infinity."""
        return next((float(row[0].row) for row in self.rows[row_index + 1 :] if row), math.inf)

    def bottom_above(self, row_index: int) -> float:
        """Return the bottom, in pixels, of the last row before ``row_index`` that has windows, or minus infinity."""
        return next((float(row[0].bottom) for row in reversed(self.rows[:row_index]) if row), -math.inf)

    def over(self, boxes: npt.NDArray[np.float64]) -> TilePlan:
        """Return the plan without the windows that meet none of some boxes ``[M, 4]``, in pixels of the grid."""
        windows = [window for row in self.rows for window in row]
        if not windows:
            return self
        places = np.array([window.box for window in windows], dtype=np.float64)
        tree = shapely.STRtree(np.asarray(shapely.box(*boxes.T), dtype=object))
        met = np.zeros(len(windows), dtype=bool)
        met[tree.query(shapely.box(*places.T), predicate="intersects")[0]] = True
        left = iter(met.tolist())
        return replace(self, rows=tuple(tuple(window for window in row if next(left)) for row in self.rows))

    def to_dict(self) -> dict[str, Any]:
        """Return what tells this plan from another as JSON-able values; windows are there as a digest."""
        windows = np.array([(w.row, w.col) for row in self.rows for w in row], dtype="<i8")
        return {
            "grid_width": self.grid.width,
            "grid_height": self.grid.height,
            "gsd": self.grid.gsd,
            "window_width": self.width,
            "window_height": self.height,
            "overlap_px": self.overlap_px,
            "rows": len(self.rows),
            "windows": self.n_windows,
            "windows_sha256": hashlib.sha256(windows.tobytes()).hexdigest(),
        }


def plan_tiles(grid: Grid, config: TilingConfig | None = None, *, aoi: BaseGeometry | None = None) -> TilePlan:
    """Cover a grid with windows of equal size.

    The fewest windows of at most ``window_px`` are used, and their side is then the smallest that still covers the
    axis, so little is read twice; ``steady`` ones keep their size instead. The last one ends at the grid's edge. A
    grid smaller than a window gives one window of the grid's own extent.

    Args:
        grid: The model grid.
        config: Sizes; the defaults of :class:`TilingConfig` where left out.
        aoi: Geometry in pixels of ``grid``; windows further from it than the overlap are dropped.

    >>> from affine import Affine
    >>> plan = plan_tiles(Grid.build(None, Affine.identity(), width=4000, height=900, gsd=0.1))
    >>> [(w.col, w.width) for w in plan.rows[0]], plan.height
    ([(0, 1536), (1232, 1536), (2464, 1536)], 900)
    """
    config = config or TilingConfig()
    height, tops = _spread(grid.height, config)
    width, lefts = _spread(grid.width, config)
    keep = np.ones((len(tops), len(lefts)), dtype=bool)
    if aoi is not None:
        # Boxes are widened rather than the AOI buffered: one sum instead of a costly buffer, and on the safe side.
        reach = config.overlap_px
        shapely.prepare(aoi)
        for i, top in enumerate(tops):
            near = shapely.box(lefts - reach, top - reach, lefts + width + reach, top + height + reach)
            keep[i] = shapely.intersects(near, aoi)
    rows = tuple(
        tuple(Window(int(top), int(left), height, width) for left in lefts[kept])
        for top, kept in zip(tops, keep, strict=True)
    )
    full = tuple(tops.tolist()), tuple(lefts.tolist())
    return TilePlan(grid, height, width, config.overlap_px, rows, *full)


def _spread(size: int, config: TilingConfig) -> tuple[int, npt.NDArray[np.int64]]:
    """Side and starts of the windows along an axis of ``size`` pixels."""
    if size <= config.window_px:
        return size, np.zeros(1, dtype=np.int64)
    overlap, multiple = config.overlap_px, config.multiple
    if config.steady:
        last = size - config.window_px
        starts = np.arange(0, last + 1, config.window_px - overlap, dtype=np.int64)
        return config.window_px, starts if starts[-1] == last else np.append(starts, last)
    n = math.ceil((size - overlap) / (config.window_px - overlap))
    needed = math.ceil((size + (n - 1) * overlap) / n)
    side = math.ceil(needed / multiple) * multiple
    # Steps of floor(i * room / (n - 1)) differ by at most one and never exceed side - overlap.
    return side, np.arange(n, dtype=np.int64) * (size - side) // (n - 1)
