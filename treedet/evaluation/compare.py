"""Two reports side by side: what changed, on which rasters, and whether it is more than chance."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from treedet.display.evaluation_rasters import differences, short_names
from treedet.errors import ConfigError, OutputError, TreedetWarning
from treedet.evaluation.compare_page import comparison_page
from treedet.evaluation.modes import counts_by_raster, raster_score
from treedet.evaluation.report import FORMAT, VERSION, rows_of
from treedet.metrics.bootstrap import Difference, paired_difference
from treedet.metrics.detection import RasterCount

SCORES = ("f1", "recall", "precision", "micro_f1")
AS_IT_IS = "as it is"
SHOWN = 5
FILES = ("compare.html", "compare.csv", "rasters.csv", "compare.png")
SIDE_BY_SIDE = (*SCORES, "map", "ap50", "count_bias_rel", "smallest_m")


@dataclass(frozen=True, eq=False)
class Stored:
    """What a report's folder tells.

    Attributes:
        title: Of the report.
        facts: Its facts.
        tables: Its tables, by name.
    """

    title: str
    facts: Mapping[str, Any]
    tables: Mapping[str, pd.DataFrame]

    @property
    def conditions(self) -> dict[str, pd.Series[Any]]:
        """Rows of the main table by what they are called; the first is the imagery as it is, whatever its GSD."""
        main = self.tables["table"]
        return {AS_IT_IS if i == 0 else condition_name(row): row for i, (_, row) in enumerate(main.iterrows())}

    def counts(self, condition: str) -> dict[str, RasterCount]:
        """Return the counts of a condition by raster."""
        return counts_by_raster(rows_of(self.tables["by_raster"], self.conditions[condition]))


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two reports side by side.

    Attributes:
        titles: Of both.
        table: One row for each condition both have: ``condition``, ``rasters`` (that both have), and for each score
            ``<score>_a`` and ``<score>_b`` (of the reports, all their rasters), and for F1, recall, precision and
            pooled F1 ``<score>_difference``, ``_low``, ``_high``: second minus first on the rasters both have, with
            its 95 % interval.
        by_raster: Rasters of the first condition: ``raster``, ``truth``, ``f1_a``, ``f1_b``, ``change``; the largest
            change first.
        notes: What has to be known besides.
    """

    titles: tuple[str, str]
    table: pd.DataFrame
    by_raster: pd.DataFrame
    notes: Sequence[str] = ()

    def lines(self) -> list[str]:
        """Return the comparison as lines for a terminal."""
        lines = [f"first       {self.titles[0]}", f"second      {self.titles[1]}"]
        for row in self.table.to_dict("records"):
            difference = Difference(
                row["f1_difference"], row["f1_difference_low"], row["f1_difference_high"], row["rasters"]
            )
            scores = f"F1 {row['f1_a']:.3f} to {row['f1_b']:.3f}"
            lines.append(f"{row['condition']:<19} {scores}; on {row['rasters']} shared rasters {verdict(difference)}")
        changed = self.by_raster[self.by_raster["change"].abs() > 0].head(SHOWN)
        if len(changed):
            columns = zip(short_names(changed["raster"]), changed["f1_a"], changed["f1_b"], strict=True)
            told = [f"{name} {before:.2f} to {after:.2f}" for name, before, after in columns]
            lines.append(f"changed most: {'; '.join(told)}")
        return [*lines, *self.notes]

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write ``compare.html`` (self-contained), ``compare.csv``, ``rasters.csv`` and ``compare.png``.

        Args:
            folder: An existing folder, or one to make.
            overwrite: Replace files of an earlier comparison.

        Raises:
            OutputError: A file exists already, or can not be written.
        """
        folder = Path(folder)
        check_output(folder, overwrite=overwrite)
        try:
            folder.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".compare.", dir=folder) as place:
                new = Path(place)
                self.table.to_csv(new / "compare.csv", index=False)
                self.by_raster.to_csv(new / "rasters.csv", index=False)
                differences(new / "compare.png", self.table, self.by_raster)
                (new / "compare.html").write_text(comparison_page(self, new / "compare.png"), encoding="utf-8")
                for name in reversed(FILES):
                    (new / name).replace(folder / name)
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(f"can not write {folder}: {error.strerror or error}") from error


def compare(
    first: str | os.PathLike[str], second: str | os.PathLike[str], *, draws: int = 1000, seed: int = 0
) -> Comparison:
    """Set two reports side by side.

    Differences are second minus first, on the rasters both have, by name; where no name is in both, by file name
    without folder. Intervals come from a bootstrap that samples the rasters of both reports together.

    Args:
        first: Folder of a report.
        second: Folder of another.
        draws: Samples of rasters.
        seed: Seed of the draw.

    Raises:
        ConfigError: A folder holds no report, or the reports share no condition or no raster.

    Warns:
        TreedetWarning: The same raster has other numbers of annotated crowns, or the overlap asked for differs.
    """
    a, b = read_report(first), read_report(second)
    conditions = [name for name in a.conditions if name in b.conditions]
    rows, notes, changes = [], _other_settings(a, b), pd.DataFrame()
    for condition in conditions:
        mine, theirs = _shared(a.counts(condition), b.counts(condition))
        if not mine:
            continue
        rows.append(_row(condition, a, b, (mine, theirs), draws=draws, seed=seed))
        if not len(changes):
            notes += _other_truth(mine, theirs)
            changes = _changes(mine, theirs)
            notes += _left_out(a.counts(condition), b.counts(condition), len(mine))
    if not rows:
        one, other = (", ".join(list(report.counts(AS_IT_IS))[:3]) for report in (a, b))
        raise ConfigError(
            f"the reports share no raster: {first} has {one or 'none'}, {second} has {other or 'none'}; evaluate "
            "both on the same rasters"
        )
    return Comparison((a.title, b.title), pd.DataFrame(rows), changes, tuple(notes))


def check_output(folder: Path, *, overwrite: bool) -> None:
    """Find out before any work whether a comparison can be written to a folder.

    Raises:
        OutputError: Its parent is missing, it is a file, or holds a comparison that may not be replaced.
    """
    if not folder.parent.is_dir():
        raise OutputError(f"can not write {folder}: there is no folder {folder.parent}; make it first")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"can not write a comparison to {folder}: it is a file; give the name of a folder")
    there = [folder / name for name in FILES if (folder / name).exists()]
    if there and not overwrite:
        raise OutputError(f"{there[0]} exists already; allow it to be replaced with overwrite=True (--overwrite)")


def read_report(folder: str | os.PathLike[str]) -> Stored:
    """Return what a report's folder tells.

    Raises:
        ConfigError: There is no report, it is of a later version, or it has no counts by raster (stems).
    """
    path = Path(folder) / "report.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{os.fspath(folder)} holds no report ({path.name}: {error}); give a folder of treedet evaluate"
        ) from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ConfigError(f"{path} is not a report of treedet evaluate; give a folder that it wrote")
    if found.get("version", 0) > VERSION:
        raise ConfigError(
            f"{path} has version {found['version']}, this treedet reads up to {VERSION}; update treedet"
        )
    if missing := [name for name in ("title", "facts", "tables") if name not in found]:
        raise ConfigError(f"{path} lacks {missing[0]!r}; evaluate again to write the report anew")
    tables = {name: _frame(rows) for name, rows in found["tables"].items()}
    if not len(tables.get("by_raster", ())) or not len(tables.get("table", ())):
        raise ConfigError(f"{path} has no counts by raster, so it can not be compared; compare reports on crowns")
    return Stored(str(found["title"]), found["facts"], tables)


def _frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows as a table; a column of nothing but nulls is one of NaN."""
    table = pd.DataFrame(list(rows))
    blank = [name for name in table.columns if table[name].isna().all()]
    return table.astype(dict.fromkeys(blank, np.float64))


