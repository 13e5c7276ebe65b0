"""Training and validation on ground of their own: spatial blocks, so that neighbouring crowns do not leak."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from treedet.datasets.annotated import AnnotatedRaster
from treedet.errors import ConfigError

log = logging.getLogger("treedet")

LEAST_CROWNS = 10
"""With fewer crowns a validation part would say nothing, and training needs them all."""
LEAST_BLOCKS = 3
"""A raster of fewer blocks is held out as a whole or not at all."""
LEAST_OF_CLASS = 5
"""A class with this many crowns is wanted on both sides."""
ENOUGH_BLOCKS = 12
"""Blocks with crowns that let a share be met closely; with fewer, large rasters are cut finer."""
CROWNS_PER_SIDE, LEAST_SIDE_M = (4.0, 2.0), 20.0
"""A block's side in wide crowns: as many as ground allows. With fewer, most crowns would lie on a border."""
_CUTS = (8, 16, 32, 64)  # blocks along a side at most: as few borders as the share allows
_TRIALS, _WORK = 64, 500_000


@dataclass(frozen=True, eq=False)
class Part:
    """The ground of an annotated raster that belongs to training or to validation.

    Attributes:
        plot: The annotated raster.
        area: What belongs to this part, inside the AOI, in pixels of ``plot.grid``; None for all of it.
        blank: Ground held out for validation, in pixels of ``plot.grid``, that training windows never show. None for
            validation: what lies around its blocks is seen, so that crowns at their border are whole.
        mine: Bool ``[N]``: which crowns of the plot belong here: those whose box centre lies in the area.
    """

    plot: AnnotatedRaster
    area: BaseGeometry | None
    blank: BaseGeometry | None
    mine: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Split:
    """Parts to train on and parts to validate on; no crown and no ground belongs to both."""

    train: tuple[Part, ...]
    validation: tuple[Part, ...]


def whole(plots: Sequence[AnnotatedRaster]) -> tuple[Part, ...]:
    """Return plots as they are, one part each, within their AOI where they have one."""
    return tuple(Part(plot, plot.aoi, None, _in_aoi(plot)) for plot in plots)


def split_blocks(plots: Sequence[AnnotatedRaster], *, share: float = 0.2, seed: int = 0) -> Split:
    """Hold out square blocks of ground for validation.

    Blocks are at least four times as wide as the 95th percentile of crown diameters, or twice where ground is too
    small for that, and at least 20 m; a raster of fewer than three of them is held out whole or not at all. They are
    drawn so that validation holds about ``share`` of all crowns, of each class and of the ground. The draw depends on
    the seed alone.

    Args:
        plots: Annotated rasters.
        share: Share of crowns wanted in validation, above 0 and below 1.
        seed: Seed of the draw.

    Returns:
        The parts of both sides, in the order of the plots. Validation is empty, with a notice, where there are fewer
        than ten crowns or too few blocks.

    Raises:
        ConfigError: ``share`` is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ConfigError(f"the share of crowns for validation must be above 0 and below 1, found {share}")
    crowns = sum(int(_in_aoi(plot).sum()) for plot in plots)
    if crowns < LEAST_CROWNS:
        return _unsplit(plots, f"{crowns} crowns are too few to hold some out ({LEAST_CROWNS} are needed)")
    for per_side in CROWNS_PER_SIDE:
        side_m = _side_m(plots, per_side)
        cuts = _cut(plots, side_m)
        counts = _class_counts(plots, cuts)
        divisible = len(counts) >= 2 and (counts.sum(axis=1) > 0).sum() >= 2
        if divisible:
            break
    if not divisible:
        return _unsplit(plots, f"all crowns lie in one block of {side_m:.0f} m, so none can be held out")
    ground = np.concatenate([cut.hectares for cut in cuts])
    held = _draw(counts, ground, share, np.random.default_rng(seed))
    sides = np.split(held, np.cumsum([len(cut.squares) for cut in cuts])[:-1])
    split = _parts(plots, cuts, sides)
    found = int(counts[held].sum())
    log.info(
        "validation: %d of %d crowns (%.0f %%), in %d of %d blocks of at least %.0f m",
        found,
        crowns,
        100 * found / crowns,
        held.sum(),
        len(held),
        side_m,
    )
    return split


def _unsplit(plots: Sequence[AnnotatedRaster], why: str) -> Split:
    log.info("no validation: %s; give rasters of their own for it (--validation), or annotate more ground", why)
    return Split(whole(plots), ())


@dataclass(frozen=True, eq=False)
class _Cut:
    """The blocks of one plot.

    Attributes:
        squares: Object ``[B]``: blocks in pixels, whole even where the AOI covers a part of them.
        hectares: Float64 ``[B]``: ground of each inside the AOI.
        of_crown: Int64 ``[N]``: block of each crown; -1 outside the AOI.
    """

    squares: npt.NDArray[np.object_]
    hectares: npt.NDArray[np.float64]
    of_crown: npt.NDArray[np.int64]


def _side_m(plots: Sequence[AnnotatedRaster], per_side: float) -> float:
    diameters = np.concatenate([plot.diameters_m for plot in plots])
    return max(LEAST_SIDE_M, per_side * float(np.percentile(diameters, 95)))


def _cut(plots: Sequence[AnnotatedRaster], side_m: float) -> list[_Cut]:
    """Cut plots into the fewest blocks that leave a choice."""
    cuts: list[_Cut] = []
    for most in _CUTS:
        before = sum(len(cut.squares) for cut in cuts)
        cuts = [_cut_one(plot, side_m, most) for plot in plots]
        with_crowns = sum(len(np.unique(cut.of_crown[cut.of_crown >= 0])) for cut in cuts)
        if with_crowns >= ENOUGH_BLOCKS or before == sum(len(cut.squares) for cut in cuts):
            break
    return cuts


def _cut_one(plot: AnnotatedRaster, side_m: float, most: int) -> _Cut:
    """Cut the bounds of a plot's annotated ground into equal blocks, no smaller than ``side_m``."""
    extent = plot.aoi if plot.aoi is not None else shapely.box(0, 0, plot.grid.width, plot.grid.height)
    left, top, right, bottom = extent.bounds
    grid = plot.grid
    columns = min(most, max(1, math.floor((right - left) * grid.gsd_x / side_m)))
    rows = min(most, max(1, math.floor((bottom - top) * grid.gsd_y / side_m)))
    if columns * rows < LEAST_BLOCKS:
        columns = rows = 1
    x, y = np.linspace(left, right, columns + 1), np.linspace(top, bottom, rows + 1)
    squares = shapely.box(
        np.tile(x[:-1], rows), np.repeat(y[:-1], columns), np.tile(x[1:], rows), np.repeat(y[1:], columns)
    )
    ground = squares if plot.aoi is None else shapely.intersection(squares, plot.aoi)
    centre = _centres(plot)
    column = np.clip(np.searchsorted(x, centre[:, 0], side="right") - 1, 0, columns - 1)
    row = np.clip(np.searchsorted(y, centre[:, 1], side="right") - 1, 0, rows - 1)
    of_crown = np.where(_in_aoi(plot), row * columns + column, -1)
    hectares = shapely.area(ground) * grid.gsd_x * grid.gsd_y / 1e4
    return _Cut(np.asarray(squares, dtype=object), np.asarray(hectares), of_crown.astype(np.int64))


