"""The crowns table: a plain GeoDataFrame with agreed columns.

Column names have at most ten characters, so that a Shapefile keeps them. Attribute columns exist exactly when the
label schema names them: any attribute ``x`` gives ``x`` (the most probable class) and ``x_p`` (its probability).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely

from treedet.core.crown_arrays import CrownArrays, said
from treedet.core.grid import Grid
from treedet.core.labels import LabelSchema
from treedet.errors import ConfigError, CrownsError, DegenerateCrownError, MissingColumnError

DTYPES: Mapping[str, str] = {
    "crown_id": "int64",
    "label": "category",
    "score": "float32",
    "area_m2": "float32",
    "crown_m2": "float32",
    "diameter_m": "float32",
    "cut": "bool",
    "edge": "bool",
    "source": "str",
}
"""Columns of every crowns table besides ``geometry`` and attributes, with their dtypes."""


def columns(schema: LabelSchema) -> list[str]:
    """Return the columns of a crowns table in their order.

    >>> columns(LabelSchema(attributes={"status": ("alive", "dead")}))[2:6]
    ['label', 'score', 'status', 'status_p']
    """
    named = [column for name in schema.attributes for column in (name, f"{name}_p")]
    return ["geometry", "crown_id", "label", "score", *named, *list(DTYPES)[3:]]


def empty(schema: LabelSchema | None = None, crs: pyproj.CRS | None = None) -> gpd.GeoDataFrame:
    """Return a crowns table without rows, with the right columns, dtypes and CRS."""
    schema = schema or LabelSchema()
    nothing = CrownArrays.concat([], {name: len(values) for name, values in schema.attributes.items()})
    polygons = gpd.GeoSeries([], crs=crs)
    return assemble(nothing, polygons, np.zeros(0), np.zeros(0), schema=schema, source="", first_id=1)


def to_table(
    crowns: CrownArrays,
    grid: Grid,
    schema: LabelSchema,
    *,
    source: str,
    first_id: int = 1,
    crs: pyproj.CRS | None = None,
    min_p: float | None = None,
) -> gpd.GeoDataFrame:
    """Turn crowns on a grid into a crowns table.

    Args:
        crowns: Crowns in pixels of ``grid``.
        grid: The model grid the boxes are on.
        schema: Names of classes and attributes.
        source: Path of the raster, as given.
        first_id: Number of the first crown.
        crs: CRS wanted; None or the grid's own leaves the geometries as they are.
        min_p: Least probability of an attribute: below it ``x`` is null, while ``x_p`` stays.

    Returns:
        One row per crown, in the given order, with the columns of :func:`columns`.
    """
    outlines, wide, high = on_ground(crowns, grid, crs=crs)
    polygons = gpd.GeoSeries(outlines, crs=crs if crs is not None and grid.crs is not None else grid.crs)
    return assemble(crowns, polygons, wide, high, schema=schema, source=source, first_id=first_id, min_p=min_p)


def on_ground(
    crowns: CrownArrays, grid: Grid, *, crs: pyproj.CRS | None = None
) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return outlines on the map, and widths and heights in metres on the ground, each ``[N]``.

    Args:
        crowns: Crowns in pixels of ``grid``.
        grid: The grid the boxes are on.
        crs: CRS wanted; None or the grid's own leaves the outlines as they are.
    """
    outlines = grid.to_map(crowns.boxes)
    if crs is not None and grid.crs is not None and crs != grid.crs:
        outlines = reproject(outlines, grid.crs, crs)
    wide = (crowns.boxes[:, 2] - crowns.boxes[:, 0]) * grid.gsd_x
    high = (crowns.boxes[:, 3] - crowns.boxes[:, 1]) * grid.gsd_y
    return outlines, wide, high


def probability_columns(schema: LabelSchema) -> list[str]:
    """Return the columns that :func:`with_probabilities` adds: ``p_<class>`` for each class of each attribute.

    Raises:
        ConfigError: A name would be there twice; formats do not tell case apart.

    >>> probability_columns(LabelSchema(attributes={"status": ("alive", "dead")}))
    ['p_alive', 'p_dead']
    """
    names = [f"p_{name}" for classes in schema.attributes.values() for name in classes]
    spelled = [name.casefold() for name in (*columns(schema), *names)]
    if twice := [name for name in names if spelled.count(name.casefold()) > 1]:
        raise ConfigError(
            f"probabilities of all classes need different column names, found {twice[0]!r} twice; leave "
            "probabilities (--probabilities) out, or rename a class"
        )
    return names


def with_probabilities(table: gpd.GeoDataFrame, crowns: CrownArrays, schema: LabelSchema) -> gpd.GeoDataFrame:
    """Return a table with the probability of every class of every attribute behind its columns.

    Args:
        table: Crowns as :func:`to_table` returned them.
        crowns: The same crowns.
        schema: Names of classes and attributes.

    Raises:
        ConfigError: See :func:`probability_columns`.
    """
    values = [column for name in schema.attributes for column in crowns.attributes[name].T]
    return table.assign(**dict(zip(probability_columns(schema), values, strict=True)))


