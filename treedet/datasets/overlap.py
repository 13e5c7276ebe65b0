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
from treedet.datasets.split import Part, Split

log = logging.getLogger("treedet")

LEAST_SHARE = 1e-3
"""Tiles that abut share an edge, no ground."""


def overlapping(plots: Sequence[AnnotatedRaster]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the pairs of plots that share ground, int64 ``[K]`` each; those without a CRS share none."""
    by_crs: dict[pyproj.CRS, list[int]] = defaultdict(list)
    for number, plot in enumerate(plots):
        if plot.grid.crs is not None:
            by_crs[plot.grid.crs].append(number)
    outlines = [
        gpd.GeoSeries([_outline(plots[number].grid) for number in numbers], crs=crs).to_crs("EPSG:4326").to_numpy()
        for crs, numbers in by_crs.items()
    ]
    index = np.array([number for numbers in by_crs.values() for number in numbers], dtype=np.int64)
    ground = np.concatenate([np.zeros(0, dtype=object), *outlines])
    a, b = shapely.STRtree(ground).query(ground, predicate="intersects")
    shared = shapely.area(shapely.intersection(ground[a], ground[b])) > LEAST_SHARE * shapely.area(ground[a])
    return index[a[shared]], index[b[shared]]


def apart(split: Split) -> Split:
    """Take ground that one raster holds out for validation out of the training parts of others that show it too.

    Args:
        split: Parts to train and to validate on.

    Returns:
        The split, without training parts of which nothing is left.
    """
    parts, trained = [*split.train, *split.validation], len(split.train)
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
    if shapely.area(area) >= (1 - LEAST_SHARE) * shapely.area(extent):
        return part
    if shapely.area(area) <= LEAST_SHARE * shapely.area(extent):
        return None
    centre = (part.plot.boxes[:, :2] + part.plot.boxes[:, 2:]) / 2
    theirs = shapely.contains_xy(held, centre[:, 0], centre[:, 1])
    blank = held if part.blank is None else shapely.union(part.blank, held)
    return replace(part, area=area, blank=blank, mine=part.mine & ~theirs)


def _seen_on(grid: Grid, part: Part) -> BaseGeometry:
    """Return the ground of a part of another raster in pixels of a grid."""
    other = part.plot.grid
    on_map = np.array([affinity.affine_transform(_extent(part), other.transform.to_shapely())], dtype=object)
    if other.crs is not None and grid.crs is not None and other.crs != grid.crs:
        on_map = reproject(on_map, other.crs, grid.crs)
    found: BaseGeometry = grid.geometries_to_pixels(on_map)[0]
    return found


def _extent(part: Part) -> BaseGeometry:
    return part.area if part.area is not None else shapely.box(0, 0, part.plot.grid.width, part.plot.grid.height)


def _outline(grid: Grid) -> BaseGeometry:
    outline: BaseGeometry = grid.to_map(np.array([grid.full_window.box], dtype=np.float64))[0]
    return outline
