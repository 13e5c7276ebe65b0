"""Look at a file once and decide how it is read: bands, mask, stretch, grid."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyproj
from rasterio.enums import MaskFlags

from treedet.core.grid import Grid, Window
from treedet.errors import BandMismatchError, ConfigError, UnreadableRasterError
from treedet.rasters.connecting import environment, open_dataset
from treedet.rasters.decoding import Handle, Source, patches
from treedet.rasters.facts import RasterFacts
from treedet.rasters.georeference import Georeference, locate

log = logging.getLogger("treedet")

STRETCH_PERCENTILES = (1, 99)
"""Percentiles of the valid pixels that become 0 and 255 in rasters of more than 8 bits."""
MASK_SHARE = 0.95
"""A band tagged alpha is a mask where at least this share of it is 0 or its maximum."""


@dataclass(frozen=True, eq=False)
class Opening:
    """What was decided about a file.

    Attributes:
        source: How it is read.
        grid: The grid it is read on.
        source_crs: Its own CRS, or None.
        native_grid: The grid of the file's own pixels; the same unless warped.
        overviews: Reduction factors of the overviews that can be read in place of full resolution.
        facts: The same in words.
        members: The files it is made of, the first before those it hides; none where it is one file.
    """

    source: Source
    grid: Grid
    source_crs: pyproj.CRS | None
    native_grid: Grid
    overviews: tuple[int, ...]
    facts: RasterFacts
    members: tuple[Member, ...] = ()

    @property
    def measures_stretch(self) -> bool:
        """True where 8-bit values follow from a stretch."""
        return self.source.palette is None and self.source.dtype != np.uint8

    @property
    def native_source(self) -> Source:
        """How the file's own pixels are read, without a warp."""
        return replace(self.source, warp=None)

    def with_stretch(self, stretch: tuple[float, float] | None) -> Opening:
        """Return the same file, read with another stretch."""
        source, facts = replace(self.source, stretch=stretch), replace(self.facts, stretch=stretch)
        return replace(self, source=source, facts=facts)


@dataclass(frozen=True, eq=False)
class Member:
    """One of several files that are read as one raster.

    Attributes:
        source: How it is read; where the raster is warped, onto the raster's grid.
        box: Where it lies on the grid that is read, inside it.
        corner: Row and column of its first pixel on the raster's native grid.
        size: Width and height of the file in pixels.
        stamp: Bytes and time of change of the file, as far as known.
    """

    source: Source
    box: Window
    corner: tuple[int, int]
    size: tuple[int, int]
    stamp: tuple[int, int] | None = None


def look_at(
    path: str,
    *,
    gsd: float | None,
    bands: Sequence[int] | None,
    stretch: tuple[float, float] | None,
    cache_mb: int,
) -> Opening:
    """Open a file, decide how to read it, and close it.

    Raises:
        UnreadableRasterError: Missing, not a raster, or of a data type that is not a picture.
        UnknownGsdError: The size of a pixel is neither in the file nor given.
        BandMismatchError: The bands asked for, or a colour image, are not there.
        ConfigError: ``gsd``, ``stretch`` or ``cache_mb`` makes no sense.
    """
    if stretch is not None and not (np.isfinite(stretch).all() and stretch[0] < stretch[1]):
        raise ConfigError(f"stretch must be two numbers, low < high, found {tuple(stretch)}")
    if cache_mb < 1:
        raise ConfigError(f"cache_mb must be at least 1 MiB, found {cache_mb}")
    with environment(cache_mb), open_dataset(path) as dataset:
        chosen, palette, bands_reason = _choose_bands(dataset, path, bands)
        dtype = np.result_type(*(dataset.dtypes[band - 1] for band in chosen))
        if dtype.kind not in "iuf":
            raise UnreadableRasterError(
                f"{path} holds {dtype} values; integers or floats are needed: convert it first"
            )
        where = locate(dataset, path=path, gsd=gsd)
        source = Source(path, chosen, dtype, palette=palette, stretch=stretch, cache_mb=cache_mb)
        source, mask = _choose_mask(dataset, source)
        source = replace(source, warp=where.warp)
        if stretch is None and palette is None and dtype != np.uint8:
            source = replace(source, stretch=_measure_stretch(source))
            log.info("%s: %s values from %g to %g are scaled to 8 bits", path, dtype, *(source.stretch or ()))
        # An overview of a palette may hold mixed indexes; the warped grid has none.
        overviews = () if palette is not None or where.warp else tuple(dataset.overviews(chosen[0]))
        facts = _facts(dataset, source, where, bands_reason=bands_reason, mask=mask)
    return Opening(source, where.grid, where.source_crs, where.native_grid, overviews, facts)


