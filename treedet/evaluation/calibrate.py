"""What is chosen on validation data and stored in a model file.

Score thresholds, the merge threshold, the temperature of scores, and how imagery coarser than the model is read.
"""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from treedet.core.spec import DEFAULT_POINT, ModelSpec, ResolutionChoice
from treedet.datasets.annotated import AnnotatedRaster
from treedet.errors import ConfigError, TreedetWarning
from treedet.evaluation.classes import Classes, common
from treedet.evaluation.conditions import AS_IT_IS, Condition, predict_conditions
from treedet.evaluation.config import CalibrateConfig
from treedet.evaluation.ground import ground_of
from treedet.evaluation.seen import seen_before
from treedet.inference.detector import Detector
from treedet.metrics.bootstrap import Difference, paired_difference
from treedet.metrics.calibration import (
    TEMPERATURES,
    Reliability,
    detections_correct,
    fit_temperature,
    reliability,
    with_temperature,
)
from treedet.metrics.detection import RasterCount, scores
from treedet.metrics.operating_points import (
    choose_points,
    least_score,
    score_curve,
    thresholds_from,
)
from treedet.metrics.paired import PairedCrowns
from treedet.models.backends.eager import EagerBackend, Precision
from treedet.models.base import WindowDetector
from treedet.models.network import NetworkDetector
from treedet.models.trunk import Trunk
from treedet.rasters.fingerprint import known_by

FEW_CROWNS = 50
"""Below so many crowns a choice is mostly chance."""

CLEARLY_BETTER = 0.02
"""F1 by which a change must be ahead on a single raster to be made."""

