"""Pictures of an evaluation by raster: scores, counts, distances to stems, and what changed between two reports."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from treedet.display.evaluation import BLUE, GREY, VERMILION, chart, dress, empty
from treedet.display.figures import save_figure

MOST_NAMED = 40
"""Rasters up to which each has a bar with its name; more are drawn as a distribution."""
MOST_CHANGED = 20


def raster_scores(path: Path, by_raster: pd.DataFrame) -> None:
    """Draw F1 by raster, the best above; many rasters as a histogram.

    Args:
        path: PNG to write; replaced where it exists.
        by_raster: Rows of one condition: ``raster``, ``f1``, ``truth``.

    Raises:
        OutputError: The file can not be written.
    """
    title = "F1 by raster"
    rows = by_raster[by_raster["f1"].notna()].sort_values("f1", kind="stable") if len(by_raster) else by_raster
    if not len(rows):
        empty(path, title=title, what="no raster with crowns")
        return
    middle = float(rows["f1"].median())
    if len(rows) <= MOST_NAMED:
        figure, (axes,) = chart(6.4, 1.4 + 0.24 * len(rows), title=title)
        axes.hlines(range(len(rows)), 0, rows["f1"], color="#c9d6df", linewidth=3)
        axes.plot(rows["f1"], range(len(rows)), "o", color=BLUE, markersize=6)
        names = [f"{name}  ({n:.0f})" for name, n in zip(short_names(rows["raster"]), rows["truth"], strict=True)]
        axes.set_yticks(range(len(rows)), names)
        for label in axes.get_yticklabels():
            label.set_parse_math(False)
        axes.set_ylim(-0.7, len(rows) - 0.3)
        dress(axes, x="F1", y="raster (annotated crowns)")
    else:
        figure, (axes,) = chart(6.4, 3.8, title=f"{title}, {len(rows)} rasters")
        axes.hist(rows["f1"], bins=np.linspace(0, 1, 21).tolist(), color=BLUE, alpha=0.8, edgecolor="white")
        dress(axes, x="F1", y="rasters")
    axes.axvline(middle, color=GREY, linewidth=1.2, linestyle="-.", label=f"median {middle:.2f}")
    axes.set_xlim(0, 1.02)
    axes.legend(fontsize=9, loc="lower right" if len(rows) <= MOST_NAMED else "best", framealpha=0.85)
    save_figure(figure, path)


def counts(path: Path, by_raster: pd.DataFrame) -> None:
    """Draw the number of predicted crowns by that of annotated ones, a point for each raster, and the 1:1 line.

    Args:
        path: PNG to write; replaced where it exists.
        by_raster: Rows of one condition: ``truth``, ``predicted``.

    Raises:
        OutputError: The file can not be written.
    """
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    title = "Crowns counted by raster"
    if not len(by_raster):
        empty(path, title=title, what="no rasters")
        return
    true, found = (by_raster[name].to_numpy(dtype=float) for name in ("truth", "predicted"))
    most = max(float(np.max([true, found])), 1.0) * 1.06
    figure, (axes,) = chart(5.0, 4.8, title=title)
    axes.plot([0, most], [0, most], color=GREY, linewidth=1.2, linestyle="--", label="as many as there are")
    axes.fill_between([0, most], [0, 0.8 * most], [0, 1.2 * most], color=GREY, alpha=0.12, label="within 20 %")
    axes.plot(true, found, "o", color=BLUE, alpha=0.7, markersize=5, markeredgewidth=0)
    axes.set_xlim(-0.02 * most, most)
    axes.set_ylim(-0.02 * most, most)
    axes.set_aspect("equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    dress(axes, x="annotated crowns", y="predicted crowns")
    axes.legend(fontsize=9, loc="upper left", framealpha=0.85)
    save_figure(figure, path)


def distances(path: Path, metres: npt.NDArray[np.floating[Any]]) -> None:
    """Draw how far stems are from the centres of the crowns they were matched with.

    Args:
        path: PNG to write; replaced where it exists.
        metres: Float ``[K]``.

    Raises:
        OutputError: The file can not be written.
    """
    title = "Distance from stem to crown centre"
    known = np.asarray(metres, dtype=float)
    known = known[np.isfinite(known)]
    if not len(known):
        empty(path, title=title, what="no stem was matched")
        return
    middle, far = np.quantile(known, [0.5, 0.95])
    figure, (axes,) = chart(6.4, 3.8, title=title)
    axes.hist(known, bins=min(40, max(8, round(len(known) ** 0.5))), color=BLUE, alpha=0.8, edgecolor="white")
    axes.axvline(middle, color=GREY, linewidth=1.4, linestyle="-.", label=f"median {middle:.2f} m")
    axes.axvline(far, color=GREY, linewidth=1.4, linestyle=":", label=f"95 % below {far:.2f} m")
    axes.set_xlim(left=0)
    dress(axes, x="distance, m", y="stems")
    axes.legend(fontsize=9, loc="best", framealpha=0.85)
    save_figure(figure, path)


def differences(path: Path, table: pd.DataFrame, by_raster: pd.DataFrame) -> None:
    """Draw the difference of F1 between two reports by condition, and the rasters that changed most.

    Args:
        path: PNG to write; replaced where it exists.
        table: ``condition``, ``f1_difference``, ``f1_difference_low``, ``f1_difference_high``.
        by_raster: ``raster``, ``f1_a``, ``f1_b``; the largest changes first.

    Raises:
        OutputError: The file can not be written.
    """
    changed = by_raster.head(MOST_CHANGED).iloc[::-1]
    longest = max(len(table), len(changed))
    figure, (left, right) = chart(10.4, 1.6 + 0.26 * max(longest, 5), title="Second report minus the first", count=2)
    rows = table.iloc[::-1]
    place = np.arange(len(rows))
    value, low, high = (rows[f"f1_difference{end}"].to_numpy(dtype=float) for end in ("", "_low", "_high"))
    error = np.nan_to_num(np.clip([value - low, high - value], 0, None))
    left.axvline(0, color=GREY, linewidth=1.2)
    left.errorbar(value, place, xerr=error, fmt="o", color=BLUE, ecolor=BLUE, capsize=3, markersize=6)
    left.set_yticks(place, list(rows["condition"]))
    left.set_ylim(-0.7, max(len(rows), 1) - 0.3)
    dress(left, x="difference of F1, 95 % interval", y="")
    order = np.arange(len(changed))
    right.hlines(order, changed["f1_a"], changed["f1_b"], color="#c9d6df", linewidth=3)
    right.plot(changed["f1_a"], order, "o", color=VERMILION, markerfacecolor="white", label="first report")
    right.plot(changed["f1_b"], order, "o", color=BLUE, label="second report")
    right.set_yticks(order, short_names(changed["raster"]))
    for label in right.get_yticklabels():
        label.set_parse_math(False)
    right.set_xlim(-0.02, 1.02)
    dress(right, x="F1 of the rasters that changed most", y="")
    if len(changed):
        right.legend(fontsize=9, loc="best", framealpha=0.85)
    save_figure(figure, path)


def short_names(names: Sequence[str] | pd.Series[str], *, longest: int = 34) -> list[str]:
    """Return names without the folders that all of them are in, cut in the middle where they are long.

    >>> short_names(["plots/a.tif", "plots/b.tif"]), short_names(["x/a.tif", "y/a.tif"]), short_names(["x/a.tif"])
    (['a.tif', 'b.tif'], ['x/a.tif', 'y/a.tif'], ['a.tif'])
    """
    parts = [str(name).replace("\\", "/").split("/") for name in names]
    folders = [part[:-1] for part in parts]
    shared = len(list(takewhile(lambda level: len(set(level)) == 1, zip(*folders, strict=False))))
    told = ["/".join(part[shared:]) for part in parts]
    half = longest // 2 - 1
    return [name if len(name) <= longest else f"{name[:half]}…{name[-half:]}" for name in told]
