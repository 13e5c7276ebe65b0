"""The tables of a report on what is said about crowns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from treedet.metrics.attributes import AttributeScores
from treedet.metrics.bootstrap import Interval

MISSED, UNSAID, SPURIOUS = "(missed)", "(unsaid)", "(spurious)"
"""What stands in the table of confusions where there is no class; in brackets, since a class may have any name."""
NOWHERE = Interval(float("nan"), float("nan"))
MATCHED, ALL = "matched", "all"
MACRO, MICRO = "macro", "micro"


def attribute_row(name: str, scores: AttributeScores) -> dict[str, Any]:
    """Return the figures of one attribute.

    Args:
        name: Of the attribute.
        scores: Of it.
    """
    matched, every = scores.matched, scores.all
    return {
        "attribute": name,
        "truth": int(every.truth.sum()),
        "unknown": scores.unknown,
        "matched": int(matched.truth.sum()),
        "missed": scores.missed,
        "unsaid": scores.unsaid,
        "spurious": scores.spurious,
        "accuracy": scores.accuracy,
        **_limits("accuracy", scores),
        "majority": scores.majority,
        "majority_accuracy": scores.majority_accuracy,
        "balanced_accuracy": matched.macro.recall,
        "kappa": scores.kappa,
        "macro_f1": matched.macro.f1,
        **_limits("macro_f1", scores),
        "macro_f1_all": every.macro.f1,
        "micro_f1_all": every.micro.f1,
        "ece": scores.reliability.ece,
    }


def _limits(name: str, scores: AttributeScores) -> dict[str, float]:
    limits = scores.intervals.get(name, NOWHERE)
    return {f"{name}_low": limits.low, f"{name}_high": limits.high}


def class_rows(name: str, scores: AttributeScores) -> list[dict[str, Any]]:
    """Return precision, recall and F1 of each class, and their means, on all and on matched crowns.

    Args:
        name: Of the attribute.
        scores: Of it.

    Returns:
        Rows of ``attribute``, ``scope`` (all or matched crowns), ``row`` (class, macro or micro), ``value`` (the
        class; None for means), ``truth``, ``predicted``, ``right``, ``precision``, ``recall``, ``f1``.
    """
    rows = []
    for scope, found in ((ALL, scores.all), (MATCHED, scores.matched)):
        first = {"attribute": name, "scope": scope}
        counts = zip(found.truth.tolist(), found.predicted.tolist(), found.right.tolist(), strict=True)
        shares = zip(found.precision.tolist(), found.recall.tolist(), found.f1.tolist(), strict=True)
        for value, numbers, of_class in zip(scores.names, counts, shares, strict=True):
            rows.append({**first, "row": "class", "value": value, **_told(numbers, of_class)})
        totals = tuple(int(total.sum()) for total in (found.truth, found.predicted, found.right))
        for row, means in ((MACRO, found.macro), (MICRO, found.micro)):
            rows.append({**first, "row": row, "value": None, **_told(totals, means)})
    return rows


def _told(counts: tuple[int, ...], shares: tuple[float, ...]) -> dict[str, float]:
    return dict(zip(("truth", "predicted", "right", "precision", "recall", "f1"), (*counts, *shares), strict=True))


def confusion_rows(name: str, scores: AttributeScores) -> list[dict[str, Any]]:
    """Return the confusion matrix as rows of ``attribute``, ``truth``, ``predicted`` and ``crowns``, zeros included.

    Args:
        name: Of the attribute.
        scores: Of it.
    """
    rows, columns = (*scores.names, SPURIOUS), (*scores.names, UNSAID, MISSED)
    return [
        {"attribute": name, "truth": truth, "predicted": predicted, "crowns": int(scores.confusion[i, j])}
        for i, truth in enumerate(rows)
        for j, predicted in enumerate(columns)
        if (truth, predicted) != (SPURIOUS, MISSED)
    ]


def matrix_of(rows: pd.DataFrame) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """Return the classes and the confusion matrix that :func:`confusion_rows` told, of one attribute and condition.

    >>> from treedet.metrics.attributes import attribute_scores
    >>> told = confusion_rows("status", attribute_scores(np.array([0]), np.array([1]), ("alive", "dead")))
    >>> names, counts = matrix_of(pd.DataFrame(told))
    >>> names, counts.tolist()
    (('alive', 'dead'), [[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    """
    names = tuple(str(name) for name in dict.fromkeys(rows["truth"]) if name != SPURIOUS)
    # The only cell that is not told is the last one.
    cells = np.append(rows["crowns"].to_numpy(dtype=np.int64), 0)
    return names, cells.reshape(len(names) + 1, len(names) + 2)


def share_notes(rows: pd.DataFrame) -> list[str]:
    """Return what has to be known where an attribute is known of some annotated crowns only.

    Args:
        rows: Of :func:`attribute_row`, of one condition.
    """
    return [
        f"{row['attribute']} is known of {row['truth']} of {row['truth'] + row['unknown']} annotated crowns; the "
        "others are left out, but predictions that are no crown at all count in full, so on all crowns its precision "
        "is better than it looks"
        for row in rows.to_dict("records")
        if row["unknown"] and row["spurious"]
    ]


def attribute_lines(rows: pd.DataFrame, classes: pd.DataFrame) -> list[str]:
    """Return the result as lines for a terminal, one for each attribute.

    Args:
        rows: Of :func:`attribute_row`, of one condition.
        classes: Of :func:`class_rows`, likewise.
    """
    told = [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]
    return [attribute_line(row, classes[classes["attribute"] == row["attribute"]]) for row in told]


def attribute_line(row: Mapping[str, Any], classes: pd.DataFrame) -> str:
    """Return the result of one attribute as a line; of two classes the rarer is told too.

    Args:
        row: Of :func:`attribute_row`.
        classes: Of :func:`class_rows`, of that attribute.
    """
    name = f"{row['attribute']:<11}"
    on_all = f"on all macro F1 {_number(row['macro_f1_all'])}"
    of_all = classes[(classes["scope"] == ALL) & (classes["row"] == "class")]
    if len(of_all) == 2:
        rare = of_all.sort_values("truth", kind="stable").iloc[0]
        on_all += "".join(f", {rare['value']} {score} {_number(rare[score])}" for score in ("recall", "precision"))
    if not row["matched"]:
        return f"{name} none of the {row['truth']} crowns with a known value was found; {on_all}"
    usual = f"always {row['majority']}: {_number(row['majority_accuracy'])}"
    right = f"{_number(row['accuracy'])}{_spread(row)}"
    return f"{name} accuracy {right} on {row['matched']} matched crowns ({usual}); {on_all}"


def _spread(row: Mapping[str, Any]) -> str:
    low, high = row["accuracy_low"], row["accuracy_high"]
    return f" ({low:.3f} to {high:.3f})" if np.isfinite(low) else ""


def _number(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "not defined"
