"""The page that sets two reports side by side."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from treedet.display.evaluation_rasters import short_names
from treedet.evaluation.definitions import FORMATS, HEADINGS
from treedet.evaluation.html import Format, Markup, decimals, element, page, picture, table

if TYPE_CHECKING:
    from treedet.evaluation.compare import Comparison

MOST_ROWS = 200


def comparison_page(comparison: Comparison, figure: Path) -> str:
    """Return the page as HTML that needs no other file.

    Args:
        comparison: What is shown.
        figure: The picture, written before.
    """
    first, second = comparison.titles
    row = comparison.table.iloc[0]
    columns = [str(name) for name in comparison.table.columns]
    alt = "Difference of F1 by condition with its interval, and the rasters that changed most."
    drawn = element("figure", picture(figure, alt=alt), element("figcaption", alt), class_="wide")
    return page(
        f"{first} and {second}",
        element(
            "header",
            element("h1", f"First: {first}. Second: {second}."),
            element("p", _headline(row), class_="headline"),
            element("p", _interval(row), class_="under"),
        ),
        element("div", drawn, class_="pictures"),
        _notes(comparison),
        element("h2", "Side by side"),
        element("p", "a: first report, b: second, each on all its rasters.", class_="note"),
        _table(comparison.table[[name for name in columns if "_difference" not in name]]),
        element("h2", "Second minus first"),
        element("p", "On the rasters both have, with 95 % intervals (bootstrap, sampled together).", class_="note"),
        _table(comparison.table[[n for n in columns if "_difference" in n or n in ("condition", "rasters")]]),
        element("h2", "By raster, the largest change first"),
        _table(comparison.by_raster.assign(raster=short_names(comparison.by_raster["raster"])).head(MOST_ROWS)),
    )


def _headline(row: pd.Series[Any]) -> str:
    value, low, high = (float(row[f"f1_difference{end}"]) for end in ("", "_low", "_high"))
    if not math.isfinite(value):
        return "No crowns are annotated on the rasters both have, so neither report is better."
    what = "The second report is better" if value > 0 else "The first report is better"
    if value == 0:
        what = "Both reports are equal"
    elif not (low > 0 or high < 0):
        what += ", but it may be chance"
    return f"{what}: F1 {decimals(3, sign=True)(value)} on the same rasters."


def _interval(row: pd.Series[Any]) -> str:
    low, high = (decimals(3, sign=True)(row[f"f1_difference{end}"]) for end in ("_low", "_high"))
    return f"95 % interval {low} to {high}, from {row['rasters']} rasters that both have."


def _notes(comparison: Comparison) -> Markup:
    if not comparison.notes:
        return Markup("")
    return element("ul", *(element("li", note) for note in comparison.notes))


def _table(frame: pd.DataFrame) -> Markup:
    names = {str(column): _heading(str(column)) for column in frame.columns}
    formats = {str(column): _format(str(column)) for column in frame.columns if _format(str(column))}
    return table(frame, {name: write for name, write in formats.items() if write is not None}, names=names)


def _heading(column: str) -> str:
    base, _, side = column.rpartition("_")
    if side in ("a", "b") and base:
        return f"{HEADINGS.get(base, base)}, {side}"
    score, found, end = column.partition("_difference")
    if found:
        ends = {"": "", "_low": ", from", "_high": ", to"}
        return f"{HEADINGS.get(score, score)}{ends.get(end, end)}"
    return HEADINGS.get(column, column)


def _format(column: str) -> Format | None:
    if "_difference" in column or column == "change":
        return decimals(3, sign=True)
    return FORMATS.get(column.removesuffix("_a").removesuffix("_b"))
