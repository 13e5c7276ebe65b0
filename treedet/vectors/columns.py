"""Columns of the crowns table on their way into a file (Arrow types) and back (the contract's dtypes)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import shapely

from treedet.core.crowns import DTYPES
from treedet.core.labels import LabelSchema
from treedet.errors import CrownsError, MissingColumnError

logger = logging.getLogger("treedet")

ARROW_TYPES = {"int64": pa.int64(), "float32": pa.float32(), "bool": pa.bool_(), "str": pa.string()}
_TRUE = ("true", "t", "yes", "1", "1.0")


@dataclass(frozen=True)
class Layout:
    """Names in a file of crowns: what the label and each attribute can be.

    Unlike a label schema it may hold what one file happens to show: one species, or none.
    """

    classes: tuple[str, ...] = ("tree",)
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of_schema(cls, schema: LabelSchema) -> Layout:
        """Return the layout of the tables a model with this schema gives."""
        return cls(schema.classes, dict(schema.attributes))

    @classmethod
    def of_table(cls, table: pd.DataFrame) -> Layout:
        """Return the layout that the columns of a table show: any ``x`` beside an ``x_p`` is an attribute."""
        names = [name for name in table.columns if f"{name}_p" in table.columns]
        attributes = {str(name): _names(table[name]) for name in names}
        return (
            cls(_names(table["label"]) or ("tree",), attributes) if "label" in table.columns else cls((), attributes)
        )

    @property
    def dtypes(self) -> dict[str, str]:
        """Dtypes of the contract's columns without the geometry, in their order."""
        first, last = list(DTYPES.items())[:3], list(DTYPES.items())[3:]
        named = [pair for name in self.attributes for pair in ((name, "category"), (f"{name}_p", "float32"))]
        return dict([*first, *named, *last])


def _names(column: pd.Series[Any]) -> tuple[str, ...]:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return tuple(str(name) for name in column.cat.categories)
    return tuple(sorted({str(name) for name in _texts(column).dropna().unique()}))


def _texts(column: pd.Series[Any], names: tuple[str, ...] = ()) -> pd.Series[Any]:
    """Return a column of names as text: a CSV of species codes such as 131 or 007 comes back as numbers."""
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return column.astype(object)
    numbers = pd.to_numeric(pd.Series(names, dtype="str"), errors="coerce")
    written = dict(zip(numbers, names, strict=True))
    text = {value: written.get(value, f"{value:.15g}") for value in column.dropna().unique()}
    return column.map(text).astype(object)


def require(table: pd.DataFrame, layout: Layout, *, where: str) -> None:
    """Check that every column of the contract is there.

    Raises:
        MissingColumnError: One is not; the message names it.
    """
    if missing := [name for name in layout.dtypes if name not in table.columns]:
        raise MissingColumnError(
            f"{where} lacks column {missing[0]!r}; it has {[str(c) for c in table.columns]}, a crowns table needs "
            f"{['geometry', *layout.dtypes]}"
        )


def extras(table: pd.DataFrame, layout: Layout) -> list[str]:
    """Return the columns beyond the contract, which are kept behind its own."""
    known = {"geometry", *layout.dtypes}
    return [str(name) for name in table.columns if name not in known]


def to_arrow(table: pd.DataFrame, layout: Layout, *, names_as: pa.DataType | None = None) -> pa.Table:
    """Turn all columns but the geometry into Arrow; NaN becomes null.

    Args:
        table: Crowns, with the contract's columns and any further ones.
        layout: Names of classes and attributes.
        names_as: Arrow type of categories; strings if None.

    Raises:
        CrownsError: A column holds values that do not fit its type.
    """
    names_as = names_as or pa.string()
    arrays: dict[str, pa.Array] = {}
    dtypes = layout.dtypes
    for name in [*dtypes, *extras(table, layout)]:
        try:
            arrays[name] = _to_array(table[name], dtypes.get(name, ""), names_as)
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise CrownsError(
                f"column {name!r} ({table[name].dtype}) can not be written as {dtypes.get(name, 'it is')}: {error}"
            ) from error
    return pa.table(arrays)


