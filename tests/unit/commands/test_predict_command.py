"""What ``treedet predict`` refuses before it loads a model."""

from pathlib import Path

import pytest

from treedet.cli import main


def test_a_table_of_zones_that_exists_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.tif", "crowns-zones.gpkg"):
        (tmp_path / name).touch()
    assert main(["predict", str(tmp_path), str(tmp_path / "crowns.gpkg"), "--grid", "100"]) == 2
    said = capsys.readouterr().err
    assert "crowns-zones.gpkg exists already" in said
    assert len(said.splitlines()) == 1
