"""Native windows of a file as 8-bit pixels and a valid mask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as FileWindow

from treedet.errors import UnreadableRasterError
from treedet.rasters.connecting import Attempts, open_dataset

Raw = npt.NDArray[Any]
Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

SAMPLE_PX = 1024
"""Side in pixels of what is read for statistics: the whole axis, or patches of 64 px spread over it."""
_PATCH_PX = 64


@dataclass(frozen=True)
class Warp:
    """The local metric grid a raster is read on, and where the file's own pixels are.

    Attributes:
        crs: WKT of the local grid.
        transform: Pixel corners of the local grid to its map.
        width: Columns of the local grid.
        height: Rows of the local grid.
        source_crs: WKT of the file.
        source_transform: Pixel corners of the file to its map.
    """

    crs: str
    transform: Affine
    width: int
    height: int
    source_crs: str
    source_transform: Affine


@dataclass(frozen=True, eq=False)
class Source:
    """All that is decided once about reading a file; enough for any thread to open a handle of its own.

    Attributes:
        path: What GDAL opens.
        bands: Bands read, counted from 1.
        dtype: Their common data type.
        alpha: Band that tells valid pixels, or None.
        nodata: Nodata value of each band read, or None.
        mask_file: True where an internal mask or a ``.msk`` file tells valid pixels.
        palette: Uint8 ``[3, levels]`` colours of a palette, or None.
        stretch: Values mapped to 0 and 255, or None.
        warp: How the file is warped, or None.
        cache_mb: Cap of GDAL's block cache while reading, in MiB.
    """

    path: str
    bands: tuple[int, ...]
    dtype: np.dtype[Any]
    alpha: int | None = None
    nodata: tuple[float, ...] | None = None
    mask_file: bool = False
    palette: Pixels | None = None
    stretch: tuple[float, float] | None = None
    warp: Warp | None = None
    cache_mb: int = 64

    @property
    def channels(self) -> int:
        """Channels of the decoded pixels."""
        return 3 if self.palette is not None else len(self.bands)


class Handle:
    """One open file, or one overview of it, for one thread at a time.

    Args:
        source: What to open and how to decode it.
        overview: Number of the overview to read, or None for the full resolution.
    """

    def __init__(self, source: Source, overview: int | None = None) -> None:
        self._source = source
        self._lut = _lookup_table(source)
        self._alpha = source.alpha
        self._options = {} if overview is None else {"OVERVIEW_LEVEL": overview}
        self._open: list[Any] = []
        self._connect()
        self.width: int = self._dataset.width
        self.height: int = self._dataset.height
        self.block_shape: tuple[int, int] = self._dataset.block_shapes[0]

    def _connect(self) -> None:
        source = self._source
        self._open.append(open_dataset(source.path, **self._options))
        if source.warp is not None:
            self._open.append(_warped(self._open[0], source))
            # Ground outside the file, masks and alpha all end up in the alpha band of the warped raster.
            self._alpha = self._open[-1].count
        self._dataset = self._open[-1]

    def close(self) -> None:
        """Close the file."""
        while self._open:
            self._open.pop().close()

    def read(self, row: int, col: int, height: int, width: int) -> tuple[Pixels, Mask | None]:
        """Read a window of native pixels.

        Returns:
            Uint8 ``[C, height, width]``, and bool ``[height, width]`` or None where all pixels are valid.
        """
        raw, valid = self.read_raw(row, col, height, width)
        return self._decode(raw), valid

    def read_raw(self, row: int, col: int, height: int, width: int) -> tuple[Raw, Mask | None]:
        """Read a window in the file's own data type ``[bands, height, width]``, with its valid mask or None."""
        window = FileWindow(col, row, width, height)
        for attempt in Attempts(self._source.path):
            try:
                if attempt.number:
                    self.close()
                    self._connect()
                raw, mask = self._read_window(window)
                break
            except RasterioError as error:
                if attempt.is_last:
                    raise self._unreadable(window, error) from error
        source = self._source
        if self._alpha:
            raw, opaque = raw[:-1], raw[-1] > 0
            mask = opaque if mask is None else mask & opaque
        return raw, _without_nodata(raw, mask, source.nodata)

    def _read_window(self, window: FileWindow) -> tuple[Raw, Mask | None]:
        """Read bands, the alpha band behind them, and the mask of a file that has one."""
        source = self._source
        indexes = [*source.bands, self._alpha] if self._alpha else list(source.bands)
        raw = self._dataset.read(indexes, window=window, out_dtype=source.dtype)
        if source.mask_file and source.warp is None:
            return raw, self._dataset.read_masks(1, window=window) > 0
        return raw, None

    def _unreadable(self, window: FileWindow, error: Exception) -> UnreadableRasterError:
        cause = " ".join(str(error.__cause__ or error).split())
        row, col = window.row_off, window.col_off
        return UnreadableRasterError(
            f"{self._source.path}: rows {row} to {row + window.height}, columns {col} to {col + window.width} can "
            f"not be read ({cause}); the file may be incomplete: copy or download it again"
        )

    def _decode(self, raw: Raw) -> Pixels:
        source, lut = self._source, self._lut
        if source.palette is not None:
            return np.asarray(source.palette.take(raw[0], axis=1))
        if lut is not None:
            return np.asarray(lut.take(raw.view(np.uint8 if raw.itemsize == 1 else np.uint16)))
        if source.stretch is None:
            return raw.astype(np.uint8, copy=False)
        return stretch_to_bytes(raw, source.stretch)


