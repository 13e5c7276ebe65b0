"""Curves of a training run: losses, validation scores and learning rate by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from treedet.display.figures import new_figure, save_figure, say_empty

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BEST_COLOUR = "#555555"


@dataclass(frozen=True)
class Line:
    """One line of a panel.

    Attributes:
        label: In the legend.
        columns: Names a history may give it; the first that is there is drawn.
        colour: Of Okabe and Ito (2008), safe for colour-blind readers.
        dashes: matplotlib's style, different within a panel, so that colour is not needed.
        marker: Likewise.
    """

    label: str
    columns: tuple[str, ...]
    colour: str
    dashes: str
    marker: str


PANELS: Mapping[str, tuple[Line, ...]] = {
    "training loss": (
        Line("total", ("loss", "train_loss", "loss_epoch"), "#000000", "-", "o"),
        Line("class", ("loss_class", "train_loss_class"), "#0072b2", "--", "s"),
        Line("box", ("loss_box", "train_loss_box"), "#d55e00", ":", "^"),
    ),
    "validation": (
        Line("F1", ("val_f1",), "#000000", "-", "o"),
        Line("precision", ("val_precision",), "#0072b2", "--", "s"),
        Line("recall", ("val_recall",), "#d55e00", ":", "^"),
    ),
    "learning rate": (Line("learning rate", ("learning_rate", "lr"), "#000000", "-", "o"),),
}
MOST_MARKERS = 40
"""Epochs up to which each has a marker; beyond, lines alone stay readable."""


def curves(path: Path, history: Sequence[Mapping[str, float]], *, best_epoch: int | None) -> None:
    """Draw the history of a run; columns it lacks are left out, epochs without a value are passed over.

    Args:
        path: PNG to write; replaced where it exists.
        history: One row per epoch. Columns drawn: ``epoch`` (position where it is missing), ``loss``, ``loss_class``,
            ``loss_box``, ``val_f1``, ``val_precision``, ``val_recall`` and ``learning_rate`` (or ``lr``).
        best_epoch: The epoch whose weights were kept, in the counting of ``epoch``; None for none.

    Raises:
        OutputError: The file can not be written.
    """
    title = f"training, {len(history)} epoch{'' if len(history) == 1 else 's'}"
    epochs = np.array([_number(row, ("epoch",), default=float(i)) for i, row in enumerate(history)], dtype=float)
    drawn: dict[str, list[tuple[Line, npt.NDArray[np.float64]]]] = {}
    for name, lines in PANELS.items():
        values = [(line, np.array([_number(row, line.columns) for row in history], dtype=float)) for line in lines]
        kept = [(line, y) for line, y in values if np.isfinite(y).any()]
        if kept:
            drawn[name] = kept
    figure = new_figure(9.0, 0.6 + 2.9 * max(1, len(drawn)), title=title)
    if not drawn:
        say_empty(figure, "nothing to draw: the history has no losses and no scores")
    for position, (name, lines_of_panel) in enumerate(drawn.items()):
        axes = figure.add_subplot(len(drawn), 1, position + 1)
        for line, y in lines_of_panel:
            _draw_line(axes, epochs, y, line)
        if best_epoch is not None:
            mark = f"best epoch ({best_epoch}{_score_at(epochs, lines_of_panel, best_epoch)})"
            axes.axvline(best_epoch, color=BEST_COLOUR, linewidth=1, linestyle="-.", label=mark)
        _dress(axes, name, epochs)
    save_figure(figure, path)


def _number(row: Mapping[str, float], columns: tuple[str, ...], *, default: float = math.nan) -> float:
    """Return the first of the columns that a row has, as a finite number or NaN."""
    value = next((row[name] for name in columns if row.get(name) is not None), default)
    return float(value) if math.isfinite(value) else math.nan


def _draw_line(axes: Axes, epochs: npt.NDArray[np.float64], y: npt.NDArray[np.float64], line: Line) -> None:
    seen = np.isfinite(y) & np.isfinite(epochs)
    # Scores of every few epochs are joined; a single one needs its marker to be seen at all.
    marker = line.marker if seen.sum() <= MOST_MARKERS else ""
    axes.plot(
        epochs[seen],
        y[seen],
        color=line.colour,
        linestyle=line.dashes,
        marker=marker,
        markersize=4,
        linewidth=1.6,
        label=line.label,
    )


def _score_at(
    epochs: npt.NDArray[np.float64], lines: Sequence[tuple[Line, npt.NDArray[np.float64]]], best_epoch: int
) -> str:
    """Return the F1 of an epoch for the legend; nothing where the panel has none."""
    scores = next((y for line, y in lines if line.label == "F1"), None)
    at = np.flatnonzero(epochs == best_epoch)
    if scores is None or len(at) == 0 or not np.isfinite(scores[at[-1]]):
        return ""
    return f", F1 {scores[at[-1]]:.3f}"


def _dress(axes: Axes, name: str, epochs: npt.NDArray[np.float64]) -> None:
    """Give a panel its axes, labels and legend."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    finite = epochs[np.isfinite(epochs)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    axes.set_xlim(low - 0.5, high + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    if name == "validation":
        axes.set_ylim(0, 1)
    else:
        axes.set_ylim(bottom=0)
    axes.set_ylabel(name, fontsize=10)
    axes.set_xlabel("epoch", fontsize=10)
    axes.tick_params(labelsize=9)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(fontsize=9, loc="best", frameon=True, framealpha=0.85)
