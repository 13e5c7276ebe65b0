"""What came of counting crowns by zones, in a few figures."""

from __future__ import annotations

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd

from treedet.core.zones import Zones
from treedet.inference.zone_tally import ZoneTally


@dataclass(frozen=True)
class ZoneFacts:
    """How crowns fell into zones.

    Attributes:
        table: File with the table of zones.
        zones: Rows in it.
        grounded: Those with valid ground.
        inside: Crowns in a zone.
        outside: Crowns in none.
        several: Crowns in more than one, which count in each.
    """

    table: str
    zones: int
    grounded: int
    inside: int
    outside: int
    several: int

    @classmethod
    def of(cls, table: pd.DataFrame, tally: ZoneTally, path: str) -> ZoneFacts:
        """Return the facts about a finished table."""
        return cls(
            table=path,
            zones=len(table),
            grounded=int((table["hectares"] > 0).sum()),
            inside=tally.inside,
            outside=tally.outside,
            several=tally.several,
        )

    @property
    def line(self) -> str:
        """The facts in words.

        >>> ZoneFacts("z.gpkg", 12, 10, 5000, 3, 2).line
        '5,000 crowns in 12 zones (2 without imagery), 3 in none, 2 in more than one and counted in each: z.gpkg'
        """
        bare = self.zones - self.grounded
        within = f"{self.inside:,} crowns in {self.zones:,} zone" + ("s" if self.zones != 1 else "")
        parts = [
            within + (f" ({bare:,} without imagery)" if bare else ""),
            *([f"{self.outside:,} in none"] if self.outside else []),
            *([f"{self.several:,} in more than one and counted in each"] if self.several else []),
        ]
        return f"{', '.join(parts)}: {self.table}"


def with_polygons(
    table: pd.DataFrame, zones: Zones, polygons: npt.NDArray[np.object_], *, all_rows: bool
) -> gpd.GeoDataFrame:
    """Return a table of zones with their polygons.

    Args:
        table: Figures of each zone.
        zones: The zones, for their CRS.
        polygons: Object ``[Z]``, their polygons in it.
        all_rows: Keep zones with neither ground nor crowns; the cells of a grid are left out.
    """
    found = gpd.GeoDataFrame(table, geometry=polygons, crs=zones.crs)
    if all_rows:
        return found
    return found[(found["hectares"] > 0) | (found["crowns"] > 0)].reset_index(drop=True)
