"""Where things are: integer windows, and grids that tie pixels to the map and to the ground.

Pixel coordinates have x to the right, y down, and (0, 0) at the *corner* of the first pixel. Only
:class:`Grid` converts between pixels and map coordinates.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from affine import Affine

from treedet.core.boxes import corners
from treedet.errors import ConfigError, UnknownGsdError

SAME_GSD = 0.02
"""Relative difference of two GSDs below which nothing is resampled."""


@dataclass(frozen=True, order=True)
class Window:
    """An integer rectangle of pixels on a grid.

    >>> Window(row=10, col=0, height=4, width=5).bottom
    14
    """

    row: int
    col: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        """First row below the window."""
        return self.row + self.height

    @property
    def right(self) -> int:
        """First column right of the window."""
        return self.col + self.width

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The window as ``(xmin, ymin, xmax, ymax)`` in pixels of its grid."""
        return (self.col, self.row, self.right, self.bottom)


@dataclass(frozen=True)
class Grid:
    """CRS, affine transform and size of a raster, and how long a map unit is on the ground.

    Attributes:
        crs: Coordinate reference system, or None for an image without one (map = pixels).
        transform: From pixel corners ``(x, y)`` to map coordinates.
        width: Columns.
        height: Rows.
        metres_x: Ground metres per map unit along the map's x axis, at the grid's centre.
        metres_y: The same along the y axis.
    """

    crs: pyproj.CRS | None
    transform: Affine
    width: int
    height: int
    metres_x: float
    metres_y: float

    @classmethod
    def build(
        cls, crs: pyproj.CRS | None, transform: Affine, *, width: int, height: int, gsd: float | None = None
    ) -> Grid:
        """Make a grid whose ground scale comes from the CRS, or from ``gsd`` where that is given.

        Scale factors of the projection are taken at the centre (a Mercator's map metre is not a ground
        metre); feet and other units are converted; degrees are measured along the ellipsoid.

        Args:
            crs: Coordinate reference system, or None.
            transform: Pixel corners to map coordinates.
            width: Columns.
            height: Rows.
            gsd: Ground metres per pixel, overriding what the file says.

        Raises:
            UnknownGsdError: Neither the CRS nor ``gsd`` tells the size of a pixel on the ground.
            ConfigError: ``gsd`` is not a positive number.
        """
        if gsd is not None:
            if not (math.isfinite(gsd) and gsd > 0):
                raise ConfigError(f"gsd must be a positive number of metres per pixel, found {gsd}")
            side = _pixel_side(transform, 1.0, 1.0)
            return cls(crs, transform, width, height, gsd / side, gsd / side)
        if crs is None or transform.is_identity:
            what = "CRS" if crs is None else "transform"
            raise UnknownGsdError(
                f"the raster has no {what}, so the size of its pixels on the ground is unknown; "
                "give it in metres per pixel with gsd= (--gsd 0.1)"
            )
        centre = transform @ (width / 2, height / 2)
        return cls(crs, transform, width, height, *metres_per_unit(crs, *centre))

    @property
    def gsd_x(self) -> float:
        """Ground metres per pixel along a row."""
        return math.hypot(self.transform.a * self.metres_x, self.transform.d * self.metres_y)

    @property
    def gsd_y(self) -> float:
        """Ground metres per pixel down a column."""
        return math.hypot(self.transform.b * self.metres_x, self.transform.e * self.metres_y)

    @property
    def gsd(self) -> float:
        """Ground sample distance in metres per pixel: the geometric mean of both directions."""
        return math.sqrt(self.gsd_x * self.gsd_y)

    @property
    def hectares(self) -> float:
        """Ground area of the whole grid in hectares."""
        return self.width * self.height * self.gsd_x * self.gsd_y / 1e4

    @property
    def is_rotated(self) -> bool:
        """True where rows do not run along the map's x axis."""
        return bool(abs(self.transform.b) > 1e-9 * abs(self.transform.a) or abs(self.transform.d) > 1e-12)

    @property
    def full_window(self) -> Window:
        """The window that covers the grid."""
        return Window(0, 0, self.height, self.width)

    def at_gsd(self, gsd: float) -> Grid:
        """Return the grid of the same extent with square ground pixels of about ``gsd`` metres.

        Width and height are rounded to whole pixels and the transform is rescaled to keep the extent, so
        windows map between both grids by constant ratios. Within 2 % of this grid's GSD it is returned as it is.

        >>> grid = Grid.build(None, Affine.identity(), width=1000, height=500, gsd=0.05)
        >>> coarse = grid.at_gsd(0.1)
        >>> coarse.width, coarse.height, round(coarse.gsd, 6)
        (500, 250, 0.1)
        """
        if max(abs(self.gsd_x / gsd - 1), abs(self.gsd_y / gsd - 1)) <= SAME_GSD:
            return self
        width = max(1, round(self.width * self.gsd_x / gsd))
        height = max(1, round(self.height * self.gsd_y / gsd))
        scaled = self.transform @ Affine.scale(self.width / width, self.height / height)
        return replace(self, transform=scaled, width=width, height=height)

    def sub_grid(self, window: Window) -> Grid:
        """Return the grid of a window, with the same ground scale."""
        shifted = self.transform @ Affine.translation(window.col, window.row)
        return replace(self, transform=shifted, width=window.width, height=window.height)

    def to_map(self, boxes: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.object_]:
        """Turn pixel boxes into map polygons; corners go through the affine.

        Args:
            boxes: Float ``[N, 4]``, pixels, ``(xmin, ymin, xmax, ymax)``.

        Returns:
            Object ``[N]`` of shapely polygons with four corners each.
        """
        xy = corners(np.asarray(boxes, dtype=np.float64))
        t = self.transform
        mapped = np.stack([t.a * xy[..., 0] + t.b * xy[..., 1] + t.c, t.d * xy[..., 0] + t.e * xy[..., 1] + t.f], -1)
        return np.asarray(shapely.polygons(mapped), dtype=object).reshape(len(xy))

    def to_pixels(self, geometries: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the pixel boxes that bound map geometries.

        Args:
            geometries: ``[N]`` shapely geometries in the grid's CRS.

        Returns:
            Float64 ``[N, 4]``, pixels, ``(xmin, ymin, xmax, ymax)``; NaN rows for empty geometries.
        """
        return np.asarray(shapely.bounds(self.geometries_to_pixels(geometries)), dtype=np.float64).reshape(-1, 4)

    def geometries_to_pixels(self, geometries: npt.ArrayLike) -> npt.NDArray[np.object_]:
        """Return map geometries with their coordinates in pixels of this grid."""
        inverse = ~self.transform

        def pixels(xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
            return np.stack(
                [
                    inverse.a * xy[:, 0] + inverse.b * xy[:, 1] + inverse.c,
                    inverse.d * xy[:, 0] + inverse.e * xy[:, 1] + inverse.f,
                ],
                axis=-1,
            )

        return np.asarray(shapely.transform(np.asarray(geometries, dtype=object), pixels), dtype=object)


def _pixel_side(transform: Affine, metres_x: float, metres_y: float) -> float:
    """Geometric mean of the two sides of a pixel, in metres."""
    along = math.hypot(transform.a * metres_x, transform.d * metres_y)
    down = math.hypot(transform.b * metres_x, transform.e * metres_y)
    return math.sqrt(along * down)


def metres_per_unit(crs: pyproj.CRS, x: float, y: float) -> tuple[float, float]:
    """Return ground metres per map unit along x and y at a point.

    Projected CRSs use the parallel and meridional scale factors of the projection (Snyder 1987, *Map
    Projections: A Working Manual*, USGS PP 1395); geographic ones the length of a degree on the ellipsoid; others
    (engineering, local) the unit of their axis alone.

    >>> wide, high = metres_per_unit(pyproj.CRS.from_epsg(4326), 8.0, 60.0)
    >>> round(wide), round(high)
    (55800, 111412)
    """
    wide, high = scales_at(crs, np.array([[x, y]]))[0].tolist()
    return wide, high


def scales_at(crs: pyproj.CRS, xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return ground metres per map unit along x and y at points ``[N, 2]``, float64 ``[N, 2]``.

    See :func:`metres_per_unit`; many points cost little more than one.

    Raises:
        UnknownGsdError: The CRS is not defined at a point.
    """
    unit = axis_unit(crs)
    if crs.is_geographic:
        geod = crs.get_geod() or pyproj.Geod(ellps="WGS84")
        half = 0.5e-3 * math.degrees(unit)
        lon, lat = (xy * math.degrees(unit)).T
        _, _, wide = geod.inv(lon - half, lat, lon + half, lat)
        _, _, high = geod.inv(lon, lat - half, lon, lat + half)
        return np.stack([wide, high], axis=-1) / 1e-3
    projection = _projection(crs, threading.get_ident()) if crs.is_projected else None
    if projection is None:
        return np.full(xy.shape, unit)
    to_lonlat, proj = projection
    factors = proj.get_factors(*to_lonlat.transform(xy[:, 0], xy[:, 1]), errcheck=False)
    scales = np.stack([factors.parallel_scale, factors.meridional_scale], axis=-1)
    lost = ~(np.isfinite(scales) & (scales > 0) & (scales < 1e6)).all(axis=1)
    if lost.any():
        x, y = xy[np.argmax(lost)].tolist()
        raise UnknownGsdError(
            f"the centre of the raster ({x:.1f}, {y:.1f}) lies outside the area where its CRS {crs.name!r} is "
            "defined; check the CRS, or give metres per pixel with gsd= (--gsd 0.1)"
        )
    return np.asarray(unit / scales)


@lru_cache(maxsize=64)
def _projection(crs: pyproj.CRS, thread: int) -> tuple[pyproj.Transformer, pyproj.Proj] | None:
    """Return the way from a CRS to its longitude and latitude; made once, as that takes longer than opening a file.

    Each thread has its own: they are not to be shared.
    """
    del thread
    base = crs.geodetic_crs
    return None if base is None else (pyproj.Transformer.from_crs(crs, base, always_xy=True), pyproj.Proj(crs))


def axis_unit(crs: pyproj.CRS) -> float:
    """Return metres (or radians, for geographic CRSs) per unit of the first axis.

    >>> round(axis_unit(pyproj.CRS(2263)), 4)
    0.3048
    """
    axes = crs.axis_info or (crs.sub_crs_list[0].axis_info if crs.sub_crs_list else [])
    return float(axes[0].unit_conversion_factor) if axes else 1.0
