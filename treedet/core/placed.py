"""Crowns of several rasters on their way into one table: what is said of them, and where they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyproj

from treedet.core.crown_arrays import CrownArrays
from treedet.core.crowns import assemble
from treedet.core.labels import LabelSchema


@dataclass(frozen=True)
class Placed:
    """Crowns with their place on the map; parallel arrays.

    Attributes:
        crowns: Boxes on the grid each was found on, scores, classes.
        outlines: Object ``[N]`` of polygons in the CRS of the table.
        sides_m: Float64 ``[N, 2]``, width and height in metres on the ground.
        sources: Object ``[N]`` of paths.
        boxes_px: Float64 ``[N, 4]``, pixels of the file that ``sources`` names.
    """

    crowns: CrownArrays
    outlines: npt.NDArray[np.object_]
    sides_m: npt.NDArray[np.float64]
    sources: npt.NDArray[np.object_]
    boxes_px: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.crowns)

    @classmethod
    def concat(cls, parts: Sequence[Placed], attributes: Mapping[str, int]) -> Placed:
        """Return crowns one after the other; ``attributes`` gives the classes of each attribute, for none at all."""
        nothing = np.zeros(0, dtype=object)
        return cls(
            CrownArrays.concat([part.crowns for part in parts], attributes),
            np.concatenate([nothing, *(part.outlines for part in parts)]),
            np.concatenate([np.zeros((0, 2)), *(part.sides_m for part in parts)]),
            np.concatenate([nothing, *(part.sources for part in parts)]),
            np.concatenate([np.zeros((0, 4)), *(part.boxes_px for part in parts)]),
        )

    def take(self, index: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Placed:
        """Return the crowns at ``index`` (positions or mask)."""
        return Placed(
            self.crowns.take(index),
            self.outlines[index],
            self.sides_m[index],
            self.sources[index],
            self.boxes_px[index],
        )

    def table(
        self, schema: LabelSchema, *, crs: pyproj.CRS | None, first_id: int = 1, min_p: float | None = None
    ) -> gpd.GeoDataFrame:
        """Return a crowns table; see :func:`treedet.core.crowns.to_table`.

        Args:
            schema: Names of classes and attributes.
            crs: CRS of the outlines.
            first_id: Number of the first crown.
            min_p: Least probability of an attribute.
        """
        polygons = gpd.GeoSeries(self.outlines, crs=crs)
        wide, high = self.sides_m.T
        return assemble(
            self.crowns, polygons, wide, high, schema=schema, source=self.sources, first_id=first_id, min_p=min_p
        )
