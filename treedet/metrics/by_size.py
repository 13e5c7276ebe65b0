"""Recall and precision by crown diameter, and the smallest crowns that are found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtri

from treedet.errors import ConfigError
from treedet.metrics.assignment import Floats, Index
from treedet.metrics.matching import Bools
from treedet.metrics.paired import PairedCrowns

DIAMETERS_M: tuple[float, ...] = (0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 15.0, 20.0, float("inf"))
"""Edges of the classes of crown diameter, metres; a class holds its lower edge, not its upper one."""
LEAST_CROWNS = 20
"""Annotated crowns from which :func:`smallest_found` tells anything, and of them as wide as what it tells:"""
LEAST_WIDER = 10


def by_diameter(
    rasters: Sequence[PairedCrowns], *, iou_threshold: float = 0.4, edges: Sequence[float] = DIAMETERS_M
) -> pd.DataFrame:
    """Return recall by diameter of the annotated crown, and precision by diameter of the predicted one.

    All rasters are pooled. Crowns of all sizes are matched together, one to one, so that a crown is found even if the
    prediction is of another class of diameter.

    Args:
        rasters: Crowns in metres, with the predictions to judge.
        iou_threshold: A pair counts where its intersection over union is above this.
        edges: Rising diameters in metres; crowns below the first or not below the last are left out.

    Returns:
        One row per class: ``low_m``, ``high_m``; ``truth``, ``hits`` (annotated crowns found), ``recall``;
        ``predicted``, ``correct`` (predictions that hit), ``precision``; and 95 % Wilson intervals ``recall_low``,
        ``recall_high``, ``precision_low``, ``precision_high`` (see :func:`wilson`). A share is NaN in a class without
        crowns.

    Raises:
        ConfigError: Fewer than two edges, or edges that do not rise.

    >>> crowns = np.array([[0.0, 0, 3, 3], [9, 9, 14, 14]])
    >>> table = by_diameter([PairedCrowns(crowns, crowns[1:], np.ones(1, np.float32))], edges=(2, 4, 6))
    >>> table[["low_m", "truth", "recall", "predicted", "precision"]].values.tolist()
    [[2.0, 1.0, 0.0, 0.0, nan], [4.0, 1.0, 1.0, 1.0, 1.0]]
    """
    limits = np.asarray(edges, np.float64)
    if len(limits) < 2 or not (np.diff(limits) > 0).all():
        raise ConfigError(
            f"edges are {list(edges)}; give at least two diameters in metres that rise, such as 0 2 4 8"
        )
    diameters, found, predicted_diameters, correct = _outcomes(rasters, iou_threshold)
    truth, hits = _histogram(diameters, limits), _histogram(diameters[found], limits)
    predicted = _histogram(predicted_diameters, limits)
    right = _histogram(predicted_diameters[correct], limits)
    recall_low, recall_high = wilson(hits, truth)
    precision_low, precision_high = wilson(right, predicted)
    return pd.DataFrame(
        {
            "low_m": limits[:-1],
            "high_m": limits[1:],
            "truth": truth,
            "hits": hits,
            "recall": _share(hits, truth),
            "recall_low": recall_low,
            "recall_high": recall_high,
            "predicted": predicted,
            "correct": right,
            "precision": _share(right, predicted),
            "precision_low": precision_low,
            "precision_high": precision_high,
        }
    )


def smallest_found(rasters: Sequence[PairedCrowns], *, iou_threshold: float = 0.4, recall: float = 0.5) -> float:
    """Return the diameter in metres from which on crowns are found with a recall.

    That is where the isotonic regression of "found" on diameter, the rising curve that fits the annotated crowns of
    all rasters best, reaches the recall (Barlow et al. 1972). Unlike a recall by class or in a moving window it needs
    no width, and no unlucky handful of wide crowns can move it far.

    Args:
        rasters: Crowns in metres, with the predictions to judge.
        iou_threshold: A pair counts where its intersection over union is above this.
        recall: Share to find, 0 to 1.

    Returns:
        Metres: the diameter of the smallest annotated crown where all sizes are found. NaN where fewer than 20 crowns
        are annotated, or fewer than 10 are as wide as that: a few wide crowns found by luck are no answer.

    >>> side = np.repeat([2.0, 6.0], 30)
    >>> crowns = np.stack([np.arange(60) * 9.0, np.zeros(60), np.arange(60) * 9.0 + side, side], axis=1)
    >>> smallest_found([PairedCrowns(crowns, crowns[30:], np.ones(30, np.float32))])
    6.0
    """
    diameters, found, _, _ = _outcomes(rasters, iou_threshold)
    if len(diameters) < LEAST_CROWNS:
        return float("nan")
    order = np.argsort(diameters, kind="stable")
    widths, start = np.unique(diameters[order], return_index=True)
    # The regression is below the recall up to the first place at which the sum of what was found beyond the recall is
    # least: any stretch that ends there has a mean below it, and none that begins there.
    excess = np.cumsum(np.append(0.0, found[order] - recall))
    first = int(np.argmin(excess[[*start, len(order)]]))
    if first == len(start) or len(order) - start[first] < LEAST_WIDER:
        return float("nan")
    return float(widths[first])


def wilson(hits: npt.NDArray[Any], total: npt.NDArray[Any], *, level: float = 0.95) -> tuple[Floats, Floats]:
    """Return the Wilson score interval of a share (Wilson 1927; advised by Brown, Cai and DasGupta 2001).

    Args:
        hits: ``[...]``, 0 to ``total``.
        total: ``[...]``, trials.
        level: Coverage, between 0 and 1.

    Returns:
        Lower and upper limits, float64 ``[...]``; NaN where ``total`` is 0.

    >>> low, high = wilson(np.array([5.0, 0.0]), np.array([10.0, 0.0]))
    >>> low.round(4).tolist(), high.round(4).tolist()
    ([0.2366, nan], [0.7634, nan])
    """
    hits, total = np.asarray(hits, np.float64), np.asarray(total, np.float64)
    z = ndtri(0.5 + level / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        share, spread = hits / total, z**2 / total
        centre = (share + spread / 2) / (1 + spread)
        half = np.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    # Rounding may leave a limit a hair beyond its bound where nothing, or all, was found.
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def _outcomes(rasters: Sequence[PairedCrowns], iou_threshold: float) -> tuple[Floats, Bools, Floats, Bools]:
    """Return diameters and hits of the truth that counts, then of the predictions that count, all rasters pooled."""
    empty = (np.zeros(0), np.zeros(0, bool))
    truth, predicted = [empty], [empty]
    for raster in rasters:
        matching = raster.matched(iou_threshold=iou_threshold)
        truth_counts, predicted_counts, _ = raster.counts(matching)
        found, correct = np.zeros(len(truth_counts), bool), np.zeros(len(predicted_counts), bool)
        # Of a pair that is no hit neither side counts, so both fall out below.
        found[matching.truth] = True
        correct[matching.predicted] = True
        truth.append((raster.truth_diameters[truth_counts], found[truth_counts]))
        predicted.append((raster.predicted_diameters[predicted_counts], correct[predicted_counts]))
    return (
        np.concatenate([diameters for diameters, _ in truth]),
        np.concatenate([found for _, found in truth]),
        np.concatenate([diameters for diameters, _ in predicted]),
        np.concatenate([correct for _, correct in predicted]),
    )


def _histogram(diameters: Floats, limits: Floats) -> Index:
    """Count diameters by class; one on an edge belongs to the class above it."""
    place = np.searchsorted(limits, diameters, side="right") - 1
    within = (place >= 0) & (place < len(limits) - 1)
    return np.bincount(place[within], minlength=len(limits) - 1).astype(np.int64)


def _share(part: Index, whole: Index) -> Floats:
    return np.asarray(np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0))
