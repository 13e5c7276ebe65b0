"""Which attributes a training teaches, with which classes, and what is known of each crown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from treedet.core.spec import HeadFacts, ModelSpec
from treedet.datasets.annotated import AnnotatedRaster
from treedet.datasets.attributes import added, attribute_codes, attribute_counts, attribute_schema
from treedet.datasets.crops import CropSet
from treedet.datasets.split import Part
from treedet.errors import ConfigError

Freeze = Literal["none", "backbone", "trunk"]


@dataclass(frozen=True)
class HeadRecipe:
    """What is made of the attributes in the annotation.

    Attributes:
        attributes: Attributes to learn, each with its classes, or with none for those found; by default all that the
            annotation has.
        min_crowns: Crowns of a class below which it is rare.
        rare: What becomes of rare classes: one class ``other`` together, or left ``out``, as crowns without a label.
    """

    attributes: Mapping[str, tuple[str, ...]] | None = None
    min_crowns: int = 1
    rare: Literal["other", "out"] = "out"

    def __post_init__(self) -> None:
        if self.min_crowns < 1:
            raise ConfigError(f"min_crowns must be at least 1, found {self.min_crowns}")
        if self.rare not in ("other", "out"):
            raise ConfigError(f"rare is {self.rare!r}; accepted are other, out")


@dataclass(frozen=True, eq=False)
class HeadPlan:
    """Attributes of a model to be trained.

    Attributes:
        schema: Classes of each attribute of the new model, in the order of its outputs.
        counts: Training crowns of each class, by attribute that learns.
        renaming: What a file's names become, by attribute; None where a name is left out.
        lines: What was decided, in words.
    """

    schema: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    counts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    renaming: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    lines: tuple[str, ...] = ()

    def said(self, plot: AnnotatedRaster) -> npt.NDArray[np.int64]:
        """Return the class of each attribute of a plot's crowns, int64 ``[N, A]``; -1 where nothing is known."""
        return attribute_codes(plot.crowns, self.schema, self.renaming)

    def facts(self, start: ModelSpec) -> dict[str, HeadFacts]:
        """Return what a new model's file says about each head: new counts where it learns, else what it said."""
        learned = {
            name: HeadFacts(dict(zip(self.schema[name], counts, strict=True))) for name, counts in self.counts.items()
        }
        return {name: learned.get(name) or start.heads.get(name, HeadFacts()) for name in self.schema}


def plan_heads(
    start: ModelSpec,
    train: Sequence[Part],
    crops: CropSet | None,
    *,
    recipe: HeadRecipe,
    freeze: Freeze,
) -> HeadPlan:
    """Decide what is said about crowns.

    Attributes of the starting model of which the annotation says nothing are kept as long as the body that their
    heads look at stays as it is; else they are left out, since a head means nothing behind another body.

    Args:
        start: Starting model.
        train: Ground to train on.
        crops: Crops to train on.
        recipe: What the user wants.
        freeze: What of the trunk stays as it is.

    Raises:
        ConfigError: An attribute asked for can not be learned.
        CrownsError: A value is not among the classes asked for.
    """
    several = [attribute_counts(part.plot.crowns[part.mine]) for part in train]
    counts = added([*several, *([{crops.attribute: crops.counts}] if crops is not None else [])])
    found = attribute_schema(
        counts,
        known=start.labels.attributes,
        wanted=recipe.attributes,
        min_crowns=recipe.min_crowns,
        rare=recipe.rare,
    )
    lines = list(found.lines)
    left = {name: values for name, values in start.labels.attributes.items() if name not in found.classes}
    if left and freeze == "none":
        lines.append(
            f"attribute {', '.join(left)} is not carried over: no crown here has it, and its head would stand before "
            "a changed network; freeze='backbone' (--freeze backbone) keeps it"
        )
        left = {}
    # In the order of the starting model, then that of the annotation.
    names = dict.fromkeys([*start.labels.attributes, *found.classes])
    schema = {name: {**left, **found.classes}[name] for name in names if name in found.classes or name in left}
    seen = {name: tuple(by_class.values()) for name, by_class in found.counts(counts).items()}
    return HeadPlan(schema, seen, found.renaming, tuple(lines))
