"""Which pictures a report has, and what is said under each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from treedet.display import evaluation, evaluation_rasters, evaluation_scores
from treedet.display.confusion import confusion
from treedet.evaluation.attribute_tables import matrix_of

if TYPE_CHECKING:
    from treedet.evaluation.report import Report


WIDE_CLASSES = 6
"""Classes above which a confusion matrix takes the whole width of the page."""


@dataclass(frozen=True)
class Drawn:
    """A picture of a report.

    Attributes:
        file: Its name in ``figures/``.
        caption: How to read it.
        wide: It takes the whole width of the page.
        attribute: What it is about; empty where it is about crowns.
    """

    file: str
    caption: str
    wide: bool = False
    attribute: str = ""


def draw_figures(
    report: Report, folder: Path, *, distances: npt.NDArray[np.float64] | None = None
) -> dict[str, Drawn]:
    """Draw every picture there are figures for.

    Args:
        report: The tables.
        folder: Where the PNGs are written.
        distances: Metres between matched stems and crowns; None where the truth is crowns.

    Returns:
        What was drawn, by the name of the function that drew it.

    Raises:
        OutputError: A picture can not be written.
    """
    found: dict[str, Drawn] = {}

    def add(drawn: Drawn, draw: Callable[[Path], None]) -> None:
        draw(folder / drawn.file)
        found[drawn.file.removesuffix(".png")] = drawn

    _by_resolution(report, add)
    _by_score(report, add)
    _of_attributes(report, add)
    sizes, rasters = report.of_first(report.by_size), report.of_first(report.by_raster)
    if len(sizes) and _any(sizes, "truth"):
        caption = "Bars: share of crowns by diameter, with 95 % intervals; pale where there are fewer than ten."
        add(Drawn("diameters.png", caption, wide=True), lambda path: evaluation_scores.diameters(path, sizes))
    if len(rasters) > 1:
        caption = "Each raster by its F1. Those at the bottom are worth a look."
        add(Drawn("raster_scores.png", caption), lambda path: evaluation_rasters.raster_scores(path, rasters))
        caption = "Each point is a raster. Above the dashed line it counts too many crowns, below too few."
        add(Drawn("counts.png", caption), lambda path: evaluation_rasters.counts(path, rasters))
    if distances is not None:
        caption = "How far stems stand from the centre of the crown they were matched with."
        add(Drawn("distances.png", caption), lambda path: evaluation_rasters.distances(path, distances))
    return found


Add = Callable[[Drawn, Callable[[Path], None]], None]


def _by_resolution(report: Report, add: Add) -> None:
    """Draw what only a sweep over GSDs can show."""
    main = report.main
    if "gsd" not in main or main["gsd"].nunique() < 2:
        return
    gsd = report.model_gsd
    score = "f1" if _any(main, "f1") else "recall"
    caption = (
        "Coarser imagery was simulated first by area averaging; from then on only that was seen. Lines are ways to "
        "read it."
    )
    add(Drawn("sweep.png", caption, wide=True), lambda path: evaluation.sweep(path, main, model_gsd=gsd, score=score))
    if len(report.by_size) and _any(report.by_size, "truth"):
        caption = "Per cent of the annotated crowns that is found. n: annotated crowns of that diameter."
        add(Drawn("heat_map.png", caption, wide=True), lambda path: evaluation.heat_map(path, report.by_size))
    if _any(main, "smallest_m"):
        caption = "From this diameter on at least half of the crowns are found; lower is better."
        add(Drawn("smallest.png", caption), lambda path: evaluation.smallest(path, main, model_gsd=gsd))


def _by_score(report: Report, add: Add) -> None:
    """Draw what needs scores."""
    threshold = report.threshold
    if len(report.curve):
        caption = (
            "A lower threshold finds more crowns and more of what is none. The threshold used was chosen beforehand, "
            "not here."
        )
        add(
            Drawn("score_curve.png", caption),
            lambda path: evaluation_scores.score_curve(path, report.curve, threshold=threshold),
        )
    if len(report.precision_recall):
        caption = "Every threshold is a point of the line. Grey: equal F1."
        add(
            Drawn("precision_recall.png", caption),
            lambda path: evaluation_scores.precision_recall(path, report.precision_recall, threshold=threshold),
        )
    if len(report.reliability):
        caption = (
            "Below the dashed line scores promise too much, above too little. A score says how probable a crown is "
            "where both agree."
        )
        add(
            Drawn("reliability.png", caption),
            lambda path: evaluation_scores.reliability(path, report.reliability),
        )


def _of_attributes(report: Report, add: Add) -> None:
    """Draw what is said about crowns."""
    confused, honest = report.of_first(report.confusion), report.of_first(report.attribute_reliability)
    for name in dict.fromkeys(confused["attribute"]) if len(confused) else ():
        of_name = (table[table["attribute"] == name] for table in (confused, honest))
        _of_attribute(str(name), *of_name, add=add)


def _of_attribute(name: str, confused: pd.DataFrame, honest: pd.DataFrame, *, add: Add) -> None:
    names, counts = matrix_of(confused)
    caption = (
        "Crowns, and their share of the row. In colour: crowns that were found. Grey: those missed, those about "
        "which nothing is said, and spurious ones, which are no annotated crown."
    )
    add(
        Drawn(f"confusion_{name}.png", caption, wide=len(names) > WIDE_CLASSES, attribute=name),
        lambda path: confusion(path, counts, names, attribute=name),
    )
    if _any(honest, "count"):
        caption = "Of the found crowns, how often what is said is right, by its probability."
        title = f"{name}: how honest the probability is"
        add(
            Drawn(f"reliability_{name}.png", caption, attribute=name),
            lambda path: evaluation_scores.reliability(path, honest, title=title, score="probability"),
        )


def _any(frame: pd.DataFrame, column: str) -> bool:
    """Tell whether a column has a value other than 0."""
    return column in frame and bool((frame[column].fillna(0) != 0).any())
