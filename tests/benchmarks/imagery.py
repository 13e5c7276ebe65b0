"""Rasters to measure on, written band by band: one tile, mirrored over as much ground as is wanted."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyproj
from affine import Affine

from treedet.core.grid import Grid, Window
from treedet.datasets.scenes import SceneConfig, render_scene
from treedet.rasters.write import RasterWriter, WriteOptions

Pixels = npt.NDArray[np.uint8]

BAND_ROWS = 512
"""Rows written at a time: whole tiles of the file, so that no block is compressed twice."""
STEP = 200
"""Distance of painted disks in pixels."""

TILED_DEFLATE = WriteOptions()
TILED_JPEG = WriteOptions(compression="jpeg")
STRIPED_LZW = WriteOptions(block_px=None, compression="lzw")
STRIPED_DEFLATE = WriteOptions(block_px=None)


def grid(width: int, height: int, gsd: float) -> Grid:
    """Return a north-up grid in UTM."""
    transform = Affine.translation(500_000, 5_400_000) @ Affine.scale(gsd, -gsd)
    return Grid.build(pyproj.CRS.from_epsg(32632), transform, width=width, height=height)


def write_mirrored(path: Path, tile: Pixels, where: Grid, options: WriteOptions) -> Path:
    """Write a raster that repeats a tile ``[C, h, w]``, every other time mirrored, so that no seam shows."""
    columns = _mirrored(0, where.width, tile.shape[2])
    with RasterWriter(path, where, options=options) as writer:
        for top in range(0, where.height, BAND_ROWS):
            count = min(BAND_ROWS, where.height - top)
            rows = _mirrored(top, count, tile.shape[1])
            writer.write(tile[:, rows][:, :, columns], Window(top, 0, count, where.width))
    return path


@lru_cache(maxsize=2)
def forest(side: int, gsd: float) -> Pixels:
    """Return a rendered wood, uint8 ``[3, side, side]``."""
    return render_scene(SceneConfig(kind="mixed", gsd=gsd, width_px=side, height_px=side), seed=1).pixels


def write_forest(path: Path, side: int, gsd: float, options: WriteOptions) -> Path:
    """Write a square raster of woodland; the tile it repeats is 100 m or 51.2 m wide, the finer the smaller."""
    tile = forest(min(side, 1000 if gsd >= 0.1 else 2048), gsd)
    return write_mirrored(path, tile, grid(side, side, gsd), options)


def disks(side: int) -> Pixels:
    """Return bright disks on black, uint8 ``[3, side, side]``: one for each :data:`STEP` pixels across and down."""
    across, pitch = max(1, side // STEP), min(STEP, side)
    rng = np.random.default_rng(0)
    centres = (np.indices((across, across)) + 0.5 + rng.uniform(-0.1, 0.1, (2, across, across))) * pitch
    radius = rng.uniform(0.15, 0.35, (across, across)) * pitch
    y, x = np.indices((side, side))
    cell = np.minimum(y // STEP, across - 1), np.minimum(x // STEP, across - 1)
    inside = (y + 0.5 - centres[0][cell]) ** 2 + (x + 0.5 - centres[1][cell]) ** 2 <= radius[cell] ** 2
    return np.broadcast_to(np.where(inside, np.uint8(200), np.uint8(0)), (3, side, side))


def write_disks(path: Path, *, width: int, height: int, tile: int, options: WriteOptions) -> int:
    """Write a raster of disks in tiles of ``tile`` pixels, and return how many were painted.

    Width and height must be multiples of ``tile``, or disks on the border would be cut.
    """
    if width % tile or height % tile:
        raise ValueError(f"{width} x {height} px is no multiple of {tile} px")
    write_mirrored(path, disks(tile), grid(width, height, 0.1), options)
    return max(1, tile // STEP) ** 2 * (width // tile) * (height // tile)


def _mirrored(start: int, count: int, side: int) -> npt.NDArray[np.int64]:
    index = np.arange(start, start + count) % (2 * side)
    return np.where(index < side, index, 2 * side - 1 - index)
