"""Sheets of windows: what training is shown, and what a model finds, misses and makes up on validation ground."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from treedet.core.grid import Window
from treedet.core.palette import class_colours
from treedet.display.figures import (
    draw_boxes,
    legend_below,
    outline_keys,
    panels,
    save_figure,
    say_empty,
    scale_bar,
    show_ground,
)

MOST_WINDOWS = 16
MOST_SQUARES = 12
SQUARE_M = 40.0

IGNORED_COLOUR = "#bdbdbd"
FOUND, MISSED, RIGHT, MADE_UP = "#009e73", "#cc3311", "#56b4e9", "#e69f00"
"""Green, blue and orange of Okabe and Ito (2008), red of Tol (2021, *Colour schemes*, vibrant).

They differ in brightness for every common colour deficiency; width and dashes tell them apart without colour too.
"""

TrainingWindow = tuple[npt.NDArray[np.uint8], npt.NDArray[np.floating[Any]], npt.NDArray[np.integer[Any]]]
"""Pixels uint8 ``[3, H, W]``, boxes float ``[N, 4]`` in them, classes int ``[N]`` with -1 for ignored."""


def windows_sheet(
    path: Path,
    windows: Sequence[TrainingWindow],
    names: tuple[str, ...],
    *,
    gsd: float,
    title: str,
    known: Sequence[npt.NDArray[np.bool_] | None] | None = None,
) -> None:
    """Draw training windows with their boxes, each class in its colour, ignored crowns dashed and grey.

    Args:
        path: PNG to write; replaced where it exists.
        windows: Pixels, boxes and classes of each; the first 16 are drawn.
        names: Names of the classes.
        gsd: Metres per pixel of the windows, for their side and the scale bar.
        title: Line above the sheet.
        known: For each window, bool ``[H, W]`` that is False where nothing is known; that ground is drawn dark and
            striped. None for windows known everywhere.

    Raises:
        OutputError: The file can not be written.
    """
    drawn = list(windows[:MOST_WINDOWS])
    masks = [None] * len(drawn) if known is None else list(known[: len(drawn)])
    figure, axes = panels(len(drawn), title=title, inches=3.6)
    colours = class_colours(names)
    palette = [colours[name] for name in names]
    for panel, (pixels, boxes, classes), mask in zip(axes, drawn, masks, strict=True):
        ignored = np.asarray(classes) < 0
        height, width = pixels.shape[1:]
        show_ground(panel, _dim(pixels, mask), title=_window_title(width * gsd, ignored))
        draw_boxes(panel, boxes[ignored], IGNORED_COLOUR, style="dashed")
        draw_boxes(panel, boxes[~ignored], [palette[i] for i in classes[~ignored]])
        scale_bar(panel, width=width, height=height, gsd=gsd)
    keys = outline_keys(colours)
    if any((np.asarray(classes) < 0).any() for _, _, classes in drawn):
        keys += outline_keys({"ignored": IGNORED_COLOUR}, style="dashed")
    if not drawn:
        say_empty(figure, "no windows")
    legend_below(figure, keys)
    save_figure(figure, path)


def _window_title(side_m: float, ignored: npt.NDArray[np.bool_]) -> str:
    crowns, passed_over = int((~ignored).sum()), int(ignored.sum())
    text = f"{side_m:.0f} m, {crowns} crown{'' if crowns == 1 else 's'}"
    return f"{text}, {passed_over} ignored" if passed_over else text


def _dim(pixels: npt.NDArray[np.uint8], known: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.uint8]:
    """Darken the ground of which nothing is known, with diagonal stripes that no shadow has."""
    if known is None or known.all():
        return pixels
    height, width = known.shape
    stripe = max(4, width // 48)
    diagonal = (np.add.outer(np.arange(height), np.arange(width)) // stripe) % 2
    dimmed = (pixels * np.where(diagonal, 0.35, 0.6)).astype(np.uint8)
    return np.asarray(np.where(known, pixels, dimmed), dtype=np.uint8)


@dataclass(frozen=True, eq=False)
class HitSquare:
    """A square of ground with true and predicted crowns.

    Attributes:
        pixels: Uint8 ``[3, H, W]``.
        gsd: Metres per pixel of them.
        truth: Float ``[N, 4]``, pixels of the square.
        predicted: Float ``[M, 4]``, likewise.
        truth_hit: Bool ``[N]``: found.
        predicted_hit: Bool ``[M]``: right.
        name: What the square is of.
        known: Bool ``[H, W]``, False where the annotation is not complete; None for known everywhere.
    """

    pixels: npt.NDArray[np.uint8]
    gsd: float
    truth: npt.NDArray[np.floating[Any]]
    predicted: npt.NDArray[np.floating[Any]]
    truth_hit: npt.NDArray[np.bool_]
    predicted_hit: npt.NDArray[np.bool_]
    name: str
    known: npt.NDArray[np.bool_] | None = None

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Crowns found, missed, predicted rightly and made up."""
        found, right = int(self.truth_hit.sum()), int(self.predicted_hit.sum())
        return found, len(self.truth_hit) - found, right, len(self.predicted_hit) - right


