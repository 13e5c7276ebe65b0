"""Small grounds and reports with known outcomes."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import shapely

from treedet.evaluation.ground import EvaluatedGround
from treedet.evaluation.report import Report, rows_of
from treedet.metrics.paired import PairedCrowns
from treedet.metrics.points import PairedPoints

UTM = pyproj.CRS(32633)
CLASSES = ("oak", "pine")
TRUTH = [[0, 0, 4, 4], [10, 0, 14, 4], [20, 0, 24, 4], [90, 0, 94, 4]]
PREDICTED = [[0, 0, 4, 5], [10, 0, 14, 4], [40, 0, 44, 4], [60, 0, 64, 4], [20, 0, 24, 4]]
"""A hit, a confusion, a miss, one ignored; and a hit, a confusion, a false alarm, one ignored, one faint."""


def crowns_table(boxes, labels, scores=None, *, crs=UTM, points=False):
    boxes = np.array(boxes, dtype=float).reshape(-1, 4)
    shapes = [shapely.Point(b[0], b[1]) if points else shapely.box(*b) for b in boxes]
    values = {"label": pd.Categorical(labels), "score": np.array(scores or [1.0] * len(boxes), np.float32)}
    return gpd.GeoDataFrame(values, geometry=shapes, crs=crs)


def ground(name="plot_1.tif", *, crs=UTM, truth=TRUTH, predicted=PREDICTED):
    """A hit, a confusion, a miss and a false alarm at a threshold of 0.5; one crown on either side is ignored."""
    scores = [0.9, 0.8, 0.7, 0.95, 0.2][: len(predicted)]
    true_classes, classes = np.array([0, 1, 0, 0][: len(truth)]), np.array([0, 0, 1, 0, 0][: len(predicted)])
    paired = PairedCrowns(
        np.array(truth, float).reshape(-1, 4),
        np.array(predicted, float).reshape(-1, 4),
        np.array(scores, np.float32),
        truth_classes=true_classes,
        predicted_classes=classes,
        truth_ignored=np.array([False, False, False, True][: len(truth)], bool),
        predicted_ignored=np.array([False, False, False, True, False][: len(predicted)], bool),
        name=name,
        hectares=1.0,
    )
    tables = [
        crowns_table(boxes, [CLASSES[i] for i in of], given, crs=crs)
        for boxes, of, given in ((truth, true_classes, None), (predicted, classes, scores))
    ]
    return EvaluatedGround(name, crs, 1.0, *tables, paired)


def stems(*, complete):
    """Three stems: one in a crown, one alone, one ignored; and a crown without a stem."""
    points, boxes = np.array([[2.0, 3], [30, 30], [80, 80]]), np.array([[0.0, 0, 4, 4], [50, 50, 54, 54]])
    paired = PairedPoints(
        points,
        boxes,
        np.array([0.9, 0.8], np.float32),
        name="stems.tif",
        complete=complete,
        point_ignored=np.array([False, False, True]),
    )
    truth = crowns_table(np.concatenate([points, points], axis=1), ["tree"] * 3, points=True)
    return EvaluatedGround("stems.tif", UTM, 1.0, truth, crowns_table(boxes, ["tree"] * 2, [0.9, 0.8]), paired)


def report(
    counts=None, *, title="model on plots", grounds=None, gsds=(0.1, 0.2), modes=("adapt", "native"), **values
):
    """A report whose rasters have the counts given: name to (truth, predicted, matched)."""
    counts = counts or {f"plots/{i}.tif": (10, 8 + i % 4, 6 + i % 3) for i in range(6)}
    conditions = [(gsds[0], modes[0]), *((gsd, mode) for gsd in gsds[1:] for mode in modes)]
    by_raster = pd.DataFrame(
        [
            {"gsd": gsd, "mode": mode, "raster": name, "hectares": 1.0, "truth": t, "predicted": p, "matched": m}
            for gsd, mode in conditions
            for name, (t, p, m) in counts.items()
        ]
    )
    by_raster["f1"] = 2 * by_raster["matched"] / (by_raster["truth"] + by_raster["predicted"])
    by_raster["count_difference"] = by_raster["predicted"] - by_raster["truth"]
    settings = {
        "title": title,
        "facts": {
            "model": {"name": "m", "gsd": 0.1},
            "threshold": 0.5,
            "settings": {"iou_threshold": 0.4, "draws": 200},
        },
        "table": pd.DataFrame(
            [{"gsd": gsd, "mode": mode, **_scores(by_raster, gsd, mode)} for gsd, mode in conditions]
        ),
        "by_raster": by_raster,
        "by_size": pd.concat([_sizes().assign(gsd=gsd, mode=mode) for gsd, mode in conditions], ignore_index=True),
        "by_class": pd.DataFrame(
            {"gsd": 0.1, "mode": "adapt", "label": CLASSES, "truth": [2, 1], "map": [0.5, np.nan]}
        ),
        "curve": _curve(),
        "precision_recall": pd.DataFrame({"score": [0.9, 0.2], "recall": [0.1, 0.8], "precision": [1.0, 0.5]}),
        "reliability": pd.DataFrame(
            {"low": [0, 0.5], "high": [0.5, 1], "count": [5, 50], "confidence": [0.3, 0.8], "accuracy": [0.2, 0.9]}
        ),
        "grounds": [ground()] if grounds is None else grounds,
        "notes": ["band-limit is the same as <adapt> here"],
    }
    return Report(**{**settings, **values})


def _scores(by_raster, gsd, mode):
    rows = rows_of(by_raster, {"gsd": gsd, "mode": mode})
    truth, predicted, matched = (float(rows[name].sum()) for name in ("truth", "predicted", "matched"))
    f1 = 2 * matched / (truth + predicted)
    return {
        "upsampled": False,
        "rasters": len(rows), "hectares": float(len(rows)), "truth": truth, "predicted": predicted,
        "matched": matched, "recall": matched / truth, "precision": matched / predicted, "f1": f1, "f1_low": f1 - 0.1,
        "f1_high": f1 + 0.1, "micro_recall": matched / truth, "micro_precision": matched / predicted, "micro_f1": f1,
        "count_bias_rel": predicted / truth - 1, "count_error": 1.0, "smallest_m": 2.0 + gsd, "map": np.nan,
        "threshold": 0.5,
    }  # fmt: skip


def _sizes():
    n = np.array([0, 30, 5])
    share = {f"{name}{end}": [np.nan, 0.5, 0.8] for name in ("recall", "precision") for end in ("", "_low", "_high")}
    return pd.DataFrame({"low_m": [0.0, 2, 4], "high_m": [2, 4, np.inf], "truth": n, "predicted": n, **share})


def _curve():
    thresholds = np.linspace(0.1, 0.9, 9)
    values = {"threshold": thresholds, "recall": 1 - thresholds, "precision": thresholds}
    return pd.DataFrame({**values, "f1": 2 * thresholds * (1 - thresholds)})