Tell = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A model with what was chosen for it.

    Attributes:
        detector: The model, ready to be saved.
        merging: Best F1 by merge threshold: ``merge_iou``, ``f1``, ``chosen``.
        curve: Recall, precision and F1 by (calibrated) score threshold.
        before: Reliability of the scores as they were.
        after: Reliability of the calibrated scores, on the same crowns.
        resolutions: F1 of both ways to read coarse imagery: ``gsd``, ``adapt``, ``native``, ``chosen``.
        notes: What was not chosen, and why.
    """

    detector: Detector
    merging: pd.DataFrame
    curve: pd.DataFrame
    before: Reliability
    after: Reliability
    resolutions: pd.DataFrame
    notes: Sequence[str]

    def lines(self) -> list[str]:
        """Return what was chosen as lines for a person."""
        spec = self.detector.spec
        lines = [
            f"merging     one crown above IoU {spec.iou_threshold:g}: F1 "
            + ", ".join(f"{row.f1:.3f} at {row.merge_iou:g}" for row in self.merging.itertuples()),
            f"temperature {spec.temperature:.3f}: expected calibration error {self.before.ece:.3f} before, "
            f"{self.after.ece:.3f} after, on the same crowns",
        ]
        for name, point in spec.operating_points.items():
            default = " (default)" if name == DEFAULT_POINT else ""
            lines.append(
                f"{name:<11} score {point.threshold:.2f}: recall {point.recall:.2f}, precision "
                f"{point.precision:.2f}, F1 {point.f1:.2f}{default}"
            )
        lines += [
            f"{row.gsd:g} m".ljust(12)
            + f"F1 {row.adapt:.3f} read at the model's GSD, {row.native:.3f} as it is: {row.chosen}"
            for row in self.resolutions.itertuples()
        ]
        return [*lines, *self.notes]


def calibrate(
    detector: Detector,
    plots: Sequence[AnnotatedRaster],
    *,
    config: CalibrateConfig | None = None,
    groups: Sequence[str] | None = None,
    tell: Tell | None = None,
) -> Calibrated:
    """Choose thresholds, merging, temperature and the reading of coarse imagery on validation data.

    The rasters must be neither those the model was trained on nor those it will be tested on; their fingerprints are
    stored, and evaluating on them warns. The weights stay as they are.

    Args:
        detector: The model; a network.
        plots: Validation rasters with crowns.
        config: What is tried.
        groups: Data set of each raster, so that none outweighs another in the choice of the threshold.
        tell: Told in a few words what is being tried.

    Raises:
        ConfigError: There is no crown to choose by, or the truth is points, or the model is no network.
    """
    config = config or CalibrateConfig()
    said = tell or (lambda _: None)
    if detector.trunk is None:
        raise ConfigError("only a network can be calibrated, and this detector has no weights")
    if any(plot.points for plot in plots) or not sum(len(plot) for plot in plots):
        raise ConfigError(
            "calibration needs annotated crowns, found "
            + ("points; give their diameter (--diameter)" if any(p.points for p in plots) else "none")
        )
    seen = _Seen(plots, detector, detector.trunk, groups or ["validation"] * len(plots))
    notes, own = seen.cautions(), detector.spec.temperature
    merging, spec, rasters = _search_merging(seen, config, said)
    said("temperature")
    spec, before, after, rasters = _calibrated(spec, rasters, config)
    if min(abs(math.log(spec.temperature / (own * end))) for end in TEMPERATURES) < 0.01:
        notes.append("The temperature is at the end of its range: the scores hardly tell right from wrong.")
    # Nothing was looked for below the least score, which a temperature below 1 may have raised before the new one.
    least = with_temperature(np.array([least_score(own)]), spec.temperature / own)[0]
    thresholds = thresholds_from(max(least_score(spec.temperature), float(least)))
    points = choose_points(rasters, thresholds=thresholds, iou_threshold=config.iou_threshold)
    spec = replace(spec, operating_points=points)
    choices = _search_resolutions(seen, spec, config, said)
    notes += [] if choices else ["No coarser imagery was tried, so all of it is read at the model's GSD."]
    prints = known_by(plot.path for plot in plots)
    spec = replace(spec, resolutions=choices, provenance={**detector.spec.provenance, "calibration rasters": prints})
    return Calibrated(
        detector=Detector(seen.model(spec), name=detector.name, trunk=detector.trunk),
        merging=merging,
        curve=score_curve(
            rasters, thresholds=thresholds, iou_threshold=config.iou_threshold, by_class=True
        ).to_frame(),
        before=before,
        after=after,
        resolutions=pd.DataFrame(
            [(c.gsd, c.adapt_f1, c.native_f1, c.mode) for c in choices],
            columns=["gsd", "adapt", "native", "chosen"],
        ),
        notes=notes,
    )


@dataclass(frozen=True, eq=False)
class _Seen:
    """The validation rasters, and the network that looks at them with one spec or another."""

    plots: Sequence[AnnotatedRaster]
    detector: Detector
    trunk: Trunk
    groups: Sequence[str]

    @cached_property
    def classes(self) -> Classes:
        labels = sorted({str(name) for plot in self.plots for name in plot.labels})
        return common(labels, self.detector.spec.labels.classes)

    def cautions(self) -> list[str]:
        return [*self._trained_on(), *self._few()]

    def _trained_on(self) -> list[str]:
        met = seen_before(self.detector.spec, [plot.path for plot in self.plots]).get("train", [])
        if not met:
            return []
        said = f"{len(met)} of {len(self.plots)} rasters were used to train this model, {met[0]} for one"
        warnings.warn(
            f"{said}; its scores there are too sure, and so is what is chosen by them: calibrate on other rasters",
            TreedetWarning,
            stacklevel=4,
        )
        return [f"{said}."]

    def _few(self) -> list[str]:
        crowns = sum(len(plot) for plot in self.plots)
        if crowns >= FEW_CROWNS:
            return []
        warnings.warn(
            f"only {crowns} crowns to choose by; what is chosen by fewer than {FEW_CROWNS} is mostly chance: "
            "annotate more, or keep the model as it is",
            TreedetWarning,
            stacklevel=4,
        )
        return [f"Chosen by only {crowns} crowns."]

    def model(self, spec: ModelSpec) -> WindowDetector:
        identity = self.detector.model.identity
        backend = EagerBackend(self.trunk, device=identity["device"], precision=_precision(identity))
        return NetworkDetector(backend, spec, digest=identity["model"])

    def look(self, spec: ModelSpec, wanted: Sequence[Condition]) -> Mapping[Condition, list[PairedCrowns]]:
        """Predict every raster under every condition that it allows."""
        model, classes = self.model(spec), self.classes
        found: dict[Condition, list[PairedCrowns]] = {condition: [] for condition in wanted}
        for plot, group in zip(self.plots, self.groups, strict=True):
            with tempfile.TemporaryDirectory() as scratch:
                for condition, crowns in predict_conditions(
                    model, plot, wanted, threshold=least_score(spec.temperature), scratch=Path(scratch)
                ):
                    paired = ground_of(plot, crowns, classes=classes).paired
                    if isinstance(paired, PairedCrowns):
                        found[condition].append(replace(paired, group=group))
        return found


def _search_merging(
    seen: _Seen, config: CalibrateConfig, said: Tell
) -> tuple[pd.DataFrame, ModelSpec, list[PairedCrowns]]:
    """Predict with each merge threshold; the model's own is kept unless another is better beyond chance."""
    own = seen.detector.spec
    thresholds = thresholds_from(least_score(own.temperature))
    tried: dict[float, tuple[float, list[RasterCount], list[PairedCrowns]]] = {}
    for iou in sorted({own.iou_threshold, *config.merge_ious}):
        said(f"merge threshold {iou:g}")
        rasters = seen.look(replace(own, iou_threshold=iou), [AS_IT_IS])[AS_IT_IS]
        curve = score_curve(rasters, thresholds=thresholds, iou_threshold=config.iou_threshold)
        at = int(np.argmax(curve.balanced_f1))
        columns = zip(curve.truth, curve.predicted[:, at], curve.matched[:, at], strict=True)
        counts = [RasterCount(int(truth), int(predicted), int(matched)) for truth, predicted, matched in columns]
        tried[iou] = float(curve.balanced_f1[at]), counts, rasters
    best = max(tried, key=lambda iou: tried[iou][0])
    gain = paired_difference(tried[own.iou_threshold][1], tried[best][1])
    chosen = best if _beyond_chance(gain) else own.iou_threshold
    table = pd.DataFrame(
        [(iou, f1, iou == chosen) for iou, (f1, _, _) in tried.items()], columns=["merge_iou", "f1", "chosen"]
    )
    return table, replace(own, iou_threshold=chosen), tried[chosen][2]


