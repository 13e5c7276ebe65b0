"""The mean of the weights of models that one training passed through, as a model file.

Run it as ``python -m treedet.training.bundled_average more.safetensors long.safetensors --output mean.safetensors``.
Models of one course lie around one valley, and their mean lies nearer to its middle than they do (Izmailov et al.
2018, "Averaging weights leads to wider optima and better generalization").
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from treedet.core.spec import ModelSpec
from treedet.errors import SpecMismatchError
from treedet.models import model_file


def average(models: Sequence[Path]) -> tuple[ModelSpec, dict[str, Tensor]]:
    """Return the spec of the last model, and the mean of the weights of all.

    Args:
        models: Model files of one architecture, normalisation statistics included in the mean.

    Raises:
        SpecMismatchError: They have other tensors, or other shapes.
    """
    loaded = [model_file.load(path) for path in models]
    spec, last = loaded[-1]
    for path, (_, weights) in zip(models, loaded, strict=True):
        if {name: value.shape for name, value in weights.items()} != {k: v.shape for k, v in last.items()}:
            raise SpecMismatchError(f"{path} and {models[-1]} are not of one architecture, so they have no mean")
    mean = {
        name: torch.stack([weights[name].double() for _, weights in loaded]).mean(dim=0).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in last.items()
    }
    provenance = {**spec.provenance, "mean of": ", ".join(path.name for path in models)}
    return replace(spec, provenance=provenance), mean


def main(arguments: Sequence[str] | None = None) -> None:
    """Average from the command line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("models", nargs="+", type=Path, help="model files of one architecture")
    parser.add_argument("--output", type=Path, required=True, help="model file to write")
    chosen = parser.parse_args(arguments)
    spec, mean = average(chosen.models)
    model_file.save(chosen.output, spec, mean, overwrite=True)


if __name__ == "__main__":
    main()
