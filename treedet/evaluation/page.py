"""The page of a report: the answer first, then pictures, then tables, then what words mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from treedet.display.evaluation_rasters import short_names
from treedet.evaluation import answers, page_attributes
from treedet.evaluation.answers import Answer
from treedet.evaluation.definitions import DEFINITIONS, FORMATS, GROUPS, HEADINGS
from treedet.evaluation.figures import Drawn
from treedet.evaluation.html import Markup, bars, decimals, element, facts, page, picture, plain, table, whole
from treedet.evaluation.modes import mode_differences

if TYPE_CHECKING:
    from treedet.evaluation.report import Report

MOST_ROWS = 200
"""Rasters listed on the page; more are in the CSV."""
HIDDEN_ROWS = 25
"""Rasters up to which the list stands open."""

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "By resolution": ("sweep", "heat_map", "smallest"),
    "By crown": ("diameters", "distances"),
    "By raster": ("raster_scores", "counts"),
    "By score": ("score_curve", "precision_recall", "reliability"),
}
"""Pictures by section, in the order of the page."""


def report_page(report: Report, folder: Path, drawn: Mapping[str, Drawn], overlays: Mapping[str, str]) -> str:
    """Return the page as HTML that needs no other file.

    Args:
        report: What was measured.
        folder: Where the pictures are.
        drawn: Those in ``figures/``, by name.
        overlays: Captions of those beside the page, by file name.
    """
    sections = [
        _section(
            title, [_figure(folder / "figures" / drawn[name].file, drawn[name]) for name in names if name in drawn]
        )
        for title, names in SECTIONS.items()
    ]
    seen = [_figure(folder / file, Drawn(file, caption)) for file, caption in overlays.items()]
    return page(
        report.title,
        element("header", element("h1", report.title), *_first_screen(report)),
        _notes(report.notes),
        _section("On the ground", seen),
        page_attributes.attribute_section(report, _by_attribute(folder, drawn)),
        *sections,
        *_tables(report),
        _definitions(report),
        element("h2", "What was evaluated"),
        facts({name: value for name, value in report.facts.items() if name not in ("definitions", "rasters")}),
    )


def _by_attribute(folder: Path, drawn: Mapping[str, Drawn]) -> dict[str, list[Markup]]:
    """Return the pictures of each attribute."""
    found: dict[str, list[Markup]] = {}
    for one in drawn.values():
        if one.attribute:
            found.setdefault(one.attribute, []).append(_figure(folder / "figures" / one.file, one))
    return found


def _first_screen(report: Report) -> list[Markup]:
    """Return the headline and the four answers."""
    if not len(report.main):
        return [element("p", "Nothing was measured.", class_="headline")]
    row = {str(name): value for name, value in report.main.iloc[0].items()}
    stems = report.main is not report.table
    if stems:
        row["truth"] = row.get("points")
    by_raster = report.of_first(report.by_raster)
    draws, seed = int(report.setting("draws", 1000) or 0), int(report.setting("seed", 0) or 0)
    found = [
        answers.on_imagery(row, by_raster, iou_threshold=None if stems else report.iou_threshold),
        answers.at_resolution(report.main, model_gsd=report.model_gsd),
        answers.of_distances(row) if stems else answers.of_sizes(row, report.of_first(report.by_size)),
        answers.of_count(row, by_raster, draws=draws, seed=seed),
    ]
    return [
        element("p", answers.headline(row, trees="trees" if stems else "crowns"), class_="headline"),
        element("p", _basis(row), class_="under"),
        element("div", *(_card(answer) for answer in found), class_="cards"),
    ]


def _basis(row: Mapping[str, Any]) -> str:
    """Return what the numbers rest on, in one line."""
    rasters, truth = answers.number(row, "rasters"), answers.number(row, "truth")
    hectares, gsd = answers.number(row, "hectares"), answers.number(row, "gsd")
    parts = [f"{whole(truth)} annotated", f"on {whole(rasters)} raster{'' if rasters == 1 else 's'}"]
    if hectares > 0:
        parts.append(f"{decimals(2 if hectares < 10 else 0)(hectares)} ha")
    if gsd > 0:
        parts.append(f"{gsd:.2g} m per pixel")
    if answers.number(row, "threshold") > 0:
        parts.append(f"score of at least {answers.number(row, 'threshold'):.2f}")
    return ", ".join(parts) + "."


def _card(answer: Answer) -> Markup:
    return element(
        "section",
        element("h2", answer.question),
        element("p", answer.answer, class_="answer"),
        bars(answer.bars) if answer.bars else None,
        *(element("p", sentence) for sentence in answer.sentences),
        class_="card",
    )


def _notes(notes: Sequence[str]) -> Markup:
    if not notes:
        return Markup("")
    return element("section", element("h2", "To be known"), element("ul", *(element("li", note) for note in notes)))


def _section(title: str, figures: Sequence[Markup]) -> Markup:
    if not figures:
        return Markup("")
    return element("section", element("h2", title), element("div", *figures, class_="pictures"))


def _figure(path: Path, drawn: Drawn) -> Markup:
    shown = picture(path, alt=drawn.caption)
    return element("figure", shown, element("figcaption", drawn.caption), class_="wide" if drawn.wide else None)


def _tables(report: Report) -> list[Markup]:
    """Return the tables, the main one in parts that fit a page."""
    parts = [element("h2", "Tables"), element("p", "Every table is in a CSV beside this page.", class_="note")]
    for title, columns in GROUPS.items():
        kept = [name for name in columns if name in report.main and report.main[name].notna().any()]
        if set(kept) - {"gsd", "mode", "upsampled", "threshold"}:
            parts += [element("h3", title), _table(report.main[kept])]
    modes = mode_differences(report)
    if len(modes):
        said = "Difference of F1 with its 95 % interval, the same rasters sampled together."
        parts += [element("h3", "One way to read coarse imagery against another"), element("p", said, class_="note")]
        parts.append(_table(modes))
    if len(report.by_class) and report.by_class["label"].nunique() > 1:
        parts += [element("h3", "By class"), _table(report.by_class)]
    sizes = report.of_first(report.by_size)
    if len(sizes):
        sizes = sizes[(sizes["truth"] > 0) | (sizes["predicted"] > 0)]
        parts += [element("h3", "By crown diameter, of the imagery as it is"), _table(_without_condition(sizes))]
    rasters = report.of_first(report.by_raster)
    if len(rasters) > 1:
        named = rasters.assign(raster=short_names(rasters["raster"], longest=60)).rename(
            columns={"count_difference": "off"}
        )
        listed = _table(_without_condition(named.sort_values("f1", na_position="last").head(MOST_ROWS)))
        told = f"By raster, the worst first ({min(len(rasters), MOST_ROWS)} of {len(rasters)})"
        open_ = "" if len(rasters) <= HIDDEN_ROWS else None
        parts.append(element("details", element("summary", told), listed, open=open_))
    return parts


def _table(frame: pd.DataFrame) -> Markup:
    same = [name for name in ("upsampled",) if name in frame and not frame[name].astype(bool).any()]
    return table(frame.drop(columns=same), FORMATS, names=HEADINGS)


def _without_condition(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop(columns=[name for name in ("gsd", "mode") if name in frame])


def _definitions(report: Report) -> Markup:
    more = report.facts.get("definitions")
    said = page_attributes.DEFINITIONS if len(report.by_attribute) else {}
    every = {**DEFINITIONS, **said, **(more if isinstance(more, Mapping) else {})}
    rows = [part for name, text in every.items() for part in (element("dt", name), element("dd", plain(text)))]
    return element("section", element("h2", "What the words mean"), element("dl", *rows))
