"""How the columns of a report are called and written, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping

from treedet.evaluation.html import Format, decimals, percent, plain, whole

_FOUND = {"precision": "precision", "recall": "recall", "f1": "F1"}

HEADINGS: Mapping[str, str] = {
    "gsd": "GSD, m",
    "hectares": "ha",
    "truth": "annotated",
    "predicted": "predicted",
    "matched": "matched",
    "f1": "F1",
    "f1_low": "F1 from",
    "f1_high": "to",
    "micro_recall": "recall, pooled",
    "micro_precision": "precision, pooled",
    "micro_f1": "F1, pooled",
    "map": "mAP 50:95",
    "ap40": "AP40",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "mAP small",
    "ap_medium": "mAP medium",
    "ap_large": "mAP large",
    "rf1_75": "RF1 75",
    "rf1_50_95": "RF1 50:95",
    "deepforest_recall": "DeepForest recall",
    "deepforest_precision": "DeepForest precision",
    "count_error": "count error, crowns",
    "count_bias": "count bias, crowns",
    "count_error_rel": "count error, %",
    "count_bias_rel": "count bias, %",
    "area_error": "area error, %",
    "area_bias": "area bias, %",
    "centre_distance_m": "centres apart, m",
    "centre_distance_p95_m": "95 % below, m",
    "false_alarms_per_ha": "false alarms per ha",
    "false_alarms_per_ha_empty": "on empty rasters",
    "smallest_m": "half found from, m",
    "ece": "calibration error",
    "threshold": "score threshold",
    "distance_mean_m": "distance, mean m",
    "distance_median_m": "distance, median m",
    "distance_p95_m": "95 % below, m",
    "off": "predicted minus annotated",
    **dict.fromkeys(("recall_low", "precision_low", "accuracy_low", "macro_f1_low"), "from"),
    **dict.fromkeys(("recall_high", "precision_high", "accuracy_high", "macro_f1_high"), "to"),
    "low_m": "from, m",
    "high_m": "to, m",
    "accuracy": "accuracy, found crowns",
    "majority": "most frequent",
    "majority_accuracy": "accuracy of always saying that",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1, found crowns",
    "macro_f1_all": "macro F1, all crowns",
    "micro_f1_all": "micro F1, all crowns",
    "truth_found": "found",
    **{f"{name}_found": f"{told}, found crowns" for name, told in _FOUND.items()},
    "difference": "difference of F1",
    "low": "from",
    "high": "to",
}

_SIGNED = decimals(1, sign=True)


def _signed_percent(value: float) -> str:
    return percent(value, sign=True)


FORMATS: Mapping[str, Format] = {
    **dict.fromkeys(("truth", "points", "predicted", "matched", "hits", "rasters", "count"), whole),
    **dict.fromkeys(
        ("recall", "precision", "f1", "f1_low", "f1_high", "micro_recall", "micro_precision", "micro_f1"), decimals(3)
    ),
    **dict.fromkeys(("map", "ap40", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"), decimals(3)),
    **dict.fromkeys(("rf1_75", "rf1_50_95", "deepforest_recall", "deepforest_precision", "ece"), decimals(3)),
    **dict.fromkeys(("recall_low", "recall_high", "precision_low", "precision_high"), decimals(3)),
    **dict.fromkeys(("accuracy", "majority_accuracy", "balanced_accuracy", "kappa"), decimals(3)),
    **dict.fromkeys(("macro_f1", "macro_f1_all", "micro_f1_all"), decimals(3)),
    **dict.fromkeys(("accuracy_low", "accuracy_high", "macro_f1_low", "macro_f1_high"), decimals(3)),
    **dict.fromkeys((f"{name}_found" for name in _FOUND), decimals(3)),
    **dict.fromkeys(("missed", "unsaid", "spurious", "unknown", "truth_found"), whole),
    **dict.fromkeys(("difference", "low", "high"), decimals(3, sign=True)),
    **dict.fromkeys(("centre_distance_m", "centre_distance_p95_m", "smallest_m", "threshold"), decimals(2)),
    **dict.fromkeys(("distance_mean_m", "distance_median_m", "distance_p95_m"), decimals(2)),
    **dict.fromkeys(("false_alarms_per_ha", "false_alarms_per_ha_empty", "hectares"), decimals(2)),
    **dict.fromkeys(("count_bias_rel", "area_bias"), _signed_percent),
    **dict.fromkeys(("count_error_rel", "area_error"), percent),
    "count_error": decimals(1),
    "count_bias": _SIGNED,
    "off": decimals(0, sign=True),
    "high_m": lambda value: "and up" if value is None or value == float("inf") else plain(value),
    "gsd": plain,
}

GROUPS: Mapping[str, tuple[str, ...]] = {
    "Crowns found": (
        *("gsd", "mode", "upsampled", "rasters", "hectares", "points", "truth", "predicted", "matched"),
        *("recall", "precision", "f1", "f1_low", "f1_high", "micro_recall", "micro_precision", "micro_f1"),
    ),
    "Counts and sizes": (
        *("gsd", "mode", "count_error", "count_bias", "count_error_rel", "count_bias_rel", "area_error", "area_bias"),
        *("centre_distance_m", "centre_distance_p95_m", "distance_mean_m", "distance_median_m", "distance_p95_m"),
        *("false_alarms_per_ha", "false_alarms_per_ha_empty", "smallest_m"),
    ),
    "As other projects measure": (
        *("gsd", "mode", "map", "ap40", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "rf1_75", "rf1_50_95"),
        *("deepforest_recall", "deepforest_precision", "ece", "threshold"),
    ),
}
"""Columns of the main table, a table of the page each."""

DEFINITIONS: Mapping[str, str] = {
    "matched": "A predicted and an annotated crown whose boxes overlap by more than the given intersection over "
    "union (IoU), one to one, so that the sum of overlaps is largest, whatever their classes; "
    "only mAP, AP and the table by class ask for the same class. Crowns whose box has its centre outside the "
    "area of interest are neither missed nor false alarms.",
    "recall": "Share of the annotated crowns that is found; the mean over rasters with annotated crowns. Pooled: all "
    "crowns of all rasters together.",
    "precision": "Share of the predicted crowns that is right; the mean over rasters with predictions. Pooled: "
    "likewise.",
    "F1": "Harmonic mean of recall and precision. Its interval holds 95 % of the values that samples of the rasters, "
    "drawn with replacement, give (bootstrap).",
    "count error, count bias": "Predicted minus annotated crowns by raster: mean size, and mean with its sign. In "
    "per cent: sums over all rasters, divided by the annotated crowns.",
    "area error, area bias": "Crown area (ellipse inscribed in the box) of matched crowns, predicted minus "
    "annotated, divided by annotated: mean size, and mean with its sign.",
    "half found from": "The diameter at which a curve of recall that never falls with size, fitted to all crowns "
    "(isotonic regression), reaches 0.5. A diameter is the mean of a box's two sides.",
    "adapt, native, band-limit": "How coarser imagery, simulated by area averaging, is read: resampled to the "
    "model's GSD; as it is; or brought back to the raster's own pixel size.",
    "mAP, AP40, AP50, AP75": "Average precision as COCO defines it (101 recall levels), at IoU 0.50 to 0.95, 0.40, "
    "0.50 and 0.75, without a cap on detections. Small crowns have a box below 16 m², large ones above 100 m².",
    "RF1": "Raster-level F1 of SelvaBox and CanopyRS, at IoU 0.75 and averaged over 0.50 to 0.95.",
    "DeepForest recall, precision": "As DeepForest's evaluation counts: the assignment that shares most area, then "
    "IoU above 0.4, averaged over rasters with annotated crowns.",
    "calibration error": "Mean difference between a crown's score and the share of crowns with such a score that is "
    "right (expected calibration error).",
    "may I trust the count": "Yes for totals: the 95 % interval of the total's bias lies within 10 %. No: it lies "
    "beyond 10 %. With care: it reaches over 10 % and excludes 0. Not settled: anything else, or fewer than five "
    "rasters.",
}
