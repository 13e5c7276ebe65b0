"""Everything decided about a fine-tuning before its first step: ground, classes, architecture, weights, windows."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from treedet.core.labels import LabelSchema
from treedet.core.spec import DEFAULT_POINT, ModelSpec, OperatingPoint
from treedet.datasets.annotated import AnnotatedRaster
from treedet.datasets.crops import CropSet
from treedet.datasets.mixed import Canvases
from treedet.datasets.overlap import apart, split_ground
from treedet.datasets.sample_config import SampleConfig
from treedet.datasets.samples import Pool
from treedet.datasets.sets import split_places
from treedet.datasets.split import Part, Split, whole
from treedet.errors import ConfigError, SparseAnnotationError
from treedet.inference.detector import Detector
from treedet.metrics.calibration import with_temperature
from treedet.models.build import build, weights_of
from treedet.models.transfer import TransferReport, fresh_rows, transfer
from treedet.models.trunk import Trunk
from treedet.training.annotation_check import AnnotationCheck, check_annotation
from treedet.training.config import TrainConfig
from treedet.training.crop_plan import crop_canvases, split_crops
from treedet.training.fit_spec import CrownFacts, fit_spec
from treedet.training.head_plan import HeadPlan, plan_heads
from treedet.training.head_preflight import HeadPreflight
from treedet.training.module import random_trunk
from treedet.training.plan_data import data_facts, pools_of, rasters_met
from treedet.training.preflight import Preflight
from treedet.training.recipe import Recipe

log = logging.getLogger("treedet")

WILD_SHARE = 1 / 3
"""First share of the epochs, in which windows are varied strongly; after it they look as imagery does."""


@dataclass(frozen=True, eq=False)
class Plan:
    """A fine-tuning that is ready to start.

    Attributes:
        split: Ground to train and to validate on.
        spec: The new model.
        trunk: Weights to start from.
        fresh: Bool, class rows that were initialised afresh.
        transfer: What of the starting model was kept; None where training starts from random weights.
        heads: Attributes of the new model, and which of them learn.
        preflight: What is known before the first step.
        config: Settings, completed.
        pools: What windows are drawn from.
        check: What the starting model said about the annotation; None where nobody asked it.
        facts: JSON-able facts about data and start, for provenance and for resuming.
        canvases: Crops to train heads on.
        held_crops: Crops to validate heads on.
    """

    split: Split
    spec: ModelSpec
    trunk: Trunk
    fresh: Tensor
    transfer: TransferReport | None
    heads: HeadPlan
    preflight: Preflight | HeadPreflight
    config: TrainConfig
    pools: tuple[Pool, ...]
    check: AnnotationCheck | None
    facts: Mapping[str, Any]
    canvases: Canvases | None = None
    held_crops: CropSet | None = None

    @property
    def detects(self) -> bool:
        """Whether it is learned where crowns are; else only what is said about them."""
        return self.config.freeze != "trunk" or bool(self.fresh.any())


def make_plan(
    detector: Detector,
    plots: Sequence[AnnotatedRaster],
    *,
    validation: Sequence[AnnotatedRaster] | None = None,
    config: TrainConfig | None = None,
    recipe: Recipe | None = None,
) -> Plan:
    """Decide everything about a fine-tuning.

    Args:
        detector: Model to start from.
        plots: Annotated rasters to train on.
        validation: Annotated rasters to validate on; by default blocks of the training rasters are held out.
        config: Settings.
        recipe: What is made of annotation and model.

    Raises:
        SparseAnnotationError: The starting model confidently finds crowns that nobody annotated.
        TreedetError: Something else can not work; see :meth:`Preflight.check`.
    """
    config, recipe = config or TrainConfig(), recipe or Recipe()
    if not plots and recipe.crops is None:
        raise ConfigError("training needs at least one annotated raster, or a folder of crops; found none")
    if stems := [plot.path for plot in (*plots, *(validation or [])) if plot.points]:
        raise ConfigError(
            f"{stems[0]} is annotated with points, and training needs crowns; give their diameter in metres with "
            "diameter= (--diameter 5)"
        )
    plots, held = renamed([list(plots), list(validation or [])], detector.spec.labels.classes, recipe.classes)
    heads_alone = _heads_alone(detector.spec, plots, config, recipe)
    # What heads alone learn from need not be complete: ground without a crown teaches them nothing.
    check = None if heads_alone else _check(detector, plots, recipe)
    if check is not None and recipe.annotation == "partial":
        plots = check.partial()
        held = check_annotation(detector.model, held).partial() if held else held
    split = _split(plots, None if validation is None else held, recipe, config.seed)
    crops, held_crops = split_crops(recipe.crops, share=recipe.validation_share, seed=config.seed)
    heads = plan_heads(detector.spec, split.train, crops, recipe=recipe.heads, freeze=config.freeze)
    if heads_alone:
        spec, decisions = detector.spec, ["crowns are found as before: only what is said about them is learned"]
    else:
        spec, decisions = _spec(detector.spec, split, recipe)
        spec = for_resolutions(spec, config)
    labels = LabelSchema(spec.labels.classes, heads.schema)
    spec = replace(spec, labels=labels, heads=heads.facts(detector.spec))
    trunk, report, fresh = _weights(detector, spec, recipe, config.seed)
    config = _completed(config, spec)
    transferred = ["random weights"] if report is None else report.lines()
    preflight: Preflight | HeadPreflight
    if heads_alone:
        said = [*decisions, *transferred]
        preflight = HeadPreflight.of(
            split, heads, spec=spec, config=config, crops=(crops, held_crops), decisions=said
        )
    else:
        said = [*decisions, *heads.lines]
        sides = split.train, split.validation
        preflight = Preflight.of(*sides, spec=spec, config=config, decisions=said, transfer=transferred)
    preflight.check()
    start = "random weights" if report is None else f"{detector.name} ({detector.model.identity['model'][:12]})"
    return Plan(
        split=split,
        spec=spec,
        trunk=trunk,
        fresh=fresh,
        transfer=report,
        heads=heads,
        preflight=preflight,
        config=config,
        pools=pools_of(split.train, heads, spec, config, recipe, labelled=heads_alone),
        check=check,
        facts={
            "start": start,
            **data_facts(split, heads, recipe),
            **rasters_met(split, recipe, detector.spec.provenance),
        },
        canvases=crop_canvases(crops, heads, config, share=recipe.crops_share if plots else 1.0),
        held_crops=held_crops,
    )


def _heads_alone(start: ModelSpec, plots: Sequence[AnnotatedRaster], config: TrainConfig, recipe: Recipe) -> bool:
    """Tell whether only heads learn: the trunk stays as it is, and so do the classes."""
    found = {str(name) for plot in plots for name in set(plot.labels)}
    alone = config.freeze == "trunk" and not recipe.from_scratch and found <= set(start.labels.classes)
    if not plots and not alone:
        raise ConfigError("crops show no ground, so they teach heads alone; take freeze='trunk' (--freeze trunk)")
    if alone and (told := [n for n in ("model_gsd", "max_crown") if getattr(recipe, n) is not None]):
        raise ConfigError(
            f"{told[0]}={getattr(recipe, told[0]):g} would change how crowns are found, and with freeze='trunk' they "
            f"are found as before; leave it out, or take freeze='backbone' or 'none'"
        )
    return alone


def _split(
    plots: Sequence[AnnotatedRaster], held: Sequence[AnnotatedRaster] | None, recipe: Recipe, seed: int
) -> Split:
    if held is not None:
        split = apart(Split(whole(plots), whole(held)))
        if plots and not split.train:
            raise ConfigError(
                f"all ground to train on is shown by rasters to validate on, such as {held[0].path}; give other "
                "ground to one of them"
            )
        return split
    if any(plot.origin is not None for plot in plots):
        return split_places(plots, share=recipe.validation_share, seed=seed)
    if plots and recipe.validation_share:
        return split_ground(plots, share=recipe.validation_share, seed=seed)
    return Split(whole(plots), ())


def renamed(
    groups: Sequence[list[AnnotatedRaster]], known: tuple[str, ...], wanted: tuple[str, ...] | None
) -> list[list[AnnotatedRaster]]:
    """Give classes the starting model's spelling, or the names a user wants.

    Raises:
        ConfigError: A crown has a class that is not among several wanted.
    """
    found = Counter(str(name) for group in groups for plot in group for name in plot.labels)
    spelling = {name.lower(): name for name in (*known, *(wanted or ()))}
    names = {name: spelling.get(name.lower(), name) for name in found}
    if wanted is not None and len(wanted) == 1:
        names = dict.fromkeys(found, wanted[0])
    elif wanted is not None and (strange := sorted(set(names.values()) - set(wanted))):
        raise ConfigError(
            f"{found[strange[0]]} crowns are {strange[0]!r}, which is not among the classes {list(wanted)}; add it, "
            "or give a single class for all crowns"
        )
    if changed := {old: new for old, new in names.items() if old != new}:
        log.info("classes renamed: %s", ", ".join(f"{old} to {new}" for old, new in changed.items()))
    return [[plot.renamed(names) for plot in group] for group in groups]


def _check(detector: Detector, plots: Sequence[AnnotatedRaster], recipe: Recipe) -> AnnotationCheck | None:
    # Inside an AOI annotation is complete by declaration.
    asked = [plot for plot in plots if plot.aoi is None or recipe.annotation == "partial"]
    if recipe.annotation == "complete" or not asked:
        return None
    if recipe.from_scratch:
        log.info("annotation is taken as complete: with random weights there is no starting model to ask")
        return None
    if recipe.annotation == "partial":
        return check_annotation(detector.model, plots)
    check = check_annotation(detector.model, asked)
    if check.suspicious:
        raise SparseAnnotationError(check.message(), check=check)
    return check


def _spec(start: ModelSpec, split: Split, recipe: Recipe) -> tuple[ModelSpec, list[str]]:
    """Return the new model's spec, and a line for each thing that was set from the crowns."""
    train = split.train
    sides = np.concatenate([_sides_m(part) for part in train])
    labels = Counter(str(name) for part in train for name in part.plot.labels[part.mine])
    facts = CrownFacts(
        diameters_m=np.concatenate([part.plot.diameters_m[part.mine] for part in train]),
        sides_m=sides,
        raster_gsds=tuple(part.plot.grid.gsd for part in train),
        classes=dict(labels),
    )
    classes = recipe.classes or classes_in_order(start.labels.classes, labels)
    spec, decisions = fit_spec(start, facts, gsd=recipe.model_gsd, max_crown=recipe.max_crown, classes=classes)
    # The same detections as before, on the scale of scores without a temperature.
    kept = with_temperature(np.array([start.threshold()]), 1 / start.temperature)
    points = {DEFAULT_POINT: OperatingPoint(threshold=float(kept[0]))}
    # What was chosen for the old weights says nothing about the new ones.
    unchosen = replace(spec, operating_points=points, temperature=1.0, resolutions=(), heads={}, provenance={})
    return replace(unchosen, labels=LabelSchema(classes)), decisions


