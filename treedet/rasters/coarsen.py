"""Write a raster once at another GSD, so that from then on only that file need be seen."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from treedet.core.grid import SAME_GSD, Grid, Window
from treedet.errors import ConfigError
from treedet.rasters.raster import Raster
from treedet.rasters.stream import stream_tiles
from treedet.rasters.tiling import TilePlan
from treedet.rasters.write import RasterWriter, WriteOptions

SIDE_PX = 1024
"""Side of the windows written at a time; whole blocks of the file, so that none is compressed twice."""


def coarsen(
    raster: Raster,
    path: str | os.PathLike[str],
    *,
    gsd: float,
    overwrite: bool = False,
    upsample: bool = False,
    watch: Callable[[int, int], None] | None = None,
) -> Path:
    """Write what a raster would show with larger pixels, as a GeoTIFF of the same ground.

    Each new pixel is the mean of the ground it covers, taken from the raster's full resolution or its overviews as
    :meth:`treedet.rasters.raster.Raster.read` does. Memory does not grow with the raster.

    The file holds 8-bit bands as they are read (stretched, palettes resolved), in the CRS of ``raster.grid``: the
    raster's own unless it is warped. Nodata is kept as a mask inside the file; a new pixel is valid where at least
    half of its ground is. An identity transform and an overridden GSD can not be told from the file: open it with
    ``gsd=raster.grid.at_gsd(gsd).gsd``.

    Args:
        raster: An open raster.
        path: GeoTIFF to write.
        gsd: Metres per pixel wanted. Width and height are rounded to whole pixels, so the file's may differ by a
            fraction; within 2 % of the raster's own the pixels are copied.
        overwrite: Replace an existing file.
        upsample: Allow a GSD finer than the raster's, which enlarges its pixels (cubic) and adds no detail.
        watch: Called with the windows written and their number.

    Returns:
        The path.

    Raises:
        ConfigError: The GSD is finer than the raster's and ``upsample`` is off.
        RasterError: The raster can not be read.
        OutputError: The file exists, or can not be written.
    """
    if not gsd >= raster.grid.gsd * (1 - SAME_GSD) and not (upsample and gsd > 0):
        raise ConfigError(
            f"{raster.path} has {raster.grid.gsd:.4g} m per pixel, {gsd:g} m would be finer; give a coarser GSD, or "
            "upsample=True (--upsample) for enlarged pixels"
        )
    grid = raster.grid.at_gsd(gsd)
    plan = _blocks(grid)
    # Ground around a warped file is not valid, whatever the file says.
    options = WriteOptions(mask=raster.warped or raster.facts.mask != "none")
    target = Path(path)
    with (
        RasterWriter(target, grid, count=raster.channels, options=options, overwrite=overwrite) as writer,
        closing(stream_tiles(raster, plan)) as tiles,
    ):
        for done, (_, tile) in enumerate(tiles, start=1):
            writer.write(tile.pixels, tile.window, valid=tile.valid if options.mask else None)
            if watch is not None:
                watch(done, plan.n_windows)
    return target


def _blocks(grid: Grid) -> TilePlan:
    """Return windows side by side, which start on blocks of the file and end with the grid."""
    tops, lefts = tuple(range(0, grid.height, SIDE_PX)), tuple(range(0, grid.width, SIDE_PX))
    rows = tuple(
        tuple(Window(top, left, min(SIDE_PX, grid.height - top), min(SIDE_PX, grid.width - left)) for left in lefts)
        for top in tops
    )
    return TilePlan(grid, min(SIDE_PX, grid.height), min(SIDE_PX, grid.width), 0, rows, tops, lefts)
