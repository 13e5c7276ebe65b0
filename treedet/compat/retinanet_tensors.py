"""Names of a RetinaNet's tensors: older ones brought up to date, every one accounted for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from treedet.core.spec import ModelSpec
from treedet.errors import NothingTransferredError, SpecMismatchError
from treedet.models.build import COUNTER
from treedet.models.trunk import Trunk

PREFIX = "model."
CLASS_LAYER = "head.classification_head.cls_logits.weight"
BOX_LAYER = "head.regression_head.bbox_reg.weight"
MARKS = ("backbone.body.conv1.weight", CLASS_LAYER, BOX_LAYER)
"""Tensors without which nothing is a RetinaNet."""

COUNTED = "counter of training steps"
BESIDE = "beside the network"

_OLD_PYRAMID = re.compile(r"(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)")
_OLD_TOWER = re.compile(r"(head\.(?:classification|regression)_head\.conv)\.([0246])\.(weight|bias)")

OTHERS = {
    "a crop model, which classifies pictures": ("fc.weight",),
    "a Faster R-CNN": ("rpn.", "roi_heads."),
    "a DETR": ("class_embed", "transformer."),
}
"""What else people have, told by parts of names."""


@dataclass(frozen=True)
class TensorReport:
    """What became of every tensor of a file.

    Attributes:
        taken: Names in the model file.
        renamed: Names in the model file by older names in the file read.
        left_out: Reason by name in the file read.
        numbers: Numbers in the tensors taken.
    """

    taken: tuple[str, ...]
    renamed: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    numbers: int = 0

    def lines(self) -> list[str]:
        """Return the report as lines for a person; the kinds of tensors left out by their number."""
        total = len(self.taken) + len(self.left_out)
        lines = [f"tensors    {len(self.taken):,} of {total:,} taken, {self.numbers:,} numbers"]
        if self.renamed:
            old, new = next(iter(self.renamed.items()))
            lines.append(f"renamed    {len(self.renamed):,} had names of an older torchvision, such as {old} ({new})")
        for reason, count in Counter(self.left_out.values()).items():
            first = next(name for name, why in self.left_out.items() if why == reason)
            lines.append(f"left out   {count:,}: {reason}, such as {first}")
        return lines

    def to_dict(self) -> dict[str, int | str]:
        """Return the report in numbers, for the model file."""
        left = Counter(self.left_out.values())
        return {
            "taken": len(self.taken),
            "renamed": len(self.renamed),
            **{f"left out, {k}": n for k, n in left.items()},
        }


def network_tensors(tensors: Mapping[str, Tensor], source: str) -> tuple[dict[str, Tensor], TensorReport]:
    """Return the tensors of the network by their present names, and what became of every one.

    Args:
        tensors: By the names they have in the file: with ``model.`` in front or not, of any torchvision.
        source: The file, for messages.

    Raises:
        NothingTransferredError: They are no RetinaNet's.
        SpecMismatchError: Two of them are one tensor.
    """
    prefix = PREFIX if any(name.startswith(PREFIX) for name in tensors) else ""
    kept: dict[str, Tensor] = {}
    renamed: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for name, tensor in tensors.items():
        if not name.startswith(prefix):
            left_out[name] = BESIDE
            continue
        if name.endswith(COUNTER):
            left_out[name] = COUNTED
            continue
        plain = name.removeprefix(prefix)
        present = present_name(plain)
        if present in kept:
            raise SpecMismatchError(f"{source} holds {present} twice, under an older name too; save it anew")
        if present != plain:
            renamed[name] = present
        kept[present] = tensor.float()
    if absent := [mark for mark in MARKS if mark not in kept]:
        raise NothingTransferredError(_no_retinanet(source, kept, absent[0]))
    return kept, TensorReport(tuple(kept), renamed, left_out, sum(tensor.numel() for tensor in kept.values()))


def present_name(name: str) -> str:
    """Return the name that torchvision gives a tensor today.

    >>> present_name("backbone.fpn.inner_blocks.0.weight")
    'backbone.fpn.inner_blocks.0.0.weight'
    >>> present_name("head.regression_head.conv.6.bias"), present_name("head.regression_head.conv.3.0.bias")
    ('head.regression_head.conv.3.0.bias', 'head.regression_head.conv.3.0.bias')
    """
    if found := _OLD_PYRAMID.fullmatch(name):
        return f"{found[1]}.0.{found[2]}"
    if found := _OLD_TOWER.fullmatch(name):
        return f"{found[1]}.{int(found[2]) // 2}.0.{found[3]}"
    return name


def class_count(tensors: Mapping[str, Tensor], anchors: int, source: str) -> int:
    """Return how many classes the last layer scores.

    Args:
        tensors: By present names.
        anchors: Anchors at each place.
        source: The file, for messages.

    Raises:
        SpecMismatchError: The network was built for other anchors.
    """
    rows, boxes = len(tensors[CLASS_LAYER]), len(tensors[BOX_LAYER])
    if boxes != 4 * anchors or rows % anchors or not rows:
        raise SpecMismatchError(
            f"{source} is built for other anchors: {BOX_LAYER} gives {boxes / 4:g} boxes at each place and "
            f"{CLASS_LAYER} {rows} scores; accepted are {anchors} boxes, as DeepForest and torchvision have"
        )
    return rows // anchors


def check_against(spec: ModelSpec, tensors: Mapping[str, Tensor], source: str) -> None:
    """Compare tensors with those of the network that a spec describes.

    Raises:
        SpecMismatchError: One is missing, superfluous, of another shape, or holds what is no number.
    """
    with torch.device("meta"):
        wanted = {k: v.shape for k, v in Trunk(spec).state_dict().items() if not k.endswith(COUNTER)}
    for what, names in (("lacks", set(wanted) - set(tensors)), ("has beside them", set(tensors) - set(wanted))):
        if names:
            first = sorted(names)
            more = f" and {len(first) - 3} more" if len(first) > 3 else ""
            raise SpecMismatchError(
                f"{source} is no RetinaNet with a ResNet-50 as DeepForest has it: of {len(wanted)} tensors needed it "
                f"{what} {', '.join(first[:3])}{more}; give the file as DeepForest wrote it"
            )
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name]:
            raise SpecMismatchError(
                f"{source}: {name} is {list(tensor.shape)}, needed {list(wanted[name])}; accepted is a RetinaNet "
                "with a ResNet-50 and pyramid levels P3 to P7"
            )
        if not torch.isfinite(tensor).all():
            raise SpecMismatchError(
                f"{source}: {name} holds values that are no numbers; the training failed, take an earlier checkpoint"
            )


def _no_retinanet(source: str, kept: Mapping[str, Tensor], absent: str) -> str:
    guess = next((what for what, parts in OTHERS.items() if any(p in name for p in parts for name in kept)), "")
    found = f"it looks like {guess}" if guess else f"found {', '.join(sorted(kept)[:3]) or 'no tensors'}"
    return (
        f"{source} is no RetinaNet: it has no {absent}; {found}; accepted are tree detection weights of DeepForest "
        "(architecture: retinanet)"
    )
