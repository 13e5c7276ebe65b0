"""``treedet evaluate`` and ``treedet compare``: progress, the report, and what it says in a few lines."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from treedet.commands.bars import EvaluationBar
from treedet.commands.paths import quoted
from treedet.datasets.annotated import AnnotatedRaster, pair
from treedet.errors import ConfigError
from treedet.evaluation.compare import check_output
from treedet.evaluation.compare import compare as compare_reports
from treedet.evaluation.config import EvaluateConfig, TruthReading
from treedet.evaluation.crown_files import paired_files
from treedet.evaluation.evaluate import evaluate, evaluate_crowns
from treedet.evaluation.report import Report, check_folder
from treedet.inference.loading import load
from treedet.models.backends.allocator import keep_memory
from treedet.vectors.truth import TruthOptions
from treedet.vectors.truth_columns import NOT_ATTRIBUTES


@dataclass(frozen=True)
class Predictions:
    """Crowns of a file, of any tool.

    Attributes:
        path: The file.
        columns: Its columns by our names.
    """

    path: str
    columns: Mapping[str, str]


NONE = "-"
"""Stands for the raster where crowns are compared with crowns."""


def run(
    raster: str,
    truth: str,
    report: str,
    reading: TruthReading,
    config: EvaluateConfig,
    *,
    predictions: Predictions | None,
    model: str | None,
    device: str,
    overwrite: bool,
) -> Report:
    """Evaluate a model, or crowns of any tool, and write the report.

    Raises:
        TreedetError: Something the user can mend.
    """
    folder = Path(report)
    check_folder(folder, overwrite=overwrite)
    if predictions is not None:
        if model is not None:
            raise ConfigError("--model and --predictions exclude each other; evaluate one of them")
        result = _of_file(predictions, truth, None if raster == NONE else raster, reading, config)
    elif raster == NONE:
        raise ConfigError("a model needs imagery; give RASTER TRUTH REPORT, or crowns of a file with --predictions")
    else:
        keep_memory()
        detector = load(model, device=device)
        plots = annotated(raster, truth, reading)
        with EvaluationBar() as bar:
            result = evaluate(
                detector,
                plots,
                config=config,
                watch=bar.show,
                asked={*reading.columns, *reading.values} - set(NOT_ATTRIBUTES),
            )
    result.save(folder, overwrite=overwrite)
    for line in [*result.lines(), f"report      {quoted(str(folder / 'report.html'))}"]:
        sys.stdout.write(line + "\n")
    return result


def compare(first: str, second: str, *, output: str | None, overwrite: bool) -> None:
    """Set two reports side by side.

    Raises:
        TreedetError: They have no raster in common, or are no reports.
    """
    if output is not None:
        check_output(Path(output), overwrite=overwrite)
    comparison = compare_reports(Path(first), Path(second))
    lines = list(comparison.lines())
    if output is not None:
        comparison.save(Path(output), overwrite=overwrite)
        lines.append(f"report      {quoted(str(Path(output) / 'compare.html'))}")
    for line in lines:
        sys.stdout.write(line + "\n")


def annotated(raster: str, truth: str, reading: TruthReading) -> list[AnnotatedRaster]:
    """Pair rasters and truth as the options say."""
    return pair(raster, truth, aoi=reading.aoi, gsd=reading.gsd, bands=reading.bands, truth=truth_options(reading))


def truth_options(reading: TruthReading) -> TruthOptions:
    """Return how the truth is read: points without a diameter stay points."""
    return TruthOptions(
        columns=reading.columns,
        crs=reading.crs,
        diameter=reading.diameter,
        drop=reading.drop,
        points=reading.diameter is None and "diameter" not in reading.columns,
        values=reading.values,
    )


def _of_file(
    predictions: Predictions, truth: str, raster: str | None, reading: TruthReading, config: EvaluateConfig
) -> Report:
    paired = paired_files(
        predictions.path,
        truth,
        aoi=reading.aoi,
        rasters=raster,
        gsd=reading.gsd,
        bands=reading.bands,
        truth_options=truth_options(reading),
        prediction_options=TruthOptions(columns=predictions.columns, drop=reading.drop),
    )
    return evaluate_crowns(
        paired.grounds,
        config=config,
        classes=paired.classes,
        attributes=paired.attributes,
        has_scores=paired.has_scores,
        title=f"{Path(predictions.path).name} against {Path(truth).name}",
    )
