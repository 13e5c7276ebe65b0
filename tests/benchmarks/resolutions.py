"""How good a model is at several resolutions: ``python tests/benchmarks/resolutions.py --data DATA --store``.

Coarsens each evaluation set to 0.10, 0.15, 0.20, 0.30 and 0.50 m and reads it at the model's GSD (adapt) and as it is
(native). ``--store`` keeps the figures beside this script, and writes tables and curves of ``docs/evaluation.md``.
``--models one=A.safetensors many=B.safetensors`` sets the sweeps of several models side by side instead.

Evaluation sets are looked at to report, never to choose.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from machine import commit, machine, versions
from sweep_picture import sweep_lines

from treedet.datasets.annotated import AnnotatedRaster, pair
from treedet.evaluation.evaluate import evaluate
from treedet.evaluation.report import Report
from treedet.inference.detector import Detector
from treedet.inference.loading import load
from treedet.metrics.bootstrap import Difference, paired_difference
from treedet.metrics.detection import RasterCount

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / "results"
GSDS = (0.10, 0.15, 0.20, 0.30, 0.50)
BEGIN, END = "<!-- {name}: begin -->", "<!-- {name}: end -->"


@dataclass(frozen=True)
class EvaluationSet:
    """Annotated rasters no training run has seen, and what DeepForest published on them (see ``--help``)."""

    name: str
    rasters: str
    annotations: str
    gsd: float | None = None
    deepforest: str = ""


SETS = (
    EvaluationSet(
        "NEON benchmark",
        "neon-benchmark/valid",
        "neon-benchmark/valid/annotations.csv",
        0.096,
        deepforest="0.570 (104 of the images)",
    ),
    EvaluationSet(
        "SJER plots",
        "neon-plots/eval",
        "neon-plots/eval/annotations.csv",
        deepforest="0.685 (17 plots of 2018 alone)",
    ),
    EvaluationSet("OSBS_029", "samples/OSBS_029.tif", "samples/OSBS_029.csv", deepforest="0.741 (documentation)"),
)


def plots_of(data: Path, chosen: EvaluationSet) -> list[AnnotatedRaster]:
    """Read the rasters and crowns of a set."""
    return pair(data / chosen.rasters, data / chosen.annotations, gsd=chosen.gsd)


def sweep(detector: Detector, data: Path, *, modes: Sequence[str]) -> dict[str, Report]:
    """Evaluate a model on all sets at all resolutions."""
    found = {}
    for chosen in SETS:
        found[chosen.name] = evaluate(detector, plots_of(data, chosen), gsds=GSDS[1:], modes=modes)
        print(found[chosen.name].table.round(3).to_string(index=False), flush=True)
    return found


def counts(report: Report, gsd: float, mode: str) -> list[RasterCount]:
    """Return the counts of each raster under one condition, in the order of their names."""
    rows = report.by_raster
    here = rows[((rows["gsd"] - gsd).abs() < 0.03 * gsd) & (rows["mode"] == mode)].sort_values("raster")
    return [RasterCount(int(r.truth), int(r.predicted), int(r.matched)) for r in here.itertuples()]


def gains(report: Report) -> dict[float, Difference]:
    """Return what adapt gains over native in F1, by GSD."""
    return {gsd: paired_difference(counts(report, gsd, "native"), counts(report, gsd, "adapt")) for gsd in GSDS[1:]}


def tables(reports: Mapping[str, Report]) -> str:
    """Return one Markdown table for each set."""
    texts = []
    for chosen in SETS:
        report = reports[chosen.name]
        first = report.table.iloc[0]
        won = gains(report)
        lines = [
            f"**{chosen.name}**: {_several(first.rasters, 'raster')}, {first.truth:,.0f} crowns.",
            "",
            "| GSD | F1 adapt (95 %) | recall | precision | AP50 | smallest crown | count bias "
            "| F1 native | adapt - native (95 %) | DeepForest, published |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for row in report.table[report.table["mode"] == "adapt"].itertuples():
            native = report.table[(report.table["mode"] == "native") & (report.table["gsd"] == row.gsd)]
            difference = next((d for gsd, d in won.items() if abs(gsd - row.gsd) < 1e-9), None)
            lines.append(
                f"| {row.gsd:.3g} m | {_with_interval(row.f1, row.f1_low, row.f1_high)} | {row.recall:.3f} "
                f"| {row.precision:.3f} | {row.ap50:.3f} | {_metres(row.smallest_m)} | {row.count_bias_rel:+.0%} "
                f"| {native.iloc[0].f1 if len(native) else row.f1:.3f} "
                f"| {_signed(difference)} | {chosen.deepforest if difference is None else ''} |"
            )
        texts.append("\n".join(lines))
    return "\n\n".join(texts)


def beside(swept: Mapping[str, Mapping[str, Report]]) -> str:
    """Return the F1 of several models side by side, by set and GSD, and the difference of the last to the first."""
    names = list(swept)
    lines = [
        "| set | GSD | " + " | ".join(f"F1 {name}" for name in names) + f" | {names[-1]} - {names[0]} (95 %) |",
        "|---|---|" + "---|" * (len(names) + 1),
    ]
    for chosen in SETS:
        for position, row in enumerate(swept[names[0]][chosen.name].table.itertuples()):
            f1 = [swept[name][chosen.name].table.iloc[position].f1 for name in names]
            a, b = (counts(swept[name][chosen.name], row.gsd, "adapt") for name in (names[0], names[-1]))
            shown = " | ".join(f"{value:.3f}" for value in f1)
            lines.append(f"| {chosen.name} | {row.gsd:.3g} m | {shown} | {_signed(paired_difference(a, b))} |")
    return "\n".join(lines)


def _several(count: float, what: str) -> str:
    return f"{count:.0f} {what}{'s' if count > 1 else ''}"


def _metres(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f} m"


def _with_interval(value: float, low: float, high: float) -> str:
    return f"{value:.3f}" if math.isnan(low) else f"{value:.3f} ({low:.3f} to {high:.3f})"


def _signed(difference: Difference | None) -> str:
    if difference is None or math.isnan(difference.value):
        return ""
    if math.isnan(difference.low):
        return f"{difference.value:+.3f}"
    return f"{difference.value:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"


def insert(page: Path, name: str, text: str) -> None:
    """Replace what stands between two marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN.format(name=name))
    _, _, after = rest.partition(END.format(name=name))
    if not rest:
        raise SystemExit(f"{page} lacks {BEGIN.format(name=name)}")
    page.write_text(f"{before}{BEGIN.format(name=name)}\n{text}\n{END.format(name=name)}{after}", encoding="utf-8")