def for_resolutions(spec: ModelSpec, config: TrainConfig) -> ModelSpec:
    """Widen the range of resolutions a model is for by those its windows are made to look like."""
    if config.samples.resolutions is None:
        return spec
    (finest, coarsest), (low, high) = spec.gsd_range, config.samples.resolutions
    return replace(spec, gsd_range=(min(finest, low), max(coarsest, high)))


def _sides_m(part: Part) -> np.ndarray[Any, np.dtype[np.float64]]:
    boxes, grid = part.plot.boxes[part.mine], part.plot.grid
    sides: np.ndarray[Any, np.dtype[np.float64]] = (boxes[:, 2:] - boxes[:, :2]) * [grid.gsd_x, grid.gsd_y]
    return sides


def classes_in_order(known: tuple[str, ...], found: Mapping[str, int]) -> tuple[str, ...]:
    """Return the classes found, those the starting model knows first and in its order.

    >>> classes_in_order(("tree",), {"bird": 3, "tree": 9, "ant": 1})
    ('tree', 'ant', 'bird')
    """
    return (*(name for name in known if name in found), *sorted(set(found) - set(known)))


def _weights(
    detector: Detector, spec: ModelSpec, recipe: Recipe, seed: int
) -> tuple[Trunk, TransferReport | None, Tensor]:
    if detector.trunk is None:
        raise ConfigError(f"{detector.name} has no weights to start from; load a network")
    if recipe.from_scratch:
        trunk = random_trunk(spec, seed)
        rows = trunk.head.classification_head.cls_logits.out_channels
        return trunk, None, torch.ones(rows, dtype=torch.bool)
    tensors, report = transfer(
        weights_of(detector.trunk), detector.spec, spec, comes_from=recipe.comes_from, seed=seed
    )
    return build(spec, tensors), report, fresh_rows(report, spec)


def _completed(config: TrainConfig, spec: ModelSpec) -> TrainConfig:
    """Return the settings with what follows from others filled in."""
    if config.samples.gsd not in (SampleConfig().gsd, spec.gsd):
        raise ConfigError(
            f"samples.gsd is {config.samples.gsd:g}, but windows have the GSD of the model, {spec.gsd:g} m; set it "
            "by model_gsd= (--model_gsd)"
        )
    samples = replace(config.samples, gsd=spec.gsd)
    if samples.calm_from is None and samples.radiometry == "strong":
        samples = replace(samples, calm_from=round(WILD_SHARE * config.epochs))
    return replace(config, samples=samples)
