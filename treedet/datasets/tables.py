"""A table of crowns somebody already has in memory, as annotations."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from treedet.core import crowns as crowns_table
from treedet.core.crowns import DTYPES
from treedet.vectors.truth import Annotations, TruthOptions
from treedet.vectors.truth_columns import filled, what_columns_say
from treedet.vectors.truth_rows import Rows, usable

NAME = "the table of crowns"
"""What messages call it."""


def annotations_of(table: gpd.GeoDataFrame, options: TruthOptions) -> Annotations:
    """Return a table with polygons as annotations; columns are recognised as in a file.

    Args:
        table: One crown per row; without a class column every row is ``tree``.
        options: Columns, CRS, and whether bad rows are dropped.

    Returns:
        The crowns; the index counts rows of the table from 1.

    Raises:
        CrownsError: The table can not be used, as in :func:`treedet.vectors.truth.read_annotations`.
    """
    crs = options.known_crs or table.crs
    if not len(table):
        return Annotations(NAME, crowns_table.empty(crs=crs), (), in_pixels=False, notices=())
    columns = pd.DataFrame(table.drop(columns=table.active_geometry_name))
    columns.index = pd.RangeIndex(1, len(table) + 1)
    rows = Rows(NAME, columns, np.asarray(table.geometry.to_numpy(), dtype=object), crs=crs)
    said = what_columns_say(rows, options.columns)
    shapes = usable(rows, drop=options.drop)
    labels, kept, notices = filled(said, rows, shapes.kept, drop=options.drop)
    index = columns.index[kept]
    values: dict[str, Any] = {
        name: np.zeros(len(index), dtype) for name, dtype in DTYPES.items() if dtype != "category"
    }
    diameters = options.diameter if said.diameters is None else said.diameters[kept]
    values |= {
        "crown_id": index.to_numpy(dtype=np.int64),
        "label": pd.Categorical(labels[kept]),
        "score": np.ones(len(index), np.float32),
        "source": pd.Series("", index=index, dtype="str"),
        "diameter_m": np.full(len(index), np.nan if diameters is None else diameters, np.float32),
    }
    for name, names in said.attributes.items():
        values[name] = pd.Categorical(names[kept])
        values[f"{name}_p"] = np.where(pd.isna(names[kept]), np.nan, 1.0).astype(np.float32)
    crowns = gpd.GeoDataFrame(
        values, index=index, geometry=gpd.GeoSeries(shapes.geometries[kept], index=index, crs=crs)
    )
    return Annotations(NAME, crowns, (), in_pixels=False, notices=(*said.notices, *shapes.notices, *notices))
