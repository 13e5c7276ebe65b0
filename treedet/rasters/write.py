"""Writes a GeoTIFF window by window: rendered scenes, coarsened copies."""

from __future__ import annotations

import uuid
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.crs
import rasterio.windows
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from treedet.core.grid import Grid, Window
from treedet.errors import ConfigError, OutputError

_COMPRESSIONS = ("deflate", "lzw", "zstd", "jpeg", "none")


@dataclass(frozen=True)
class WriteOptions:
    """How the bytes of a GeoTIFF are laid out.

    Attributes:
        block_px: Side of the tiles, a multiple of 16; None writes strips of whole rows.
        compression: ``deflate``, ``lzw``, ``zstd``, ``jpeg`` (uint8 only) or ``none``.
        jpeg_quality: 1 to 100.
        nodata: Value that marks pixels without data, or None.
        mask: Keep a mask of valid pixels inside the file; what no ``valid`` was written for is not valid.
        overviews: Factors of the reduced copies to build at the end, such as ``(2, 4, 8)``.
    """

    block_px: int | None = 512
    compression: str = "deflate"
    jpeg_quality: int = 90
    nodata: float | None = None
    mask: bool = False
    overviews: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.block_px is not None and (self.block_px < 16 or self.block_px % 16):
            raise ConfigError(f"block_px must be a multiple of 16 or None for strips, found {self.block_px}")
        if self.compression not in _COMPRESSIONS:
            raise ConfigError(
                f"compression {self.compression!r} is not known; choose one of {', '.join(_COMPRESSIONS)}"
            )
        if not 1 <= self.jpeg_quality <= 100:
            raise ConfigError(f"jpeg_quality must be 1 to 100, found {self.jpeg_quality}")
        if any(factor < 2 for factor in self.overviews):
            raise ConfigError(f"overview factors must be 2 or more, found {self.overviews}")


