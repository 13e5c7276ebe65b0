"""Weights from one model to another: what fits is kept, class rows move by name, and a report says what happened."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from treedet.core.spec import ModelSpec
from treedet.errors import ConfigError, NothingTransferredError
from treedet.models.build import weights_of
from treedet.models.transfer_heads import in_short, with_heads
from treedet.models.trunk import Trunk

CLASS_LAYER = "head.classification_head.cls_logits."
BOX_LAYER = "head.regression_head.bbox_reg."
BODY = "backbone.body."
FIRST_LAYER = "backbone.body.conv1.weight"
PYRAMID = re.compile(r"(backbone\.fpn\.(?:inner|layer)_blocks\.)(\d+)(\..*)")


@dataclass(frozen=True)
class TransferReport:
    """What became of a model's weights.

    Attributes:
        kept: Tensors taken over bit by bit.
        moved: The old class that the rows of each new class start from, by new class.
        initialised: Tensors, and classes as ``class NAME``, that start afresh.
        dropped: Tensors, and classes as ``class NAME``, of the old model that the new one has no place for.
        notes: Further lines: assumptions, and tensors that were adapted.
    """

    kept: tuple[str, ...]
    moved: Mapping[str, str]
    initialised: tuple[str, ...]
    dropped: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the report as lines to print.

        >>> TransferReport(("a", "b"), {"spruce": "tree"}, ("class bird",), ()).lines()
        ['2 tensors kept as they are', 'class spruce: starts as a copy of tree', 'initialised: class bird']
        """
        found = [f"{len(self.kept)} tensors kept as they are"]
        if any(name.startswith(BOX_LAYER) for name in self.kept):
            found[0] += ", the box head among them"
        for new, old in self.moved.items():
            kept = "kept" if new == old else f"keeps the rows of {old} (the names differ in case alone)"
            found.append(f"class {new}: {kept if _same(new, old) else f'starts as a copy of {old}'}")
        found += [f"initialised: {', '.join(self.initialised)}"] if self.initialised else []
        found += [f"dropped: {', '.join(self.dropped)}"] if self.dropped else []
        return [*found, *self.notes]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-able values."""
        return {
            "kept": list(self.kept),
            "moved": dict(self.moved),
            "initialised": list(self.initialised),
            "dropped": list(self.dropped),
            "notes": list(self.notes),
        }


def transfer(
    tensors: Mapping[str, Tensor],
    old: ModelSpec,
    new: ModelSpec,
    *,
    comes_from: Mapping[str, str] | None = None,
    seed: int = 0,
) -> tuple[dict[str, Tensor], TransferReport]:
    """Return the weights a new model starts from.

    Class rows move by name, case aside; a new name starts as a copy of the class it is said to come from, else
    afresh. Where no name is shared, nothing is said and the old model has one class, all new classes start as copies
    of it: what finds trees goes on finding them. The box head never depends on the classes. A tensor whose shape
    differs, and the body where the backbone differs, starts afresh. The first convolution follows the bands: added
    ones start as the mean of those there were, all scaled so that an even grey gives the same response. Heads move by
    the names of their attributes, and within them rows by the names of classes.

    Args:
        tensors: The old model's weights by parameter name, in any floating type.
        old: What they are the weights of.
        new: What weights are wanted for.
        comes_from: Old class that a new class starts as a copy of, by new class.
        seed: Of what starts afresh.

    Returns:
        Float32 tensors by parameter name, as :func:`treedet.models.build.build` takes them, and the report.

    Raises:
        ConfigError: ``comes_from`` names a class that is not there.
        NothingTransferredError: No tensor of the old model fits.
    """
    fresh = _fresh(new, seed)
    given = _by_new_level(tensors, old, new)
    if old.backbone != new.backbone:
        given = {name: tensor for name, tensor in given.items() if not name.startswith(BODY)}
    given, heads = with_heads(given, fresh, old, new)
    sources, notes = _sources(old.labels.classes, new.labels.classes, comes_from or {})
    notes = [*notes, *heads]
    misfits = {_layer(name) for name, wanted in fresh.items() if not _fits(name, given.get(name), wanted, old, new)}
    result, kept, initialised = dict(fresh), [], []
    adapted = False
    for name, wanted in fresh.items():
        # Weight and bias stand or fall together: a bias means nothing to another layer.
        if _layer(name) in misfits:
            initialised.append(name)
            continue
        start = given[name].float()
        if name.startswith(CLASS_LAYER):
            result[name] = _class_rows(start, wanted, old, new, sources)
        elif start.shape == wanted.shape:
            result[name] = start.clone()
            kept.append(name)
        else:
            result[name], adapted = _bands(start, new.bands), True
            notes.append(_bands_note(old.bands, new.bands))
    moved = {} if _layer(CLASS_LAYER) in misfits else sources
    if not kept and not moved and not adapted:
        raise NothingTransferredError(
            f"no weight of the starting model ({old.backbone}, {old.fpn_channels} channels) fits the new one "
            f"({new.backbone}, {new.fpn_channels} channels); keep the starting model's architecture, or train from "
            "scratch"
        )
    if _anchors_px(old) != _anchors_px(new) and old.anchors_per_location == new.anchors_per_location:
        notes.append("anchors differ in pixels from the starting model's, so that boxes have to be learned anew")
    report = TransferReport(
        kept=tuple(kept),
        moved=moved,
        initialised=(*(f"class {name}" for name in new.labels.classes if name not in moved), *in_short(initialised)),
        dropped=(
            *(f"class {name}" for name in old.labels.classes if name not in moved.values()),
            *in_short(sorted(set(tensors) - set(fresh))),
        ),
        notes=tuple(notes),
    )
    return result, report


def fresh_rows(report: TransferReport, spec: ModelSpec) -> Tensor:
    """Say which rows of the class layer belong to classes that the starting model did not know.

    Rows that start as a copy of another class are among them: they have to learn what sets the new class apart.

    Args:
        report: What :func:`transfer` said.
        spec: The new model.

    Returns:
        Bool ``[A * K]``, anchors slowest, as in the class layer.
    """
    names = spec.labels.classes
    new = torch.tensor([name not in report.moved or not _same(name, report.moved[name]) for name in names])
    return new.repeat(spec.anchors_per_location)


def _fresh(spec: ModelSpec, seed: int) -> dict[str, Tensor]:
    """Return random weights drawn from a seed; the global generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return weights_of(Trunk(spec))


