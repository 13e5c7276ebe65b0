"""Who sees a run from outside: progress, and pictures of what is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from treedet.core.crowns import CrownArrays
from treedet.core.grid import Grid
from treedet.inference.pipeline import Progress
from treedet.rasters.raster import Raster

Watch = Callable[[Progress], None]


class Observer(Protocol):
    """Sees a run from outside: the raster before it, the crowns as they are written."""

    def begin(self, raster: Raster, aoi: BaseGeometry | None, grid: Grid) -> None:
        """Look at the open raster; ``aoi`` is in pixels of the model grid."""

    def observe(self, crowns: CrownArrays, grid: Grid) -> None:
        """Look at crowns that were written, in pixels of the model grid."""


class CampaignProgress:
    """Turns the progress of units into that of a run.

    Args:
        total: Windows of the run.
        done: Windows that are done already.
        watch: Is told.
    """

    def __init__(self, total: int, *, done: int, watch: Watch | None) -> None:
        self._total, self._done, self._crowns, self._watch = total, done, 0, watch
        self._first: int | None = None

    def within(self, progress: Progress) -> None:
        """Tell how far the run is while a unit is worked off."""
        if self._watch is None:
            return
        # A unit counts the windows of its ground from the top.
        if self._first is None:
            self._first = progress.windows - 1
        done = self._done + progress.windows - self._first
        self._watch(Progress(min(done, self._total), self._total, self._crowns + progress.crowns))

    def settle(self, windows: int, crowns: int) -> None:
        """Count a finished unit."""
        self._done += windows
        self._crowns += crowns
        self._first = None
        if self._watch is not None:
            self._watch(Progress(self._done, self._total, self._crowns))


def footprint(raster: Raster, grid: Grid) -> BaseGeometry | None:
    """Return the ground that the files of a raster cover, in pixels of a grid of it; None where it is one file."""
    boxes = raster.members.boxes
    if len(boxes) == 1:
        return None
    scale = np.array([grid.width / raster.grid.width, grid.height / raster.grid.height] * 2)
    covered: BaseGeometry = shapely.union_all(shapely.box(*(boxes * scale).T))
    shapely.prepare(covered)
    return covered