def store(name: str, models: Mapping[str, Detector], swept: Mapping[str, Mapping[str, Report]]) -> None:
    """Keep all figures beside this script."""
    facts: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "machine": machine(),
        "versions": versions(),
        "models": {
            model: {**detector.model.identity, "threshold": detector.spec.threshold()}
            for model, detector in models.items()
        },
        "tables": {
            model: {chosen: json.loads(report.table.to_json(orient="records")) for chosen, report in reports.items()}
            for model, reports in swept.items()
        },
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Sweep from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the annotated sets")
    parser.add_argument("--models", nargs="*", help="NAME=FILE of models to set side by side; else the bundled one")
    parser.add_argument("--reports", type=Path, help="folder to save a full report of each set to")
    parser.add_argument("--store", action="store_true", help="keep the figures and write the tables of the docs")
    given = parser.parse_args()
    page = ROOT / "docs" / "evaluation.md"
    if given.models:
        models = {name: load(path) for name, _, path in (text.partition("=") for text in given.models)}
        swept = {name: sweep(detector, given.data, modes=("adapt",)) for name, detector in models.items()}
        text, name, picture = beside(swept), "resolution_training", "resolution-training.png"
        curves = {
            chosen.name: pd.concat(
                [
                    reports[chosen.name].table.assign(line=model).drop(columns="mode")
                    for model, reports in swept.items()
                ]
            )
            for chosen in SETS
        }
    else:
        models = {"bundled": load()}
        swept = {"bundled": sweep(models["bundled"], given.data, modes=("adapt", "native"))}
        text, name, picture = tables(swept["bundled"]), "resolutions", "resolutions.png"
        curves = {
            chosen.name: swept["bundled"][chosen.name].table.assign(line=lambda t: t["mode"]) for chosen in SETS
        }
    print(text)
    if given.reports:
        for model, reports in swept.items():
            for chosen, report in reports.items():
                report.save(given.reports / f"{model}-{chosen.replace(' ', '-')}", overwrite=True)
    if given.store:
        store(name, models, swept)
        insert(page, name, text)
        title = "F1 by resolution, band: 95 % interval over rasters"
        sweep_lines(ROOT / "docs" / picture, curves, title=title)


if __name__ == "__main__":
    main()
