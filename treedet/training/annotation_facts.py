"""Plain facts about annotated ground, measured before training: how many crowns of what size lie where."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import shapely

from treedet.core.spec import ModelSpec

if TYPE_CHECKING:
    from treedet.datasets.annotated import AnnotatedRaster
    from treedet.datasets.split import Part

FITTING_IOU = 0.5
"""Overlap from which an anchor answers for a crown (RetinaNet, Lin et al. 2017, section 4.1)."""
MOST_PLACES = 4_000_000
"""Window places that are counted one by one on a raster; beyond, places are larger."""


@dataclass(frozen=True)
class RasterGroup:
    """Rasters that share a GSD and a CRS.

    Attributes:
        files: Their paths.
        gsd: Metres per pixel.
        crs: Name of the CRS, or ``no CRS``.
        hectares: Ground of all of them, inside their AOIs.
        crowns: Crowns annotated on them, of any class.
    """

    files: tuple[str, ...]
    gsd: float
    crs: str
    hectares: float
    crowns: int


@dataclass(frozen=True)
class Side:
    """One side of the split.

    Attributes:
        parts: Rasters, or parts of them.
        hectares: Ground.
        crowns: Crowns by class of the model, zeros included.
        others: Crowns by any other label; they are neither target nor background.
        empty_share: Share of window places without the centre of a crown.
    """

    parts: int
    hectares: float
    crowns: Mapping[str, int]
    others: Mapping[str, int]
    empty_share: float

    @property
    def total(self) -> int:
        """Crowns of the model's classes."""
        return sum(self.crowns.values())


@dataclass(frozen=True)
class Diameters:
    """Crown diameters in metres; NaN where there are no crowns.

    Attributes:
        smallest: Least.
        median: Half are smaller.
        p95: 95 % are smaller.
        widest: Greatest.
        longest_side: Longest side of any box, in metres.
    """

    smallest: float
    median: float
    p95: float
    widest: float
    longest_side: float


def raster_groups(parts: Sequence[Part]) -> tuple[RasterGroup, ...]:
    """Return the rasters of parts, each once, grouped by GSD (to a tenth of a per cent) and CRS; finest first."""
    groups: dict[tuple[float, str], dict[int, AnnotatedRaster]] = {}
    for part in parts:
        crs = part.plot.crs
        key = (float(f"{part.plot.grid.gsd:.3g}"), "no CRS" if crs is None else str(crs.name))
        groups.setdefault(key, {}).setdefault(id(part.plot), part.plot)
    return tuple(
        RasterGroup(
            files=tuple(dict.fromkeys(str(plot.path) for plot in members.values())),
            gsd=gsd,
            crs=crs,
            hectares=sum(plot.hectares for plot in members.values()),
            crowns=sum(len(plot.boxes) for plot in members.values()),
        )
        for (gsd, crs), members in sorted(groups.items())
    )


def side_of(parts: Sequence[Part], spec: ModelSpec, *, window_px: int) -> Side:
    """Measure one side of the split.

    Args:
        parts: Its parts.
        spec: Classes and GSD of the model.
        window_px: Side of a training window in pixels of the model.
    """
    counts: Counter[str] = Counter()
    empty = places = 0
    hectares = 0.0
    for part in parts:
        counts.update(part.plot.labels[part.mine].astype(str).tolist())
        hectares += _hectares(part)
        found, of = _empty_places(part, side_m=window_px * spec.gsd)
        empty, places = empty + found, places + of
    return Side(
        parts=len(parts),
        hectares=hectares,
        crowns={name: counts[name] for name in spec.labels.classes},
        others={name: n for name, n in sorted(counts.items()) if name not in spec.labels.classes},
        empty_share=empty / places if places else 0.0,
    )


def _hectares(part: Part) -> float:
    grid = part.plot.grid
    return part.plot.hectares if part.area is None else float(part.area.area) * grid.gsd_x * grid.gsd_y / 1e4


