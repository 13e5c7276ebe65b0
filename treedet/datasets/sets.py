"""Several sets of annotated rasters: brought together, and split into places to train and to validate on."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from treedet.datasets.annotated import AnnotatedRaster, pair
from treedet.datasets.annotation_set import AnnotationSet
from treedet.datasets.split import Split, whole
from treedet.vectors.truth import TruthOptions

log = logging.getLogger("treedet")


def pair_sets(
    sets: Mapping[str, AnnotationSet],
    folder: str | os.PathLike[str],
    *,
    bands: Sequence[int] | None = None,
    truth: TruthOptions | None = None,
) -> list[AnnotatedRaster]:
    """Bring rasters and annotations of several sets together; see :func:`pair`.

    Args:
        sets: The sets by name.
        folder: What their paths are relative to.
        bands: Bands to read, counted from 1.
        truth: How the crowns are read.

    Raises:
        TreedetError: As from :func:`pair`.
    """
    plots = []
    for name, one in sets.items():
        rasters, crowns = Path(folder) / one.rasters, Path(folder) / one.crowns
        log.info("set %s: %s", name, rasters)
        plots += [plot.of(one) for plot in pair(rasters, crowns, gsd=one.gsd, bands=bands, truth=truth)]
    return plots


def split_places(plots: Sequence[AnnotatedRaster], *, share: float, seed: int = 0) -> Split:
    """Hold out a share of the places of each set, whole: no place is on both sides, whatever the year.

    A set with a single place is trained on.

    Args:
        plots: Annotated rasters, of one or more sets (:class:`~treedet.datasets.annotation_set.AnnotationSet`).
        share: Share of the places of each set wanted in validation, from 0 to 1.
        seed: Seed of the draw.

    Returns:
        The parts of both sides, in the order of the plots.
    """
    place = places(plots)
    rng = np.random.default_rng(seed)
    held = np.zeros(len(plots), dtype=bool)
    for origin in dict.fromkeys(plot.origin for plot in plots):
        mine = np.array([plot.origin == origin for plot in plots])
        found = np.unique(place[mine])
        if len(found) > 1 and share:
            held |= np.isin(place, rng.permutation(found)[: max(1, round(share * len(found)))])
    train, validation = (
        [plot for plot, out in zip(plots, held, strict=True) if out == side] for side in (False, True)
    )
    log.info(
        "validation: %d of %d plots (%d of %d crowns), at places of their own",
        len(validation),
        len(plots),
        sum(len(plot) for plot in validation),
        sum(len(plot) for plot in plots),
    )
    return Split(whole(train), whole(validation))


def places(plots: Sequence[AnnotatedRaster]) -> npt.NDArray[np.int64]:
    """Return the number of the place that each plot shows, int64 ``[P]``.

    Plots are of one place where their names say so or they overlap on the ground, themselves or through others.
    """
    names = [plot.path if plot.origin is None else plot.origin.place_of(plot.path) for plot in plots]
    _, named = np.unique(names, return_inverse=True)
    first = np.unique(named, return_index=True)[1][named]
    a, b = _overlapping(plots)
    rows, columns = np.concatenate([np.arange(len(plots)), a]), np.concatenate([first, b])
    links = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(len(plots), len(plots)))
    return np.asarray(connected_components(links, directed=False)[1], dtype=np.int64)


def _overlapping(plots: Sequence[AnnotatedRaster]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the pairs of plots that share ground; those without a CRS share none."""
    numbers, outlines = [], []
    for number, plot in enumerate(plots):
        if plot.grid.crs is not None:
            box = plot.grid.to_map(np.array([plot.grid.full_window.box], dtype=np.float64))
            outlines.append(gpd.GeoSeries(box, crs=plot.grid.crs).to_crs("EPSG:4326").iloc[0])
            numbers.append(number)
    ground = np.asarray(outlines, dtype=object)
    a, b = shapely.STRtree(ground).query(ground, predicate="intersects")
    # Tiles that abut share an edge, no ground.
    shared = shapely.area(shapely.intersection(ground[a], ground[b])) > 1e-3 * shapely.area(ground[a])
    index = np.asarray(numbers, dtype=np.int64)
    return index[a[shared]], index[b[shared]]
