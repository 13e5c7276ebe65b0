"""``--values`` on its way from the command line to whoever reads annotation."""

import geopandas as gpd
import numpy as np
import pytest
import shapely
from factories import UTM, make_raster

from treedet.arguments import in_order
from treedet.cli import build_parser, main
from treedet.commands import train_inputs
from treedet.commands.evaluate_command import annotated
from treedet.evaluation.config import TruthReading
from treedet.training.options import TrainOptions

VALUES = {"status": {"Live": "alive", "1": "dead", "Downed": None}}
COMMANDS = [["train", "a", "b", "c"], ["evaluate", "a", "b", "c"], ["calibrate", "a", "b", "c.safetensors"]]


def as_text(values):
    return {name: {str(key): value for key, value in mapping.items()} for name, mapping in values.items()}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
def test_values_are_given_on_the_command_line_or_in_a_file(tmp_path, command):
    text = '{"status": {"Live": "alive", 1: dead, "Downed": null}}'
    (tmp_path / "c.yaml").write_text(f"values: {text}")
    for given in (["--values", text], ["--config", str(tmp_path / "c.yaml")]):
        parsed = build_parser().parse_args(in_order([*command, *given]))
        assert as_text(parsed[command[0]]["values"]) == VALUES


def test_values_reach_the_command(monkeypatch):
    called = []
    monkeypatch.setattr("treedet.commands.train_command.run", lambda *given, **_: called.append(given[3]))
    assert main(["train", "a", "b", "c", "--values", '{"status": {"Live": "alive"}}']) == 0
    assert called[0].values == {"status": {"Live": "alive"}}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
def test_values_that_are_no_maps_are_one_line(capsys, command):
    with pytest.raises(SystemExit) as stopped:
        build_parser().parse_args([*command, "--values", '{"status": "Live"}'])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "values" in error


def test_annotation_to_train_and_to_evaluate_on_is_read_with_them(tmp_path):
    raster = str(make_raster(tmp_path / "a.tif", np.full((3, 100, 100), 90, np.uint8)))
    shapes = shapely.box([500_001, 500_005], 5_399_993, [500_003, 500_007], 5_399_996)
    gpd.GeoDataFrame({"status": ["Live", "1"]}, geometry=shapes, crs=UTM).to_file(tmp_path / "a.gpkg")
    crowns = str(tmp_path / "a.gpkg")
    trained, _ = train_inputs.annotated(raster, crowns, TrainOptions(values=VALUES))
    for plots in (trained, annotated(raster, crowns, TruthReading(values=VALUES))):
        assert plots[0].crowns["status"].tolist() == ["alive", "dead"]
