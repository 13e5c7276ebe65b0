"""A report: tables, pictures, matched crowns and a page, in a folder of its own."""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from treedet.errors import OutputError
from treedet.evaluation.answers import condition_line, headline
from treedet.evaluation.attribute_tables import attribute_lines
from treedet.evaluation.figures import draw_figures
from treedet.evaluation.ground import EvaluatedGround
from treedet.evaluation.outcomes import Fates, by_crs, fates, table_of
from treedet.evaluation.overlays import draw_overlays
from treedet.evaluation.page import report_page
from treedet.vectors.outcome_layer import write_outcomes

FORMAT = "treedet report"
VERSION = 1
TABLES = (
    *("table", "by_raster", "by_size", "by_class", "curve", "precision_recall", "reliability", "points"),
    *("by_attribute", "attributes", "confusion", "attribute_reliability"),
)
LAYER = "outcomes"
OWN = {"figures", "report.html", "report.json", "best.png", "worst.png", "overlay.png", *(f"{t}.csv" for t in TABLES)}
OWN_FILES = re.compile(rf"{LAYER}[\w-]*\.gpkg(-wal|-shm|-journal)?|figures.[\w-]+\.png")
"""What a report's folder may hold: by name, and by pattern."""
DEFAULT_IOU = 0.4


