"""How good crowns are on annotated ground: those a model finds, at several resolutions, or those of any file."""

from __future__ import annotations

import logging
import math
import statistics
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from treedet.core.grid import SAME_GSD
from treedet.datasets.annotated import AnnotatedRaster
from treedet.errors import ConfigError, TreedetWarning
from treedet.evaluation.attribute_tables import share_notes
from treedet.evaluation.attributes import Attributes, common_attributes
from treedet.evaluation.classes import Classes, common
from treedet.evaluation.conditions import AS_IT_IS, conditions
from treedet.evaluation.config import EvaluateConfig
from treedet.evaluation.ground import EvaluatedGround, check_truth
from treedet.evaluation.predicted import Asked, Found, Watch, predict_plots
from treedet.evaluation.report import Report, rows_of
from treedet.evaluation.seen import seen_before
from treedet.evaluation.tables import Measured, Tables, condition_columns, point_row
from treedet.inference.detector import Detector
from treedet.metrics.average_precision import precision_recall
from treedet.metrics.calibration import detections_correct, reliability
from treedet.metrics.operating_points import least_score, score_curve, thresholds_from
from treedet.metrics.paired import PairedCrowns
from treedet.metrics.points import PairedPoints

log = logging.getLogger("treedet")


def evaluate(
    detector: Detector,
    plots: Sequence[AnnotatedRaster],
    *,
    config: EvaluateConfig | None = None,
    watch: Watch | None = None,
    asked: Collection[str] = (),
    **changes: Any,  # noqa: ANN401 - the fields of EvaluateConfig, checked there
) -> Report:
    """Find the crowns of annotated rasters with a model, and measure how good they are.

    Rasters may have any size, and what is counted is what ``predict`` finds at the threshold. Figures by score, such
    as average precision, come from predictions down to very low scores; where a raster spans several windows these
    are made apart, since at a seam a whole crown of low score may take the place of a cut one of high score. Coarser
    imagery is simulated first, by area averaging, and from then on only that is seen. What the model says about
    crowns (attributes) is compared with what the truth says, where both say something.

    Args:
        detector: The model.
        plots: Rasters with their crowns, or with points (stems).
        config: At which resolutions, and how crowns are matched.
        watch: Told before each raster where the evaluation stands.
        asked: Attributes asked for by name: a class of theirs in the truth that the model can not say is an error;
            of other attributes it counts as wrong, with a note.
        changes: Settings by name, such as ``gsds=[0.2, 0.3]``.

    Returns:
        Tables and matched crowns; ``report.save(folder)`` writes them.

    Raises:
        ConfigError: A setting makes no sense, or some plots have crowns and others points.
        RasterError: A raster can not be used.
        CrownsError: See ``asked``.
    """
    config = (config or EvaluateConfig()).but(changes)
    if not plots:
        raise ConfigError("evaluation needs at least one annotated raster, found none")
    if len({plot.points for plot in plots}) > 1:
        raise ConfigError("some rasters have crowns as truth and others points; evaluate them apart")
    threshold = detector.spec.threshold(config.score_threshold)
    least = min(threshold, least_score(detector.spec.temperature))
    check_truth(plots)
    _warn_of_seen(detector, plots)
    labels = sorted({str(name) for plot in plots for name in plot.labels})
    classes = common(labels, detector.spec.labels.classes)
    tables = [plot.crowns for plot in plots]
    attributes = common_attributes(tables, detector.spec.labels.attributes, asked=asked, points=plots[0].points)
    _check_gsds(plots, config)
    own_gsd = statistics.median(plot.grid.gsd for plot in plots)
    simulated = conditions(config.gsds, config.modes, model_gsd=detector.spec.gsd)
    # A row of the same GSD and mode as the first could not be told from it.
    wanted = [AS_IT_IS, *(one for one in simulated if (one.gsd, one.mode) != (own_gsd, AS_IT_IS.mode))]
    question = Asked(wanted, threshold, least, classes, attributes, config.upsample)
    predicted = predict_plots(detector, plots, question, watch=watch)
    report = _report(
        f"{detector.name} on {_named([plot.path for plot in plots])}",
        _model_facts(detector, threshold),
        predicted.found,
        predicted.grounds,
        measured=Measured(threshold, config, classes.names, least=least),
        own_gsd=own_gsd,
        ranked=predicted.ranked,
    )
    notes = [*classes.said, *attributes.said, *report.notes, *predicted.said(len(plots))]
    return replace(report, notes=notes)


def _model_facts(detector: Detector, threshold: float) -> dict[str, Any]:
    return {
        "model": {"name": detector.name, **detector.model.identity, "gsd": detector.spec.gsd},
        "threshold": threshold,
        "temperature": detector.spec.temperature,
        "merge_iou": detector.spec.iou_threshold,
    }


