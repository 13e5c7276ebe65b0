"""How much ground a square unit of a map covers, at many places at once."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pyproj

from treedet.core.grid import axis_unit

_ABSURD = 1e12
"""No projection enlarges ground by as much; beyond its area PROJ gives such factors."""


def square_metres(crs: pyproj.CRS, xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return square metres of ground per square map unit, float64 ``[N]``.

    The same scales as :func:`treedet.core.grid.metres_per_unit` takes at one place.

    Args:
        crs: The CRS.
        xy: Float64 ``[N, 2]`` in it; where it is not defined the answer is 0.

    >>> square_metres(pyproj.CRS(3395), np.array([[0.0, 0.0], [0.0, 8362698.549]])).round(2).tolist()
    [1.0, 0.25]
    """
    unit = axis_unit(crs)
    if crs.is_geographic:
        geod = crs.get_geod() or pyproj.Geod(ellps="WGS84")
        lon, lat = (xy * math.degrees(unit)).T
        half = np.full(len(xy), 0.5e-3 * math.degrees(unit))
        _, _, wide = geod.inv(lon - half, lat, lon + half, lat)
        _, _, high = geod.inv(lon, lat - half, lon, lat + half)
        return np.asarray(np.asarray(wide) * np.asarray(high) / 1e-6)
    if not crs.is_projected or crs.geodetic_crs is None:
        return np.full(len(xy), unit**2)
    to_lonlat = pyproj.Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
    lon, lat = to_lonlat.transform(xy[:, 0], xy[:, 1])
    factors = pyproj.Proj(crs).get_factors(lon, lat, errcheck=False)
    along, down = (np.asarray(v, np.float64) for v in (factors.parallel_scale, factors.meridional_scale))
    areal = along * down
    known = np.isfinite(areal) & (areal > 0) & (areal < _ABSURD)
    return np.asarray(np.divide(unit**2, areal, out=np.zeros(len(xy)), where=known))