def _to_array(column: pd.Series[Any], dtype: str, names_as: pa.DataType) -> pa.Array:
    if dtype == "category" or isinstance(column.dtype, pd.CategoricalDtype):
        return pa.array(column.astype("category"), from_pandas=True).cast(names_as)
    if dtype == "str":
        return pa.array(column.astype(object), type=pa.string(), from_pandas=True)
    if dtype:
        return pa.array(column.to_numpy(dtype=np.dtype(dtype)), type=ARROW_TYPES[dtype], from_pandas=True)
    return pa.array(column, from_pandas=True)


def arrow_schema(layout: Layout, *, names_as: pa.DataType | None = None) -> pa.Schema:
    """Return the Arrow schema of a table without rows and without further columns."""
    types = ARROW_TYPES | {"category": names_as or pa.string()}
    return pa.schema([(name, types[dtype]) for name, dtype in layout.dtypes.items()])


def with_geometry(columns: pa.Table, geometries: npt.NDArray[np.object_]) -> pa.Table:
    """Return the columns with the geometries in front, as ISO well-known binary."""
    wkb = pa.array(shapely.to_wkb(geometries, flavor="iso"), type=pa.binary(), from_pandas=True)
    return columns.add_column(0, "geometry", wkb)


def restore(table: gpd.GeoDataFrame, layout: Layout | None = None, *, where: str = "the table") -> gpd.GeoDataFrame:
    """Give a table that came out of a file the contract's column order and dtypes.

    Names that somebody typed in a GIS and the layout does not know are kept as further categories, and rows
    without a ``crown_id``, which a GIS adds when a crown is drawn by hand, are numbered on.

    Args:
        table: What a reader returned; the active geometry may have any name.
        layout: Names of classes and attributes, or None to take them from the table.
        where: How messages call the table.

    Raises:
        MissingColumnError: A column of the contract is absent.
        CrownsError: A column holds values that do not fit its dtype.
    """
    if table.active_geometry_name != "geometry":
        table = table.rename_geometry("geometry")
    layout = layout or Layout.of_table(table)
    if not len(table):
        # GeoJSON and COCO without rows say nothing about columns.
        table = table.assign(**{name: None for name in layout.dtypes if name not in table.columns})
    require(table, layout, where=where)
    categories = {"label": layout.classes, **layout.attributes}
    values: dict[str, Any] = {"geometry": table.geometry}
    for name, dtype in layout.dtypes.items():
        try:
            values[name] = _from_file(table[name], dtype, categories.get(name, ()))
        except (ValueError, TypeError) as error:
            raise CrownsError(f"{where}, column {name!r}: its values are not {dtype} ({error})") from error
    values |= {name: table[name] for name in extras(table, layout)}
    return gpd.GeoDataFrame(values, geometry="geometry", crs=table.crs)


def _from_file(column: pd.Series[Any], dtype: str, names: tuple[str, ...]) -> pd.Series[Any]:
    if dtype == "category":
        texts = _texts(column, names)
        found = [name for name in _names(column) if name not in names and (texts == name).any()]
        return pd.Series(pd.Categorical(texts, categories=[*names, *found]), index=column.index)
    if dtype == "bool":
        return _to_bool(column)
    if dtype == "str":
        return column.astype("str").fillna("")
    numbers = pd.to_numeric(column)
    if dtype == "int64" and numbers.isna().any():
        missing = numbers.isna()
        first = 1 if missing.all() else int(numbers.max()) + 1
        logger.info("%d crowns without crown_id are numbered from %d", int(missing.sum()), first)
        numbers = numbers.where(~missing, first + missing.cumsum() - 1)
    restored: pd.Series[Any] = numbers.astype(np.dtype(dtype))
    return restored


def _to_bool(column: pd.Series[Any]) -> pd.Series[Any]:
    """Truth from what formats make of it: bool, 0 and 1, or words; nothing said is False."""
    if column.dtype == bool:
        return column
    if pd.api.types.is_numeric_dtype(column):
        return column.fillna(0).astype(float) != 0
    return column.astype("str").str.strip().str.lower().isin(_TRUE)
