"""The mean of the weights of several models."""

from pathlib import Path

import pytest
import torch
from factories import tiny_spec

from treedet.core.spec import ModelSpec
from treedet.errors import SpecMismatchError
from treedet.models import model_file
from treedet.models.build import weights_of
from treedet.models.trunk import Trunk
from treedet.training import bundled_average


def saved(path: Path, spec: ModelSpec, seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    model_file.save(path, spec, weights_of(Trunk(spec)))
    return dict(model_file.load(path)[1])


def test_weights_are_averaged_and_the_file_says_of_what(tmp_path: Path) -> None:
    spec = tiny_spec()
    first, second = (saved(tmp_path / f"{seed}.safetensors", spec, seed) for seed in (0, 1))
    output = tmp_path / "mean.safetensors"
    bundled_average.main([str(tmp_path / "0.safetensors"), str(tmp_path / "1.safetensors"), "--output", str(output)])
    stored, mean = model_file.load(output)
    name = "backbone.body.conv1.weight"
    assert not torch.equal(first[name], second[name])
    torch.testing.assert_close(mean[name], (first[name] + second[name]) / 2, rtol=1e-3, atol=1e-4)
    assert stored.provenance["mean of"] == "0.safetensors, 1.safetensors"


def test_models_of_two_architectures_have_no_mean(tmp_path: Path) -> None:
    saved(tmp_path / "a.safetensors", tiny_spec(), 0)
    saved(tmp_path / "b.safetensors", tiny_spec(fpn_channels=64), 0)
    with pytest.raises(SpecMismatchError, match="no mean"):
        bundled_average.average([tmp_path / "a.safetensors", tmp_path / "b.safetensors"])