def condition_name(row: Mapping[str, Any] | pd.Series[Any]) -> str:
    """Return what a way of seeing the imagery is called.

    >>> condition_name({"gsd": 0.2, "mode": "adapt"})
    '0.2 m, adapt'
    """
    gsd = row.get("gsd")
    return f"{gsd:g} m, {row.get('mode')}" if gsd is not None and np.isfinite(gsd) else str(row.get("mode"))


def verdict(difference: Difference) -> str:
    """Return a difference in words.

    >>> verdict(Difference(0.05, 0.01, 0.09, 20))
    '+0.050 (95 % interval +0.010 to +0.090): the second is better'
    """
    if not np.isfinite(difference.value):
        return "not defined: no crowns are annotated on them"
    told = f"{difference.value:+.3f}"
    if not np.isfinite([difference.low, difference.high]).all():
        return f"{told}; too few rasters for an interval"
    told += f" (95 % interval {difference.low:+.3f} to {difference.high:+.3f})"
    if difference.low > 0:
        return f"{told}: the second is better"
    return f"{told}: the first is better" if difference.high < 0 else f"{told}: may be chance"


Counts = dict[str, RasterCount]


def _shared(a: Counts, b: Counts) -> tuple[Counts, Counts]:
    """Return the counts of the rasters both have, in one order; by file name where no path is in both."""
    if not set(a) & set(b):
        a, b = _bare(a), _bare(b)
    names = [name for name in a if name in b]
    return {name: a[name] for name in names}, {name: b[name] for name in names}


