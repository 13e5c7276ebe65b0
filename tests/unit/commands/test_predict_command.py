"""What ``treedet predict`` refuses before it loads a model."""

from pathlib import Path

import pytest

from treedet.cli import main


def test_zones_of_many_rasters_are_counted_afterwards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.tif").touch()
    assert main(["predict", str(tmp_path), str(tmp_path / "crowns.gpkg"), "--grid", "100"]) == 2
    said = capsys.readouterr().err
    assert "of many, count them afterwards: treedet summarise" in said
    assert len(said.splitlines()) == 1
