"""Picture of a confusion matrix: what is true in rows, what is said in columns, crowns missed and spurious apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from treedet.display.evaluation import chart, empty
from treedet.display.figures import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

APART = 0.35
"""Cells between the classes and what is no class."""
FEW_CLASSES = 9
"""Classes up to which a cell has room for a share under its number."""
MANY_CLASSES = 30
"""Classes above which cells are too small for numbers."""
LONGEST = 22
"""Letters of a name that are shown."""
CELL_INCHES = 0.95
LIGHTEST = -0.12
"""Share that would be white among the greys, so that a cell of 0 % is seen."""
DARK = 0.55
"""Share below which a cell is so dark that its number is white, or in grey cells above which."""


def confusion(path: Path, counts: npt.NDArray[np.int64], names: Sequence[str], *, attribute: str) -> None:
    """Draw a confusion matrix with numbers of crowns and shares of their row.

    The columns *unsaid* and *missed* and the row *spurious* are left out where they hold no crown, so that boxes that
    were given rather than found have neither of the last two.

    Args:
        path: PNG to write; replaced where it exists.
        counts: Int64 ``[K + 1, K + 2]``; see :class:`treedet.metrics.attributes.AttributeScores`.
        names: The K classes.
        attribute: What they are classes of.

    Raises:
        OutputError: The file can not be written.
    """
    title = f"{attribute}: what is true, and what is said"
    if not counts.sum():
        empty(path, title=title, what="no crowns")
        return
    k = len(names)
    totals = counts.sum(axis=1)
    shares = np.divide(counts, totals[:, None], out=np.full(counts.shape, np.nan), where=totals[:, None] > 0)
    columns = [*range(k), *(place for place in (k, k + 1) if counts[:, place].any())]
    rows = [*range(k), *([k] if totals[k] else [])]
    x, y = (np.arange(len(shown)) + APART * (np.array(shown) >= k) for shown in (columns, rows))
    short = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in names]
    figure, axes = _panel(x, y, short, title=title, classes=k)
    for top, bottom, grey_rows in ((0, k, False), (k, len(rows), True)):
        for left, right, grey_columns in ((0, k, False), (k, len(columns), True)):
            block = shares[np.ix_(rows[top:bottom], columns[left:right])]
            # Nothing is both spurious and missed.
            block = block[:, np.array(columns[left:right]) <= k] if grey_rows else block
            if block.size:
                _block(axes, block, (x[left], y[top]), grey=grey_rows or grey_columns)
    for row, height in zip(rows, y, strict=True):
        for column, place in zip(columns, x, strict=True):
            if k <= MANY_CLASSES and (row, column) != (k, k + 1):
                number = _Cell(int(counts[row, column]), float(shares[row, column]), grey=max(row, column) >= k)
                number.write(axes, (place, height), classes=k)
    said, true = [*short, "unsaid", "missed"], [*short, "spurious"]
    turned = k > FEW_CLASSES or max(map(len, short)) > 9
    where: dict[str, Any] = {"ha": "right", "rotation": 60, "rotation_mode": "anchor"} if turned else {}
    text: dict[str, Any] = {"fontsize": 9 if k <= MANY_CLASSES else 7, "parse_math": False}
    axes.set_xticks(x, [said[column] for column in columns], **where, **text)
    axes.set_yticks(y, [f"{true[row]}  (n = {totals[row]})" for row in rows], **text)
    save_figure(figure, path)


def _panel(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], names: Sequence[str], *, title: str, classes: int
) -> tuple[Figure, Axes]:
    """Return a panel for cells with their middles at ``x`` and ``y``, and room for the names."""
    cell = CELL_INCHES if classes <= FEW_CLASSES else max(0.24, min(0.5, 14 / classes))
    letters = max(map(len, names)) + 10
    wide, high = cell * (x[-1] + 1) + 0.8 + 0.09 * letters, cell * (y[-1] + 1) + 1.0 + 0.07 * letters
    figure, (axes,) = chart(max(5.0, wide), max(3.2, high), title=title)
    axes.set_xlabel("what is said", fontsize=10)
    axes.set_ylabel("what is true", fontsize=10)
    axes.set_xlim(-0.5, x[-1] + 0.5)
    axes.set_ylim(y[-1] + 0.5, -0.5)
    axes.set_aspect("equal")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure, axes


def _block(axes: Axes, shares: npt.NDArray[np.float64], first: tuple[float, float], *, grey: bool) -> None:
    """Fill cells by their share of the row, the first of them with its middle at ``first``."""
    from matplotlib import colormaps  # noqa: PLC0415

    colours = colormaps["Greys" if grey else "cividis"].with_extremes(bad="#eeeeee")
    axes.pcolormesh(
        np.arange(shares.shape[1] + 1) + first[0] - 0.5,
        np.arange(shares.shape[0] + 1) + first[1] - 0.5,
        np.ma.masked_invalid(shares),
        cmap=colours,
        vmin=LIGHTEST if grey else 0,
        vmax=1,
        edgecolor="white",
        linewidth=1.2,
    )


@dataclass(frozen=True)
class _Cell:
    """A number of crowns, its share of the row (NaN for none), and whether its colour is a grey."""

    count: int
    share: float
    grey: bool

    def write(self, axes: Axes, where: tuple[float, float], *, classes: int) -> None:
        """Write the number into its cell, and the share where there is room; zeros only where there is."""
        few = classes <= FEW_CLASSES
        if not (self.count or few):
            return
        known = math.isfinite(self.share)
        text = f"{self.count}\n{100 * self.share:.0f} %" if few and known else str(self.count)
        light = known and (self.share > DARK if self.grey else self.share < DARK)
        size = 10 if few else 9 if self.count < 100 else 7 if self.count < 1000 else 5.5
        axes.text(*where, text, ha="center", va="center", fontsize=size, color="white" if light else "black")