def _choose_bands(
    dataset: Any,  # noqa: ANN401 -- rasterio is untyped
    path: str,
    asked: Sequence[int] | None,
) -> tuple[tuple[int, ...], npt.NDArray[np.uint8] | None, str]:
    """Bands to read, the colours of a palette or None, and the reason."""
    count = dataset.count
    if asked is not None:
        bands = tuple(int(band) for band in asked)
        if not bands or not all(1 <= band <= count for band in bands):
            raise BandMismatchError(
                f"{path}: bands {list(asked)} were asked for, it has bands 1 to {count}; give others with bands= "
                "(--bands)"
            )
        return bands, None, "as given"
    names = [colour.name for colour in dataset.colorinterp]
    if names[0] == "palette":
        return (1,), _palette(dataset), "colours of the palette of band 1"
    if {"red", "green", "blue"} <= set(names):
        red, green, blue = (names.index(colour) + 1 for colour in ("red", "green", "blue"))
        return (red, green, blue), None, "by colour interpretation"
    if count < 3:
        raise BandMismatchError(
            f"{path} has {count} band{'s' * (count > 1)} ({', '.join(names)}), red, green and blue are needed; "
            "give bands=(1, 1, 1) to use a grey image as it is"
        )
    if count > 3:
        log.info("%s: %d bands without colour interpretation, 1, 2, 3 are taken as red, green, blue", path, count)
    return (1, 2, 3), None, "the first three"


def _palette(dataset: Any) -> npt.NDArray[np.uint8]:  # noqa: ANN401 -- rasterio is untyped
    levels = 2 ** (8 * np.dtype(dataset.dtypes[0]).itemsize)
    colours = np.zeros((3, levels), dtype=np.uint8)
    for index, colour in dataset.colormap(1).items():
        colours[:, index] = colour[:3]
    return colours


def _choose_mask(dataset: Any, source: Source) -> tuple[Source, str]:  # noqa: ANN401 -- rasterio is untyped
    """Say where the valid mask comes from; returns the source and the facts' words."""
    words: list[str] = []
    alphas = [i for i, colour in enumerate(dataset.colorinterp, start=1) if colour.name == "alpha"]
    alpha = next((band for band in alphas if band not in source.bands), None)
    if alpha is not None and _is_mask(source, alpha):
        source = replace(source, alpha=alpha)
        words.append(f"alpha band {alpha}")
    elif alpha is not None:
        log.info("%s: band %d is tagged alpha but holds many levels, so it is no mask", source.path, alpha)
    flags = dataset.mask_flag_enums[source.bands[0] - 1]
    if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
        source = replace(source, mask_file=True)
        words.append("mask of the file")
    nodata = tuple(dataset.nodatavals[band - 1] for band in source.bands)
    if all(value is not None for value in nodata):
        source = replace(source, nodata=nodata)
        words.append(f"nodata {nodata[0]:g} in all bands")
    if source.dtype.kind == "f":
        words.append("NaN in all bands")
    return source, ", ".join(words) or "none"


def _is_mask(source: Source, alpha: int) -> bool:
    """Tell a mask from a colour band, such as near infrared, that a writer tagged alpha."""
    plain = replace(source, bands=(alpha,), palette=None, stretch=None)
    values = np.concatenate([raw.ravel() for raw, _ in sample(plain)])
    return bool(np.isin(values, (0, values.max())).mean() >= MASK_SHARE)


def _measure_stretch(source: Source) -> tuple[float, float]:
    """Return the stretch of one file."""
    return percentiles(valid_values(source), source.dtype)


def valid_values(source: Source) -> npt.NDArray[Any]:
    """Return the valid, finite values of all bands in a sample of bounded size, ``[N]``."""
    parts = [raw[:, valid] if valid is not None else raw for raw, valid in sample(source)]
    values = np.concatenate([part.ravel() for part in parts])
    return np.asarray(values[np.isfinite(values)])


def percentiles(values: npt.NDArray[Any], dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the values that become 0 and 255: those below which 1 % and 99 % of a sample lie.

    >>> percentiles(np.arange(101), np.dtype("uint16"))
    (1.0, 99.0)
    """
    if not values.size:
        return (0.0, 1.0) if dtype.kind == "f" else (0.0, float(np.iinfo(dtype).max))
    low, high = np.percentile(values, STRETCH_PERCENTILES)
    return float(low), float(high if high > low else low + 1)


def sample(source: Source) -> list[tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]]:
    """Read patches spread over a file, in its own values, each with its valid mask or None."""
    handle = Handle(source)
    try:
        return [handle.read_raw(*patch) for patch in patches(handle.height, handle.width)]
    finally:
        handle.close()


def _facts(
    dataset: Any,  # noqa: ANN401 -- rasterio is untyped
    source: Source,
    where: Georeference,
    *,
    bands_reason: str,
    mask: str,
) -> RasterFacts:
    rows, columns = dataset.block_shapes[source.bands[0] - 1]
    nodata = dataset.nodatavals[source.bands[0] - 1]
    return RasterFacts(
        driver=dataset.driver,
        width=dataset.width,
        height=dataset.height,
        dtype=str(source.dtype),
        count=dataset.count,
        bands=source.bands,
        bands_reason=bands_reason,
        gsd=where.grid.gsd,
        gsd_reason=where.gsd_reason,
        layout="striped" if columns == dataset.width else "tiled",
        block_shape=(int(rows), int(columns)),
        overviews=tuple(dataset.overviews(source.bands[0])),
        compression=dataset.compression.value if dataset.compression else None,
        nodata=None if nodata is None else float(nodata),
        mask=mask,
        stretch=source.stretch,
        crs=where.source_crs.name if where.source_crs else "none",
        warped=where.warp is not None,
    )