@dataclass(frozen=True, eq=False)
class Report:
    """What was measured.

    Attributes:
        title: What was evaluated on what.
        facts: Model, data, settings, version and date, JSON-able. Read here: ``threshold``; ``model.gsd``;
            ``settings.iou_threshold``, ``settings.max_distance``, ``settings.draws`` and ``settings.seed``.
        table: One row for each way of seeing the imagery (GSD and mode); the first is the imagery as it is.
        by_raster: One row for each of them and raster.
        by_size: One row for each of them and range of crown diameters.
        by_class: One row for each of them and class.
        curve: Scores by score threshold, of the imagery as it is.
        precision_recall: Likewise.
        reliability: Likewise, scores against the share of crowns that is right.
        points: Scores where the truth is stems; None where it is crowns.
        by_attribute: One row for each way of seeing the imagery and attribute; this and the next three are empty
            where no attribute is on both sides.
        attributes: Precision, recall and F1 for each of them, all or matched crowns, and class or mean of classes.
        confusion: Crowns for each of them, true and predicted class.
        attribute_reliability: For each of them and range of probabilities, the share of what is said that is right.
        grounds: Truth and predictions by raster, of the imagery as it is, for the layer and the pictures.
        notes: What has to be known besides, in words.
    """

    title: str
    facts: Mapping[str, Any]
    table: pd.DataFrame
    by_raster: pd.DataFrame
    by_size: pd.DataFrame
    by_class: pd.DataFrame
    curve: pd.DataFrame
    precision_recall: pd.DataFrame
    reliability: pd.DataFrame
    points: pd.DataFrame | None = None
    by_attribute: pd.DataFrame = field(default_factory=pd.DataFrame)
    attributes: pd.DataFrame = field(default_factory=pd.DataFrame)
    confusion: pd.DataFrame = field(default_factory=pd.DataFrame)
    attribute_reliability: pd.DataFrame = field(default_factory=pd.DataFrame)
    grounds: Sequence[EvaluatedGround] = ()
    notes: Sequence[str] = field(default_factory=list)

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables that have columns, by name."""
        found = {name: getattr(self, name) for name in TABLES}
        return {name: frame for name, frame in found.items() if frame is not None and len(frame.columns)}

    @property
    def main(self) -> pd.DataFrame:
        """The table with a row for each condition: of crowns, or of stems."""
        return self.points if self.points is not None and len(self.points) else self.table

    @property
    def threshold(self) -> float:
        """Least score of a predicted crown."""
        return float(self.facts.get("threshold") or 0.0)

    @property
    def model_gsd(self) -> float | None:
        """The model's GSD in metres; None where crowns came from a file."""
        model = self.facts.get("model")
        found = model.get("gsd") if isinstance(model, Mapping) else None
        return None if found is None else float(found)

    def setting(self, name: str, default: float | None) -> float | None:
        """Return a number among the settings."""
        settings = self.facts.get("settings")
        found = settings.get(name) if isinstance(settings, Mapping) else None
        return default if found is None else float(found)

    @property
    def iou_threshold(self) -> float:
        """Overlap above which a predicted crown is an annotated one."""
        return float(self.setting("iou_threshold", DEFAULT_IOU) or 0.0)

    def of_first(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of a table that belong to the imagery as it is."""
        return rows_of(frame, self.main.iloc[0]) if len(self.main) else frame

    def lines(self) -> list[str]:
        """Return the result as lines for a person: a sentence, then one line for each way of seeing the imagery."""
        if not len(self.main):
            return ["Nothing could be measured."]
        stems = self.points is not None and len(self.points) > 0
        rows = [{str(name): value for name, value in row.items()} for row in self.main.to_dict("records")]
        if self.model_gsd is None:  # crowns of a file are of no resolution, wherever they are drawn
            rows = [{**row, "gsd": None} for row in rows]
        lines = [headline(rows[0], trees="stems" if stems else "crowns"), *map(condition_line, rows)]
        lines += attribute_lines(self.of_first(self.by_attribute), self.of_first(self.attributes))
        return [*lines, *(f"note        {note}" for note in self.notes)]

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write everything to a folder, under a temporary name first.

        - ``report.html``: a page with all pictures inside, which needs no network.
        - ``report.json`` and a CSV for each table. NaN, and a range without end, are null in the JSON.
        - ``figures/``, ``best.png`` and ``worst.png``: pictures.
        - ``outcomes.gpkg``: hits, misses, false alarms and confusions, one file for each CRS.

        Args:
            folder: The folder to make.
            overwrite: Replace a report that is there.

        Raises:
            OutputError: The folder exists and may not be replaced, or holds something else than a report; or it can
                not be written.
        """
        folder = Path(folder)
        check_folder(folder, overwrite=overwrite)
        try:
            with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as place:
                new = Path(place) / "report"
                new.mkdir()
                self._write(new)
                _put(new, folder, aside=Path(place) / "old")
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(f"can not write {folder}: {error.strerror or error}") from error

    def _write(self, folder: Path) -> None:
        for name, frame in self.tables.items():
            frame.to_csv(folder / f"{name}.csv", index=False)
        text = json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
        (folder / "report.json").write_text(text, encoding="utf-8")
        matched = [self._fates(ground) for ground in self.grounds]
        self._write_layers(folder, matched)
        (folder / "figures").mkdir()
        drawn = draw_figures(self, folder / "figures", distances=_stem_distances(self, matched))
        overlays = draw_overlays(folder, self.grounds, matched)
        (folder / "report.html").write_text(report_page(self, folder, drawn, overlays), encoding="utf-8")

    def _fates(self, ground: EvaluatedGround) -> Fates:
        return fates(
            ground,
            threshold=self.threshold,
            iou_threshold=self.iou_threshold,
            max_distance=self.setting("max_distance", None),
        )

    def _write_layers(self, folder: Path, matched: Sequence[Fates]) -> None:
        tables = [table_of(ground, fate) for ground, fate in zip(self.grounds, matched, strict=True)]
        layers = by_crs(tables)
        for name, layer in layers.items():
            write_outcomes(folder / (f"{LAYER}.gpkg" if len(layers) == 1 else f"{LAYER}-{name}.gpkg"), layer)

    def to_dict(self) -> dict[str, Any]:
        """Return facts, notes and all tables, JSON-able; NaN and infinity as None."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "title": self.title,
            "facts": json_able(self.facts),
            "notes": list(self.notes),
            "tables": {name: json_able(frame.to_dict("records")) for name, frame in self.tables.items()},
        }


def _put(new: Path, folder: Path, *, aside: Path) -> None:
    """Rename a finished folder to its name; what is there goes aside, and comes back where that fails."""
    there = folder.exists()
    if there:
        folder.rename(aside)
    try:
        new.rename(folder)
    except OSError:
        if there:
            aside.rename(folder)
        raise


def rows_of(frame: pd.DataFrame, condition: Mapping[str, Any] | pd.Series[Any]) -> pd.DataFrame:
    """Return the rows of one GSD and mode; all of a table without them.

    Args:
        frame: Any table of a report.
        condition: Something with ``gsd`` and ``mode``; NaN equals NaN.
    """
    kept = np.ones(len(frame), dtype=bool)
    for name in ("gsd", "mode"):
        if name in frame and name in condition:
            value = condition[name]
            missing = value is None or (isinstance(value, float) and math.isnan(value))
            kept &= (frame[name].isna() if missing else frame[name] == value).to_numpy(dtype=bool)
    return frame[kept]


def json_able(value: object) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Return a value as JSON can hold it: numpy's numbers as Python's, NaN and infinity as None, paths as text.

    >>> json_able({"a": np.float32(0.5), "b": [float("nan"), np.int64(3)], "c": Path("x")})
    {'a': 0.5, 'b': [None, 3], 'c': 'x'}
    """
    if isinstance(value, Mapping):
        return {str(key): json_able(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [json_able(one) for one in value]
    if isinstance(value, np.ndarray | np.generic):
        return json_able(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or value is pd.NA or isinstance(value, bool | int | str):
        return None if value is pd.NA else value
    return str(value)


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Find out before any work whether a report can be written to a folder.

    Raises:
        OutputError: Its parent is missing, it exists and may not be replaced, or holds what no report writes.
    """
    if not folder.parent.is_dir():
        raise OutputError(f"can not write {folder}: there is no folder {folder.parent}; make it first")
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(f"can not write a report to {folder}: it is a file; give the name of a folder")
    if not overwrite:
        raise OutputError(f"{folder} exists already; allow it to be replaced with overwrite=True (--overwrite)")
    there = sorted(str(path.relative_to(folder)) for path in (*folder.iterdir(), *folder.glob("figures/*")))
    if there and "report.json" not in there:
        raise OutputError(
            f"{folder} is not replaced: it holds {there[0]!r} and no report.json, so it is no report; give another "
            "folder"
        )
    if foreign := [name for name in there if name not in OWN and not OWN_FILES.fullmatch(name)]:
        raise OutputError(
            f"{folder} is not replaced: it holds {foreign[0]!r}, which no report writes; give another folder, or "
            "move that away"
        )


def _stem_distances(report: Report, matched: Sequence[Fates]) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """Return metres between stems and crowns; None where the truth is crowns."""
    if report.points is None:
        return None
    return np.concatenate([np.zeros(0), *(fate.distance_m for fate in matched)])
