"""Every file in configs/ is run, so that none goes stale."""

from pathlib import Path

import pytest

from treedet.cli import main

CONFIGS = sorted((Path(__file__).parents[2] / "configs").rglob("*.yaml"))


def test_there_are_configs() -> None:
    assert CONFIGS


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_config_runs(config: Path, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = config.parent.name
    assert command == "predict", "give each further command its own way to be run here"
    output = tmp_path / "crowns.gpkg"
    assert main([command, str(sample / "sample.tif"), str(output), "--no_look", "--config", str(config)]) == 0
    assert output.exists()
    assert "crowns on" in capsys.readouterr().out


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_line_has_its_reason(config: Path) -> None:
    lines = [line for line in config.read_text().splitlines() if line.strip() and not line.startswith("#")]
    assert lines
    assert all("#" in line for line in lines)
