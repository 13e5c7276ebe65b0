"""Crowns that some tool found, with how sure it was of each."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from treedet.errors import CrownsError, DegenerateCrownError
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
        Crowns with their score; where the file has none ``has_scores`` is False and every score 1.

    Raises:
        CrownsError: As :func:`treedet.vectors.truth.read_annotations`, or scores are percent.
        MissingColumnError: The column asked for is absent.
        DegenerateCrownError: A score is missing or not from 0 to 1.
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
        return annotated_crowns(rows, options, scores=np.ones(len(rows)))
    scores = _scores(rows, name)
    return replace(annotated_crowns(rows, options, scores=scores), has_scores=True)


def _score_column(rows: Rows, asked: str | None) -> str | None:
    names = [str(name) for name in rows.columns.columns]
    if asked is not None:
        if asked not in names:
            raise absent(asked, "score", rows.columns, rows.path)
        return asked
    lower = {name.lower(): name for name in reversed(names)}
    return next((lower[name] for name in SCORE_NAMES if name in lower), None)


def _scores(rows: Rows, name: str) -> npt.NDArray[np.float64]:
    """Return a column as scores, float64 ``[N]``."""
    words = rows.columns[name].astype("string").str.strip().str.replace(",", ".", regex=False).fillna("")
    found = pd.to_numeric(words, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
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
