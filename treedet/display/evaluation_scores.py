"""Pictures of an evaluation by score and by crown: the threshold, how honest scores are, which sizes are found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from treedet.display.evaluation import BLACK, BLUE, FEW, GREY, VERMILION, chart, dress, empty, size_name
from treedet.display.figures import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVES = {"f1": ("F1", BLACK, "-"), "precision": ("precision", BLUE, "--"), "recall": ("recall", VERMILION, ":")}
PALE = "#b9c7d1"


def score_curve(path: Path, curve: pd.DataFrame, *, threshold: float) -> None:
    """Draw recall, precision and F1 by score threshold.

    Args:
        path: PNG to write; replaced where it exists.
        curve: Columns ``threshold``, ``recall``, ``precision``, ``f1``; ``predicted`` and ``truth`` where there are.
        threshold: The one chosen beforehand, marked.

    Raises:
        OutputError: The file can not be written.
    """
    title = "What the score threshold does"
    if not len(curve):
        empty(path, title=title, what="the crowns have no scores")
        return
    rows = curve.sort_values("threshold")
    figure, (axes,) = chart(6.4, 4.2, title=title)
    for column, (name, colour, dashes) in CURVES.items():
        axes.plot(rows["threshold"], rows[column], color=colour, linestyle=dashes, linewidth=1.8, label=name)
    if np.isfinite(threshold):
        axes.axvline(threshold, color=GREY, linewidth=1.2, linestyle="-.", label=f"threshold used, {threshold:.2f}")
    axes.set_ylim(0, 1)
    axes.set_xlim(0, 1)
    dress(axes, x="score threshold", y="score over rasters")
    axes.legend(fontsize=9, loc="best", framealpha=0.85)
    save_figure(figure, path)


def precision_recall(path: Path, rows: pd.DataFrame, *, threshold: float) -> None:
    """Draw precision by recall, all crowns pooled, with the threshold that was used.

    Args:
        path: PNG to write; replaced where it exists.
        rows: Columns ``score``, ``recall``, ``precision``.
        threshold: The one used, marked.

    Raises:
        OutputError: The file can not be written.
    """
    title = "Precision and recall"
    if not len(rows):
        empty(path, title=title, what="the crowns have no scores")
        return
    ordered = rows.sort_values("score", ascending=False)
    figure, (axes,) = chart(5.2, 4.4, title=title)
    for f1 in (0.2, 0.4, 0.6, 0.8):
        recall = np.linspace(f1 / (2 - f1) + 1e-6, 1, 100)
        axes.plot(recall, f1 * recall / (2 * recall - f1), color="#cccccc", linewidth=0.8)
        axes.text(0.99, f1 / (2 - f1), f"F1 {f1:g}", color=GREY, fontsize=8, ha="right", va="bottom")
    axes.plot(ordered["recall"], ordered["precision"], color=BLUE, linewidth=1.8)
    kept = ordered[ordered["score"] >= threshold]
    if len(kept):
        last = kept.iloc[-1]
        label = f"threshold used, {threshold:.2f}"
        axes.plot([last["recall"]], [last["precision"]], "o", color=VERMILION, markersize=7, label=label)
        axes.legend(fontsize=9, loc="lower left", framealpha=0.85)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    dress(axes, x="recall, all crowns pooled", y="precision")
    save_figure(figure, path)


def reliability(
    path: Path, table: pd.DataFrame, *, title: str = "How honest the scores are", score: str = "score"
) -> None:
    """Draw which share of crowns is right by the score they were given, and how many there are.

    Args:
        path: PNG to write; replaced where it exists.
        table: Columns ``low``, ``high``, ``count``, ``confidence``, ``accuracy``, a row for each range of scores.
        title: Line above the picture.
        score: What the scores are called.

    Raises:
        OutputError: The file can not be written.
    """
    rows = table[table["count"] > 0] if len(table) else table
    if not len(rows):
        empty(path, title=title, what=f"no crowns with a {score}")
        return
    figure, _ = chart(5.2, 4.8, title=title, count=0)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label=f"{score} = share that is right")
    many = rows[rows["count"] >= FEW]
    few = rows[rows["count"] < FEW]
    above.plot(many["confidence"], many["accuracy"], color=BLUE, marker="o", linewidth=1.8, label="measured")
    if len(few):
        label = f"fewer than {FEW} crowns"
        above.plot(few["confidence"], few["accuracy"], "o", color=BLUE, markerfacecolor="white", label=label)
    above.set_ylim(-0.02, 1.03)
    above.legend(fontsize=9, loc="upper left", framealpha=0.85)
    dress(above, x="", y="share that is right")
    width = rows["high"] - rows["low"]
    below.bar(rows["low"], rows["count"], width=width, align="edge", color=PALE, edgecolor="white", linewidth=0.6)
    below.set_xlim(0, 1)
    dress(below, x=score, y="crowns")
    save_figure(figure, path)


def diameters(path: Path, by_size: pd.DataFrame) -> None:
    """Draw recall by true diameter and precision by predicted diameter, with intervals and numbers of crowns.

    Args:
        path: PNG to write; replaced where it exists.
        by_size: Rows of one condition: ``low_m``, ``high_m``, ``truth``, ``recall``, ``recall_low``,
            ``recall_high``, ``predicted``, ``precision``, ``precision_low``, ``precision_high``.

    Raises:
        OutputError: The file can not be written.
    """
    title = "Which crowns are found"
    known = by_size[(by_size["truth"] > 0) | (by_size["predicted"] > 0)] if len(by_size) else by_size
    if not len(known):
        empty(path, title=title, what="no crowns")
        return
    rows = known.sort_values("low_m")
    figure, panels = chart(9.6, 4.2, title=title, count=2)
    names = [size_name(low, high) for low, high in zip(rows["low_m"], rows["high_m"], strict=True)]
    _intervals(panels[0], rows, "recall", "truth", names=names)
    dress(panels[0], x="diameter of the annotated crown, m", y="recall: share found")
    _intervals(panels[1], rows, "precision", "predicted", names=names)
    dress(panels[1], x="diameter of the predicted crown, m", y="precision: share that is right")
    save_figure(figure, path)


def _intervals(axes: Axes, rows: pd.DataFrame, column: str, total: str, *, names: list[str]) -> None:
    """Draw shares as bars with their intervals; those of few crowns are pale."""
    value = rows[column].to_numpy(dtype=float)
    low, high = (rows[f"{column}_{end}"].to_numpy(dtype=float) for end in ("low", "high"))
    count = rows[total].to_numpy(dtype=float)
    there = count > 0
    place = np.arange(len(rows))
    colour = BLUE if column == "precision" else VERMILION
    drawn = axes.bar(place[there], value[there], color=colour, width=0.72)
    for bar, n in zip(drawn, count[there], strict=True):
        bar.set_alpha(0.8 if n >= FEW else 0.35)
    error = np.clip([value - low, high - value], 0, None)[:, there]
    axes.errorbar(place[there], value[there], yerr=error, fmt="none", ecolor=BLACK, elinewidth=1.2, capsize=3)
    axes.set_xticks(place, [f"{name}\nn = {n:.0f}" for name, n in zip(names, count, strict=True)])
    axes.set_xlim(-0.6, len(rows) - 0.4)
    axes.set_ylim(0, 1.04)
