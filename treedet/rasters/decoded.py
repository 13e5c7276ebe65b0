"""Where training windows take their pixels from: memory where a raster fits, else its file."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from affine import Affine

from treedet.core.grid import SAME_GSD, Grid, Window
from treedet.errors import ConfigError
from treedet.rasters.raster import Raster, Tile
from treedet.rasters.resampling import Axis, resample


class PixelSource(Protocol):
    """Pixels that can be read at any GSD; :class:`~treedet.rasters.raster.Raster` is one too."""

    grid: Grid

    def read_on(self, model: Grid, window: Window) -> Tile:
        """Read a window of a grid made by ``grid.at_gsd``."""
        ...


@dataclass(eq=False)
class DecodedRaster:
    """A raster's pixels in memory, decoded once; made by :meth:`of` or :meth:`of_pixels`.

    Processes forked from this one share the memory; it can be pickled too.

    Attributes:
        grid: Grid of the raster, as without decoding; the pixels held may be a whole number of times coarser.
        pixels: Uint8 ``[C, H, W]``, read-only.
        valid: Bool ``[H, W]``, False for nodata; None where all pixels are valid.
    """

    grid: Grid
    pixels: npt.NDArray[np.uint8]
    valid: npt.NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, raster: Raster, *, finest_gsd: float) -> DecodedRaster:
        """Decode a whole raster.

        Pixels much finer than wanted are averaged in whole steps while decoding. A step between whole ones would
        blur what is resampled a second time later.

        Args:
            raster: An open raster.
            finest_gsd: Finest ground metres per pixel that will be asked for.
        """
        model = held_grid(raster.grid, finest_gsd)
        tile = raster.read_on(model, model.full_window)
        return cls(raster.grid, _frozen(tile.pixels), None if tile.valid.all() else _frozen(tile.valid))

    @classmethod
    def of_pixels(cls, pixels: npt.NDArray[np.uint8], *, gsd: float) -> DecodedRaster:
        """Wrap pixels that are in memory already.

        Args:
            pixels: Uint8 ``[C, H, W]``.
            gsd: Ground metres per pixel.
        """
        _, height, width = pixels.shape
        grid = Grid.build(None, Affine.identity(), width=width, height=height, gsd=gsd)
        return cls(grid, _frozen(pixels))

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.pixels.nbytes + (0 if self.valid is None else self.valid.nbytes)

    def read_on(self, model: Grid, window: Window) -> Tile:
        """Read a window of a grid made by ``grid.at_gsd``, as ``Raster.read_on`` does.

        Both agree within one grey level where ``model`` is as fine as what is held or a whole number of times
        coarser, and where what is held are the raster's own pixels.

        Raises:
            ConfigError: The window reaches beyond the grid.
        """
        if min(window.row, window.col) < 0 or window.bottom > model.height or window.right > model.width:
            raise ConfigError(
                f"{window} is not inside the grid of {model.width} x {model.height} px at {model.gsd:.4g} m; "
                "give a window of grid.at_gsd(gsd)"
            )
        _, height, width = self.pixels.shape
        down = Axis(height, model.height, window.row, window.height)
        along = Axis(width, model.width, window.col, window.width)
        place = (slice(down.start, down.stop), slice(along.start, along.stop))
        valid: npt.NDArray[np.bool_] = np.broadcast_to(np.True_, (window.height, window.width))
        if self.valid is not None and not (below := self.valid[place]).all():
            share = resample(below.view(np.uint8)[None] * np.uint8(255), down, along)
            valid = share[0] >= 128  # at least half of the ground below
        return Tile(window, resample(self.pixels[:, *place], down, along), valid)


class ReopenedRaster:
    """A raster read from its file by whichever process asks, each with handles of its own.

    Handles of GDAL survive neither a fork nor pickling. Each process opens its own at its first read.

    Args:
        raster: The raster; what was decided about reading it is kept, its handles are not.
    """

    def __init__(self, raster: Raster) -> None:
        self.grid = raster.grid
        self._unopened = raster.clone()
        self._own: tuple[int, Raster] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_own": None}

    def read_on(self, model: Grid, window: Window) -> Tile:
        """Read a window of a grid made by ``grid.at_gsd``; see ``Raster.read_on``."""
        if self._own is None or self._own[0] != os.getpid():
            self._own = (os.getpid(), self._unopened.clone())
        return self._own[1].read_on(model, window)


def held_grid(grid: Grid, finest_gsd: float) -> Grid:
    """Return the grid a raster is decoded on: coarser a whole number of times, but no coarser than ``finest_gsd``.

    >>> grid = Grid.build(None, Affine.identity(), width=1000, height=600, gsd=0.03)
    >>> held_grid(grid, 0.07).width, held_grid(grid, 0.05).width
    (500, 1000)
    """
    step = max(1, math.floor(finest_gsd / grid.gsd * (1 + SAME_GSD)))
    return grid if step == 1 else grid.at_gsd(grid.gsd * step)


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view
