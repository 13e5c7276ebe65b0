"""Crowns counted by zone, part by part: the table of zones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from treedet.core.zones import Zones, locate
from treedet.inference.zone_diameters import Diameters
from treedet.inference.zone_ground import ZoneGround

QUANTILES = {"diam_p10": 0.1, "diam_p25": 0.25, "diam_p50": 0.5, "diam_p75": 0.75, "diam_p90": 0.9}
"""Columns of quantiles of the diameter."""
COLUMNS = ("zone_id", "zone_ha", "hectares", "crowns", "per_ha", "cover", "diam_mean", *QUANTILES)
"""Columns of every table of zones; shares of classes follow."""
SHARE = "s_"


@dataclass(frozen=True)
class ZoneCrowns:
    """Crowns as zones see them.

    Attributes:
        centres: Float64 ``[N, 2]``.
        ellipses: Float64 ``[N, 5]``; see :func:`treedet.core.scanlines.ellipses_of_axes`.
        diameters: Float ``[N]``, metres.
        names: For the label and each attribute, categorical ``[N]`` of names, null for none.
    """

    centres: npt.NDArray[np.float64]
    ellipses: npt.NDArray[np.float64]
    diameters: npt.NDArray[np.floating[Any]]
    names: Mapping[str, pd.Categorical[Any]] = field(default_factory=dict)


class ZoneTally:
    """Counts crowns by the zones their centre lies in, and measures the ground of zones.

    A context manager. Memory depends on zones, bins of diameters and classes, not on crowns.

    Args:
        zones: The zones, in the coordinates that crowns come in.
        m2: Square metres of ground per square unit, float64 ``[Z]`` or one number.
        line: Distance of the lines that ground is measured along, in units.
        area: Where crowns were looked for, in the same coordinates; None for everywhere.
        extent: ``(xmin, ymin, xmax, ymax)`` beyond which there are neither crowns nor valid ground, so that nothing
            is measured there; None where that is not known.
        classes: Names that are known before, by column, so that they have a share even where nothing is.
    """

    def __init__(
        self,
        zones: Zones,
        *,
        m2: npt.NDArray[np.float64] | float,
        line: float,
        area: shapely.Geometry | None = None,
        extent: tuple[float, float, float, float] | None = None,
        classes: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._zones = zones
        self._ha = np.broadcast_to(np.asarray(m2, np.float64) / 1e4, len(zones))
        whole = zones.polygons
        seen = whole if area is None else np.asarray(shapely.intersection(whole, area), dtype=object)
        self._zone_ha, self._seen_ha = shapely.area(whole) * self._ha, shapely.area(seen) * self._ha
        near = _polygonal(_clipped(seen, extent))
        self._near_ha = shapely.area(near) * self._ha
        self._has_valid = False
        self._ground = ZoneGround(near, line=line)
        self._crowns = np.zeros(len(zones), np.int64)
        self._diameters = Diameters(len(zones))
        self._counts = {
            column: {name: np.zeros(len(zones), np.int64) for name in names}
            for column, names in (classes or {}).items()
        }
        self.inside = self.outside = self.several = 0
        """Crowns that lie in a zone, in none, and in more than one."""

    def __enter__(self) -> ZoneTally:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ground.__exit__(kind, error, trace)

    def add(self, crowns: ZoneCrowns) -> None:
        """Take crowns of any place."""
        self._ground.add_crowns(crowns.ellipses)
        crown, zone = locate(self._zones.polygons, crowns.centres)
        times = np.bincount(crown, minlength=len(crowns.centres))
        self.inside += int((times > 0).sum())
        self.outside += int((times == 0).sum())
        self.several += int((times > 1).sum())
        self._crowns += np.bincount(zone, minlength=len(self._zones))
        self._diameters.add(zone, crowns.diameters[crown])
        for column, values in crowns.names.items():
            counts = self._counts.setdefault(column, {})
            codes = np.asarray(values.codes)[crown]
            for code in np.unique(codes[codes >= 0]).tolist():
                name = str(values.categories[code])
                found = np.bincount(zone[codes == code], minlength=len(self._zones))
                counts[name] = counts.get(name, np.zeros(len(self._zones), np.int64)) + found

    def add_valid(self, rectangles: npt.NDArray[np.float64]) -> None:
        """Take valid ground as rectangles ``[M, 4]``, which may overlap; without any call all ground is valid."""
        self._has_valid = True
        self._ground.add_valid(rectangles)

    def add_valid_polygons(self, polygons: npt.NDArray[np.object_]) -> None:
        """Take valid ground as polygons ``[M]`` that need not lie upright; they may overlap."""
        self._has_valid = True
        self._ground.add_valid_polygons(polygons)

    def table(self) -> pd.DataFrame:
        """Return one row per zone with :data:`COLUMNS` and the shares of classes; null where nothing can be said."""
        valid, cover = self._ground.measure()
        hectares = self._near_ha * valid if self._has_valid else self._seen_ha
        covered = self._near_ha * valid * cover
        crowns = self._crowns.astype(np.float64)
        per_ha = np.divide(crowns, hectares, out=np.full(len(crowns), np.nan), where=hectares > 0)
        quantiles = self._diameters.quantiles(list(QUANTILES.values()))
        values: dict[str, Any] = {
            "zone_id": self._zones.ids.tolist(),
            "zone_ha": self._zone_ha,
            "hectares": hectares,
            "crowns": self._crowns,
            "per_ha": per_ha,
            "cover": np.divide(covered, hectares, out=np.full(len(crowns), np.nan), where=hectares > 0),
            "diam_mean": self._diameters.mean(),
            **dict(zip(QUANTILES, quantiles.T, strict=True)),
        }
        table = pd.DataFrame(values)
        shares = {
            name: np.divide(count, crowns, out=np.full(len(crowns), np.nan), where=crowns > 0)
            for name, count in _by_share(self._counts).items()
        }
        return pd.concat([table, pd.DataFrame(shares)], axis=1)


def _by_share(counts: Mapping[str, Mapping[str, npt.NDArray[np.int64]]]) -> dict[str, npt.NDArray[np.int64]]:
    """Return the counts by the names of their columns; a label with one class says nothing.

    A class that two columns have is told apart by the column. Formats do not tell case apart.
    """
    told = {column: by for column, by in counts.items() if column != "label" or len(by) > 1}
    spelled = [name.casefold() for by in told.values() for name in by]
    found: dict[str, npt.NDArray[np.int64]] = {}
    for column, by in told.items():
        for name, count in by.items():
            alone = spelled.count(name.casefold()) == 1
            found[f"{SHARE}{name}" if alone else f"{SHARE}{column}_{name}"] = count
    return found


def _clipped(
    geometries: npt.NDArray[np.object_], extent: tuple[float, float, float, float] | None
) -> npt.NDArray[np.object_]:
    """Return what lies in an extent; what does so whole is left as it is."""
    if extent is None:
        return geometries
    bounds = shapely.bounds(geometries)
    whole = (bounds[:, :2] >= extent[:2]).all(axis=1) & (bounds[:, 2:] <= extent[2:]).all(axis=1)
    found = geometries.copy()
    found[~whole] = shapely.intersection(geometries[~whole], shapely.box(*extent))
    return found


def _polygonal(geometries: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    """Return what has an area of each geometry, as a polygon or multipolygon."""
    odd = shapely.get_type_id(geometries) == shapely.GeometryType.GEOMETRYCOLLECTION
    found = geometries.copy()
    for i in np.flatnonzero(odd):
        parts = shapely.get_parts(geometries[i])
        found[i] = shapely.union_all(parts[shapely.get_dimensions(parts) == 2])
    return found