def stretch_to_bytes(values: Raw, stretch: tuple[float, float]) -> Pixels:
    """Map ``low`` to 0 and ``high`` to 255 linearly, clipped and rounded; NaN becomes 0.

    >>> stretch_to_bytes(np.array([np.nan, 0.0, 0.5, 2.0], dtype=np.float32), (0.0, 1.0)).tolist()
    [0, 0, 128, 255]
    """
    low, high = stretch
    kind = np.float32 if values.dtype.itemsize <= 2 or values.dtype == np.float32 else np.float64
    scaled: npt.NDArray[np.floating[Any]] = values.astype(kind)
    scaled -= kind(low)
    scaled *= kind(255 / (high - low))
    np.nan_to_num(scaled, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
    scaled += kind(0.5)
    return np.clip(scaled, 0, 255, out=scaled).astype(np.uint8)


def patches(height: int, width: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield ``(row, col, height, width)`` of the patches that stand for a raster in statistics.

    Up to 1,024 px an axis is taken whole, else as 16 pieces of 64 px from edge to edge: a sample whose cost does
    not grow with the raster, whether or not it has overviews.

    >>> len(list(patches(500, 900))), len(list(patches(40_000, 900))), len(list(patches(40_000, 40_000)))
    (1, 16, 256)
    """
    for (row, high), (col, wide) in product(_pieces(height), _pieces(width)):
        yield row, col, high, wide


def _pieces(size: int) -> list[tuple[int, int]]:
    if size <= SAMPLE_PX:
        return [(0, size)]
    starts = np.linspace(0, size - _PATCH_PX, SAMPLE_PX // _PATCH_PX).astype(int)
    return [(int(start), _PATCH_PX) for start in starts]


def _without_nodata(raw: Raw, mask: Mask | None, nodata: tuple[float, ...] | None) -> Mask | None:
    """Take from the mask the pixels where every band is nodata or not finite."""
    if nodata is not None or raw.dtype.kind == "f":
        empty = _is_empty(raw[0], None if nodata is None else nodata[0])
        for band in range(1, len(raw)):
            if not empty.any():
                break
            empty &= _is_empty(raw[band], None if nodata is None else nodata[band])
        if empty.any():
            mask = ~empty if mask is None else mask & ~empty
    return None if mask is None or mask.all() else mask


def _is_empty(plane: Raw, nodata: float | None) -> Mask:
    if plane.dtype.kind != "f":
        return np.asarray(plane == nodata)
    empty = ~np.isfinite(plane)
    if nodata is not None:
        empty |= plane == plane.dtype.type(nodata)
    return empty


def _lookup_table(source: Source) -> Pixels | None:
    """Bytes for each value of an 8- or 16-bit type: one gather per pixel in place of float arithmetic."""
    if source.stretch is None or source.palette is not None or source.dtype.kind not in "iu":
        return None
    if source.dtype.itemsize > 2:
        return None
    patterns = np.arange(2 ** (8 * source.dtype.itemsize), dtype=f"u{source.dtype.itemsize}")
    return stretch_to_bytes(patterns.view(source.dtype), source.stretch)


def _warped(dataset: Any, source: Source) -> Any:  # noqa: ANN401 -- rasterio is untyped
    warp = source.warp
    assert warp is not None
    # Cubic keeps the sharpness of the file; palette indexes can only be picked. Nodata is left to the mask.
    method = Resampling.nearest if source.palette is not None else Resampling.cubic
    has_alpha = any(c.name == "alpha" for c in dataset.colorinterp)
    return WarpedVRT(
        dataset,
        src_crs=warp.source_crs,
        src_transform=warp.source_transform,
        crs=warp.crs,
        transform=warp.transform,
        width=warp.width,
        height=warp.height,
        resampling=method,
        src_nodata=None,
        add_alpha=not has_alpha,
    )
