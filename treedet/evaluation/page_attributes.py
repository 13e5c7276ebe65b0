"""What a report's page says about attributes: a sentence, pictures and tables for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from treedet.evaluation.attribute_tables import ALL, MACRO, MATCHED, MICRO
from treedet.evaluation.definitions import FORMATS, HEADINGS
from treedet.evaluation.html import Markup, element, percent, table, whole

if TYPE_CHECKING:
    from treedet.evaluation.report import Report

MEANS = {MACRO: "mean of classes (macro)", MICRO: "all pooled (micro)"}
DEFINITIONS: Mapping[str, str] = {
    "what is said about crowns": "Crowns are matched whatever is said about them; then what is said is compared. "
    "Annotated crowns of which the attribute is not known are left out, with the predictions matched to them; so is "
    "a raster of whose annotated crowns it is known of none.",
    "missed, spurious, unsaid": "Annotated crowns that were not found; predicted crowns that are no annotated one; "
    "crowns that were found and about which nothing is said, such as those below a least probability.",
    "on found crowns": "Scores given that a crown was found: how well it is told apart. What is unsaid counts "
    "against recall.",
    "on all crowns": "What one gets: missed crowns count against the recall of their class, spurious ones against "
    "the precision of the class they are said to be.",
    "macro, micro": "Mean of the scores of the classes that occur in the truth, each counting alike (a class never "
    "said has a precision of 0); and scores of all crowns pooled.",
    "accuracy, balanced accuracy": "Share of the found crowns about which the right thing is said; and the mean of "
    "that share by class. Always saying the most frequent class is the least that has to be beaten. Intervals hold "
    "95 % of the values that samples of the rasters, drawn with replacement, would give.",
    "kappa": "Cohen's: agreement on found crowns beyond what chance would give; 0 is chance, 1 is perfect.",
}
"""Added to the definitions of a report that has attributes."""
_COUNTS = ("truth", "predicted", "precision", "recall", "f1")


def attribute_section(report: Report, pictures: Mapping[str, Sequence[Markup]]) -> Markup:
    """Return the section on what is said about crowns, of the imagery as it is; empty without attributes.

    Args:
        report: What was measured.
        pictures: By attribute.
    """
    rows = report.of_first(report.by_attribute)
    if not len(rows):
        return Markup("")
    classes = report.of_first(report.attributes)
    parts = [element("h2", "What is said about crowns")]
    for row in rows.to_dict("records"):
        name = str(row["attribute"])
        parts += [element("h3", name), element("p", _sentence({str(k): v for k, v in row.items()}), class_="note")]
        if name in pictures:
            parts.append(element("div", *pictures[name], class_="pictures"))
        wide = class_table(classes[classes["attribute"] == name])
        parts.append(table(wide, FORMATS, names=HEADINGS))
    several = len(report.by_attribute) > len(rows)
    shown = report.by_attribute if several else rows.drop(columns=["gsd", "mode"])
    parts += [
        element("h3", "All figures, by resolution" if several else "All figures"),
        table(shown, FORMATS, names=HEADINGS),
    ]
    return element("section", *parts)


def class_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of the classes of one attribute, on all and on found crowns side by side, with their means.

    Args:
        rows: Of :func:`treedet.evaluation.attribute_tables.class_rows`.
    """
    every, found = (rows[rows["scope"] == scope].reset_index(drop=True) for scope in (ALL, MATCHED))
    named = every["value"].where(every["row"] == "class", every["row"].map(MEANS))
    beside = found[["truth", *_COUNTS[2:]]].rename(columns=lambda name: f"{name}_found")
    return pd.concat([named.rename("class"), every[list(_COUNTS)], beside], axis=1)


def _sentence(row: Mapping[str, object]) -> str:
    """Return the result of an attribute in words.

    >>> row = {"truth": 10, "matched": 8, "accuracy": 0.75, "majority": "alive", "majority_accuracy": 0.5}
    >>> _sentence(row | {"accuracy_low": 0.625, "accuracy_high": 0.875}).split("; ")[1]
    'of these 75 % (62 % to 88 %) are said right. Always saying alive: 50 %.'
    >>> _sentence(row)
    'Of 10 crowns with a known value 8 were found; of these 75 % are said right. Always saying alive: 50 %.'
    >>> _sentence(row | {"matched": 0})
    'Of 10 crowns with a known value none was found.'
    """
    truth, matched = float(str(row["truth"])), float(str(row["matched"]))
    if not matched:
        return f"Of {whole(truth)} crowns with a known value none was found."
    right, usual = (percent(float(str(row[name]))) for name in ("accuracy", "majority_accuracy"))
    low, high = (float(str(row.get(f"accuracy_{end}", "nan"))) for end in ("low", "high"))
    if low <= high:
        right += f" ({percent(low)} to {percent(high)})"
    return (
        f"Of {whole(truth)} crowns with a known value {whole(matched)} were found; of these {right} are said right. "
        f"Always saying {row['majority']}: {usual}."
    )
