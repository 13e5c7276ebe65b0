"""What a raster is, and what was decided about reading it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RasterFacts:
    """Facts about an open raster, in the words shown to a user.

    Attributes:
        driver: GDAL's short name of the format.
        width: Columns of the file.
        height: Rows of the file.
        dtype: Data type of the bands read.
        count: Bands in the file.
        bands: Bands read, counted from 1.
        bands_reason: How they were chosen.
        gsd: Ground metres per pixel.
        gsd_reason: How that is known.
        layout: ``"tiled"``, or ``"striped"`` where blocks are as wide as the raster.
        block_shape: Rows and columns of a block.
        overviews: Reduction factors of the overviews.
        compression: Name of the compression, or None.
        nodata: Declared nodata value of the first band read, or None.
        mask: Where the valid mask comes from.
        stretch: Values mapped to 0 and 255, or None where 8-bit values are taken as they are.
        crs: Name of the raster's CRS, or ``"none"``.
        warped: True where the raster is read through a local metric grid.
    """

    driver: str
    width: int
    height: int
    dtype: str
    count: int
    bands: tuple[int, ...]
    bands_reason: str
    gsd: float
    gsd_reason: str
    layout: str
    block_shape: tuple[int, int]
    overviews: tuple[int, ...]
    compression: str | None
    nodata: float | None
    mask: str
    stretch: tuple[float, float] | None
    crs: str
    warped: bool
