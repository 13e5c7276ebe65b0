"""Which column of somebody's file is the class, which are attributes, and what they say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from treedet.core.labels import RESERVED
from treedet.errors import ConfigError, CrownsError, MissingColumnError
from treedet.vectors.box_rows import DEFAULT_LABEL
from treedet.vectors.columns import Layout
from treedet.vectors.layers import layout_of
from treedet.vectors.truth_rows import Rows
from treedet.vectors.truth_values import (
    NO_LABEL,
    UNKNOWN,
    Mapped,
    ValueMap,
    accepted,
    hint,
    mapped,
    missing_for,
    shown,
    strange_values,
)

CLASS_NAMES = ("label", "class", "category", "classname")
ATTRIBUTE_NAMES: Mapping[str, tuple[str, ...]] = {
    "species": ("species", "sp_code", "taxonid", "taxon"),
    "status": ("status",),
}
DIAMETER_NAMES = ("diameter_m", "crown_diameter", "crown_diam")
PLACES = ("x", "y")
NOT_ATTRIBUTES = ("label", "diameter", *PLACES)
"""Keys of ``columns`` that are no attributes."""


@dataclass(frozen=True, eq=False)
class Said:
    """What the columns of a file say about its rows.

    Attributes:
        labels: Object ``[N]`` of class names; None where nothing is said.
        classes: Names that the file itself declares, such as those a run stored; empty where it declares none.
        attributes: Object ``[N]`` by attribute; None where it is not known.
        declared: Names by attribute that the file declares.
        diameters: Float64 ``[N]`` metres, NaN where nothing is said; None without such a column.
        left_out: Bool ``[N]``: rows that are no crowns, since a map of values says nothing else of their class.
        notices: What was recognised and assumed.
    """

    labels: npt.NDArray[np.object_]
    classes: tuple[str, ...]
    attributes: Mapping[str, npt.NDArray[np.object_]]
    declared: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    diameters: npt.NDArray[np.float64] | None = None
    left_out: npt.NDArray[np.bool_] | None = None
    notices: tuple[str, ...] = ()


def what_columns_say(
    rows: Rows, columns: Mapping[str, str], values: Mapping[str, ValueMap] | None = None, *, drop: bool = False
) -> Said:
    """Find label, attributes and diameter among the columns of a file.

    Args:
        rows: The file's rows.
        columns: Names asked for, ours to the file's.
        values: What values of a column are called as classes, by attribute or ``label``; an attribute that
            ``columns`` does not name has the column of its own name.
        drop: Take values that such a map says nothing about as missing instead of raising.

    Raises:
        MissingColumnError: A column asked for is absent, or an attribute whose values are mapped has none.
        CrownsError: Two columns can be the class, or a map of values says nothing about one.
        ConfigError: An attribute asked for has a name that is taken, or two have the same.
    """
    table = rows.columns
    notices: list[str] = []
    values = values or {}
    layout = layout_of(dict(rows.metadata))
    check_attributes([*columns, *values])
    for ours, theirs in columns.items():
        _check_column(ours, theirs, rows)
    label = _class_column(rows, columns)
    found = _attribute_columns(rows, columns, values, layout, taken=label)
    if lacking := [name for name in values if (label if name == "label" else found.get(name)) is None]:
        raise _no_column(lacking[0], rows)
    labels, left_out = _labels(label, columns, values, rows, notices, drop=drop)
    attributes = {}
    for ours, theirs in found.items():
        if ours != theirs and ours not in columns:
            notices.append(f"{rows.path}: column {theirs!r} is taken as {ours}")
        if f"{theirs}_p" in table.columns and table[f"{theirs}_p"].notna().any():
            notices.append(
                f"{rows.path}: column {theirs!r} is what a model said, as {theirs}_p beside it tells, and is taken "
                "as known; correct it too, or delete the column"
            )
        if ours in values:
            attributes[ours] = _as_classes(ours, theirs, values[ours], rows, notices, drop=drop).classes
        else:
            attributes[ours] = texts(table[theirs], missing=UNKNOWN)
    # What a run stored are names before a map.
    stored = {} if layout is None else {n: c for n, c in layout.attributes.items() if n in found and n not in values}
    diameter = columns.get("diameter") or _first(table, DIAMETER_NAMES)
    return Said(
        labels,
        layout.classes if layout is not None and "label" not in values else (),
        attributes,
        stored,
        None if diameter is None else _metres(table[diameter], rows),
        left_out,
        tuple(notices),
    )


def _labels(
    column: str | None,
    columns: Mapping[str, str],
    values: Mapping[str, ValueMap],
    rows: Rows,
    notices: list[str],
    *,
    drop: bool,
) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.bool_] | None]:
    """Return the class of each row, and the rows that a map of values leaves out, None without one."""
    if column is None:
        notices.append(f"{rows.path}: no class column and none asked for; every row is {DEFAULT_LABEL!r}")
        return np.full(len(rows), DEFAULT_LABEL, dtype=object), None
    if column not in ("label", columns.get("label")):
        notices.append(f"{rows.path}: column {column!r} is taken as the class")
    if "label" not in values:
        return texts(rows.columns[column], missing=NO_LABEL), None
    said = _as_classes("label", column, values["label"], rows, notices, drop=drop)
    if said.nulled.any():
        notices.append(f"{rows.path}: {rows.listed(said.nulled)} left out by values ({said.nulled.sum()} in all)")
    return said.classes, said.nulled | said.strange


def _as_classes(ours: str, theirs: str, mapping: ValueMap, rows: Rows, notices: list[str], *, drop: bool) -> Mapped:
    """Return a column as classes, and add to the notices what that passed over."""
    words = texts(rows.columns[theirs], missing=())
    found = mapped(words, mapping, missing=missing_for(ours))
    if found.unused:
        notices.append(
            f"{rows.path}: column {theirs!r} never says {shown(found.unused)}, which values names for {ours}"
        )
    if found.strange.any():
        strange = strange_values(words, found)
        what = f"{rows.path}: column {theirs!r} says {shown(strange)} in {rows.listed(found.strange)}"
        if not drop:
            raise CrownsError(
                f"{what}, which values does not name for {ours}; accepted are {accepted(mapping)}: add it to values= "
                f"({hint(ours, strange[0], mapping)}), map it to null to leave it out, or leave out all such with "
                "drop=True (--drop)"
            )
        notices.append(f"{what} ({found.strange.sum()} in all), left out: values does not name it for {ours}")
    return found


def _no_column(name: str, rows: Rows) -> MissingColumnError:
    has = [str(column) for column in rows.columns.columns] or "none (a Shapefile has them in .dbf)"
    return MissingColumnError(
        f"{rows.path} has no column for {name}, whose values are to be mapped; it has {has}: name it in columns= "
        f"(--columns.{name} CODE), or take {name} out of values="
    )


def filled(said: Said, rows: Rows, kept: npt.NDArray[np.bool_], *, drop: bool) -> tuple[Any, Any, list[str]]:
    """Give rows without label the one class that a file has.

    Rows that a map of values leaves out are none.

    Args:
        said: What the columns say.
        rows: The file's rows.
        kept: Bool ``[N]``: rows that count.
        drop: Leave rows without label out instead of raising.

    Returns:
        Labels, object ``[N]``; rows still kept, bool ``[N]``; notices.

    Raises:
        CrownsError: Labels are missing and the file has several classes.
    """
    if said.left_out is not None:
        kept = kept & ~said.left_out
    empty = kept & pd.isna(said.labels)
    if not empty.any():
        return said.labels, kept, []
    known = list(dict.fromkeys([*said.classes, *pd.unique(pd.Series(said.labels[kept & ~empty], dtype=object))]))
    if len(known) <= 1:
        name = known[0] if known else DEFAULT_LABEL
        labels = np.where(empty, name, said.labels)
        return labels, kept, [f"{rows.path}: {empty.sum()} rows without label are {name!r}"]
    if drop:
        return said.labels, kept & ~empty, [f"{rows.path}: {rows.listed(empty)} without label dropped"]
    raise CrownsError(
        f"{rows.path}: {empty.sum()} crowns have no label, {rows.listed(empty)}; with several classes "
        f"({', '.join(map(str, known[:8]))}) each needs one: fill them in, or leave them out with drop=True (--drop)"
    )


def texts(column: pd.Series[Any], *, missing: tuple[str, ...]) -> npt.NDArray[np.object_]:
    """Return a column as text, object ``[N]``; whole numbers lose their point, what is not known is None.

    >>> texts(pd.Series([1.0, 2.0, None]), missing=("",)).tolist()
    ['1', '2', None]
    """
    values = column
    if pd.api.types.is_float_dtype(values) and (values.dropna() % 1 == 0).all():
        values = values.astype("Int64")
    words = values.astype("string").str.strip()
    unknown = words.isna() | words.str.lower().isin(list(missing))
    return np.asarray(words.astype(object).mask(unknown.to_numpy(dtype=bool), None).to_numpy(), dtype=object)


def check_attributes(names: Sequence[str]) -> None:
    """Refuse names that no attribute may have; the case of letters tells none apart, since formats do not.

    Args:
        names: Keys of ``columns`` and ``values``, label, diameter and places included.

    Raises:
        ConfigError: A name is one of the table's own, ends in ``_p``, is no plain word, or is there twice.
    """
    spelled: dict[str, str] = {}
    for name in names:
        if name in NOT_ATTRIBUTES:
            continue
        fold = name.casefold()
        if fold in RESERVED or fold.endswith("_p") or not name.isidentifier():
            raise ConfigError(
                f"columns: {name!r} can not be an attribute; accepted are label, diameter, x, y, and plain words "
                "that are no column of the crowns table and do not end in '_p'"
            )
        if (other := spelled.setdefault(fold, name)) != name:
            raise ConfigError(
                f"columns: two attributes have the same name, {other!r} and {name!r}: formats do not tell case "
                "apart; rename one"
            )


def _check_column(ours: str, theirs: str, rows: Rows) -> None:
    if ours not in PLACES and theirs not in rows.columns.columns:
        raise absent(theirs, ours, rows.columns, rows.path)


def absent(theirs: str, ours: str, table: pd.DataFrame, path: str) -> MissingColumnError:
    """Return the error of a column that was asked for and is not there."""
    found = [str(c) for c in table.columns] or "none (a Shapefile has them in .dbf)"
    return MissingColumnError(
        f"{path} has no column {theirs!r}, asked for as {ours}; it has {found}: "
        f"correct the name in columns= (--columns.{ours})"
    )


def _class_column(rows: Rows, columns: Mapping[str, str]) -> str | None:
    if "label" in columns:
        return columns["label"]
    names = [str(name) for name in rows.columns.columns]
    # A table of crowns says by its other columns that it is one.
    if rows.label is not None or {"label", "crown_id", "score"} <= set(names):
        return rows.label or "label"
    found = [name for name in names if name.lower() in CLASS_NAMES]
    if len(found) > 1:
        raise CrownsError(
            f"{rows.path}: {' and '.join(map(repr, found))} can both be the class; name one with "
            f"columns={{'label': {found[0]!r}}} (--columns.label {found[0]})"
        )
    return found[0] if found else None


def _attribute_columns(
    rows: Rows, columns: Mapping[str, str], values: Iterable[str], layout: Layout | None, *, taken: str | None
) -> dict[str, str]:
    """Return the file's column of each attribute: those asked for, those a run stored, then common names."""
    found = {ours: theirs for ours, theirs in columns.items() if ours not in NOT_ATTRIBUTES}
    spelled = {name.casefold() for name in found}

    def add(ours: str, theirs: str | None) -> None:
        if theirs is not None and theirs != taken and ours.casefold() not in spelled:
            found[ours] = theirs
            spelled.add(ours.casefold())

    for name in values:
        add(name, _first(rows.columns, (name.lower(),)))
    stored = layout.attributes if layout is not None else Layout.of_table(rows.columns.head(0)).attributes
    for name in stored:
        if name in rows.columns.columns:
            add(name, name)
    for ours, names in ATTRIBUTE_NAMES.items():
        theirs = _first(rows.columns, names)
        if theirs not in found.values():
            add(ours, theirs)
    return found


def _first(table: pd.DataFrame, names: tuple[str, ...]) -> str | None:
    lower = {str(name).lower(): str(name) for name in reversed(table.columns)}
    return next((lower[name] for name in names if name in lower), None)


def _metres(column: pd.Series[Any], rows: Rows) -> npt.NDArray[np.float64]:
    words = column.astype("string").str.strip().str.replace(",", ".", regex=False)
    found = pd.to_numeric(words, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = np.isnan(found) & ~(words.isna() | words.str.lower().isin(UNKNOWN)).to_numpy(dtype=bool)
    if wrong.any():
        raise CrownsError(
            f"{rows.path}: column {column.name!r} must be diameters in metres, found "
            f"{words[wrong].iloc[0]!r} in {rows.listed(wrong)}; name another with columns= (--columns.diameter)"
        )
    return found
