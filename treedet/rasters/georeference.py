"""The grid of an open file, and whether it has to be warped onto a local metric one."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyproj
from affine import Affine
from pyproj.crs import ProjectedCRS
from pyproj.crs.coordinate_operation import TransverseMercatorConversion
from rasterio.transform import from_gcps

from treedet.core.grid import SAME_GSD, Grid, scales_at
from treedet.errors import UnknownGsdError
from treedet.rasters.decoding import Warp

log = logging.getLogger("treedet")

SCALE_TOLERANCE = 0.02
"""A scale that differs by more than this share between centre and corners calls for a local grid."""


@dataclass(frozen=True)
class Georeference:
    """Where a raster is.

    Attributes:
        grid: The grid pixels are read on.
        source_crs: CRS of the file, or None.
        native_grid: The grid of the file's own pixels.
        warp: How the file is warped onto the grid, or None.
        gsd_reason: How the size of a pixel is known.
    """

    grid: Grid
    source_crs: pyproj.CRS | None
    native_grid: Grid
    warp: Warp | None
    gsd_reason: str


def locate(dataset: Any, *, path: str, gsd: float | None) -> Georeference:  # noqa: ANN401 -- rasterio is untyped
    """Find the grid of an open file.

    Args:
        dataset: Open rasterio dataset.
        path: Its path, for messages.
        gsd: Ground metres per pixel, overriding what the file says.

    Raises:
        UnknownGsdError: The file does not tell the size of its pixels, and ``gsd`` is not given.
        ConfigError: ``gsd`` is not a positive number.
    """
    crs, transform = crs_and_transform(dataset, path)
    return locate_pixels(crs, transform, width=dataset.width, height=dataset.height, path=path, gsd=gsd)


def locate_pixels(
    crs: pyproj.CRS | None, transform: Affine, *, width: int, height: int, path: str, gsd: float | None
) -> Georeference:
    """Find the grid of pixels whose place is known; see :func:`locate`.

    Args:
        crs: Their CRS, or None.
        transform: Pixel corners to map coordinates.
        width: Columns.
        height: Rows.
        path: What they are called in messages.
        gsd: Ground metres per pixel, overriding what CRS and transform say.
    """
    if crs is None or transform.is_identity:
        try:
            grid = Grid.build(crs, transform, width=width, height=height)
        except UnknownGsdError as error:
            if gsd is None:
                raise UnknownGsdError(f"{path}: {error}") from error
            # Without a place on the map, map coordinates are pixels.
            grid = Grid.build(None, Affine.identity(), width=width, height=height, gsd=gsd)
        return Georeference(grid, None, grid, None, f"given as gsd={gsd:g}; the file has no place on the map")
    try:
        native = Grid.build(crs, transform, width=width, height=height)
    except UnknownGsdError:
        if gsd is None:
            raise
        native = Grid.build(crs, transform, width=width, height=height, gsd=gsd)
    grid, why = metric_grid(native)
    reason = f"from the file ({why})"
    warp = None
    if grid is not native:
        assert grid.crs is not None
        warp = Warp(grid.crs.to_wkt(), grid.transform, grid.width, grid.height, crs.to_wkt(), transform)
        log.info("%s is read on a local metric grid: %s", path, why)
    if gsd is not None:
        reason = f"given as gsd={gsd:g}; the file says {native.gsd:.4g}"
        if abs(gsd / native.gsd - 1) > SAME_GSD:
            log.info("%s: %g m per pixel is used as given; the file says %.4g m", path, gsd, native.gsd)
        grid = Grid.build(grid.crs, grid.transform, width=grid.width, height=grid.height, gsd=gsd)
    return Georeference(grid, crs, native, warp, reason)


def crs_and_transform(dataset: Any, path: str) -> tuple[pyproj.CRS | None, Affine]:  # noqa: ANN401 -- untyped
    """Return where an open file says its pixels are; control points are fitted by an affine map."""
    points, points_crs = dataset.gcps
    transform, crs = dataset.transform, dataset.crs
    if points and transform.is_identity:
        transform, crs = from_gcps(points), points_crs
        _report_misfit(points, transform, path)
    return (_crs_of(crs.to_wkt()) if crs else None), transform


@lru_cache(maxsize=256)
def _crs_of(wkt: str) -> pyproj.CRS:
    """Return a CRS, parsed once however many files name it."""
    return pyproj.CRS.from_wkt(wkt)


def _report_misfit(points: list[Any], transform: Affine, path: str) -> None:
    """Say how far ground control points lie from the affine map that is fitted to them."""
    inverse = ~transform
    off = [np.hypot(*np.subtract(inverse @ (p.x, p.y), (p.col, p.row))) for p in points]
    log.info(
        "%s is placed by %d ground control points through an affine map that misses them by up to %.1f px; "
        "rectify the image first if that is too much",
        path,
        len(points),
        max(off),
    )


def metric_grid(native: Grid) -> tuple[Grid, str]:
    """Return the grid itself where its pixels are even and upright on the ground, else a local one; and why.

    The local grid is a transverse Mercator projection about the centre, on the datum of the grid.

    Args:
        native: A grid with a CRS.
    """
    crs = native.crs
    assert crs is not None
    if crs.is_geographic:
        return _local_grid(native), f"geographic CRS {crs.name}, {native.gsd:.4g} m per pixel at the centre"
    if crs.is_projected and not _even_scale(native, crs):
        return _local_grid(native), f"the scale of {crs.name} varies by more than 2 % over the raster"
    if native.is_rotated:
        side_x, side_y = native.gsd / native.metres_x, native.gsd / native.metres_y
        return _upright(native, outline(native), crs, side_x, side_y), "the raster is rotated"
    return native, f"{crs.type_name} {crs.name}, true scale at the centre"


def _even_scale(grid: Grid, crs: pyproj.CRS) -> bool:
    corners = [
        grid.transform @ corner for corner in ((0, 0), (grid.width, 0), (0, grid.height), (grid.width, grid.height))
    ]
    try:
        scales = scales_at(crs, np.array(corners))
    except UnknownGsdError:
        return False
    return bool(np.abs(scales / (grid.metres_x, grid.metres_y) - 1).max() <= SCALE_TOLERANCE)


def _local_grid(native: Grid) -> Grid:
    """Return a transverse Mercator grid about the raster's centre, on the raster's own datum."""
    crs = native.crs
    assert crs is not None
    base = crs.geodetic_crs
    assert base is not None
    to_lonlat = pyproj.Transformer.from_crs(crs, base, always_xy=True)
    lon, lat = to_lonlat.transform(*(native.transform @ (native.width / 2, native.height / 2)))
    conversion = TransverseMercatorConversion(latitude_natural_origin=lat, longitude_natural_origin=lon)
    name = f"local metric grid at {lat:.5f}, {lon:.5f}"
    # Through WKT, as GDAL will see it.
    local = pyproj.CRS.from_wkt(ProjectedCRS(conversion, name=name, geodetic_crs=base).to_wkt())
    to_local = pyproj.Transformer.from_crs(crs, local, always_xy=True)
    x, y = to_local.transform(*outline(native))
    return _upright(native, (np.asarray(x), np.asarray(y)), local, native.gsd, native.gsd)


def outline(grid: Grid) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return map coordinates x and y of points along the border of a raster, float64 ``[88]`` each."""
    t = np.linspace(0, 1, 22)
    zero, one = np.zeros_like(t), np.ones_like(t)
    x = np.concatenate([t, t, zero, one]) * grid.width
    y = np.concatenate([zero, one, t, t]) * grid.height
    to_map = grid.transform
    return to_map.a * x + to_map.b * y + to_map.c, to_map.d * x + to_map.e * y + to_map.f


def _upright(
    native: Grid,
    outline: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    crs: pyproj.CRS,
    side_x: float,
    side_y: float,
) -> Grid:
    """Return a north-up grid of pixels of the given sides, in map units, around an outline."""
    (left, right), (bottom, top) = ((float(v.min()), float(v.max())) for v in outline)
    width = max(1, round((right - left) / side_x))
    height = max(1, round((top - bottom) / side_y))
    transform = Affine(side_x, 0, left, 0, -side_y, top)
    return Grid(crs, transform, width, height, native.gsd / side_x, native.gsd / side_y)