def evaluate_crowns(
    grounds: Sequence[EvaluatedGround],
    *,
    config: EvaluateConfig | None = None,
    classes: Classes | None = None,
    attributes: Attributes | None = None,
    has_scores: bool = True,
    title: str = "crowns",
) -> Report:
    """Measure crowns that exist already, whichever tool found them.

    Args:
        grounds: Truth and prediction of each raster or area (:func:`treedet.evaluation.crown_files.paired_files`).
        config: How crowns are matched; a score threshold of None keeps all.
        classes: Names of the classes the crowns are compared by.
        attributes: What is said about crowns that the grounds were made to compare.
        has_scores: The predictions say how sure they are.
        title: What is evaluated.

    Raises:
        ConfigError: A setting makes no sense for crowns without a model.
    """
    config = config or EvaluateConfig()
    if config.gsds:
        raise ConfigError(
            "gsds= (--gsds) simulate imagery for a model; crowns from a file are what they are: leave them out"
        )
    threshold = _number(config.score_threshold)
    names = classes.names if classes else ("crown",)
    own_gsd = statistics.median([g.plot.grid.gsd for g in grounds if g.plot is not None] or [float("nan")])
    measured = Measured(threshold, config, names, has_scores=has_scores)
    found: Found = {AS_IT_IS: [ground.paired for ground in grounds]}
    report = _report(title, {"threshold": threshold}, found, grounds, measured=measured, own_gsd=own_gsd)
    if not has_scores:
        note = "The predictions have no scores, so there is no average precision, score curve or calibration."
        report = replace(report, notes=[note, *report.notes])
    said = [*(classes.said if classes else ()), *(attributes.said if attributes else ())]
    return replace(report, notes=[*said, *report.notes])


def _number(wanted: float | str | None) -> float:
    """Return a score threshold without a model, which has no operating points."""
    try:
        threshold = float(wanted or 0.0)
    except ValueError:
        threshold = math.nan
    if not 0 <= threshold <= 1:
        raise ConfigError(
            f"score threshold {wanted!r} is not usable for crowns from a file: give a number from 0 to 1; operating "
            "points are a model's"
        )
    return threshold


def _report(
    title: str,
    facts: Mapping[str, Any],
    found: Found,
    grounds: Sequence[EvaluatedGround],
    *,
    measured: Measured,
    own_gsd: float,
    ranked: Found | None = None,
) -> Report:
    """Build all tables; the first condition's crowns are also drawn and listed one by one.

    ``ranked`` holds predictions down to low scores, for figures by score; None: those of ``found`` are all there are.
    """
    ranked = ranked or found
    tables = Tables()
    points: list[dict[str, Any]] = []
    for condition, rasters in found.items():
        columns = condition_columns(condition, own_gsd=own_gsd)
        stems = [raster for raster in rasters if isinstance(raster, PairedPoints)]
        crowns = [raster for raster in rasters if isinstance(raster, PairedCrowns)]
        if stems:
            points.append(point_row(columns, stems, measured))
        else:
            low = [raster for raster in ranked[condition] if isinstance(raster, PairedCrowns)]
            tables.add(columns, crowns, measured, ranked=low)
    first = [raster for raster in ranked[AS_IT_IS] if isinstance(raster, PairedCrowns) and measured.has_scores]
    iou = measured.config.iou_threshold
    curve = score_curve(first, thresholds=thresholds_from(measured.least), iou_threshold=iou) if first else None
    by_attribute = pd.DataFrame(tables.by_attribute)
    return Report(
        title=title,
        facts={
            **facts,
            "settings": asdict(measured.config),
            "classes": list(measured.classes),
            "rasters": [ground.name for ground in grounds],
            "version": version("treedet"),
            "date": datetime.now(UTC).date().isoformat(),
        },
        table=pd.DataFrame(tables.table),
        by_raster=pd.DataFrame(tables.by_raster),
        by_size=pd.concat(tables.by_size, ignore_index=True) if tables.by_size else pd.DataFrame(),
        by_class=pd.DataFrame(tables.by_class),
        curve=curve.to_frame() if curve else pd.DataFrame(),
        precision_recall=precision_recall(first, iou_threshold=iou) if first else pd.DataFrame(),
        reliability=reliability(*detections_correct(first, iou_threshold=iou)).table if first else pd.DataFrame(),
        points=pd.DataFrame(points) if points else None,
        by_attribute=by_attribute,
        attributes=pd.DataFrame(tables.attributes),
        confusion=pd.DataFrame(tables.confusion),
        attribute_reliability=(
            pd.concat(tables.attribute_reliability, ignore_index=True)
            if tables.attribute_reliability
            else pd.DataFrame()
        ),
        grounds=grounds,
        notes=share_notes(rows_of(by_attribute, tables.table[0])) if tables.table else [],
    )


def _check_gsds(plots: Sequence[AnnotatedRaster], config: EvaluateConfig) -> None:
    """Refuse GSDs finer than a raster's before any raster is looked at.

    Raises:
        ConfigError: Names the coarsest raster.
    """
    coarsest = max(plots, key=lambda plot: plot.grid.gsd)
    finest = min(config.gsds, default=math.inf)
    if finest < coarsest.grid.gsd * (1 - SAME_GSD) and not config.upsample:
        raise ConfigError(
            f"{coarsest.path} has {coarsest.grid.gsd:.4g} m per pixel, {finest:g} m would be finer; give coarser "
            "gsds=, or upsample=True (--upsample) for enlarged pixels"
        )


def _warn_of_seen(detector: Detector, plots: Sequence[AnnotatedRaster]) -> None:
    """Warn where a model is tested on what it was trained or chosen on."""
    for what, names in seen_before(detector.spec, [plot.path for plot in plots]).items():
        warnings.warn(
            f"{len(names)} of {len(plots)} rasters were used to {what} this model, {names[0]} for one; its scores "
            "there are too good: evaluate on ground it has not seen",
            TreedetWarning,
            stacklevel=3,
        )


def _named(paths: Sequence[str]) -> str:
    first = Path(paths[0])
    return first.name if len(paths) == 1 else f"{len(paths)} rasters of {first.parent.name or first.parent}"