def _same(a: str, b: str) -> bool:
    return a.casefold() == b.casefold()


def _find(name: str, among: Sequence[str]) -> str | None:
    """Return a name as it is spelled among others, the same case before another."""
    return name if name in among else next((other for other in among if _same(name, other)), None)


def _sources(
    old: Sequence[str], new: Sequence[str], comes_from: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Return the old class each new class starts from, where there is one, and what had to be assumed."""
    told: dict[str, str] = {}
    for wanted, origin in comes_from.items():
        target, source = _find(wanted, new), _find(origin, old)
        if target is None:
            raise ConfigError(f"comes_from names the class {wanted!r}; the new model has {', '.join(new)}")
        if source is None:
            raise ConfigError(
                f"{wanted!r} can not come from {origin!r}; the starting model has {', '.join(old)}: name one of "
                f"these with comes_from= (--comes_from.{wanted})"
            )
        told[target] = source
    found = {name: told.get(name) or _find(name, old) for name in new}
    sources = {name: source for name, source in found.items() if source is not None}
    if sources or len(old) != 1:
        return sources, []
    note = f"{', '.join(new)}: copied from {old[0]}, the only class of the starting model"
    return dict.fromkeys(new, old[0]), [note]


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _fits(name: str, start: Tensor | None, wanted: Tensor, old: ModelSpec, new: ModelSpec) -> bool:
    """Say whether a tensor of the old model is of use to the new one."""
    if start is None:
        return False
    if name.startswith(CLASS_LAYER):
        return old.anchors_per_location == new.anchors_per_location and start.shape[1:] == wanted.shape[1:]
    # The first convolution may have other bands.
    return start.shape == wanted.shape or (name == FIRST_LAYER and start.shape[0] == wanted.shape[0])


def _class_rows(start: Tensor, fresh: Tensor, old: ModelSpec, new: ModelSpec, sources: Mapping[str, str]) -> Tensor:
    """Return rows ``[A * K_new, ...]``: those of known classes from ``start``, the others from ``fresh``."""
    anchors, rest = new.anchors_per_location, fresh.shape[1:]
    rows = fresh.view(anchors, len(new.labels.classes), *rest).clone()
    before = start.view(anchors, len(old.labels.classes), *rest)
    for name, source in sources.items():
        rows[:, new.labels.classes.index(name)] = before[:, old.labels.classes.index(source)]
    return rows.view(-1, *rest)


def _bands(weight: Tensor, bands: int) -> Tensor:
    """Return the first convolution ``[C, bands, 7, 7]`` of another number of bands."""
    before = weight.shape[1]
    if bands <= before:
        return weight[:, :bands].clone()
    added = weight.mean(dim=1, keepdim=True).expand(-1, bands - before, -1, -1)
    return torch.cat([weight, added], dim=1) * (before / bands)


def _bands_note(before: int, after: int) -> str:
    if after < before:
        return f"first convolution: the first {after} of {before} bands kept"
    return (
        f"first convolution: {before} bands kept, {after - before} started as their mean, all scaled by "
        f"{before}/{after}"
    )


def _by_new_level(tensors: Mapping[str, Tensor], old: ModelSpec, new: ModelSpec) -> dict[str, Tensor]:
    """Rename the pyramid's blocks, which are numbered from the finest level a model has, to the new numbers."""
    found = {}
    for name, tensor in tensors.items():
        block = PYRAMID.fullmatch(name)
        if block is None:
            found[name] = tensor
        elif (level := old.levels[int(block[2])]) in new.levels:
            found[f"{block[1]}{new.levels.index(level)}{block[3]}"] = tensor
    return found


def _anchors_px(spec: ModelSpec) -> tuple[tuple[float, ...], ...]:
    sizes = tuple(tuple(round(size / spec.gsd, 2) for size in level) for level in spec.anchor_sizes_m)
    return (*sizes, spec.anchor_ratios)