def _class_counts(plots: Sequence[AnnotatedRaster], cuts: Sequence[_Cut]) -> npt.NDArray[np.int64]:
    """Return the crowns of each class in each block of all plots, int64 ``[B, K]``."""
    labels = np.concatenate([plot.labels for plot in plots]).astype(str)
    names, codes = np.unique(labels, return_inverse=True)
    starts = np.cumsum([0, *(len(cut.squares) for cut in cuts)])
    inside = np.concatenate([cut.of_crown >= 0 for cut in cuts])
    block = np.concatenate([cut.of_crown + start for cut, start in zip(cuts, starts[:-1], strict=True)])
    counts = np.bincount(block[inside] * len(names) + codes[inside], minlength=int(starts[-1]) * len(names))
    return counts.reshape(-1, len(names)).astype(np.int64)


def _draw(
    counts: npt.NDArray[np.int64], ground: npt.NDArray[np.float64], share: float, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Return which blocks are held out, bool ``[B]``: the best beginning of any of many random orders.

    Args:
        counts: Crowns of each class in each block, ``[B, K]``.
        ground: Hectares of each block, ``[B]``.
        share: Share wanted.
        rng: Source of the orders.
    """
    able = np.flatnonzero(ground > 0)
    totals = counts.sum(axis=0)
    wanted = totals >= LEAST_OF_CLASS
    # Columns: all crowns, then each class that can be shared out, then the ground.
    figures = np.column_stack([counts.sum(axis=1), counts[:, wanted], ground])[able].astype(np.float64)
    figures /= figures.sum(axis=0)
    weights = np.array([1.0, *([1 / max(1, wanted.sum())] * int(wanted.sum())), 0.25])
    best, cost = np.zeros(0, dtype=np.int64), math.inf
    for _ in range(int(np.clip(_WORK // figures.size, 8, _TRIALS))):
        order = rng.permutation(len(able))
        held = np.cumsum(figures[order], axis=0)[:-1]
        costs = np.abs(held - share) @ weights
        crowned = held[:, :-1]
        # A class on one side alone costs more than any share missed; no crown at all on a side costs most.
        costs += ((crowned[:, 1:] < 1e-9) | (crowned[:, 1:] > 1 - 1e-9)).sum(axis=1) * 4.0
        costs[(crowned[:, 0] < 1e-9) | (crowned[:, 0] > 1 - 1e-9)] = np.inf
        if costs.min() < cost:
            best, cost = order[: int(costs.argmin()) + 1], float(costs.min())
    chosen = np.zeros(len(counts), dtype=bool)
    chosen[able[best]] = True
    return chosen


def _parts(plots: Sequence[AnnotatedRaster], cuts: Sequence[_Cut], sides: Sequence[npt.NDArray[np.bool_]]) -> Split:
    """Return the parts of each plot, given which of its blocks are held out."""
    train: list[Part] = []
    validation: list[Part] = []
    for plot, cut, held in zip(plots, cuts, sides, strict=True):
        annotated = cut.hectares > 0
        if not held.any():
            train += whole([plot])
        elif held[annotated].all():
            validation += whole([plot])
        else:
            other: BaseGeometry = shapely.union_all(cut.squares[held])
            extent = plot.aoi if plot.aoi is not None else shapely.box(0, 0, plot.grid.width, plot.grid.height)
            inside = cut.of_crown >= 0
            theirs = inside & held[cut.of_crown]
            train.append(Part(plot, shapely.difference(extent, other), other, inside & ~theirs))
            validation.append(Part(plot, shapely.intersection(extent, other), None, theirs))
    return Split(tuple(train), tuple(validation))


def _in_aoi(plot: AnnotatedRaster) -> npt.NDArray[np.bool_]:
    if plot.aoi is None:
        return np.ones(len(plot.boxes), dtype=bool)
    centre = _centres(plot)
    return np.asarray(shapely.contains_xy(plot.aoi, centre[:, 0], centre[:, 1]), dtype=bool)


def _centres(plot: AnnotatedRaster) -> npt.NDArray[np.float64]:
    return np.asarray((plot.boxes[:, :2] + plot.boxes[:, 2:]) / 2, dtype=np.float64)
