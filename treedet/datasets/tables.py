"""A table of crowns somebody already has in memory, as annotations."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd

from treedet.core import crowns as crowns_table
from treedet.vectors.truth import Annotations, TruthOptions, annotated_crowns
from treedet.vectors.truth_rows import Rows

NAME = "the table of crowns"
"""What messages call it."""


def annotations_of(table: gpd.GeoDataFrame, options: TruthOptions) -> Annotations:
    """Return a table as annotations; columns are recognised and rows checked as those of a file.

    Args:
        table: One crown per row, which may be none; without a class column every row is ``tree``.
        options: Columns, CRS, diameter of points, and whether bad rows are dropped.

    Returns:
        The crowns; the index counts rows of the table from 1.

    Raises:
        CrownsError: The table can not be used, as in :func:`treedet.vectors.truth.read_annotations`.
    """
    crs = options.known_crs or table.crs
    if not len(table):
        return Annotations(NAME, crowns_table.empty(crs=crs), (), in_pixels=False, notices=(), points=options.points)
    columns = pd.DataFrame(table.drop(columns=table.active_geometry_name))
    columns.index = pd.RangeIndex(1, len(table) + 1)
    rows = Rows(NAME, columns, np.asarray(table.geometry.to_numpy(), dtype=object), crs=crs)
    return annotated_crowns(rows, options)