def assemble(
    crowns: CrownArrays,
    polygons: gpd.GeoSeries,
    wide_m: npt.NDArray[np.float64],
    high_m: npt.NDArray[np.float64],
    *,
    schema: LabelSchema,
    source: str | npt.NDArray[np.object_],
    first_id: int,
    min_p: float | None = None,
) -> gpd.GeoDataFrame:
    """Return a crowns table of what :func:`on_ground` found; see :func:`to_table`.

    Args:
        crowns: The crowns.
        polygons: Their outlines ``[N]``.
        wide_m: Their widths ``[N]`` in metres.
        high_m: Their heights ``[N]`` in metres.
        schema: Names of classes and attributes.
        source: Path of the raster, as given, for all or for each ``[N]``.
        first_id: Number of the first crown.
        min_p: Least probability of an attribute.
    """
    n = len(crowns)
    values: dict[str, Any] = {
        "crown_id": np.arange(first_id, first_id + n, dtype=np.int64),
        "label": _categories(crowns.classes, schema.classes),
        "score": crowns.scores.astype(np.float32),
    }
    values |= _attribute_columns(crowns.attributes, schema, min_p)
    values |= {
        "area_m2": (wide_m * high_m).astype(np.float32),
        "crown_m2": (math.pi / 4 * wide_m * high_m).astype(np.float32),
        "diameter_m": ((wide_m + high_m) / 2).astype(np.float32),
        "cut": crowns.cut.astype(bool),
        "edge": crowns.edge.astype(bool),
        "source": pd.Series(source, index=range(n), dtype="str"),
    }
    table = gpd.GeoDataFrame(values, geometry=polygons.to_numpy(), crs=polygons.crs)
    return table[columns(schema)]


def with_attributes(
    table: gpd.GeoDataFrame,
    values: Mapping[str, npt.NDArray[np.float32]],
    schema: LabelSchema,
    *,
    min_p: float | None = None,
) -> gpd.GeoDataFrame:
    """Return a table with what is said about each of its crowns; attribute columns that it had are replaced.

    Args:
        table: Crowns, with any columns.
        values: Float32 ``[N, K]`` probabilities by attribute.
        schema: Names of their classes.
        min_p: Least probability of a value; see :func:`said`.
    """
    return table.assign(**_attribute_columns(values, schema, min_p))


def _attribute_columns(
    values: Mapping[str, npt.NDArray[np.float32]], schema: LabelSchema, min_p: float | None
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, classes in schema.attributes.items():
        p = values[name]
        found[name] = _categories(said(p, min_p=min_p), classes)
        found[f"{name}_p"] = p.max(axis=1, initial=0.0).astype(np.float32)
    return found


def _categories(codes: npt.NDArray[np.int64], names: tuple[str, ...]) -> pd.Categorical[str]:
    return pd.Categorical.from_codes(codes.tolist(), categories=pd.Index(names))


def reproject(geometries: npt.NDArray[np.object_], source: pyproj.CRS, target: pyproj.CRS) -> npt.NDArray[np.object_]:
    """Return geometries with their vertices transformed from one CRS to another (x = easting or longitude)."""
    transformer = pyproj.Transformer.from_crs(source, target, always_xy=True)

    def moved(xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.stack(transformer.transform(xy[:, 0], xy[:, 1]), axis=-1)

    return np.asarray(shapely.transform(geometries, moved), dtype=object)


def validate(table: gpd.GeoDataFrame, schema: LabelSchema | None = None) -> gpd.GeoDataFrame:
    """Check that a table keeps the contract and return it; the error names column, row and value.

    Raises:
        MissingColumnError: A column of the contract is absent.
        DegenerateCrownError: A geometry is missing, empty, without area or not finite; a score is outside 0 to 1.
        CrownsError: A column has another dtype, a name is not in the schema, or ids repeat.
    """
    schema = schema or LabelSchema()
    if missing := [c for c in columns(schema) if c not in table.columns]:
        raise MissingColumnError(
            f"crowns table lacks column {missing[0]!r}; it has {list(table.columns)}, the contract needs "
            f"{columns(schema)}"
        )
    for name, dtype in DTYPES.items():
        if str(table[name].dtype) != dtype and not (dtype == "str" and table[name].dtype == object):
            raise CrownsError(f"column {name!r} must be {dtype}, found {table[name].dtype}")
    shapes = np.asarray(table.geometry.to_numpy(), dtype=object)
    area = shapely.area(shapes)
    _refuse_first(table, "geometry", ~(np.isfinite(area) & (area > 0)), shapes, "a polygon with area")
    score = table["score"].to_numpy()
    _refuse_first(table, "score", ~((score >= 0) & (score <= 1)), score, "a number from 0 to 1")
    known = {"label": schema.classes, **schema.attributes}
    for name, names in known.items():
        present = table[name].astype(object)
        wrong = ~(present.isin(list(names)) | (present.isna() & (name != "label")))
        if wrong.any():
            row = int(np.flatnonzero(wrong.to_numpy())[0])
            raise CrownsError(f"column {name!r}, row {row}: found {present.iloc[row]!r}, accepted {list(names)}")
    if not table["crown_id"].is_unique:
        raise CrownsError("column 'crown_id' repeats a number; ids must be unique in a file")
    return table


def _refuse_first(
    table: gpd.GeoDataFrame,
    column: str,
    wrong: npt.NDArray[np.bool_],
    values: npt.NDArray[Any],
    accepted: str,
) -> None:
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DegenerateCrownError(
            f"column {column!r}, row {row} of {len(table)}: found {values[row]}, accepted {accepted}"
        )
