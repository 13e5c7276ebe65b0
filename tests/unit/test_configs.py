"""Every file in configs/ is run, so that none goes stale."""

import json
from pathlib import Path

import pytest

from treedet.cli import main
from treedet.inference.loading import load

CONFIGS = sorted((Path(__file__).parents[2] / "configs").rglob("*.yaml"))


def test_there_are_configs() -> None:
    assert CONFIGS


PREDICT = [config for config in CONFIGS if config.parent.name == "predict"]
TRAIN = [config for config in CONFIGS if config.parent.name == "train"]
MORE = {"species": ["--columns.species=status", "--min_crowns=2"]}
"""What a config leaves to the command line, or the sample is too small for: it has a status and eight dead trees."""
SHORT = ["--epochs=1", "--windows_per_epoch=2", "--batch_size=1", "--workers=0", "--samples.window_px=128"]


def test_each_config_is_run_below() -> None:
    assert sorted([*PREDICT, *TRAIN]) == CONFIGS


@pytest.mark.parametrize("config", PREDICT, ids=lambda path: path.stem)
def test_every_config_predicts(
    config: Path, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "crowns.gpkg"
    assert main(["predict", str(sample / "sample.tif"), str(output), "--no_look", "--config", str(config)]) == 0
    assert output.exists()
    assert "crowns on" in capsys.readouterr().out


@pytest.mark.filterwarnings("default")  # the command line shows warnings as lines
@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
@pytest.mark.parametrize("config", TRAIN, ids=lambda path: path.stem)
def test_every_config_trains(config: Path, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "model.safetensors"
    files = [str(sample / "sample.tif"), str(sample / "sample_crowns.gpkg")]
    more = MORE.get(config.stem, [])
    if config.stem == "crowns":
        # Its sets are not part of the project; one that is stands for them.
        sets = {"sample": {"rasters": "sample.tif", "crowns": "sample_crowns.gpkg", "weight": 5.0}}
        files, more = ["-", "-"], [f"--sets={json.dumps(sets)}", f"--sets_folder={sample}", "--scenes=1"]
    assert main(["train", *files, str(output), "--complete", "--config", str(config), *SHORT, *more]) == 0
    assert load(output).spec.provenance["config"]["epochs"] == 1
    pictures = [
        line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines() if line.startswith("look ")
    ]
    assert len(pictures) == 2, "before the first step and at the end"
    assert all(Path(path).exists() for path in ", ".join(pictures).split(", "))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_line_has_its_reason(config: Path) -> None:
    lines = [line for line in config.read_text().splitlines() if line.strip() and not line.startswith("#")]
    assert lines
    assert all("#" in line for line in lines)
