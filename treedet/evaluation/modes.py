"""Ways to read coarse imagery against each other, on the same rasters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from treedet.metrics.bootstrap import paired_difference
from treedet.metrics.detection import RasterCount

if TYPE_CHECKING:
    from treedet.evaluation.report import Report

USUAL = "adapt"


def mode_differences(report: Report) -> pd.DataFrame:
    """Return how much better each further mode's F1 is than that of ``adapt``, GSD by GSD.

    Args:
        report: Its ``by_raster`` holds the counts.

    Returns:
        Columns ``gsd``, ``mode``, ``against``, ``difference``, ``low``, ``high`` (95 % interval by bootstrap over
        rasters) and ``rasters``; no rows where a report has one mode.
    """
    rows = []
    counts = report.by_raster
    if len(counts) and counts["mode"].nunique() > 1:
        draws, seed = int(report.setting("draws", 1000) or 1000), int(report.setting("seed", 0) or 0)
        for gsd, part in counts[counts["gsd"].notna()].groupby("gsd"):
            usual = counts_by_raster(part[part["mode"] == USUAL])
            for mode in [name for name in dict.fromkeys(part["mode"]) if name != USUAL]:
                other = counts_by_raster(part[part["mode"] == mode])
                shared = [name for name in usual if name in other]
                if not shared:
                    continue
                pair = [usual[name] for name in shared], [other[name] for name in shared]
                found = paired_difference(*pair, score="f1", draws=draws, seed=seed)
                told = {"difference": found.value, "low": found.low, "high": found.high}
                rows.append({"gsd": gsd, "mode": mode, "against": USUAL, **told, "rasters": found.rasters})
    return pd.DataFrame(rows, columns=["gsd", "mode", "against", "difference", "low", "high", "rasters"])


def counts_by_raster(rows: pd.DataFrame) -> dict[str, RasterCount]:
    """Return the counts of one condition by raster; of rasters with the same name the second gets a number.

    >>> rows = pd.DataFrame({"raster": ["a", "a"], "truth": [2, 1], "predicted": [1, 1], "matched": [1, 0]})
    >>> list(counts_by_raster(rows))
    ['a', 'a (2)']
    """
    found: dict[str, RasterCount] = {}
    times: dict[str, int] = {}
    for name, truth, predicted, matched in rows[["raster", "truth", "predicted", "matched"]].itertuples(index=False):
        times[name] = times.get(name, 0) + 1
        key = str(name) if times[name] == 1 else f"{name} ({times[name]})"
        found[key] = RasterCount(int(truth), int(predicted), int(matched))
    return found


def raster_score(count: RasterCount) -> float:
    """Return the F1 of one raster; NaN where it has no crown and none is predicted.

    >>> raster_score(RasterCount(4, 2, 2)) == 2 / 3
    True
    """
    crowns = count.truth + count.predicted
    return 2 * count.matched / crowns if crowns else math.nan
