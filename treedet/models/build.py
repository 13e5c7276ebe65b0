"""From a spec to a network, and from a trained network to one that only predicts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from treedet.core.spec import ModelSpec
from treedet.errors import SpecMismatchError
from treedet.models.trunk import Trunk

COUNTER = "num_batches_tracked"
"""Training statistics of batch normalisation that prediction does not need and public weights do not have."""


def build(spec: ModelSpec, tensors: Mapping[str, Tensor]) -> Trunk:
    """Return the trunk a spec describes, with the given weights.

    Args:
        spec: Architecture.
        tensors: Weights by parameter name; read strictly.

    Raises:
        SpecMismatchError: A tensor is missing, superfluous or of another shape; the message names it.
    """
    with torch.device("meta"):
        trunk = Trunk(spec)
    wanted = {k: v for k, v in trunk.state_dict().items() if not k.endswith(COUNTER)}
    missing, unknown = sorted(set(wanted) - set(tensors)), sorted(set(tensors) - set(wanted))
    if missing or unknown:
        raise SpecMismatchError(
            f"the weights do not fit the spec: {len(missing)} missing {missing[:3]}, {len(unknown)} unknown "
            f"{unknown[:3]}; the file is damaged or was written by another tool"
        )
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            raise SpecMismatchError(
                f"the weights do not fit the spec: {name} is {list(tensor.shape)}, needed {list(wanted[name].shape)}"
            )
    trunk = Trunk(spec)
    counters = {k: v for k, v in trunk.state_dict().items() if k.endswith(COUNTER)}
    trunk.load_state_dict({**counters, **{k: v.float() for k, v in tensors.items()}})
    return trunk.eval()


def weights_of(trunk: Trunk) -> dict[str, Tensor]:
    """Return the tensors that :func:`build` needs, by parameter name."""
    return {k: v.detach().cpu() for k, v in trunk.state_dict().items() if not k.endswith(COUNTER)}


def fold_normalisation(module: nn.Module) -> None:
    """Fold each batch normalisation into the convolution before it, in place; outputs stay the same in eval mode.

    Pairs are found as torchvision builds them: ``convN`` with ``bnN``, or neighbours in a Sequential.
    """
    children = dict(module.named_children())
    names = list(children)
    for position, name in enumerate(names):
        norm = children[name]
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        before = name.replace("bn", "conv") if name.startswith("bn") else names[position - 1]
        conv = children[before]
        if isinstance(conv, nn.Conv2d):
            setattr(module, before, fuse_conv_bn_eval(conv.eval(), norm.eval()))
            setattr(module, name, nn.Identity())
    for child in module.children():
        fold_normalisation(child)
