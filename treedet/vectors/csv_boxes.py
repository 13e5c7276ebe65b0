"""Boxes in a CSV as DeepForest writes it, and the table of text below every CSV of crowns."""

from __future__ import annotations

import csv
import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from treedet.errors import CrownsError, DegenerateCrownError, MissingColumnError
from treedet.vectors.box_rows import BOX, DEFAULT_LABEL, BoxRows, frame, text_of

logger = logging.getLogger("treedet")

OUTLINES = ("wkt", "geometry", "polygon")
"""Columns that may hold outlines as WKT where there are no boxes."""
NOTHING = ("", "nan", "na", "null")
"""How a CSV says that a number is not there."""


def load_csv(path: Path) -> BoxRows:
    """Read boxes in pixels with ``image_path``; a row of zeros or nothing names an image without crowns."""
    table = text_table(path)
    known = {name.lower(): name for name in table.columns}
    table = table.rename(columns={known[name]: name for name in ("image_path", *BOX, "label") if name in known})
    if "image_path" not in table.columns:
        raise MissingColumnError(_missing("image_path", table, path))
    boxes = csv_boxes(table, path)
    if "label" not in table.columns:
        logger.info("%s has no column 'label'; every crown is called %r", path, DEFAULT_LABEL)
        table["label"] = DEFAULT_LABEL
    empty = says_empty(boxes)
    unnamed = ~empty & (table["label"].str.strip() == "").to_numpy()
    if unnamed.any():
        raise CrownsError(
            f"{path}, line {int(np.flatnonzero(unnamed)[0]) + 2}: the label is empty; every box needs one"
        )
    kept = table[~empty]
    others = natural(kept.drop(columns=["image_path", "label", *BOX], errors="ignore"), decimal_comma(table))
    return BoxRows(
        frame(
            kept["image_path"],
            boxes[~empty],
            kept["label"],
            {str(name): others[name] for name in others.columns},
            rows=np.flatnonzero(~empty) + 1,
        ),
        tuple(dict.fromkeys(table["image_path"].str.strip())),
        lambda row: f"{path}, line {row + 1}",
    )


def says_empty(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Tell which boxes ``[N, 4]`` say that an image holds no crown: all zeros, or nothing at all."""
    return np.asarray(np.isnan(boxes).all(axis=1) | (boxes == 0).all(axis=1), dtype=bool)


def text_table(path: Path) -> pd.DataFrame:
    """Return a CSV as columns of text, names stripped; commas, semicolons or tabs, with or without byte order mark.

    Raises:
        CrownsError: The file is no table.
    """
    text = text_of(path)
    header, _, _ = text.partition("\n")
    separator = max(",;\t", key=header.count)
    try:
        table = pd.read_csv(
            io.StringIO(text), sep=separator, dtype=str, keep_default_na=False, quoting=csv.QUOTE_MINIMAL
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        if not text.strip():
            raise CrownsError(f"{path} is empty; give the file that holds the annotation") from error
        raise CrownsError(
            f"{path} is not a table of boxes: {str(error).strip()}; accepted are columns apart by commas, semicolons "
            "or tabs, with their names in the first line"
        ) from error
    return table.rename(columns=lambda name: str(name).strip())


def csv_boxes(table: pd.DataFrame, path: Path) -> npt.NDArray[np.float64]:
    """Return the boxes of a table of text, float64 ``[N, 4]``; NaN where a row says nothing.

    Raises:
        MissingColumnError: There are neither four columns of coordinates nor one of outlines.
        DegenerateCrownError: A coordinate is not a number.
    """
    if not all(name in table.columns for name in BOX):
        lower = {name.lower(): name for name in table.columns}
        outline = next((lower[name] for name in OUTLINES if name in lower), None)
        if outline is None:
            raise MissingColumnError(_missing(next(n for n in BOX if n not in table.columns), table, path))
        return np.asarray(shapely.bounds(outlines(table[outline], path)), dtype=np.float64)
    return np.column_stack([numbers(table[name], path) for name in BOX])


def outlines(column: pd.Series[Any], path: Path) -> npt.NDArray[np.object_]:
    """Return the geometries of a column of WKT, object ``[N]``, empty where there is no text.

    Raises:
        CrownsError: A text is not WKT; the message names its line.
    """
    texts = column.str.strip()
    texts_or_empty = texts.where(texts != "", "POLYGON EMPTY").to_numpy(object)
    with np.errstate(invalid="ignore"):  # a coordinate written as nan is found by whoever checks
        shapes = shapely.from_wkt(texts_or_empty, on_invalid="ignore")
    if (wrong := shapely.is_missing(shapes)).any():
        row = int(np.flatnonzero(wrong)[0])
        raise CrownsError(f"{path}, line {row + 2}: {column.name!r} holds {texts.iloc[row][:40]!r}, which is not WKT")
    return np.asarray(shapes, dtype=object)


def numbers(column: pd.Series[Any], path: Path) -> npt.NDArray[np.float64]:
    """Return a column of text as float64 ``[N]``, decimal commas allowed, NaN where nothing is said.

    Raises:
        DegenerateCrownError: A text is not a number; the message names its line.
    """
    texts = column.str.strip()
    found = pd.to_numeric(texts.str.replace(",", ".", regex=False), errors="coerce").to_numpy(dtype=np.float64)
    said = ~texts.str.lower().isin(NOTHING).to_numpy()
    if (wrong := said & np.isnan(found)).any():
        row = int(np.flatnonzero(wrong)[0])
        raise DegenerateCrownError(
            f"{path}, line {row + 2}: {column.name} is {texts.iloc[row]!r}, not a number; correct it"
        )
    return np.asarray(found, dtype=np.float64)


def decimal_comma(table: pd.DataFrame) -> bool:
    """Tell whether the coordinates of a table of text have decimal commas."""
    return any(bool(table[name].str.contains(",", regex=False).any()) for name in BOX if name in table.columns)


def natural(table: pd.DataFrame, comma: bool) -> pd.DataFrame:
    """Return columns of text as numbers where all of a column is, else as text; empty is missing."""
    return pd.DataFrame({name: _natural(table[name], comma) for name in table.columns}, index=table.index)


def _natural(column: pd.Series[Any], comma: bool) -> pd.Series[Any]:
    texts = column.str.strip()
    missing = texts == ""
    found = pd.to_numeric(texts.str.replace(",", ".", regex=False) if comma else texts, errors="coerce")
    if (found.notna() | missing).all() and not missing.all():
        return found
    return texts.mask(missing)


def _missing(name: str, table: pd.DataFrame, path: Path) -> str:
    return (
        f"{path} lacks column {name!r}; it has {[str(c) for c in table.columns]}, boxes need image_path, xmin, ymin, "
        "xmax, ymax and label"
    )