@dataclass(frozen=True, eq=False)
class Outcome:
    """True and predicted crowns of one image, and which of them were matched.

    Attributes:
        name: What is written over its squares.
        width: Columns of the image.
        height: Rows of the image.
        gsd: Metres per pixel of the image.
        truth: Float ``[N, 4]``, pixels of the image.
        predicted: Float ``[M, 4]``, likewise.
        truth_hit: Bool ``[N]``: found.
        predicted_hit: Bool ``[M]``: right.
    """

    name: str
    width: int
    height: int
    gsd: float
    truth: npt.NDArray[np.floating[Any]]
    predicted: npt.NDArray[np.floating[Any]]
    truth_hit: npt.NDArray[np.bool_]
    predicted_hit: npt.NDArray[np.bool_]

    def square(
        self, window: Window, pixels: npt.NDArray[np.uint8], *, known: npt.NDArray[np.bool_] | None = None
    ) -> HitSquare:
        """Return what lies on a window of the image.

        Args:
            window: In pixels of the image.
            pixels: Uint8 ``[3, h, w]`` of that window, at any GSD; boxes are scaled to it.
            known: Bool ``[h, w]``, as in :class:`HitSquare`.
        """
        scale = np.array([pixels.shape[2] / window.width, pixels.shape[1] / window.height] * 2)
        left, top, right, bottom = window.box

        def on(boxes: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.bool_]:
            return np.asarray((boxes[:, 2:] > [left, top]).all(axis=1) & (boxes[:, :2] < [right, bottom]).all(axis=1))

        true, found = on(self.truth), on(self.predicted)
        return HitSquare(
            pixels=pixels,
            gsd=self.gsd / float(scale[0]),
            truth=(self.truth[true] - [left, top, left, top]) * scale,
            predicted=(self.predicted[found] - [left, top, left, top]) * scale,
            truth_hit=self.truth_hit[true],
            predicted_hit=self.predicted_hit[found],
            name=self.name,
            known=known,
        )


