"""Crowns that some tool found, with how sure it was of each."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from treedet.errors import CrownsError, DegenerateCrownError
from treedet.vectors.columns import Layout
from treedet.vectors.truth import Annotations, TruthOptions, annotated_crowns
from treedet.vectors.truth_columns import absent
from treedet.vectors.truth_formats import open_rows
from treedet.vectors.truth_rows import Rows

logger = logging.getLogger("treedet")

SCORE_NAMES = ("score", "confidence_score", "confidence", "prob")
"""Columns that hold the score, the first that is there; case does not matter."""
NOTHING = ("", "nan", "na", "null", "<null>", "none")


def read_predictions(path: str | Path, options: TruthOptions | None = None) -> Annotations:
    """Read crowns that any tool found, from the formats that annotations come in.

    A file may hold no crown at all: then nothing was found. Crowns said twice stay twice.

    Args:
        path: A file, or a folder of Pascal VOC or YOLO files.
        options: As for annotations; ``columns["score"]`` names the column of the score, from 0 to 1. Without it
            ``score``, ``Confidence_score``, ``confidence`` or ``prob`` is taken, in any case of letters.

    Returns:
        Crowns with their score; where the file has none ``has_scores`` is False and every score 1. ``x_p`` of an
        attribute ``x`` is the file's, NaN where it has none.

    Raises:
        CrownsError: As :func:`treedet.vectors.truth.read_annotations`, or scores are percent.
        MissingColumnError: The column asked for is absent.
        DegenerateCrownError: A score is missing, or it or a probability is not from 0 to 1.
    """
    options = replace(options or TruthOptions(), points=False)
    asked = options.columns.get("score")
    options = replace(options, columns={ours: name for ours, name in options.columns.items() if ours != "score"})
    rows = open_rows(path, options.columns, crs=options.known_crs)
    name = _score_column(rows, asked)
    if name is None:
        if len(rows):
            logger.info(
                "%s has no column of scores (%s); every crown counts alike, so average precision and calibration are "
                "not defined",
                rows.path,
                ", ".join(SCORE_NAMES),
            )
        return _with_probabilities(annotated_crowns(rows, options, scores=np.ones(len(rows))), rows, options)
    found = annotated_crowns(rows, options, scores=_scores(rows, name))
    return replace(_with_probabilities(found, rows, options), has_scores=True)


def _with_probabilities(found: Annotations, rows: Rows, options: TruthOptions) -> Annotations:
    """Return crowns with the probabilities of their attributes as the file states them, instead of certainty."""
    table, there = found.table, set(rows.columns.columns)
    told: dict[str, npt.NDArray[np.float32]] = {}
    for name in Layout.of_table(table).attributes:
        column = next((p for p in (f"{options.columns.get(name, name)}_p", f"{name}_p") if p in there), None)
        p = np.full(len(rows), np.nan) if column is None else _numbers(rows, column)
        wrong = (p < 0) | (p > 1)
        if wrong.any():
            raise DegenerateCrownError(
                f"{rows.path}: {wrong.sum()} probabilities in {column!r} are not from 0 to 1, {rows.listed(wrong)}; "
                f"found {p[wrong][0]:g}: correct them, or rename the column"
            )
        told[f"{name}_p"] = p[rows.columns.index.get_indexer(table.index)].astype(np.float32)
    return replace(found, table=table.assign(**told))


def _score_column(rows: Rows, asked: str | None) -> str | None:
    names = [str(name) for name in rows.columns.columns]
    if asked is not None:
        if asked not in names:
            raise absent(asked, "score", rows.columns, rows.path)
        return asked
    lower = {name.lower(): name for name in reversed(names)}
    return next((lower[name] for name in SCORE_NAMES if name in lower), None)


def _words(rows: Rows, name: str) -> pd.Series[str]:
    """Return a column as text with a decimal point."""
    return rows.columns[name].astype("string").str.strip().str.replace(",", ".", regex=False).fillna("")


def _numbers(rows: Rows, name: str) -> npt.NDArray[np.float64]:
    """Return a column as numbers, NaN where it holds none."""
    return pd.to_numeric(_words(rows, name), errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def _scores(rows: Rows, name: str) -> npt.NDArray[np.float64]:
    """Return a column as scores, float64 ``[N]``."""
    words, found = _words(rows, name), _numbers(rows, name)
    empty = words.str.lower().isin(NOTHING).to_numpy(dtype=bool)
    if (known := found[np.isfinite(found)]).size and known.min() >= 0 and 1 < known.max() <= 100:
        raise CrownsError(
            f"{rows.path}: scores in {name!r} go up to {known.max():g}, as percent do; accepted are 0 to 1: divide "
            "them by 100, or name another column with columns={'score': ...} (--prediction_columns.score)"
        )
    wrong = ~((found >= 0) & (found <= 1))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DegenerateCrownError(
            f"{rows.path}: {wrong.sum()} scores in {name!r} are no number from 0 to 1, {rows.listed(wrong)}; found "
            f"{'nothing' if empty[row] else repr(str(words.iloc[row]))}: correct them, or name another column with "
            "columns={'score': ...} (--prediction_columns.score)"
        )
    return found
