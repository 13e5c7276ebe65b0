"""``treedet import`` as it is typed: what it says, and one line and exit code 2 for what can not be used."""

from pathlib import Path

import pytest
import torch
from retinanets import hollow_tensors

from treedet.cli import main


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    state = {f"model.{name}": value for name, value in hollow_tensors(2).items()}
    torch.save({"state_dict": state, "label_dict": {"Alive": 0, "Dead": 1}}, tmp_path / "a.ckpt")
    return tmp_path / "a.ckpt"


def test_weights_become_a_model_file(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.safetensors"
    assert main(["import", "deepforest", str(checkpoint), str(output)]) == 0
    said = capsys.readouterr().out
    assert "tensors    301 of 301 taken" in said
    assert "classes    Alive, Dead" in said
    assert "sees       0.05 m per pixel, as DeepForest's windows of 400 px at 0.1 m do once enlarged to 800" in said
    assert f"next       treedet predict RASTER crowns.gpkg --model {output}" in said
    assert main(["inspect", str(output)]) == 0
    said = capsys.readouterr().out
    assert "resnet50, levels P3 to P7, 256 channels, 4 head convolutions, 9 anchors" in said
    assert "imported from DeepForest (Lightning checkpoint a.ckpt)" in said
    assert "setting    --setting original runs it as DeepForest does: windows of 400 px enlarged to 800" in said
    assert "precision  fp32" in said


@pytest.mark.parametrize(
    ("output", "options", "message"),
    [
        ("out.gpkg", [], "a model file ends in .safetensors"),
        ("there.safetensors", [], "exists"),
        ("out.safetensors", ["--labels", "Tree"], "1 classes are named (Tree)"),
        ("out.safetensors", ["--labels", "Tree,Bird", "--label_dict", "a.json"], "give one of them"),
        ("out.safetensors", ["--gsd", "0"], "gsd must be a positive number"),
    ],
)
def test_what_can_not_be_used_is_one_line(
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    output: str,
    options: list[str],
    message: str,
) -> None:
    (tmp_path / "there.safetensors").write_text("mine")
    assert main(["import", "deepforest", str(checkpoint), str(tmp_path / output), *options]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert not said.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ckpt", "there.safetensors"]