def choose_squares(
    outcomes: Sequence[Outcome], *, count: int = MOST_SQUARES, side_m: float = SQUARE_M, seed: int = 0
) -> list[tuple[int, Window]]:
    """Choose squares worth a look: half where most went wrong, half at random among those with crowns.

    Images are laid out in squares that cover them; a crown counts in the one that holds its centre. No square is
    chosen twice, and none without a true or predicted crown.

    Args:
        outcomes: What was found on each image.
        count: Squares wanted at most.
        side_m: Side of a square in metres; smaller images are taken whole.
        seed: Seed of the draw.

    Returns:
        Position in ``outcomes``, and window in pixels of that image; the worst first.
    """
    places: list[tuple[int, Window]] = []
    tallies: list[npt.NDArray[np.int64]] = []
    for position, outcome in enumerate(outcomes):
        windows, tally = _tally(outcome, side_m)
        places += [(position, window) for window in windows]
        tallies.append(tally)
    if not places:
        return []
    crowns, mistakes = np.concatenate(tallies, axis=1)
    order = np.random.default_rng(seed).permutation(len(places))
    worst = order[np.argsort(-mistakes[order], kind="stable")]
    worst = worst[mistakes[worst] > 0][: math.ceil(count / 2)]
    rest = order[~np.isin(order, worst)]
    drawn = np.concatenate([rest[crowns[rest] > 0], rest[(crowns[rest] == 0) & (mistakes[rest] > 0)]])
    return [places[i] for i in (*worst, *drawn[: count - len(worst)])]


def _tally(outcome: Outcome, side_m: float) -> tuple[list[Window], npt.NDArray[np.int64]]:
    """Return the squares that cover an image, row by row, and int64 ``[2, squares]``: true crowns, and mistakes."""
    side = max(8, round(side_m / outcome.gsd))
    height, width = min(side, outcome.height), min(side, outcome.width)
    rows, cols = math.ceil(outcome.height / height), math.ceil(outcome.width / width)
    down = np.linspace(0, outcome.height - height, rows).round().astype(int)
    along = np.linspace(0, outcome.width - width, cols).round().astype(int)
    windows = [Window(int(row), int(col), height, width) for row in down for col in along]

    def per_square(boxes: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.int64]:
        share = (boxes[:, :2] + boxes[:, 2:]) / 2 / [outcome.width, outcome.height]
        cell = np.clip((share * [cols, rows]).astype(np.int64), 0, [cols - 1, rows - 1])
        return np.bincount(cell[:, 1] * cols + cell[:, 0], minlength=rows * cols).astype(np.int64)

    missed, made_up = outcome.truth[~outcome.truth_hit], outcome.predicted[~outcome.predicted_hit]
    return windows, np.stack([per_square(outcome.truth), per_square(missed) + per_square(made_up)])


def hits_sheet(path: Path, squares: Sequence[HitSquare], *, title: str, inches: float = 4.0) -> None:
    """Draw squares with truth found (green), truth missed (red), right predictions (blue) and false alarms (orange).

    Missed truth is drawn thickest, false alarms dashed, right predictions thin.

    Args:
        path: PNG to write; replaced where it exists.
        squares: What to draw, in this order.
        title: Line above the sheet.
        inches: Side of a square on the sheet.

    Raises:
        OutputError: The file can not be written.
    """
    figure, axes = panels(len(squares), title=title, inches=inches)
    for panel, square in zip(axes, squares, strict=True):
        height, width = square.pixels.shape[1:]
        found, missed, _, made_up = square.counts
        tally = f"{found} found, {missed} missed, {made_up} false"
        show_ground(panel, _dim(square.pixels, square.known), title=f"{square.name}\n{tally}")
        draw_boxes(panel, square.truth[square.truth_hit], FOUND, width=1.8)
        draw_boxes(panel, square.predicted[square.predicted_hit], RIGHT, width=0.9)
        draw_boxes(panel, square.predicted[~square.predicted_hit], MADE_UP, width=1.8, style="dashed")
        draw_boxes(panel, square.truth[~square.truth_hit], MISSED, width=2.8)
        scale_bar(panel, width=width, height=height, gsd=square.gsd)
    if not squares:
        say_empty(figure, "no squares")
    # Squares may overlap, so each has its own counts and the sheet has none.
    keys = outline_keys({"truth found": FOUND}, width=1.8) + outline_keys({"truth missed": MISSED}, width=2.8)
    keys += outline_keys({"right prediction": RIGHT}, width=0.9)
    keys += outline_keys({"false alarm": MADE_UP}, width=1.8, style="dashed")
    legend_below(figure, keys)
    save_figure(figure, path)