def _empty_places(part: Part, *, side_m: float) -> tuple[int, int]:
    """Return how many places of a window's size hold no crown's centre, and how many places there are.

    Places tile the raster; one counts where its centre, or a crown, lies on the part's known ground.
    """
    grid, boxes = part.plot.grid, part.plot.boxes[part.mine]
    side_m = max(side_m, math.sqrt(grid.hectares * 1e4 / MOST_PLACES))
    cols = max(1, round(grid.width * grid.gsd_x / side_m))
    rows = max(1, round(grid.height * grid.gsd_y / side_m))
    x, y = (np.arange(cols) + 0.5) * grid.width / cols, (np.arange(rows) + 0.5) * grid.height / rows
    xx, yy = (values.ravel() for values in np.meshgrid(x, y))
    inside = np.ones(rows * cols, dtype=bool)
    if part.area is not None:
        inside = shapely.contains_xy(part.area, xx, yy)
    share = (boxes[:, :2] + boxes[:, 2:]) / 2 / [grid.width, grid.height]
    cell = np.clip((share * [cols, rows]).astype(np.int64), 0, [cols - 1, rows - 1])
    taken = np.zeros(rows * cols, dtype=bool)
    taken[cell[:, 1] * cols + cell[:, 0]] = True
    return int((inside & ~taken).sum()), int((inside | taken).sum())


def crown_sizes(
    parts: Sequence[Part], classes: tuple[str, ...]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return diameters (float64 ``[N]``) and box sides (float64 ``[N, 2]``: width, height) of crowns, metres."""
    diameters, sides = [np.zeros(0)], [np.zeros((0, 2))]
    for part in parts:
        plot = part.plot
        mask = part.mine & np.isin(plot.labels.astype(str), classes)
        diameters.append(np.asarray(plot.diameters_m, dtype=np.float64)[mask])
        boxes = plot.boxes[mask]
        sides.append((boxes[:, 2:] - boxes[:, :2]) * [plot.grid.gsd_x, plot.grid.gsd_y])
    return np.concatenate(diameters), np.concatenate(sides)


def diameters_of(diameters: npt.NDArray[np.float64], sides: npt.NDArray[np.float64]) -> Diameters:
    """Sum up crown sizes.

    Args:
        diameters: Float64 ``[N]``, metres.
        sides: Float64 ``[N, 2]``, metres.

    >>> found = diameters_of(np.array([2.0, 4.0, 6.0]), np.array([[2.0, 2.0], [3.0, 5.0], [6.0, 6.0]]))
    >>> found.smallest, found.median, found.widest, found.longest_side
    (2.0, 4.0, 6.0, 6.0)
    """
    if len(diameters) == 0:
        return Diameters(math.nan, math.nan, math.nan, math.nan, math.nan)
    smallest, median, p95, widest = (float(v) for v in np.quantile(diameters, [0, 0.5, 0.95, 1]))
    return Diameters(smallest, median, p95, widest, float(sides.max()))


def fitting_share(sides: npt.NDArray[np.float64], spec: ModelSpec) -> float:
    """Return the share of crowns that some anchor overlaps by an IoU of at least 0.5; 1 where there are none.

    Anchors stand on a lattice of the level's stride; the nearest one is, on average, a quarter of a stride away along
    either axis, and overlaps are taken there.

    Args:
        sides: Float64 ``[N, 2]``: width and height of boxes, metres.
        spec: Anchors, strides and GSD.

    >>> fitting_share(np.array([[4.0, 4.0], [0.5, 0.5], [20.0, 2.0]]), ModelSpec()).__round__(2)
    0.33
    """
    if len(sides) == 0:
        return 1.0
    best = np.zeros(len(sides))
    for level, sizes in zip(spec.levels, spec.anchor_sizes_m, strict=True):
        offset = 2**level * spec.gsd / 4
        for size in sizes:
            for ratio in spec.anchor_ratios:
                anchor = np.array([size / math.sqrt(ratio), size * math.sqrt(ratio)])
                reach = np.minimum(np.minimum(sides, anchor), (sides + anchor) / 2 - offset)
                shared = np.clip(reach, 0, None).prod(axis=1)
                best = np.maximum(best, shared / (sides.prod(axis=1) + anchor.prod() - shared))
    return float((best >= FITTING_IOU).mean())
