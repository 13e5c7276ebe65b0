"""Files of one pixel grid joined to one raster; nothing is read for it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

import numpy as np
import numpy.typing as npt
import pyproj
from affine import Affine

from treedet.core.grid import Grid, Window
from treedet.rasters.georeference import Georeference, locate_pixels, outline
from treedet.rasters.opening import Member, Opening

STRIPED_PX = 3000
"""Files in strips wider than this are read as full-width bands of rows; narrower ones window by window."""


def join(
    openings: Sequence[Opening], corners: npt.NDArray[np.int64], *, name: str, gsd: float | None = None
) -> Opening:
    """Return one raster of several files.

    Args:
        openings: What was decided about each file; where two overlap, the first one hides the second.
        corners: Int64 ``[N, 2]``, row and column of each file's first pixel on a common pixel grid.
        name: What the raster is called.
        gsd: Ground metres per pixel, overriding what the files say.

    Raises:
        UnknownGsdError: The size of a pixel on the ground is not known.
    """
    first = openings[0]
    if len(openings) == 1:
        return replace(first, members=(_alone(first),))
    sizes = np.array([(o.native_grid.height, o.native_grid.width) for o in openings], np.int64)
    origin = corners.min(axis=0)
    height, width = ((corners + sizes).max(axis=0) - origin).tolist()
    row, col = (origin - corners[0]).tolist()
    transform = first.native_grid.transform @ Affine.translation(col, row)
    where = locate_pixels(first.source_crs, transform, width=width, height=height, path=name, gsd=gsd)
    to_grid = _Way(where)
    members = tuple(
        _member(opening, (int(corner[0]), int(corner[1])), where, to_grid)
        for opening, corner in zip(openings, corners - origin, strict=True)
    )
    overviews = () if where.warp is not None else _shared_overviews(openings, corners - origin, sizes)
    striped = [o.facts.layout == "striped" and o.facts.width > STRIPED_PX for o in openings]
    facts = replace(
        first.facts,
        width=width,
        height=height,
        gsd=where.grid.gsd,
        gsd_reason=where.gsd_reason,
        layout="striped" if 2 * sum(striped) > len(striped) else "tiled",
        overviews=overviews,
        warped=where.warp is not None,
    )
    source = replace(first.source, path=name, warp=where.warp)
    return Opening(source, where.grid, where.source_crs, where.native_grid, overviews, facts, members)


def _shared_overviews(
    openings: Sequence[Opening], corners: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]
) -> tuple[int, ...]:
    """Return the reduction factors of the overviews that together are overviews of the whole.

    All files have them, and begin and end on whole pixels of them, else GDAL stretches the overview of a file.
    """
    factors = openings[0].overviews
    if any(opening.overviews != factors for opening in openings):
        return ()
    # Overviews are opened by their number, so none before the last one may be left out.
    return tuple(takewhile(lambda factor: not (corners % factor).any() and not (sizes % factor).any(), factors))


def stamp_of(path: str) -> tuple[int, int] | None:
    """Return size in bytes and time of change of a local file, None for what is not one."""
    try:
        stat = os.stat(path)  # noqa: PTH116 -- once per file of thousands
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def _alone(opening: Opening) -> Member:
    native = opening.native_grid
    size = (native.width, native.height)
    return Member(opening.source, opening.grid.full_window, (0, 0), size, stamp_of(opening.source.path))


def _member(opening: Opening, corner: tuple[int, int], where: Georeference, to_grid: _Way) -> Member:
    native = opening.native_grid
    warp = where.warp and replace(where.warp, source_transform=native.transform)
    box = Window(*corner, native.height, native.width) if warp is None else to_grid.box_around(native)
    source = replace(opening.source, warp=warp)
    size = (native.width, native.height)
    return Member(source, box, corner, size, stamp_of(opening.source.path))


class _Way:
    """From a file's own map coordinates to pixels of the grid that the whole is read on."""

    def __init__(self, where: Georeference) -> None:
        self._grid = where.grid
        self._transformer: pyproj.Transformer | None = None
        if where.warp is not None and where.source_crs is not None and where.grid.crs != where.source_crs:
            self._transformer = pyproj.Transformer.from_crs(where.source_crs, where.grid.crs, always_xy=True)

    def box_around(self, native: Grid) -> Window:
        """Return the window that holds a file, with room for what resampling draws on."""
        x, y = outline(native)
        if self._transformer is not None:
            x, y = self._transformer.transform(x, y)
        inverse = ~self._grid.transform
        col = inverse.a * x + inverse.b * y + inverse.c
        row = inverse.d * x + inverse.e * y + inverse.f
        left, top = max(0, math.floor(col.min()) - 2), max(0, math.floor(row.min()) - 2)
        right = min(self._grid.width, math.ceil(col.max()) + 2)
        bottom = min(self._grid.height, math.ceil(row.max()) + 2)
        return Window(top, left, bottom - top, right - left)
