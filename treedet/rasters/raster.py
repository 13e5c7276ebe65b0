"""Open a raster, report its facts, read windows at any GSD: the only place where pixels are resampled."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from shapely.geometry.base import BaseGeometry

from treedet.core.crowns import reproject
from treedet.core.grid import Grid, Window
from treedet.errors import ConfigError, NoOverlapError, RasterError
from treedet.rasters.connecting import environment
from treedet.rasters.decoding import Handle, patches
from treedet.rasters.facts import RasterFacts
from treedet.rasters.mosaic import Members, MosaicHandle, Troubles
from treedet.rasters.opening import Opening, look_at
from treedet.rasters.resampling import Axis, resample

CACHE_MB = 32
"""Default cap of GDAL's block cache in MiB."""
_STRIP_BYTES = 2 * 2**20  # decoded and resampled at a time: stays in the processor's cache


@dataclass(frozen=True, eq=False)
class Tile:
    """A window with its pixels.

    Attributes:
        window: Where it lies on the model grid.
        pixels: Uint8 ``[C, H, W]``, RGB order; read-only zeros where nothing is valid.
        valid: Bool ``[H, W]``, False for nodata.
    """

    window: Window
    pixels: npt.NDArray[np.uint8]
    valid: npt.NDArray[np.bool_]

    @classmethod
    def blank(cls, window: Window, channels: int) -> Tile:
        """Return a tile without a valid pixel, which takes no memory."""
        shape = (window.height, window.width)
        return cls(window, np.broadcast_to(np.uint8(0), (channels, *shape)), np.broadcast_to(np.False_, shape))

    @property
    def is_empty(self) -> bool:
        """True where no pixel is valid, so no network need see it."""
        return not self.valid.any()