class RasterWriter:
    """Writes one GeoTIFF, window by window, and shows it under its name only when it is complete.

    Used as a context manager. The file grows beside the target under a temporary name; leaving the block without an
    exception renames it, leaving it with one removes it.

    Args:
        path: Target, usually ``*.tif``.
        grid: Georeference and size. A grid without CRS or with an identity transform is written without either.
        count: Number of bands; three uint8 bands are tagged as RGB.
        dtype: NumPy dtype of the pixels.
        options: Tiles, compression, nodata and overviews.
        overwrite: Replace an existing file.

    Raises:
        OutputError: The target exists and ``overwrite`` is False, its folder is missing, or the disk refuses.
        ConfigError: The compression does not take the dtype.
    """

    def __init__(
        self,
        path: str | Path,
        grid: Grid,
        *,
        count: int = 3,
        dtype: npt.DTypeLike = np.uint8,
        options: WriteOptions | None = None,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        self.grid = grid
        self.count = count
        self.dtype = np.dtype(dtype)
        self.options = options or WriteOptions()
        self._overwrite = overwrite
        self._refuse_bad_target()
        if self.options.compression == "jpeg" and (self.dtype != np.uint8 or count not in (1, 3)):
            raise ConfigError(
                f"jpeg takes 1 or 3 bands of uint8, found {count} of {self.dtype}; choose compression 'deflate'"
            )
        # The temporary name keeps the suffix, from which GDAL tells the format; the rest is unique to this writer.
        self._temporary = self.path.with_name(f".{self.path.stem}.{uuid.uuid4().hex[:8]}.part{self.path.suffix}")
        self._dataset: Any = None

    def _refuse_bad_target(self) -> None:
        if self.path.exists() and not self._overwrite:
            raise OutputError(
                f"{self.path} exists; choose another name, or ask for it to be overwritten (overwrite=True)"
            )
        if not self.path.parent.is_dir():
            raise OutputError(f"the folder of {self.path} does not exist; create it first")

    def __enter__(self) -> RasterWriter:
        try:
            with warnings.catch_warnings():
                # A grid without georeference is meant to be written without one.
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                self._dataset = rasterio.open(self._temporary, "w", **self._profile())
        except (RasterioError, OSError) as error:
            self._remove()
            raise OutputError(f"{self.path} can not be written: {error}") from error
        if self.count == 3 and self.dtype == np.uint8:
            self._dataset.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        return self

    def _profile(self) -> dict[str, Any]:
        grid, options = self.grid, self.options
        profile: dict[str, Any] = {
            "driver": "GTiff",
            "width": grid.width,
            "height": grid.height,
            "count": self.count,
            "dtype": self.dtype.name,
            "BIGTIFF": "IF_SAFER",
        }
        if grid.crs is not None:
            profile["crs"] = rasterio.crs.CRS.from_wkt(grid.crs.to_wkt())
        if not grid.transform.is_identity:
            profile["transform"] = grid.transform
        if options.nodata is not None:
            profile["nodata"] = options.nodata
        if options.block_px is not None:
            profile |= {"tiled": True, "blockxsize": options.block_px, "blockysize": options.block_px}
        if options.compression != "none":
            profile["compress"] = options.compression
        if options.compression == "jpeg":
            profile["JPEG_QUALITY"] = options.jpeg_quality
            if self.count == 3:
                profile |= {"photometric": "YCBCR", "interleave": "pixel"}
        elif options.compression in ("deflate", "lzw", "zstd"):
            profile["predictor"] = 3 if self.dtype.kind == "f" else 2
        return profile

    def write(
        self,
        pixels: npt.NDArray[Any],
        window: Window | None = None,
        *,
        valid: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Write one window.

        Args:
            pixels: ``[C, h, w]`` of the writer's band count and dtype.
            window: Where they belong on the grid; None is the whole raster.
            valid: Bool ``[h, w]``, False for nodata; wanted exactly where the options ask for a mask.

        Raises:
            ConfigError: The pixels are not of the window's shape or the raster's dtype, or the window
                leaves the grid, or ``valid`` is there without a mask, or missing for one.
            OutputError: The disk refuses.
        """
        target = window or self.grid.full_window
        wanted = (self.count, target.height, target.width)
        if pixels.shape != wanted or pixels.dtype != self.dtype:
            raise ConfigError(
                f"pixels for {target} must be {self.dtype} {wanted}, found {pixels.dtype} {pixels.shape}"
            )
        if min(target.row, target.col) < 0 or target.bottom > self.grid.height or target.right > self.grid.width:
            raise ConfigError(f"{target} leaves the raster of {self.grid.width} x {self.grid.height} pixels")
        if (valid is not None) != self.options.mask or (valid is not None and valid.shape != wanted[1:]):
            raise ConfigError(
                f"valid for {target} must be {wanted[1:] if self.options.mask else 'None: the raster has no mask'}, "
                f"found {None if valid is None else valid.shape}"
            )
        place = rasterio.windows.Window(target.col, target.row, target.width, target.height)
        try:
            self._dataset.write(pixels, window=place)
            if valid is not None:
                # The mask is made with the first window, and beside the file unless GDAL is told otherwise.
                with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
                    self._dataset.write_mask(valid, window=place)
        except (RasterioError, OSError) as error:
            raise OutputError(f"{self.path} can not be written at {target}: {error}") from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            try:
                self._dataset.close()
            finally:
                self._remove()
            return
        try:
            if self.options.overviews:
                self._dataset.build_overviews(list(self.options.overviews), Resampling.average)
            self._dataset.close()
            self._refuse_bad_target()
            self._temporary.replace(self.path)
        except (RasterioError, OSError) as failure:
            self._remove()
            if isinstance(failure, OutputError):
                raise
            raise OutputError(f"{self.path} can not be completed: {failure}") from failure

    def _remove(self) -> None:
        self._temporary.unlink(missing_ok=True)
        self._temporary.with_name(self._temporary.name + ".aux.xml").unlink(missing_ok=True)
