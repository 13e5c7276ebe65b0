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
from treedet.datasets.datamodule import CrownDataModule
from treedet.errors import TreedetWarning
from treedet.inference.detector import Detector
from treedet.metrics.operating_points import choose_points
from treedet.metrics.paired import PairedCrowns
from treedet.models.backends.eager import EagerBackend
from treedet.models.network import NetworkDetector
from treedet.models.transfer import TransferReport
from treedet.models.trunk import Trunk
from treedet.training.callbacks import Watch
from treedet.training.config import TrainConfig
from treedet.training.head_validation import HeadValidator, SaidCrowns, calibrated_heads
from treedet.training.loop import FitResult, fit, trainer_device
from treedet.training.module import CrownModule
from treedet.training.plan import Plan, make_plan
from treedet.training.preflight import Preflight
from treedet.training.recipe import Recipe
from treedet.training.validation import Validator

log = logging.getLogger("treedet")

PACKAGES = ("treedet", "torch", "torchvision", "pytorch-lightning", "albumentations", "numpy", "rasterio")
NOTICED = 0.005
"""F1 that a model may lose before anybody is warned: less does not show in two decimals, and is chance."""


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
            grid; none where only heads are trained.
        plan: Everything that was decided before the first step.
        said: What the heads that were trained say about crowns held out, given their boxes; None without.
    """

    detector: Detector
    transfer: TransferReport | None
    history: list[dict[str, float]]
    best_epoch: int
    stopped: str
    at_start: Mapping[str, float] | None
    predictions: tuple[PairedCrowns, ...]
    plan: Plan
    said: SaidCrowns | None = None

    @property
    def reached(self) -> float:
        """Validation F1 of the weights that are kept; of the heads (macro) where only they are trained; else NaN."""
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
    validator = PlanValidator.of(plan)
    module = CrownModule(
        plan.spec,
        plan.config,
        trunk=plan.trunk,
        fresh_rows=plan.fresh,
        heads=plan.heads.counts,
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
            canvases=plan.canvases,
        )
    predictions = () if validator is None else validator.predictions(result.best)
    said = None if validator is None else validator.said(result.best)
    points = choose_points(predictions) if predictions else plan.spec.operating_points
    spec = replace(
        plan.spec,
        operating_points=points,
        heads=plan.spec.heads if said is None else calibrated_heads(plan.spec, said, tuple(plan.heads.counts)),
        provenance=provenance(plan, result, points, at_start),
    )
    backend = EagerBackend(result.best, device=trainer_device(plan.config))
    trained = Detector(NetworkDetector(backend, spec), name="fine-tuned model", trunk=result.best)
    tuned = FineTuned(
        detector=trained,
        transfer=plan.transfer,
        history=result.history,
        best_epoch=result.best_epoch,
        stopped=result.stopped,
        at_start=at_start,
        predictions=predictions,
        said=said,
        plan=plan,
    )
    _warn_of_a_loss(tuned)
    return tuned


@dataclass(frozen=True)
class PlanValidator:
    """Validates all that a plan learns: crowns, attributes, or both.

    Attributes:
        crowns: Scores the detection; None where it stays as it is, or no crown is held out.
        heads: Scores what is said about crowns; None where no head learns, or no label is held out.
    """

    crowns: Validator | None
    heads: HeadValidator | None

    @classmethod
    def of(cls, plan: Plan) -> PlanValidator | None:
        """Return the validator of a plan, on the device that is trained on; None where nothing is held out."""
        held, device = plan.split.validation, trainer_device(plan.config)
        crowns = None
        if isinstance(plan.preflight, Preflight) and plan.detects and plan.preflight.validation.total:
            crowns = Validator(held, plan.spec, device)
        heads = None
        if plan.heads.counts:
            heads = HeadValidator.of(held, plan.held_crops, plan.heads, plan.spec, device=device)
        return None if crowns is None and heads is None else cls(crowns, heads)

    def __call__(self, trunk: Trunk) -> Mapping[str, float]:
        """Return all scores; ``val_f1`` is that of crowns, or of heads where only they learn."""
        said = {} if self.heads is None else self.heads(trunk)
        return {**said, **({} if self.crowns is None else self.crowns(trunk))}

    def predictions(self, trunk: Trunk) -> tuple[PairedCrowns, ...]:
        """Predict the crowns that were held out."""
        return () if self.crowns is None else tuple(self.crowns.predictions(trunk))

    def said(self, trunk: Trunk) -> SaidCrowns | None:
        """Ask the heads about the crowns that were held out."""
        return None if self.heads is None else self.heads.say(trunk)


def _warn_of_a_loss(tuned: FineTuned) -> None:
    if tuned.at_start is not None and tuned.reached < tuned.at_start["val_f1"] - NOTICED:
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
    scores = asdict(points[DEFAULT_POINT]) if at_start is not None and plan.detects else "not validated"
    facts: dict[str, Any] = {
        **plan.facts,
        "transfer": None if plan.transfer is None else plan.transfer.to_dict(),
        "crowns" if isinstance(plan.preflight, Preflight) else "labels": plan.preflight.to_dict(),
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
    """Draw the first training windows of a plan: pixels, boxes, classes and known ground of each.

    Where only heads are trained, classes are those of the first attribute.
    """
    data = CrownDataModule(
        plan.pools,
        samples=plan.config.samples,
        batch_size=1,
        epoch_windows=count,
        seed=plan.config.seed,
        canvases=plan.canvases,
    )
    drawn = []
    for index in range(count):
        pixels, targets = data.windows[0, index]
        known = None if targets.known is None else targets.known.numpy()
        classes = targets.classes
        if not plan.detects and targets.said is not None:
            # What is learned is not where crowns are, but what is said of them.
            column = list(plan.heads.schema).index(next(iter(plan.heads.counts)))
            classes, known = targets.said[:, column], None
        drawn.append((pixels.numpy(), targets.boxes.numpy(), classes.numpy(), known))
    return drawn


def sampled_names(plan: Plan) -> tuple[str, ...]:
    """Return the names of the classes that :func:`sampled_windows` gives numbers of."""
    return plan.spec.labels.classes if plan.detects else plan.heads.schema[next(iter(plan.heads.counts))]
