"""Plots of a field table on the map of crowns: which stem got which crown, and how far each plot was moved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from treedet.core.palette import COLOUR_BLIND_SAFE, NO_VALUE
from treedet.datasets.field_trees import FieldMatch
from treedet.display.figures import (
    bar_length_m,
    draw_boxes,
    legend_below,
    outline_keys,
    panels,
    save_figure,
)
from treedet.metrics.stem_matching import AMBIGUOUS, FATES, MATCHED, UNMATCHED

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

MOST_PLOTS = 9
MOST_SIDE_M = 100.0
"""Of a larger plot its middle is drawn."""
MARGIN_M = 4.0
COLOURS = {MATCHED: COLOUR_BLIND_SAFE[5], AMBIGUOUS: COLOUR_BLIND_SAFE[4], UNMATCHED: COLOUR_BLIND_SAFE[2]}
MARKS = {MATCHED: "o", AMBIGUOUS: "s", UNMATCHED: "X"}
CROWN, ARROW = NO_VALUE, COLOUR_BLIND_SAFE[6]


def draw_match(path: Path, found: FieldMatch, *, title: str) -> None:
    """Draw up to nine plots, those with the most stems: crowns, stems by fate, and the shift of each plot.

    Args:
        path: PNG to write; replaced where it exists.
        found: What was matched.
        title: Line above the picture.

    Raises:
        OutputError: The file can not be written.
    """
    somewhere = np.isfinite(found.scene.stems).all(axis=1)
    counts = np.bincount(found.scene.plot[somewhere], minlength=len(found.plots))
    shown = np.sort(np.argsort(-counts, kind="stable")[:MOST_PLOTS])
    shown = shown[counts[shown] > 0]
    more = "" if (counts > 0).sum() <= len(shown) else f", {len(shown)} of {(counts > 0).sum()} plots"
    figure, axes = panels(len(shown), title=title + more)
    for number, panel in zip(shown.tolist(), axes, strict=True):
        _draw_plot(panel, found, np.flatnonzero(somewhere & (found.scene.plot == number)), number)
    legend_below(figure, [*outline_keys({"crown": CROWN}), *_keys()])
    save_figure(figure, path)


def _draw_plot(axes: Axes, found: FieldMatch, stems: npt.NDArray[np.int64], number: int) -> None:
    scene, row = found.scene, found.plots.iloc[number]
    xy = scene.stems[stems]
    low, high = _view(xy)
    boxes = scene.boxes
    seen = (boxes[:, 2:] >= low).all(axis=1) & (boxes[:, :2] <= high).all(axis=1)
    draw_boxes(axes, boxes[seen], CROWN, width=1.0)
    given = stems[scene.crown[stems] >= 0]
    centres = (boxes[scene.crown[given], :2] + boxes[scene.crown[given], 2:]) / 2
    for fate in FATES:
        mine = scene.fate[given] == fate
        axes.plot(
            np.vstack([scene.stems[given[mine], 0], centres[mine, 0]]),
            np.vstack([scene.stems[given[mine], 1], centres[mine, 1]]),
            color=COLOURS[fate],
            linewidth=0.9,
        )
        here = xy[scene.fate[stems] == fate]
        axes.scatter(
            here[:, 0], here[:, 1], s=16, c=COLOURS[fate], marker=MARKS[fate], edgecolors="black", linewidths=0.4
        )
    side = float((high - low).max())
    _arrow(axes, row["shift_x_m"], row["shift_y_m"], end=low + 0.88 * side)
    _bar(axes, low, side)
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    name = f"{row['plot']}: " if row["plot"] else ""
    moved = f", moved {np.hypot(row['shift_x_m'], row['shift_y_m']):.1f} m" if not row["reason"] else ""
    axes.set_title(f"{name}{row[MATCHED]} of {row['stems']} matched{moved}", fontsize=9, parse_math=False)


def _view(xy: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the corners of the square that is shown."""
    middle = (xy.min(axis=0) + xy.max(axis=0)) / 2
    half = min(float(np.ptp(xy, axis=0).max()) / 2 + MARGIN_M, MOST_SIDE_M / 2)
    return middle - half, middle + half


def _arrow(axes: Axes, dx: float, dy: float, *, end: npt.NDArray[np.float64]) -> None:
    """Draw how the plot was moved, in the upper right corner, as long as it is on the ground."""
    if dx or dy:
        axes.annotate(
            "",
            xy=(end[0] + dx / 2, end[1] + dy / 2),
            xytext=(end[0] - dx / 2, end[1] - dy / 2),
            arrowprops={"arrowstyle": "->", "color": ARROW, "linewidth": 2.0, "shrinkA": 0, "shrinkB": 0},
        )


def _bar(axes: Axes, low: npt.NDArray[np.float64], side: float) -> None:
    metres = bar_length_m(side)
    x, y = low + 0.04 * side
    axes.plot([x, x + metres], [y, y], color="black", linewidth=3, solid_capstyle="butt")
    axes.text(x, y + 0.02 * side, f"{metres:g} m", fontsize=8, va="bottom")


def _keys() -> list[Artist]:
    from matplotlib.lines import Line2D  # noqa: PLC0415 - a second that only those pay who draw

    stems: list[Artist] = [
        Line2D([], [], color=COLOURS[fate], marker=MARKS[fate], markeredgecolor="black", markersize=5, label=fate)
        for fate in FATES
    ]
    return [*stems, Line2D([], [], color=ARROW, linewidth=2.0, label="shift of the plot")]
