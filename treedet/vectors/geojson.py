"""GeoJSON by RFC 7946: longitude and latitude, nine decimals, exterior rings counterclockwise."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from pyproj.exceptions import ProjError

from treedet.core.crowns import reproject
from treedet.errors import CrownsError, OutputError
from treedet.vectors.columns import extras
from treedet.vectors.crowns_writer import CrownsWriter, Target
from treedet.vectors.json_text import ItemsFile, records

WGS84 = pyproj.CRS.from_epsg(4326)
DECIMALS = 9
"""A tenth of a millimetre on the ground: crowns drawn at 1 cm keep their corners."""


class GeoJSONWriter(CrownsWriter):
    """Streams features; nothing but the current part is in memory."""

    def __init__(self, target: Target) -> None:
        refuse_without_lonlat(target)
        super().__init__(target)
        self._items = ItemsFile(self.file, '{"type":"FeatureCollection","features":[')

    def _append(
        self,
        table: gpd.GeoDataFrame,
        geometries: npt.NDArray[np.object_],
        boxes_px: npt.NDArray[np.float64] | None,
    ) -> None:
        layout, crs = self.target.layout, self.target.crs
        if crs is not None:
            geometries = reproject(geometries, crs, WGS84)
        coordinates = shapely.get_coordinates(geometries)
        if not np.isfinite(coordinates).all():
            raise CrownsError(
                f"a crown lies outside the area where {crs.name if crs else None!r} is defined; write a .gpkg"
            )
        properties = records(table[[*layout.dtypes, *extras(table, layout)]])
        text = shapely.to_geojson(right_handed(_rounded(geometries)))
        self._items.extend('{"type":"Feature","properties":' + properties + ',"geometry":' + text + "}")

    def _finish(self, metadata: str) -> bool:
        self._items.end("\n]}\n")
        return False

    def _close(self) -> None:
        self._items.close()


def refuse_without_lonlat(target: Target) -> None:
    """Raise an OutputError where crowns have no longitude and latitude."""
    remedy = "write .gpkg, .shp, .csv or .parquet instead, or give the raster its CRS"
    if target.crs is None:
        raise OutputError(
            f"can not write {target.path}: GeoJSON is in longitude and latitude, and there is no CRS; {remedy}"
        )
    try:
        pyproj.Transformer.from_crs(target.crs, WGS84, always_xy=True)
    except ProjError as error:
        raise OutputError(
            f"can not write {target.path}: GeoJSON is in longitude and latitude, and nothing leads there from the "
            f"local CRS {target.crs.name!r}; {remedy}"
        ) from error


def right_handed(geometries: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    """Return polygons with exterior rings counterclockwise and holes clockwise (RFC 7946, section 3.1.6).

    >>> right_handed(np.array([shapely.Polygon([(0, 0), (0, 1), (1, 1), (0, 0)])]))[0].exterior.is_ccw
    True
    """
    plain = (shapely.get_type_id(geometries) == shapely.GeometryType.POLYGON) & (
        shapely.get_num_interior_rings(geometries) == 0
    )
    turned = geometries.copy()
    clockwise = plain & ~shapely.is_ccw(shapely.get_exterior_ring(geometries))
    turned[clockwise] = shapely.reverse(geometries[clockwise])
    # Normal form has exteriors clockwise and holes counterclockwise, whatever they were before.
    turned[~plain] = shapely.reverse(shapely.normalize(geometries[~plain]))
    return turned


def _rounded(geometries: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    return np.asarray(shapely.transform(geometries, lambda xy: np.round(xy, DECIMALS)), dtype=object)
