"""Several sets of annotated rasters: brought together, and split into places to train and to validate on."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from treedet.datasets.annotated import AnnotatedRaster, pair
from treedet.datasets.annotation_set import AnnotationSet
from treedet.datasets.overlap import overlapping
from treedet.datasets.split import Split, whole
from treedet.errors import ConfigError
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

    Raises:
        ConfigError: No place is left to train on.
    """
    place = places(plots)
    rng = np.random.default_rng(seed)
    held = np.zeros(len(plots), dtype=bool)
    for origin in dict.fromkeys(plot.origin for plot in plots):
        mine = np.array([plot.origin == origin for plot in plots])
        found = np.unique(place[mine])
        if len(found) > 1 and share:
            wanted = min(max(1, round(share * len(found))), len(found) - 1)
            # Another set may hold out some of the same places.
            order, out = rng.permutation(found), np.unique(place[held])
            free = order[~np.isin(order, out)]
            held |= np.isin(place, free[: max(0, wanted - (len(found) - len(free)))])
    if len(plots) and held.all():
        raise ConfigError(
            f"a share of {share:g} held out for validation leaves no place to train on; give fewer "
            "(--validation_share), or rasters of more places"
        )
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
    a, b = overlapping(plots)
    rows, columns = np.concatenate([np.arange(len(plots)), a]), np.concatenate([first, b])
    links = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(len(plots), len(plots)))
    return np.asarray(connected_components(links, directed=False)[1], dtype=np.int64)