class Raster:
    """A raster open for reading, by one thread at a time; :meth:`clone` gives another thread its own.

    Made by :meth:`open`; a context manager.

    Attributes:
        path: The path as given.
        grid: The file's own grid, or the local metric grid it is warped onto.
        native_grid: The grid of the file's own pixels; differs from ``grid`` at most where ``warped``.
        source_crs: CRS of the file, or None; differs from ``grid.crs`` at most where ``warped``.
        facts: What the file is and how it is read.
        troubles: Files of a raster made of several that could not be read; shared with clones.
    """

    def __init__(self, opening: Opening, troubles: Troubles | None = None) -> None:
        self._opening = opening
        self._handles: dict[int | None, Handle | MosaicHandle] | None = {}
        self.troubles = troubles if troubles is not None else Troubles()
        self.path: str = opening.source.path
        self.grid: Grid = opening.grid
        self.native_grid: Grid = opening.native_grid
        self.source_crs: pyproj.CRS | None = opening.source_crs
        self.facts: RasterFacts = opening.facts

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        gsd: float | None = None,
        bands: Sequence[int] | None = None,
        stretch: tuple[float, float] | None = None,
        cache_mb: int = CACHE_MB,
    ) -> Raster:
        """Open any raster GDAL reads: a file, a ``/vsi`` path or a URL.

        Args:
            path: What to open.
            gsd: Ground metres per pixel of this raster, overriding what the file says.
            bands: Bands to read, counted from 1; by default red, green and blue.
            stretch: Values that become 0 and 255. By default 8-bit values are taken as they are, and others are
                stretched between the 1st and 99th percentile of a sample of the valid pixels.
            cache_mb: Cap of GDAL's block cache while reading, in MiB.

        Raises:
            UnreadableRasterError: Missing, not a raster, or not a picture.
            UnknownGsdError: The size of a pixel on the ground is neither in the file nor given.
            BandMismatchError: The bands asked for, or three colours, are not there.
            ConfigError: An argument makes no sense.
        """
        return cls(look_at(os.fspath(path), gsd=gsd, bands=bands, stretch=stretch, cache_mb=cache_mb))

    def __enter__(self) -> Raster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what is read afterwards raises."""
        for handle in (self._handles or {}).values():
            handle.close()
        self._handles = None

    def clone(self) -> Raster:
        """Return the same raster with file handles of its own; bands and stretch are not decided again."""
        return Raster(self._opening, self.troubles)

    @property
    def warped(self) -> bool:
        """True where pixels are read through a local metric grid."""
        return self._opening.source.warp is not None

    @property
    def channels(self) -> int:
        """Channels of the pixels read."""
        return self._opening.source.channels

    @property
    def stretch(self) -> tuple[float, float] | None:
        """Values that become 0 and 255, or None where 8-bit values are taken as they are."""
        return self._opening.source.stretch

    @property
    def cache_mb(self) -> int:
        """Cap of GDAL's block cache while reading, in MiB."""
        return self._opening.source.cache_mb

    @property
    def members(self) -> Members:
        """The files the raster is made of."""
        return Members(self._opening)

    def read(self, window: Window, gsd: float | None = None) -> Tile:
        """Read a window of the model grid.

        Args:
            window: On ``grid.at_gsd(gsd)``, inside it.
            gsd: Ground metres per pixel wanted; by default the raster's own.

        Raises:
            UnreadableRasterError: The file breaks off or its data are damaged.
            ConfigError: The window reaches beyond the grid.
        """
        return self.read_on(self.grid if gsd is None else self.grid.at_gsd(gsd), window)

    def read_on(self, model: Grid, window: Window) -> Tile:
        """Read a window of a grid made by ``grid.at_gsd``; see :meth:`read`."""
        _check_inside(window, model, self.path)
        with environment(self.cache_mb):
            handle = self.prepare(model)
            along = Axis(handle.width, model.width, window.col, window.width)
            pixels = _own_pages((self.channels, window.height, window.width))
            valid = _own_pages((window.height, window.width)).view(np.bool_)
            valid[:] = True
            for first, last in self._strips(handle, model, window):
                down = Axis(handle.height, model.height, window.row + first, last - first)
                native, mask = handle.read(down.start, along.start, down.stop - down.start, along.stop - along.start)
                pixels[:, first:last] = resample(native, down, along)
                if mask is not None:
                    share = resample(mask.view(np.uint8)[None] * np.uint8(255), down, along)
                    valid[first:last] = share[0] >= 128  # at least half of the ground below
        return Tile(window, pixels, valid)

    def to_grid(self, geometries: npt.ArrayLike, model: Grid | None = None) -> npt.NDArray[np.object_]:
        """Return geometries with their coordinates in pixels.

        Args:
            geometries: ``[N]`` shapely geometries in ``source_crs``.
            model: Grid wanted, made by ``grid.at_gsd``; by default ``grid`` itself.
        """
        placed = np.asarray(geometries, dtype=object)
        if self.warped and self.source_crs is not None and self.grid.crs is not None:
            placed = reproject(placed, self.source_crs, self.grid.crs)
        return (model or self.grid).geometries_to_pixels(placed)

    def area_on_grid(self, polygons: BaseGeometry, model: Grid | None = None, *, name: str) -> BaseGeometry:
        """Return the part of an area that lies on the raster, in pixels, valid and prepared for queries.

        Args:
            polygons: Area in ``source_crs``.
            model: Grid wanted, made by ``grid.at_gsd``; by default ``grid`` itself.
            name: How the message calls the area.

        Raises:
            NoOverlapError: The area does not overlap the raster.
        """
        grid = model or self.grid
        pixels: BaseGeometry = self.to_grid(np.array([polygons], dtype=object), grid)[0]
        inside: BaseGeometry = shapely.intersection(
            shapely.make_valid(pixels), shapely.box(0, 0, grid.width, grid.height)
        )
        if shapely.area(inside) == 0:
            found = tuple(round(float(v), 1) for v in shapely.bounds(pixels))
            raise NoOverlapError(
                f"{name} does not overlap {self.path}: in pixels of the raster it spans {found}, the raster 0 to "
                f"{grid.width} and 0 to {grid.height}; check that both are of the same place, and their CRS"
            )
        shapely.prepare(inside)
        return inside

    def valid_share(self) -> float:
        """Return the share of the raster that is not nodata, estimated from patches spread over it."""
        with environment(self.cache_mb):
            handle = self.prepare(self.grid)
            valid, total = 0, 0
            for patch in patches(handle.height, handle.width):
                _, mask = handle.read(*patch)
                size = patch[2] * patch[3]
                valid += size if mask is None else int(np.count_nonzero(mask))
                total += size
        return valid / total

    def prepare(self, model: Grid) -> Handle | MosaicHandle:
        """Open the resolution that serves a model grid: the coarsest overview that is no coarser than it."""
        if self._handles is None:
            raise RasterError(f"{self.path} is closed; read it inside its with block")
        ratio = min(self.grid.width / model.width, self.grid.height / model.height)
        fitting = [(factor, i) for i, factor in enumerate(self._opening.overviews) if factor <= ratio * 1.001]
        level = max(fitting)[1] if fitting else None
        if level not in self._handles:
            self._handles[level] = (
                MosaicHandle(self._opening, self.troubles, level)
                if self._opening.members
                else Handle(self._opening.source, level)
            )
        return self._handles[level]

    def _strips(self, handle: Handle | MosaicHandle, model: Grid, window: Window) -> Iterator[tuple[int, int]]:
        """Yield runs of output rows, first and last, that are decoded together.

        Strips end on multiples of their height in the file, so that blocks are used whole. Blocks too large for
        the cache to hold a row of them are read in strips of their own height, or each would be decoded many times.
        """
        ratio = handle.height / model.height
        columns = window.width * handle.width / model.width
        bytes_per_row = columns * self.channels * self._opening.source.dtype.itemsize
        rows = max(1, int(_STRIP_BYTES / bytes_per_row))
        block_rows, block_columns = handle.block_shape
        if bytes_per_row * block_rows * (1 + block_columns / columns) > self.cache_mb * 2**20 / 4:
            rows = max(rows, min(block_rows, handle.height))
        first = 0
        while first < window.height:
            end = (int((window.row + first) * ratio) // rows + 1) * rows
            last = min(window.height, max(first + 1, int(end / ratio) - window.row))
            yield first, last
            first = last


def _own_pages(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Return zeros in memory of their own, which goes back to the system with the array.

    Tiles are made in one thread and dropped in another; from the heap they would leave holes that grow with a run.
    """
    return np.frombuffer(mmap.mmap(-1, math.prod(shape)), dtype=np.uint8).reshape(shape)


def _check_inside(window: Window, grid: Grid, path: str) -> None:
    if (
        min(window.row, window.col) < 0
        or min(window.height, window.width) < 1
        or window.bottom > grid.height
        or window.right > grid.width
    ):
        raise ConfigError(
            f"{path}: {window} is not inside the grid of {grid.width} x {grid.height} px at {grid.gsd:.4g} m; "
            "give a window of raster.grid.at_gsd(gsd)"
        )
