"""Fine-tuning: from a model and annotated rasters to a model of that forest."""

from __future__ import annotations

import json
import logging
import math
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger

from treedet.core.spec import DEFAULT_POINT, OperatingPoint
from treedet.datasets.annotated import AnnotatedRaster
from treedet.datasets.samples import CrownWindows
from treedet.errors import TreedetWarning
from treedet.inference.detector import Detector
from treedet.metrics.operating_points import choose_points
from treedet.metrics.paired import PairedCrowns
from treedet.models.backends.eager import EagerBackend
from treedet.models.network import NetworkDetector
from treedet.models.transfer import TransferReport
from treedet.training.callbacks import Watch
from treedet.training.config import TrainConfig
from treedet.training.loop import FitResult, fit
from treedet.training.module import CrownModule
from treedet.training.plan import Plan, Recipe, make_plan
from treedet.training.validation import Validator

log = logging.getLogger("treedet")

PACKAGES = ("treedet", "torch", "torchvision", "pytorch-lightning", "albumentations", "numpy", "rasterio")


@dataclass(frozen=True, eq=False)
class FineTuned:
    """What a fine-tuning gave.

    Attributes:
        detector: The new model, ready to predict and to be saved.
        transfer: What of the starting model was kept, copied, initialised and dropped; None from random weights.
        history: One row of figures per epoch.
        best_epoch: Epoch whose weights are kept, from 1.
        stopped: Why training ended.
        at_start: Validation F1, precision and recall of the weights that training started from; None without
            validation.
        predictions: Truth and prediction of each validation part, in metres from the corner of its raster's
            grid.
        plan: Everything that was decided before the first step.
    """

    detector: Detector
    transfer: TransferReport | None
    history: list[dict[str, float]]
    best_epoch: int
    stopped: str
    at_start: Mapping[str, float] | None
    predictions: tuple[PairedCrowns, ...]
    plan: Plan

    @property
    def reached(self) -> float:
        """Validation F1 of the weights that are kept; NaN without validation."""
        return self.history[self.best_epoch - 1].get("val_f1", math.nan)


def fine_tune(
    detector: Detector,
    plots: Sequence[AnnotatedRaster],
    *,
    validation: Sequence[AnnotatedRaster] | None = None,
    config: TrainConfig | None = None,
    recipe: Recipe | None = None,
    run: str | Path | None = None,
    resume: bool = False,
    logger: Logger | Sequence[Logger] | None = None,
    watch: Watch | None = None,
    before: Callable[[Plan], None] | None = None,
) -> FineTuned:
    """Teach a model a forest.

    Args:
        detector: Model to start from.
        plots: Annotated rasters to train on.
        validation: Annotated rasters to validate on; by default blocks of the training rasters are held out.
        config: How long, how fast and with which precision to train.
        recipe: What is made of the annotation and of the starting model.
        run: Folder for checkpoints and history, kept; by default a temporary one.
        resume: Go on with the run in that folder.
        logger: Lightning loggers.
        watch: Told after each step where the run stands.
        before: Shown the plan before the first step, to print it, draw windows, or stop by raising.

    Raises:
        SparseAnnotationError: The starting model confidently finds crowns that nobody annotated.
        TreedetError: Something else can not work, or training broke down.
    """
    plan = make_plan(detector, plots, validation=validation, config=config, recipe=recipe)
    if before is not None:
        before(plan)
    validator = Validator(plan.split.validation, plan.spec) if plan.preflight.validation.total else None
    module = CrownModule(
        plan.spec,
        plan.config,
        trunk=plan.trunk,
        fresh_rows=plan.fresh,
        validate=validator,
    )
    at_start = None if validator is None else validator(plan.trunk)
    with tempfile.TemporaryDirectory() if run is None else nullcontext(str(run)) as folder:
        result = fit(
            module,
            plan.pools,
            plan.config,
            run=Path(folder),
            resume=resume,
            logger=logger,
            watch=watch,
            facts=plan.facts,
        )
    predictions = tuple(validator.predictions(result.best)) if validator is not None else ()
    points = choose_points(predictions) if predictions else plan.spec.operating_points
    spec = replace(plan.spec, operating_points=points, provenance=provenance(plan, result, points, at_start))
    backend = EagerBackend(result.best)
    trained = Detector(NetworkDetector(backend, spec), name="fine-tuned model", trunk=result.best)
    tuned = FineTuned(
        detector=trained,
        transfer=plan.transfer,
        history=result.history,
        best_epoch=result.best_epoch,
        stopped=result.stopped,
        at_start=at_start,
        predictions=predictions,
        plan=plan,
    )
    _warn_of_a_loss(tuned)
    return tuned


def _warn_of_a_loss(tuned: FineTuned) -> None:
    if tuned.at_start is not None and tuned.reached < tuned.at_start["val_f1"]:
        warnings.warn(
            f"training made the model worse on validation: F1 {tuned.at_start['val_f1']:.2f} before, "
            f"{tuned.reached:.2f} after; train longer (--epochs), annotate more, or keep the starting model",
            TreedetWarning,
            stacklevel=3,
        )


def provenance(
    plan: Plan,
    result: FitResult,
    points: Mapping[str, OperatingPoint],
    at_start: Mapping[str, float] | None,
) -> dict[str, Any]:
    """Return where a model comes from, JSON-able: start, data, settings, package versions and scores."""
    scores = asdict(points[DEFAULT_POINT]) if plan.preflight.validation.total else "not validated"
    facts: dict[str, Any] = {
        **plan.facts,
        "transfer": None if plan.transfer is None else plan.transfer.to_dict(),
        "crowns": plan.preflight.to_dict(),
        "config": asdict(plan.config),
        "seed": plan.config.seed,
        "packages": installed(),
        "validation": scores,
        "validation at start": None if at_start is None else round(at_start["val_f1"], 4),
        "best epoch": result.best_epoch,
        "epochs": len(result.history),
        "skipped steps": result.skipped_steps,
        "ended": result.stopped,
    }
    plain: dict[str, Any] = json.loads(json.dumps(facts, default=str))
    return plain


def installed() -> dict[str, str]:
    """Return the versions of the packages that a result depends on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def sampled_windows(plan: Plan, count: int) -> list[tuple[Any, Any, Any, Any]]:
    """Draw the first training windows of a plan: pixels, boxes, classes and known ground of each."""
    windows = CrownWindows(plan.pools, config=plan.config.samples, seed=plan.config.seed)
    drawn = []
    for index in range(count):
        pixels, targets = windows[0, index]
        known = None if targets.known is None else targets.known.numpy()
        drawn.append((pixels.numpy(), targets.boxes.numpy(), targets.classes.numpy(), known))
    return drawn
