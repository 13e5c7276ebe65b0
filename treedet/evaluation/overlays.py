"""Pictures of the best and the worst raster: what was found, missed and made up on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from treedet.display.evaluation_rasters import short_names
from treedet.display.sheets import SQUARE_M, HitSquare, Outcome, choose_squares, hits_sheet
from treedet.evaluation.ground import EvaluatedGround
from treedet.evaluation.outcomes import Fates
from treedet.metrics.points import PairedPoints

SQUARES = 4
ONE_INCHES, SIDE_INCHES = 6.0, 4.2
"""Side of a square on the picture, alone and beside others."""
STEM_M = 0.6
"""Half the side of the square that stands for a stem."""


def draw_overlays(folder: Path, grounds: Sequence[EvaluatedGround], fates: Sequence[Fates]) -> dict[str, str]:
    """Draw the rasters with the best and the worst F1, of equals the one with more crowns.

    Of stems that may be incomplete recall is taken, as nothing is known of false alarms.

    Args:
        folder: Where ``best.png`` and ``worst.png`` are written; ``overlay.png`` where there is only one raster.
        grounds: Rasters and their crowns; those without imagery or without crowns are passed over.
        fates: What became of the crowns of each.

    Returns:
        What each file shows, by its name; nothing where no raster can be drawn.
    """
    # Where nothing says that stems are complete, what is found besides them is not known to be wrong.
    stems = any(isinstance(ground.paired, PairedPoints) and not ground.paired.complete for ground in grounds)
    what_score, scores = ("recall", [_recall(fate) for fate in fates]) if stems else ("F1", [f.f1 for f in fates])
    known = [i for i, ground in enumerate(grounds) if ground.plot is not None and math.isfinite(scores[i])]
    if not known:
        return {}
    size = {i: len(fates[i].truth) + len(fates[i].missed) + len(fates[i].made_up) for i in known}
    names = short_names([ground.name for ground in grounds], longest=60)
    best = max(known, key=lambda i: (scores[i], size[i]))
    worst = max(known, key=lambda i: (-scores[i], size[i]))
    chosen = {"overlay.png": ("The raster", best)} if best == worst else {}
    chosen = chosen or {"best.png": ("Best raster", best), "worst.png": ("Worst raster", worst)}
    said = {}
    for file, (what, i) in chosen.items():
        squares = _squares(grounds[i], fates[i])
        title = f"{what}, {what_score} {scores[i]:.2f}\n{names[i]}"
        hits_sheet(folder / file, squares, title=title, inches=ONE_INCHES if len(squares) == 1 else SIDE_INCHES)
        said[file] = f"{what}: {names[i]}, {what_score} {scores[i]:.2f}."
    return said


def _recall(fate: Fates) -> float:
    truth = len(fate.truth) + len(fate.missed)
    return len(fate.truth) / truth if truth else math.nan


def _squares(ground: EvaluatedGround, fate: Fates) -> list[HitSquare]:
    """Return up to four squares of a raster: those with most mistakes, and some at random."""
    plot = ground.plot
    if plot is None:
        return []
    grid = plot.grid
    paired = ground.paired
    truth = _around(paired.points) if isinstance(paired, PairedPoints) else np.asarray(paired.truth, np.float64)
    metres = np.array([grid.gsd_x, grid.gsd_y] * 2)
    true_rows = np.concatenate([fate.truth, fate.missed])
    found_rows = np.concatenate([fate.predicted, fate.made_up])
    outcome = Outcome(
        name="",
        width=grid.width,
        height=grid.height,
        gsd=grid.gsd,
        truth=truth[true_rows] / metres,
        predicted=np.asarray(paired.predicted, np.float64)[found_rows] / metres,
        truth_hit=np.arange(len(true_rows)) < len(fate.truth),
        predicted_hit=np.arange(len(found_rows)) < len(fate.predicted),
    )
    widest = float(np.quantile(truth[:, 2] - truth[:, 0], 0.95)) if len(truth) else 0.0
    side = max(SQUARE_M, 4 * widest)
    windows = [window for _, window in choose_squares([outcome], count=SQUARES, side_m=side)]
    with plot.open() as raster:
        seen = [outcome.square(window, raster.read(window).pixels) for window in windows]
    return [replace(square, name=f"square {number}") for number, square in enumerate(seen, start=1)]


def _around(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.concatenate([points - STEM_M, points + STEM_M], axis=1)
