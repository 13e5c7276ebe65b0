"""Ground that several annotated rasters show: tiles that overlap, flights of one stand, a mosaic beside its tiles."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from shapely import affinity
from shapely.geometry.base import BaseGeometry

from treedet.core.crowns import reproject
from treedet.core.grid import Grid
from treedet.datasets.annotated import AnnotatedRaster
from treedet.datasets.split import Part, Split, split_blocks, whole

log = logging.getLogger("treedet")

LEAST_SHARE = 1e-3
"""Tiles that abut share an edge, no ground."""
MOSTLY = 0.5
"""A plot this much of which others show has its validation ground from them."""


def overlapping(plots: Sequence[AnnotatedRaster]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the pairs of plots that share ground, int64 ``[K]`` each; those without a CRS share none.

    Local coordinate systems lie nowhere on Earth, so their plots are compared with those of the same system.
    """
    by_crs: dict[pyproj.CRS, list[int]] = defaultdict(list)
    for number, plot in enumerate(plots):
        if plot.grid.crs is not None:
            by_crs[plot.grid.crs].append(number)
    earth: list[tuple[list[int], npt.NDArray[np.object_]]] = []
    pairs = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for crs, numbers in by_crs.items():
        outlines = gpd.GeoSeries([_outline(plots[number].grid) for number in numbers], crs=crs)
        if crs.is_geographic or crs.is_projected:
            earth.append((numbers, outlines.to_crs("EPSG:4326").to_numpy()))
        else:
            pairs.append(_sharing(np.array(numbers), outlines.to_numpy()))
    if earth:
        together = np.concatenate([outlines for _, outlines in earth])
        pairs.append(_sharing(np.array([number for numbers, _ in earth for number in numbers]), together))
    a, b = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return a, b


def _sharing(
    numbers: npt.NDArray[np.int64], ground: npt.NDArray[np.object_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    a, b = shapely.STRtree(ground).query(ground, predicate="intersects")
    least = np.minimum(shapely.area(ground[a]), shapely.area(ground[b]))
    shared = shapely.area(shapely.intersection(ground[a], ground[b])) > LEAST_SHARE * least
    return numbers[a[shared]], numbers[b[shared]]


def split_ground(plots: Sequence[AnnotatedRaster], *, share: float = 0.2, seed: int = 0) -> Split:
    """Hold out blocks of ground for validation, the same ground of all plots that show it.

    Args:
        plots: Annotated rasters.
        share: Share of crowns wanted in validation; see :func:`treedet.datasets.split.split_blocks`.
        seed: Seed of the draw.

    Raises:
        ConfigError: ``share`` is not between 0 and 1.
    """
    first = _first_of_their_ground(plots)
    # In the order of the plots, which the draw depends on.
    split = split_blocks([plot for number, plot in enumerate(plots) if number in first], share=share, seed=seed)
    again = [plot for number, plot in enumerate(plots) if number not in first]
    if not again:
        return apart(split)
    log.info("%d rasters show ground of others; the same ground is held out of them", len(again))
    both = apart(Split((*split.train, *whole(again)), split.validation))
    held = tuple(part for plot in again if (part := _held_of(plot, split.validation)) is not None)
    return Split(both.train, (*split.validation, *held))


def _first_of_their_ground(plots: Sequence[AnnotatedRaster]) -> set[int]:
    """Return the plots of which no earlier one shows most of the ground."""
    earlier: dict[int, list[int]] = defaultdict(list)
    for a, b in zip(*(index.tolist() for index in overlapping(plots)), strict=True):
        if b < a:
            earlier[a].append(b)
    first = set(range(len(plots)))
    for number, others in sorted(earlier.items()):
        grid, (mine,) = plots[number].grid, whole([plots[number]])
        seen = shapely.union_all([_seen_on(grid, part) for part in whole([plots[o] for o in others if o in first])])
        if shapely.area(shapely.intersection(_extent(mine), seen)) > MOSTLY * shapely.area(_extent(mine)):
            first.discard(number)
    return first


def _held_of(plot: AnnotatedRaster, validation: Sequence[Part]) -> Part | None:
    """Return the part of a plot that others hold out; None where there is none."""
    a, b = overlapping([plot, *(part.plot for part in validation)])
    others = [validation[number - 1] for number in b[(a == 0) & (b > 0)].tolist()]
    (mine,) = whole([plot])
    held: BaseGeometry = shapely.union_all([_seen_on(plot.grid, part) for part in others])
    area = shapely.intersection(_extent(mine), held)
    if shapely.area(area) <= LEAST_SHARE * shapely.area(held):
        return None
    return Part(plot, area, None, mine.mine & _within(held, plot))


def apart(split: Split) -> Split:
    """Take ground that one raster holds out for validation out of the training parts of others that show it too.

    Args:
        split: Parts to train and to validate on.

    Returns:
        The split, without training parts of which nothing is left.
    """
    parts, trained = [*split.train, *split.validation], len(split.train)
    if len({id(part.plot) for part in parts}) == 1:
        return split
    held: dict[int, list[Part]] = defaultdict(list)
    for a, b in zip(*(index.tolist() for index in overlapping([part.plot for part in parts])), strict=True):
        if a < trained <= b and parts[a].plot is not parts[b].plot:
            held[a].append(parts[b])
    if not held:
        return split
    train = [_without(part, held[number]) if number in held else part for number, part in enumerate(split.train)]
    changed = sum(before is not after for before, after in zip(split.train, train, strict=True))
    if changed:
        log.info("%d rasters to train on show ground that another holds out for validation; it is left out", changed)
    return Split(tuple(part for part in train if part is not None), split.validation)


def _without(part: Part, others: Sequence[Part]) -> Part | None:
    """Return a training part without the ground of validation parts of other rasters; None if nothing is left."""
    grid = part.plot.grid
    held: BaseGeometry = shapely.union_all([_seen_on(grid, other) for other in others])
    extent = _extent(part)
    area = shapely.difference(extent, held)
    whole_area, left = shapely.area(extent), shapely.area(area)
    if whole_area - left <= LEAST_SHARE * min(whole_area, shapely.area(held)):
        return part
    if left <= LEAST_SHARE * whole_area:
        return None
    blank = held if part.blank is None else shapely.union(part.blank, held)
    return replace(part, area=area, blank=blank, mine=part.mine & ~_within(held, part.plot))


def _seen_on(grid: Grid, part: Part) -> BaseGeometry:
    """Return the ground of a part of another raster in pixels of a grid."""
    other = part.plot.grid
    on_map = np.array([affinity.affine_transform(_extent(part), other.transform.to_shapely())], dtype=object)
    if other.crs is not None and grid.crs is not None and other.crs != grid.crs:
        on_map = reproject(on_map, other.crs, grid.crs)
    found: BaseGeometry = grid.geometries_to_pixels(on_map)[0]
    return found


def _within(area: BaseGeometry, plot: AnnotatedRaster) -> npt.NDArray[np.bool_]:
    """Tell which crowns of a plot have their centre in an area, bool ``[N]``."""
    centre = (plot.boxes[:, :2] + plot.boxes[:, 2:]) / 2
    return np.asarray(shapely.contains_xy(area, centre[:, 0], centre[:, 1]), dtype=bool)


def _extent(part: Part) -> BaseGeometry:
    return part.area if part.area is not None else shapely.box(0, 0, part.plot.grid.width, part.plot.grid.height)


def _outline(grid: Grid) -> BaseGeometry:
    outline: BaseGeometry = grid.to_map(np.array([grid.full_window.box], dtype=np.float64))[0]
    return outline
