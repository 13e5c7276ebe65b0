"""The tables of a report, from annotated and predicted crowns: one row for each way of seeing the imagery."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from treedet.evaluation.attribute_tables import attribute_row, class_rows, confusion_rows
from treedet.evaluation.conditions import Condition
from treedet.evaluation.config import EvaluateConfig
from treedet.metrics.attributes import scores_by_attribute
from treedet.metrics.average_precision import coco_scores
from treedet.metrics.bootstrap import score_intervals
from treedet.metrics.by_size import by_diameter, smallest_found
from treedet.metrics.calibration import detections_correct, reliability
from treedet.metrics.crown_errors import crown_errors
from treedet.metrics.deepforest import box_recall_precision
from treedet.metrics.detection import RasterCount, scores
from treedet.metrics.paired import PairedCrowns
from treedet.metrics.points import PairedPoints, point_scores
from treedet.metrics.raster_f1 import RF1_IOUS, raster_f1

SHOWN_IOUS = (0.4, 0.5, 0.75)
"""Overlaps whose average precision has a column of its own."""
SCORES = ("recall", "precision", "f1", "micro_recall", "micro_precision", "micro_f1")


@dataclass(frozen=True)
class Measured:
    """How crowns are counted.

    Attributes:
        threshold: Least score of a predicted crown.
        config: Overlap asked for, and the bootstrap.
        classes: Names of the classes.
        least: Least score of the predictions that are ranked.
        has_scores: Predictions say how sure they are; without it average precision and calibration mean nothing.
    """

    threshold: float
    config: EvaluateConfig
    classes: tuple[str, ...] = ("tree",)
    least: float = 0.0
    has_scores: bool = True


@dataclass
class Tables:
    """Rows of all conditions, as they come.

    Attributes:
        table: One row per condition.
        by_raster: One row per condition and raster.
        by_size: One row per condition and range of diameters.
        by_class: One row per condition and class.
        by_attribute: One row per condition and attribute.
        attributes: Rows per condition, attribute, scope (all or matched crowns) and class.
        confusion: Rows per condition, attribute, true and predicted class.
        attribute_reliability: Rows per condition, attribute and range of probabilities.
    """

    table: list[dict[str, Any]] = field(default_factory=list)
    by_raster: list[dict[str, Any]] = field(default_factory=list)
    by_size: list[pd.DataFrame] = field(default_factory=list)
    by_class: list[dict[str, Any]] = field(default_factory=list)
    by_attribute: list[dict[str, Any]] = field(default_factory=list)
    attributes: list[dict[str, Any]] = field(default_factory=list)
    confusion: list[dict[str, Any]] = field(default_factory=list)
    attribute_reliability: list[pd.DataFrame] = field(default_factory=list)

    def add(
        self,
        condition: Mapping[str, Any],
        rasters: Sequence[PairedCrowns],
        measured: Measured,
        *,
        ranked: Sequence[PairedCrowns] | None = None,
    ) -> None:
        """Measure the crowns of one condition.

        Args:
            condition: ``gsd``, ``mode`` and ``upsampled``, the first columns of every row.
            rasters: Annotated and predicted crowns, the latter down to the threshold or further.
            measured: How they are counted.
            ranked: The same with predictions down to scores well below the threshold; None: ``rasters`` has them.
        """
        low = rasters if ranked is None else ranked
        kept = [raster.at(measured.threshold) for raster in rasters]
        counts = [raster.counted(iou_threshold=measured.config.iou_threshold) for raster in kept]
        self.table.append({**condition, **_summary(low, kept, counts, measured)})
        shown = {name: condition[name] for name in ("gsd", "mode")}
        self.by_raster += [{**shown, **_raster_row(raster, n)} for raster, n in zip(kept, counts, strict=True)]
        sizes = by_diameter(kept, iou_threshold=measured.config.iou_threshold)
        self.by_size.append(sizes.assign(**shown)[[*shown, *sizes.columns]])
        self.by_class += [{**shown, **row} for row in _class_rows(low, kept, measured)]
        config = measured.config
        said = scores_by_attribute(kept, iou_threshold=config.iou_threshold, draws=config.draws, seed=config.seed)
        for name, found in said.items():
            self.by_attribute.append({**shown, **attribute_row(name, found)})
            self.attributes += [{**shown, **row} for row in class_rows(name, found)]
            self.confusion += [{**shown, **row} for row in confusion_rows(name, found)]
            honest = found.reliability.table.assign(**shown, attribute=name)
            self.attribute_reliability.append(honest[[*shown, "attribute", *found.reliability.table.columns]])


def _summary(
    rasters: Sequence[PairedCrowns], kept: Sequence[PairedCrowns], counts: Sequence[RasterCount], measured: Measured
) -> dict[str, float]:
    config = measured.config
    row: dict[str, float] = {"rasters": len(counts), "hectares": _hectares(kept)}
    row |= {name: sum(getattr(count, name) for count in counts) for name in ("truth", "predicted", "matched")}
    row |= defined_scores(counts)
    intervals = score_intervals(counts, draws=config.draws, seed=config.seed)
    for name in ("f1", "recall", "precision"):
        row |= {f"{name}_low": intervals[name].low, f"{name}_high": intervals[name].high}
    if measured.has_scores:
        row |= _ranked(rasters, measured)
    row["rf1_75"] = raster_f1(kept)
    row["rf1_50_95"] = raster_f1(kept, iou_thresholds=RF1_IOUS)
    row["deepforest_recall"], row["deepforest_precision"] = box_recall_precision(kept)
    row |= crown_errors(kept, iou_threshold=config.iou_threshold)
    row["smallest_m"] = smallest_found(kept, iou_threshold=config.iou_threshold)
    return {**row, "threshold": measured.threshold}


def _ranked(rasters: Sequence[PairedCrowns], measured: Measured) -> dict[str, float]:
    """Figures that look at the order of all scores, not at one threshold."""
    coco = coco_scores(rasters, classes=measured.classes)
    found = {"map": coco.map, **{f"ap{round(100 * iou)}": coco.ap[iou] for iou in SHOWN_IOUS}}
    found |= {f"ap_{size}": value for size, value in coco.by_size.items()}
    confidence, correct = detections_correct(rasters, iou_threshold=measured.config.iou_threshold)
    return {**found, "ece": reliability(confidence, correct).ece if len(confidence) else math.nan}


def defined_scores(counts: Sequence[RasterCount]) -> dict[str, float]:
    """Return recall, precision and F1, macro and micro; NaN where there is nothing to find or nothing found.

    >>> defined_scores([RasterCount(0, 2, 0)])["recall"], defined_scores([RasterCount(0, 2, 0)])["precision"]
    (nan, 0.0)
    """
    found = scores(counts)
    row = {name: float(getattr(found, name)) for name in SCORES}
    lacking = [name for name, total in (("recall", "truth"), ("precision", "predicted")) if not _sum(counts, total)]
    for name in lacking:
        row |= {name: math.nan, f"micro_{name}": math.nan}
    if "recall" in lacking:
        row |= {"f1": math.nan, "micro_f1": math.nan}
    return row


def _sum(counts: Sequence[RasterCount], name: str) -> int:
    return int(sum(getattr(count, name) for count in counts))


def _hectares(rasters: Sequence[PairedCrowns | PairedPoints]) -> float:
    """Return the ground of the rasters whose ground is known; NaN where none is."""
    known = [raster.hectares for raster in rasters if math.isfinite(raster.hectares)]
    return float(sum(known)) if known else math.nan


def _by_centre(raster: PairedCrowns) -> int:
    ignored = raster.predicted_ignored
    return len(raster.predicted) if ignored is None else int((~ignored).sum())


def _raster_row(raster: PairedCrowns, count: RasterCount) -> dict[str, Any]:
    found = defined_scores([count])
    area = raster.hectares if raster.hectares > 0 else math.nan
    return {
        "raster": raster.name,
        "hectares": raster.hectares,
        "truth": count.truth,
        "predicted": count.predicted,
        "matched": count.matched,
        **{name: found[name] for name in ("recall", "precision", "f1")},
        # By centres alone, as counts are (crown_errors): what is matched across the AOI's border does not enter.
        "count_difference": _by_centre(raster) - count.truth,
        "false_alarms_per_ha": (count.predicted - count.matched) / area,
    }


def _class_rows(
    rasters: Sequence[PairedCrowns], kept: Sequence[PairedCrowns], measured: Measured
) -> list[dict[str, Any]]:
    ranked: dict[Any, dict[Any, Any]] = {}
    if measured.has_scores:
        ranked = coco_scores(rasters, classes=measured.classes).by_class.set_index("label").to_dict("index")
    rows = []
    for index, label in enumerate(measured.classes):
        of_class = [raster.of_class(index) if len(measured.classes) > 1 else raster for raster in kept]
        counts = [raster.counted(iou_threshold=measured.config.iou_threshold) for raster in of_class]
        found = defined_scores(counts)
        rows.append(
            {
                "label": label,
                **{name: _sum(counts, name) for name in ("truth", "predicted", "matched")},
                **{name: found[f"micro_{name}"] for name in ("recall", "precision", "f1")},
                **{name: ranked.get(label, {}).get(name, math.nan) for name in ("map", "ap40", "ap50", "ap75")},
            }
        )
    return rows


def point_row(condition: Mapping[str, Any], rasters: Sequence[PairedPoints], measured: Measured) -> dict[str, Any]:
    """Return the row of a condition whose truth is points."""
    found = point_scores(rasters, threshold=measured.threshold, max_distance=measured.config.max_distance)
    return {
        **condition,
        "rasters": len(rasters),
        "hectares": _hectares(rasters),
        **found,
        "threshold": measured.threshold,
    }


def condition_columns(condition: Condition, *, own_gsd: float) -> dict[str, Any]:
    """Return the first columns of a condition's rows.

    Args:
        condition: How the imagery was seen.
        own_gsd: Metres per pixel of the rasters, the median where they differ.
    """
    gsd = own_gsd if condition.gsd is None else condition.gsd
    upsampled = condition.gsd is not None and condition.gsd < 0.98 * own_gsd
    return {"gsd": gsd, "mode": condition.mode, "upsampled": upsampled}