def _beyond_chance(gain: Difference) -> bool:
    """Tell whether a gain in F1 is worth a change; a single raster has no interval."""
    return gain.low > 0 if math.isfinite(gain.low) else gain.value > CLEARLY_BETTER


def _calibrated(
    spec: ModelSpec, rasters: Sequence[PairedCrowns], config: CalibrateConfig
) -> tuple[ModelSpec, Reliability, Reliability, list[PairedCrowns]]:
    """Fit the temperature, and return the same crowns with calibrated scores."""
    confidence, correct = detections_correct(rasters, iou_threshold=config.iou_threshold)
    before = reliability(confidence, correct)
    if config.keep_temperature:
        return spec, before, before, list(rasters)
    fitted = fit_temperature(confidence, correct)
    warmed = [replace(r, scores=with_temperature(r.scores, fitted).astype(np.float32)) for r in rasters]
    after = reliability(with_temperature(confidence, fitted), correct)
    # The scores had been divided by the temperature so far already.
    return replace(spec, temperature=spec.temperature * fitted), before, after, warmed


def _search_resolutions(
    seen: _Seen, spec: ModelSpec, config: CalibrateConfig, said: Tell
) -> tuple[ResolutionChoice, ...]:
    """Compare both ways to read coarser imagery at the default threshold; native must be better beyond chance."""
    finest = max([spec.gsd, *(plot.grid.gsd for plot in seen.plots)])
    choices = []
    for gsd in sorted(gsd for gsd in config.gsds if gsd > 1.02 * finest):
        said(f"imagery at {gsd:g} m")
        both = [Condition(gsd, "adapt"), Condition(gsd, "native")]
        found = seen.look(replace(spec, resolutions=()), both)
        adapt, native = (
            [r.at(spec.threshold()).counted(iou_threshold=config.iou_threshold, by_class=True) for r in found[one]]
            for one in both
        )
        mode = "native" if _beyond_chance(paired_difference(adapt, native)) else "adapt"
        choices.append(ResolutionChoice(gsd, mode, round(scores(adapt).f1, 4), round(scores(native).f1, 4)))
    return tuple(choices)


def _precision(identity: Mapping[str, str]) -> Precision:
    found = identity["precision"]
    return "bf16" if found == "bf16" else "fp32"
