"""Annotated rows as columns of the crowns table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd

from treedet.vectors.truth_columns import Said
from treedet.vectors.truth_rows import Rows


@dataclass(frozen=True, eq=False)
class CrownRows:
    """What is known about the rows of a file, those that are no crowns included.

    Attributes:
        rows: The file's rows.
        said: What its columns say.
        labels: Object ``[N]``.
        geometries: Object ``[N]``.
        diameters: Float64 ``[N]``, metres; NaN where not known yet.
        sources: Object ``[N]``: the image of each, empty on a map.
        scores: Float64 ``[N]``; None for annotations, which are certain.
    """

    rows: Rows
    said: Said
    labels: npt.NDArray[np.object_]
    geometries: npt.NDArray[np.object_]
    diameters: npt.NDArray[np.float64]
    sources: npt.NDArray[np.object_]
    scores: npt.NDArray[np.float64] | None = None

    def table(self, kept: npt.NDArray[np.bool_]) -> gpd.GeoDataFrame:
        """Return the rows kept with the columns of the crowns table; areas are NaN.

        Args:
            kept: Bool ``[N]``.
        """
        n, said = int(kept.sum()), self.said
        index = self.rows.columns.index[kept]
        scores = np.ones(n) if self.scores is None else self.scores[kept]
        values: dict[str, Any] = {
            "crown_id": _ids(self.rows.columns[kept]),
            "label": _categorical(self.labels[kept], said.classes).remove_unused_categories(),
            "score": scores.astype(np.float32),
        }
        for name, names in said.attributes.items():
            values[name] = _categorical(names[kept], said.declared.get(name, ()))
            values[f"{name}_p"] = np.where(pd.isna(names[kept]), np.nan, 1.0).astype(np.float32)
        values |= {
            "area_m2": np.full(n, np.nan, np.float32),
            "crown_m2": np.full(n, np.nan, np.float32),
            "diameter_m": self.diameters[kept].astype(np.float32),
            "cut": np.zeros(n, bool),
            "edge": np.zeros(n, bool),
            "source": pd.Series(self.sources[kept], index=index, dtype="str"),
        }
        shapes = gpd.GeoSeries(self.geometries[kept], index=index, crs=self.rows.crs)
        table = gpd.GeoDataFrame(values, index=index, geometry=shapes)
        return table[["geometry", *values]]


def _ids(columns: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Return the ids of the file where they are whole numbers and unique, gaps numbered on; else 1 to N."""
    anew = np.arange(1, len(columns) + 1, dtype=np.int64)
    if "crown_id" not in columns.columns:
        return anew
    ids = pd.to_numeric(columns["crown_id"], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    gaps = np.isnan(ids)
    if gaps.all() or (ids[~gaps] % 1 != 0).any() or len(np.unique(ids[~gaps])) < (~gaps).sum():
        return anew
    numbered = np.where(gaps, ids[~gaps].max() + np.cumsum(gaps), ids)
    return numbered.astype(np.int64)


def _categorical(names: npt.NDArray[np.object_], declared: tuple[str, ...]) -> Any:  # noqa: ANN401 - pd.Categorical
    found = sorted(set(pd.unique(pd.Series(names, dtype=object).dropna())) - set(declared))
    return pd.Categorical(pd.Series(names, dtype=object), categories=pd.Index([*declared, *found], dtype="str"))
