"""Attribute heads from one model to another: by the attribute's name, and within it by the names of its classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from treedet.core.spec import ModelSpec

HEADS = "attributes."
LAST_LAYER = "logits."


def with_heads(
    given: Mapping[str, Tensor], fresh: Mapping[str, Tensor], old: ModelSpec, new: ModelSpec
) -> tuple[dict[str, Tensor], list[str]]:
    """Return the starting model's tensors with heads as the new model's schema wants them.

    A head belongs to the body it was trained on: with another body, or other levels of it, it is left out.

    Args:
        given: The starting model's tensors by name.
        fresh: Random weights of the new model.
        old: The starting model.
        new: The new one.

    Returns:
        Tensors by name, rows of the last layers in the new order of classes; and a line for each head whose classes
        changed.
    """
    if old.backbone != new.backbone or _body(old) != _body(new):
        return {name: tensor for name, tensor in given.items() if not name.startswith(HEADS)}, []
    found, notes = dict(given), []
    for attribute, wanted in new.labels.attributes.items():
        before = old.labels.attributes.get(attribute)
        if before is None or before == wanted:
            continue
        place = {name.casefold(): row for row, name in enumerate(before)}
        kept = [name for name in wanted if name.casefold() in place]
        for part in ("weight", "bias"):
            layer = f"{HEADS}{attribute}.{LAST_LAYER}{part}"
            rows = fresh[layer].clone()
            for name in kept:
                rows[wanted.index(name)] = given[layer][place[name.casefold()]].float()
            found[layer] = rows
        added = [name for name in wanted if name not in kept]
        notes.append(
            f"attribute {attribute}: {', '.join(kept) or 'no class'} kept"
            + (f", {', '.join(added)} initialised" if added else "")
        )
    return found, notes


def in_short(tensors: Iterable[str]) -> tuple[str, ...]:
    """Return names of tensors, those of a head as ``attribute NAME``.

    >>> in_short(["head.a", "attributes.status.conv.0.weight", "attributes.status.logits.bias"])
    ('head.a', 'attribute status')
    """
    return tuple(
        dict.fromkeys(
            f"attribute {name.removeprefix(HEADS).split('.')[0]}" if name.startswith(HEADS) else name
            for name in tensors
        )
    )


def _body(spec: ModelSpec) -> tuple[int, ...]:
    return tuple(level for level in spec.levels if level <= 5)
