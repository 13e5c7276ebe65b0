"""What became of every crown: hit, miss, false alarm or confusion, as a table for a map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd

from treedet.evaluation.ground import EvaluatedGround
from treedet.metrics.paired import PairedCrowns
from treedet.metrics.points import PairedPoints
from treedet.vectors.outcome_layer import COLUMNS, CONFUSION, FALSE_ALARM, HIT, MISS

Index = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Fates:
    """What became of the crowns of one raster, as rows of both tables; what is ignored is in none of them.

    Attributes:
        truth: Int64 ``[K]`` rows of the truth that were matched.
        predicted: Int64 ``[K]`` rows of the predictions they were matched with.
        iou: Float64 ``[K]``; NaN for stems.
        distance_m: Float64 ``[K]`` between centres, or from the stem to the crown's centre.
        right: Bool ``[K]``: both are of the same class.
        missed: Int64 ``[L]`` rows of the truth.
        made_up: Int64 ``[F]`` rows of the predictions.
    """

    truth: Index
    predicted: Index
    iou: Floats
    distance_m: Floats
    right: Bools
    missed: Index
    made_up: Index

    @property
    def f1(self) -> float:
        """F1 of the matched crowns, whatever their class; NaN where there is no crown at all."""
        crowns = 2 * len(self.truth) + len(self.missed) + len(self.made_up)
        return 2 * len(self.truth) / crowns if crowns else float("nan")


def fates(
    ground: EvaluatedGround, *, threshold: float, iou_threshold: float, max_distance: float | None = None
) -> Fates:
    """Match the crowns of one raster and tell what became of each; see :func:`outcome_table`."""
    if isinstance(ground.paired, PairedPoints):
        return _of_points(ground.paired, threshold=threshold, max_distance=max_distance)
    kept = ground.paired.at(threshold)
    rows = np.flatnonzero(ground.paired.scores >= np.float32(threshold))
    matching = kept.matched(iou_threshold=iou_threshold)
    missed, made_up, hit = kept.counts(matching)
    missed[matching.truth] = False
    made_up[matching.predicted] = False
    true, found = matching.truth[hit], matching.predicted[hit]
    apart = kept.truth[true] - kept.predicted[found]
    return Fates(
        truth=true,
        predicted=rows[found],
        iou=np.asarray(matching.iou[hit], np.float64),
        distance_m=np.asarray(np.hypot(*((apart[:, :2] + apart[:, 2:]) / 2).T), np.float64),
        right=_same_class(kept, true, found),
        missed=np.flatnonzero(missed),
        made_up=rows[made_up],
    )


def _of_points(paired: PairedPoints, *, threshold: float, max_distance: float | None) -> Fates:
    kept = paired.at(threshold)
    rows = np.flatnonzero(paired.scores >= np.float32(threshold))
    matching = kept.matched(max_distance=max_distance)
    missed, made_up = kept.points_inside.copy(), kept.predictions_inside.copy()
    hit = missed[matching.point]
    missed[matching.point] = False
    made_up[matching.crown] = False
    return Fates(
        truth=matching.point[hit],
        predicted=rows[matching.crown[hit]],
        iou=np.full(int(hit.sum()), np.nan),
        distance_m=np.asarray(matching.distance_m, np.float64)[hit],
        right=np.ones(int(hit.sum()), bool),
        missed=np.flatnonzero(missed),
        made_up=rows[made_up] if paired.complete else rows[:0],
    )


def _same_class(paired: PairedCrowns, true: Index, found: Index) -> Bools:
    if paired.truth_classes is None or paired.predicted_classes is None:
        return np.ones(len(true), bool)
    return np.asarray(paired.truth_classes[true] == paired.predicted_classes[found], dtype=bool)


def outcome_table(
    ground: EvaluatedGround, *, threshold: float, iou_threshold: float, max_distance: float | None = None
) -> gpd.GeoDataFrame:
    """Return what became of each annotated and each predicted crown of one raster.

    Crowns are matched whatever their class, as they are counted; a matched pair of different classes is a
    *confusion*. Hits, confusions and false alarms carry the predicted geometry, misses that of the truth. Crowns
    that are ignored are left out, and so are predictions without a stem where stems are not known to be complete.

    Args:
        ground: Truth and prediction of the raster.
        threshold: Least score of a predicted crown.
        iou_threshold: Overlap above which two crowns are the same.
        max_distance: For stems, see :func:`treedet.metrics.points.match_points`.

    Returns:
        Columns ``outcome``, ``label`` (what was predicted; None for a miss), ``truth_label`` (what is there; None for
        a false alarm), ``score``, ``iou``, ``distance_m`` (between centres, or from the stem to the crown's centre),
        ``raster`` and ``geometry``, in the CRS of the ground, then ``predicted_x`` and ``truth_x`` of each attribute
        ``x`` that is compared; hits first.
    """
    fate = fates(ground, threshold=threshold, iou_threshold=iou_threshold, max_distance=max_distance)
    return table_of(ground, fate)


def table_of(ground: EvaluatedGround, fate: Fates) -> gpd.GeoDataFrame:
    """Return the table of :func:`outcome_table` for crowns that were matched already."""
    truth, predicted = ground.truth_table, ground.predicted_table
    order = np.concatenate([np.flatnonzero(fate.right), np.flatnonzero(~fate.right)])
    true, found = fate.truth[order], fate.predicted[order]
    confused, misses, alarms = int((~fate.right).sum()), len(fate.missed), len(fate.made_up)
    outcome = [HIT] * (len(order) - confused) + [CONFUSION] * confused + [MISS] * misses + [FALSE_ALARM] * alarms
    names, true_names = (table["label"].astype(object).to_numpy() for table in (predicted, truth))
    shapes, true_shapes = (np.asarray(table.geometry.to_numpy(), object) for table in (predicted, truth))
    score = predicted["score"].to_numpy(dtype=np.float64)
    unmatched = np.full(misses + alarms, np.nan)
    values = {
        "outcome": pd.Series(outcome, dtype="str"),
        "label": np.concatenate([names[found], np.full(misses, None, object), names[fate.made_up]]),
        "truth_label": np.concatenate([true_names[true], true_names[fate.missed], np.full(alarms, None, object)]),
        "score": np.concatenate([score[found], np.full(misses, np.nan), score[fate.made_up]]),
        "iou": np.concatenate([fate.iou[order], unmatched]),
        "distance_m": np.concatenate([fate.distance_m[order], unmatched]),
        "raster": pd.Series([ground.name] * len(outcome), dtype="str"),
    }
    for name in ground.paired.attributes if isinstance(ground.paired, PairedCrowns) else ():
        said, known = (_values(table, name) for table in (predicted, truth))
        values |= {
            f"predicted_{name}": np.concatenate([said[found], np.full(misses, None, object), said[fate.made_up]]),
            f"truth_{name}": np.concatenate([known[true], known[fate.missed], np.full(alarms, None, object)]),
        }
    geometry = np.concatenate([shapes[found], true_shapes[fate.missed], shapes[fate.made_up]])
    table = gpd.GeoDataFrame(values, geometry=geometry, crs=ground.crs)
    return table[[*COLUMNS, *(name for name in values if name not in COLUMNS)]]


def _values(table: gpd.GeoDataFrame, name: str) -> npt.NDArray[np.object_]:
    """Return what a column says, object ``[N]``, None where it says nothing or is not there."""
    if name not in table:
        return np.full(len(table), None, object)
    column = table[name].astype(object)
    return np.asarray(column.where(column.notna(), None).to_numpy(), dtype=object)


def by_crs(tables: Sequence[gpd.GeoDataFrame]) -> dict[str, gpd.GeoDataFrame]:
    """Return one table for each CRS, by what it is called in a file name: an EPSG code, ``local`` or ``pixels``.

    Args:
        tables: Of :func:`outcome_table`.

    >>> list(by_crs([gpd.GeoDataFrame({"a": []}, geometry=[], crs=32633)]))
    ['32633']
    """
    groups: dict[str, list[gpd.GeoDataFrame]] = {}
    for one in tables:
        code = None if one.crs is None else one.crs.to_epsg()
        name = "pixels" if one.crs is None else str(code or "local")
        number = 1
        while (key := name if number == 1 else f"{name}-{number}") in groups and groups[key][0].crs != one.crs:
            number += 1
        groups.setdefault(key, []).append(one)
    return {name: _stacked(parts) for name, parts in groups.items()}


def _stacked(parts: Sequence[gpd.GeoDataFrame]) -> gpd.GeoDataFrame:
    """Return tables of one CRS one after the other; an empty one would only change the dtypes of the others."""
    full = [part for part in parts if len(part)] or parts[:1]
    columns = [name for name in full[0].columns if name != "geometry"]
    values = {name: pd.concat([part[name] for part in full], ignore_index=True) for name in columns}
    shapes = np.concatenate([np.asarray(part.geometry.to_numpy(), dtype=object) for part in full])
    return gpd.GeoDataFrame(values, geometry=shapes, crs=full[0].crs)
