"""Crowns that stems are matched to: read from any file, and in metres on the ground."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from pyproj.exceptions import ProjError

from treedet.core.crowns import DTYPES, reproject
from treedet.core.grid import metres_per_unit
from treedet.datasets.tables import annotations_of
from treedet.errors import ConfigError, CrownsError, MissingColumnError
from treedet.vectors.annotations import PIXEL_FORMATS, read_crowns
from treedet.vectors.predictions import read_predictions
from treedet.vectors.truth import TruthOptions

Floats = npt.NDArray[np.float64]


def mapped_crowns(crowns: str | os.PathLike[str] | gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Return crowns on a map as a table with the columns of the contract.

    Args:
        crowns: A file that treedet or any other tool wrote, or a table in memory.

    Raises:
        CrownsError: There are none, or they can not be read.
        ConfigError: They are in pixels of images.
    """
    if isinstance(crowns, gpd.GeoDataFrame):
        whole = {"geometry", *DTYPES} <= set(crowns.columns)
        table = crowns.reset_index(drop=True) if whole else annotations_of(crowns, TruthOptions()).table
        name = "the table of crowns"
    else:
        table, name = _read(Path(crowns)), str(crowns)
    if not len(table):
        raise CrownsError(f"{name} holds no crown; give the file that holds the map of crowns")
    return table.reset_index(drop=True)


def _read(path: Path) -> gpd.GeoDataFrame:
    if path.is_dir() or path.suffix.lower() in (*PIXEL_FORMATS, ".xml", ".txt"):
        found = read_predictions(path)
        if found.in_pixels:
            raise ConfigError(
                f"{path} has crowns in pixels of images, and stems are on a map; give crowns of a map, such as .gpkg "
                "(treedet predict RASTER crowns.gpkg)"
            )
    try:
        return read_crowns(path)
    except MissingColumnError:
        return read_predictions(path).table


@dataclass(frozen=True, eq=False)
class Ground:
    """A plane in metres with north up around crowns, and the way to it from their CRS and back.

    Attributes:
        crs: Of the crowns, or None.
        local: Transverse Mercator around their middle, true at it to scale and north; None where nothing leads there.
        scale: Metres per unit of the crowns' CRS, where there is no local one.
    """

    crs: pyproj.CRS | None
    local: pyproj.CRS | None
    scale: float = 1.0

    @classmethod
    def around(cls, crowns: gpd.GeoDataFrame) -> Ground:
        """Return the plane of crowns; without a CRS their coordinates are metres."""
        crs = crowns.crs
        if crs is None:
            return cls(None, None)
        left, bottom, right, top = crowns.total_bounds
        try:
            to_lonlat = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
            lon, lat = to_lonlat.transform((left + right) / 2, (bottom + top) / 2, errcheck=True)
        except ProjError:
            return cls(crs, None, metres_per_unit(crs, (left + right) / 2, (bottom + top) / 2)[0])
        return cls(crs, pyproj.CRS(f"+proj=tmerc +lat_0={lat:.8f} +lon_0={lon:.8f} +k=1 +datum=WGS84 +units=m"))

    def boxes(self, crowns: gpd.GeoDataFrame) -> Floats:
        """Return the boxes of crowns in metres, float64 ``[M, 4]``."""
        shapes = np.asarray(crowns.geometry.to_numpy(), dtype=object)
        if self.crs is None or self.local is None:
            return np.asarray(shapely.bounds(shapes) * self.scale, dtype=np.float64)
        return np.asarray(shapely.bounds(reproject(shapes, self.crs, self.local)), dtype=np.float64)

    def to_metres(self, xy: Floats) -> Floats:
        """Return places ``[N, 2]`` of the crowns' CRS in metres; what can not be placed is NaN."""
        return self._moved(xy, forth=True)

    def to_crs(self, xy: Floats) -> Floats:
        """Return places ``[N, 2]`` in metres in the CRS of the crowns."""
        return self._moved(xy, forth=False)

    def _moved(self, xy: Floats, *, forth: bool) -> Floats:
        if self.crs is None or self.local is None:
            return xy * self.scale if forth else xy / self.scale
        ends = (self.crs, self.local) if forth else (self.local, self.crs)
        moved = np.full(xy.shape, np.nan)
        known = np.isfinite(xy).all(axis=1)
        places = pyproj.Transformer.from_crs(*ends, always_xy=True).transform(*xy[known].T)
        moved[known] = np.column_stack(places)
        moved[~np.isfinite(moved).all(axis=1)] = np.nan
        return moved
