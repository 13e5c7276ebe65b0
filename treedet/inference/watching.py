"""Who sees a run from outside: progress, and pictures of what is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from treedet.core.crown_arrays import CrownArrays
from treedet.core.grid import Grid
from treedet.inference.pipeline import Progress
from treedet.rasters.raster import Raster

Watch = Callable[[Progress], None]


@dataclass(frozen=True, eq=False)
class View:
    """A piece of ground of a run over many rasters.

    Attributes:
        raster: Its raster, which need not be open yet; whoever looks closes it.
        area: Where crowns are looked for, or where its files are, in pixels of ``raster.grid``; None for everywhere.
    """

    raster: Raster
    area: BaseGeometry | None


class Observer(Protocol):
    """Sees a run from outside: the raster before it, or those of many; the crowns as they are written."""

    def begin(self, raster: Raster, aoi: BaseGeometry | None, grid: Grid) -> None:
        """Look at the open raster; ``aoi`` is in pixels of the model grid."""

    def begin_many(self, m2: npt.NDArray[np.float64], view: Callable[[int], View]) -> None:
        """Look at some pieces of ground of many: ``m2`` is the area of each, ``view`` gives one by its number."""

    def observe(self, crowns: CrownArrays, grid: Grid, *, ground: int = 0) -> None:
        """Look at crowns that were written, in pixels of the model grid of a piece of ground."""


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
