"""The answers a report gives first: how good on this imagery, resolution and crown size, and whether counts hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from treedet.evaluation.html import percent, whole
from treedet.metrics.bootstrap import Interval, interval, resamples

NEAR = 0.10
"""Bias of a total up to which it is called right."""
LEAST_RASTERS = 5
"""Rasters below which an interval over rasters says little."""
MUCH_MISSED = 0.3
HOLDS = 0.05
"""F1 that may be lost before a resolution is called worse."""
LEAST_CROWNS = 20

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """One question of the first screen.

    Attributes:
        question: What is asked.
        answer: In a few words.
        bars: Name, share and text of bars that go with it.
        sentences: What else to know.
    """

    question: str
    answer: str
    bars: tuple[tuple[str, float, str], ...] = ()
    sentences: tuple[str, ...] = ()


def number(row: Row, *names: str) -> float:
    """Return the first of the columns that is there and finite, else NaN.

    >>> number({"a": None, "b": 2}, "a", "b"), number({}, "a")
    (2.0, nan)
    """
    for name in names:
        value = row.get(name)
        if value is not None and value is not pd.NA and math.isfinite(float(value)):
            return float(value)
    return math.nan


def headline(row: Row, *, trees: str = "crowns") -> str:
    """Return the result in one sentence, of pooled crowns.

    Args:
        row: Of the main table.
        trees: What is found.

    >>> headline({"micro_recall": 0.63, "micro_precision": 0.7, "count_bias_rel": -0.1, "truth": 100})
    'Finds 63 % of the crowns; 70 % of what it finds is right; counts 10 % too few.'
    >>> headline({"truth": 0, "predicted": 3, "false_alarms_per_ha": 0.5})
    'There are no crowns here; it finds 3 all the same, 0.50 per hectare.'
    """
    recall, precision = number(row, "micro_recall", "recall"), number(row, "micro_precision", "precision")
    truth = number(row, "truth", "points")
    if truth == 0:
        found, density = number(row, "predicted"), number(row, "false_alarms_per_ha", "false_alarms_per_ha_empty")
        per_hectare = f", {density:.2f} per hectare" if math.isfinite(density) else ""
        if math.isnan(found):
            return f"There are no {trees} here, and nothing says that the truth is complete."
        return f"There are no {trees} here; it finds {whole(found) if found else 'none'}" + (
            f" all the same{per_hectare}." if found else ", as it should."
        )
    if not math.isfinite(recall):
        return "Nothing could be measured."
    if number(row, "predicted") == 0:
        return f"Finds nothing: all {whole(truth)} {trees} are missed."
    parts = [f"Finds {percent(recall)} of the {trees}"]
    if math.isfinite(precision):
        parts.append(f"{percent(precision)} of what it finds is right")
        parts.append(f"counts {off(bias(row))}")
    else:
        parts.append("what else it finds can not be judged, since nothing says that the truth is complete")
    return "; ".join(parts) + "."


def condition_line(row: Row) -> str:
    """Return one way of seeing the imagery as a line for the terminal.

    >>> condition_line({"gsd": 0.2, "mode": "adapt", "f1": 0.6, "f1_low": 0.5, "f1_high": 0.7, "recall": 0.5})
    '0.2 m adapt F1 0.600 (0.500 to 0.700), recall 0.500'
    """
    told = []
    for name, word in (("f1", "F1"), ("recall", "recall"), ("precision", "precision"), ("ap50", "AP50")):
        value = number(row, name)
        low, high = number(row, f"{name}_low"), number(row, f"{name}_high")
        within = f" ({low:.3f} to {high:.3f})" if name == "f1" and math.isfinite(low) else ""
        told += [f"{word} {value:.3f}{within}"] if math.isfinite(value) else []
    gsd = number(row, "gsd")
    seen = f"{gsd:.3g} m {row.get('mode', '')}".strip() if math.isfinite(gsd) else "crowns"
    return f"{seen:<11} {', '.join(told)}"


def bias(row: Row) -> float:
    """Return predicted minus annotated crowns, over annotated; NaN where neither is known."""
    told = number(row, "count_bias_rel")
    truth = number(row, "truth")
    return told if math.isfinite(told) or not truth > 0 else number(row, "predicted") / truth - 1


def off(share: float) -> str:
    """Return a bias in words.

    >>> off(-0.1), off(0.234), off(0.001)
    ('10 % too few', '23 % too many', 'right in total')
    """
    if not math.isfinite(share):
        return "an unknown number"
    if abs(share) < 0.005:
        return "right in total"
    return f"{percent(abs(share))} too {'few' if share < 0 else 'many'}"


def on_imagery(row: Row, by_raster: pd.DataFrame, *, iou_threshold: float | None) -> Answer:
    """Answer how good the crowns are on this imagery."""
    f1, low, high = (number(row, name) for name in ("f1", "f1_low", "f1_high"))
    several = number(row, "rasters") >= 2 and math.isfinite(low) and math.isfinite(high)
    answer = f"F1 {f1:.2f}" + (f", likely {low:.2f} to {high:.2f}" if several else "")
    if not math.isfinite(f1):
        recall = number(row, "recall")
        answer = f"Recall {recall:.2f}" if math.isfinite(recall) else "No crowns to find"
    named = {"recall": "recall", "precision": "precision", "F1": "f1"}
    values = {name: number(row, column) for name, column in named.items()}
    bars = tuple((name, value, f"{value:.2f}") for name, value in values.items() if math.isfinite(value))
    sentences = []
    if several:
        sentences.append("Means over rasters; the range is the 95 % interval over rasters.")
    spread = by_raster["f1"].dropna() if "f1" in by_raster else pd.Series(dtype=float)
    if len(spread) >= LEAST_RASTERS:
        worst, best = np.quantile(spread, [0.1, 0.9])
        sentences.append(f"Of ten rasters, eight have an F1 between {worst:.2f} and {best:.2f}.")
    if bars and iou_threshold is not None:
        sentences.append(f"A crown counts as found where the boxes overlap by more than {iou_threshold:g} (IoU).")
    return Answer("How good is it on this imagery?", answer, bars, tuple(sentences))


def at_resolution(table: pd.DataFrame, *, model_gsd: float | None) -> Answer:
    """Answer at which resolutions it works: how far F1 holds as imagery gets coarser."""
    question = "At which resolution?"
    score = "f1" if "f1" in table and table["f1"].notna().any() else "recall"
    if score not in table or "gsd" not in table or not table["gsd"].notna().any():
        return Answer(question, "Not tied to imagery", sentences=("The crowns were compared without a raster.",))
    name = "F1" if score == "f1" else "recall"
    mode = table["mode"] if "mode" in table else pd.Series("adapt", index=table.index)
    first = table[mode == mode.iloc[0]].drop_duplicates("gsd").sort_values("gsd")
    own = table.iloc[0]
    if not table[score].notna().any():
        return Answer(question, "No crowns to find")
    model = [f"The model works at {model_gsd:.2g} m."] if model_gsd else []
    if len(first) == 1 and mode.nunique() > 1:
        # Coarser imagery was read in other modes only: the first of them, beside the imagery as it is.
        other = mode[mode != mode.iloc[0]].iloc[0]
        first = table[(mode == other) | (table.index == table.index[0])].drop_duplicates("gsd").sort_values("gsd")
        model.append(f"Coarser imagery was read in the mode {other}.")
    if len(first) == 1:
        told = f"Measured at {own['gsd']:.2g} m per pixel only"
        more = ["Coarser imagery can be tried with gsds= (--gsds)."] if model_gsd else []
        return Answer(question, told, sentences=(*model, *more))
    bars = tuple(
        (f"{row.gsd:.2g} m", float(getattr(row, score)), f"{float(getattr(row, score)):.2f}")
        for row in first.itertuples(index=False)
    )
    coarser = first[first["gsd"] >= own["gsd"]]
    holds = coarser[(coarser[score] >= own[score] - HOLDS).cummin()]["gsd"].max()
    if not first[score].max() > HOLDS:
        answer = "Finds next to nothing at any"
    elif not holds > own["gsd"]:
        answer = f"Best at {own['gsd']:.2g} m, worse on anything coarser"
    else:
        answer = f"Holds from {own['gsd']:.2g} m to {holds:.2g} m per pixel"
    said = [f"{name} by GSD; it holds where it loses at most {HOLDS:g} to the imagery as it is.", *model]
    return Answer(question, answer, bars, (*said, *_better_mode(table, mode, score)))


def _better_mode(table: pd.DataFrame, mode: pd.Series[str], score: str) -> list[str]:
    """Say at which GSDs another way of reading is better."""
    if mode.nunique() < 2:
        return []
    wide = table.assign(mode=mode).pivot_table(index="gsd", columns="mode", values=score, aggfunc="first")
    usual = str(mode.iloc[0])
    said = []
    for other in [name for name in wide.columns if name != usual]:
        better = wide.index[(wide[other] > wide[usual]).to_numpy(dtype=bool)]
        if len(better):
            said.append(f"Read in the mode {other}, it does better at {', '.join(f'{g:.2g} m' for g in better)}.")
    return said


def of_sizes(row: Row, by_size: pd.DataFrame) -> Answer:
    """Answer which crown sizes are found."""
    question = "For which crown sizes?"
    truth, smallest = number(row, "truth"), number(row, "smallest_m")
    if math.isfinite(smallest):
        answer = f"Finds at least half from {smallest:.1f} m diameter up"
    elif truth < LEAST_CROWNS:
        answer = f"Too few crowns ({whole(truth)}) to tell sizes apart"
    else:
        answer = "There is no diameter from which on half are found"
    if not len(by_size):
        return Answer(question, answer)
    rows = by_size[by_size["truth"] > 0].sort_values("low_m")
    columns = (rows[name].tolist() for name in ("low_m", "high_m", "recall", "truth"))
    bars = tuple(
        (_size(low, high), recall, f"{percent(recall)} of {whole(truth)}")
        for low, high, recall, truth in zip(*columns, strict=True)
    )
    said = ("Share of the annotated crowns that is found, by their diameter.",) if bars else ()
    return Answer(question, answer, bars, said)


def _size(low: float, high: float) -> str:
    return f"{low:g} to {high:g} m" if math.isfinite(high) else f"over {low:g} m"


def of_distances(row: Row) -> Answer:
    """Answer, for stems, how far they stand from the centres of their crowns."""
    middle, far = number(row, "distance_median_m"), number(row, "distance_p95_m")
    if not math.isfinite(middle):
        return Answer("How far from the stems?", "No stem was matched")
    said = f"95 % of the matched stems are closer than {far:.1f} m to the centre of their crown."
    return Answer("How far from the stems?", f"{middle:.1f} m in the median", sentences=(said,))


def of_count(row: Row, by_raster: pd.DataFrame, *, draws: int = 1000, seed: int = 0) -> Answer:
    """Answer whether the number of crowns may be trusted, in total and on a single raster."""
    question = "May I trust the count?"
    total = bias(row)
    if not math.isfinite(total):
        if number(row, "truth") == 0:
            found = number(row, "predicted")
            return Answer(question, f"It counts {whole(found) if found else 'none'} where there is none")
        return Answer(question, "Not known", sentences=("Nothing says that the truth is complete.",))
    told = count_interval(by_raster, draws=draws, seed=seed) if len(by_raster) else Interval(math.nan, math.nan)
    rasters = int((by_raster["truth"] > 0).sum()) if len(by_raster) else int(number(row, "rasters"))
    known = rasters >= LEAST_RASTERS and math.isfinite(told.low)
    sentences = []
    if known:
        span = f"{percent(told.low, sign=True)} and {percent(told.high, sign=True)}"
        sentences.append(f"In total {off(total)}; likely between {span}, from {rasters} rasters.")
    each, share = number(row, "count_error"), number(row, "count_error_rel")
    if rasters > 1 and math.isfinite(each):
        of_all = f", {percent(share)} of its crowns" if math.isfinite(share) else ""
        sentences.append(f"A single raster is off by {each:.1f} on average{of_all}.")
    missed, wrong = (1 - number(row, f"micro_{name}", name) for name in ("recall", "precision"))
    if abs(total) <= NEAR and missed > MUCH_MISSED:
        sentences.append(
            f"Misses ({percent(missed)} of the crowns) and false alarms ({percent(wrong)} of what is found) cancel "
            "out here; on other ground they may not."
        )
    empty = number(row, "false_alarms_per_ha_empty")
    if math.isfinite(empty):
        sentences.append(f"On rasters without trees: {empty:.2g} false alarms per hectare.")
    return Answer(question, _verdict(total, told if known else None, rasters), sentences=tuple(sentences))


def _verdict(total: float, told: Interval | None, rasters: int) -> str:
    if told is None and rasters >= LEAST_RASTERS:
        return f"Not settled: {off(total)} here, without an interval"
    if told is None:
        few = "one raster says" if rasters == 1 else f"{rasters} rasters say"
        return f"Not settled: {off(total)} here, but {few} little about others"
    if max(-told.low, told.high) <= NEAR:
        return f"For totals, yes: {off(total)}"
    if told.low > NEAR or told.high < -NEAR:
        return f"No: {off(total)}"
    if told.low > 0 or told.high < 0:
        return f"With care: {off(total)}"
    return f"Not settled: {off(total)}, give or take much"


def count_interval(by_raster: pd.DataFrame, *, draws: int, seed: int) -> Interval:
    """Return the 95 % interval of the total's bias, by bootstrap over rasters.

    Args:
        by_raster: Columns ``truth``, and ``count_difference`` (predicted less annotated) or ``predicted``.
        draws: Samples of rasters.
        seed: Seed of the draw.
    """
    truth = by_raster["truth"].to_numpy(dtype=float)
    if "count_difference" in by_raster:
        difference = by_raster["count_difference"].to_numpy(dtype=float)
    else:
        difference = by_raster["predicted"].to_numpy(dtype=float) - truth
    if len(truth) < 2:
        return Interval(math.nan, math.nan)
    drawn = resamples(len(truth), draws=draws, seed=seed)
    annotated = truth[drawn].sum(axis=1)
    kept = annotated > 0
    return interval(difference[drawn].sum(axis=1)[kept] / annotated[kept])