def _bare(counts: Counts) -> Counts:
    """Return counts by file name, of names that only one raster has."""
    names = [name.replace("\\", "/").rpartition("/")[2] for name in counts]
    times = Counter(names)
    return {name: count for name, count in zip(names, counts.values(), strict=True) if times[name] == 1}


def _row(
    condition: str, a: Stored, b: Stored, pair: tuple[Counts, Counts], *, draws: int, seed: int
) -> dict[str, Any]:
    mine, theirs = a.conditions[condition], b.conditions[condition]
    row: dict[str, Any] = {"condition": condition, "rasters": len(pair[0])}
    for name in SIDE_BY_SIDE:
        if name in mine and name in theirs:
            row |= {f"{name}_a": mine[name], f"{name}_b": theirs[name]}
    for name in SCORES:
        found = paired_difference(list(pair[0].values()), list(pair[1].values()), score=name, draws=draws, seed=seed)
        row |= {
            f"{name}_difference{end}": value
            for end, value in zip(("", "_low", "_high"), (found.value, found.low, found.high), strict=True)
        }
    return row


def _changes(mine: Counts, theirs: Counts) -> pd.DataFrame:
    """Return F1 by raster in both reports, the largest change first."""
    table = pd.DataFrame(
        {
            "raster": list(mine),
            "truth": [count.truth for count in mine.values()],
            "f1_a": [raster_score(count) for count in mine.values()],
            "f1_b": [raster_score(theirs[name]) for name in mine],
        }
    )
    table["change"] = table["f1_b"] - table["f1_a"]
    return table.sort_values("change", key=lambda change: -change.abs(), kind="stable", ignore_index=True)


def _other_truth(mine: Counts, theirs: Counts) -> list[str]:
    """Warn of rasters whose truth is not the same in both reports."""
    differing = [name for name in mine if mine[name].truth != theirs[name].truth]
    if not differing:
        return []
    name = differing[0]
    said = (
        f"{len(differing)} of {len(mine)} rasters have other numbers of annotated crowns in the second report "
        f"({name}: {mine[name].truth} and {theirs[name].truth}); compare reports on the same truth and AOI"
    )
    warnings.warn(TreedetWarning(said), stacklevel=3)
    return [said]


def _other_settings(a: Stored, b: Stored) -> list[str]:
    """Warn where both reports ask for another overlap."""
    ious = [(report.facts.get("settings") or {}).get("iou_threshold") for report in (a, b)]
    if None in ious or ious[0] == ious[1]:
        return []
    said = f"the reports ask for different overlaps, IoU {ious[0]} and {ious[1]}; evaluate both with the same"
    warnings.warn(TreedetWarning(said), stacklevel=3)
    return [said]


def _left_out(a: Counts, b: Counts, shared: int) -> list[str]:
    alone = [len(counts) - shared for counts in (a, b)]
    if not any(alone):
        return []
    return [
        f"{alone[0]} rasters are in the first report only and {alone[1]} in the second; differences are without them"
    ]
