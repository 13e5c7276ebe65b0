"""``treedet train`` as a user meets it: what it says, what it writes, what it refuses."""

import csv
import json
import re
from importlib.metadata import version

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely
import torch
from factories import UTM, disks, make_raster, paint, tiny_spec

from treedet.cli import main
from treedet.commands import bars
from treedet.core import crowns as table
from treedet.core.crown_arrays import CrownArrays
from treedet.core.labels import LabelSchema
from treedet.core.spec import OperatingPoint
from treedet.datasets.annotated import AnnotatedRaster
from treedet.inference.loading import load
from treedet.models import model_file
from treedet.models.build import weights_of
from treedet.models.trunk import Trunk
from treedet.rasters.raster import Raster
from treedet.training import annotation_check
from treedet.training import plan as planning
from treedet.vectors.writers import write_crowns

WIDTH, HEIGHT = 700, 660
CIRCLES = disks(np.random.default_rng(3), width=WIDTH, height=HEIGHT, count=80, radius=(8, 14))
QUICK = [
    "--epochs=2",
    "--windows_per_epoch=4",
    "--batch_size=2",
    "--workers=0",
    "--precision=32-true",
    "--samples.window_px=128",
]

pytestmark = [
    pytest.mark.filterwarnings("default"),  # the command line shows warnings as lines
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
]


def boxes_of(circles):
    return np.concatenate([circles[:, :2] - circles[:, 2:], circles[:, :2] + circles[:, 2:]], axis=1)


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    """A raster, its crowns, and a small model to start from."""
    folder = tmp_path_factory.mktemp("stand")
    path = make_raster(folder / "stand.tif", paint(CIRCLES, width=WIDTH, height=HEIGHT))
    with Raster.open(path) as raster:
        shapes = raster.native_grid.to_map(boxes_of(CIRCLES))
    kinds = np.where(np.arange(len(CIRCLES)) % 3 == 0, "bird", "tree")
    gpd.GeoDataFrame({"Class": kinds}, geometry=shapes, crs=UTM).to_file(folder / "crowns.shp")
    gpd.GeoDataFrame(geometry=shapes, crs=UTM).to_file(folder / "plain.gpkg")
    torch.manual_seed(0)
    spec = tiny_spec(operating_points={"balanced": OperatingPoint(0.3), "precise": OperatingPoint(0.6)})
    model_file.save(folder / "start.safetensors", spec, weights_of(Trunk(spec)))
    return folder


def train(stand, output, *arguments, crowns="plain.gpkg", raster="stand.tif"):
    given = [str(stand / raster), str(stand / crowns), str(output), "--model", str(stand / "start.safetensors")]
    return main(["train", *given, *QUICK, *arguments])


def test_a_model_comes_out_with_all_that_goes_with_it(stand, tmp_path, capsys):
    output = tmp_path / "my stand.safetensors"
    assert train(stand, output, "--complete") == 0
    said, logged = capsys.readouterr()
    assert re.findall(r"^treedet: epoch (\d)/2, loss", logged, flags=re.MULTILINE) == ["1", "2"]
    assert "80 crowns" in said
    assert "every row is 'tree'" not in said, "notices go to standard error"
    assert f"treedet predict {stand / 'stand.tif'} crowns.gpkg --model {json.dumps(str(output))}" in said
    names = {path.name for path in tmp_path.iterdir()}
    pictures = {f"my stand-{n}.png" for n in ("training-windows", "validation", "curves")}
    assert names == {output.name, "my stand-history.csv", *pictures}, "and no run folder"
    with (tmp_path / "my stand-history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(float(row["epoch"])) for row in rows] == [1, 2]
    assert {"loss", "val_f1", "data_wait_share"} <= set(rows[0])
    assert re.search(r"validation  F1 0\.\d\d before training, 0\.\d\d after", said)
    stored = load(output)
    assert set(stored.spec.operating_points) == {"balanced", "count", "precise", "complete"}
    origin = stored.spec.provenance
    assert origin["start"].startswith("start.safetensors")
    assert len(origin["data"]) == 64
    assert origin["config"]["epochs"] == 2
    assert origin["packages"]["torch"] == version("torch")
    assert origin["validation at start"] is not None
    assert stored.predict(stand / "stand.tif").crs == UTM


def test_classes_come_from_the_table_and_the_box_head_is_kept(stand, tmp_path, capsys):
    output = tmp_path / "two.safetensors"
    assert train(stand, output, "--complete", "--freeze", "trunk", crowns="crowns.shp") == 0
    said = capsys.readouterr()
    assert "class bird" in said.out
    spec, tensors = model_file.load(output)
    assert spec.labels == LabelSchema(("tree", "bird"))
    _, before = model_file.load(stand / "start.safetensors")
    for name, tensor in before.items():
        if "cls_logits" not in name:
            assert torch.equal(tensors[name], tensor), name
    layer = "head.classification_head.cls_logits.weight"
    assert torch.equal(tensors[layer][0::2], before[layer]), "the rows of the class that was known"


def test_an_output_is_replaced_only_on_request_and_before_any_work(stand, tmp_path, capsys):
    output = tmp_path / "m.safetensors"
    (tmp_path / "m-curves.png").write_bytes(b"mine")
    assert train(stand, output, "--complete") == 2
    assert "m-curves.png" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"m-curves.png"}
    assert train(stand, output, "--complete", "--overwrite") == 0
    assert (tmp_path / "m-curves.png").read_bytes() != b"mine"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--partial", "--complete"], "both partial and complete"),
        (["--columns.label", "SPECIES"], "SPECIES"),
        (["--learning_rate", "0"], "learning_rate"),
        (["--epochs", "many"], "epochs"),
        (["--classes", "ash,oak", "--complete"], "not among the classes"),
        (["--freeze", "trunk", "--complete"], "nothing to train"),
        (["--samples.gsd", "0.3", "--complete"], "--model_gsd"),
        (["--validation", "nowhere.tif"], "nowhere.tif"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_one_line_for_each_mistake(stand, tmp_path, capsys, arguments, words):
    try:
        code = train(stand, tmp_path / "m.safetensors", *arguments)
    except SystemExit as stop:
        code = stop.code
    errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert code == 2
    assert len(errors) == 1
    assert words in errors[0]
    assert not (tmp_path / "m.safetensors").exists()


def test_unannotated_trees_stop_the_training_and_are_written(stand, tmp_path, capsys, monkeypatch):
    """A starting model that knows the disks meets an annotation of the first six."""
    few = tmp_path / "few.gpkg"
    gpd.read_file(stand / "plain.gpkg").iloc[:6].to_file(few)

    def all_disks(raster, model, *, threshold=None, area=None, watch=None):
        return crown_arrays(boxes_of(CIRCLES))

    monkeypatch.setattr(annotation_check, "find_crowns", all_disks)
    output = tmp_path / "m.safetensors"
    assert train(stand, output, crowns=few) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "74 of 80" in line
    assert all(way in line for way in ("--aoi", "--partial", "--complete"))
    assert len(gpd.read_file(tmp_path / "m-annotation-check.gpkg", layer="crowns")) == 74
    assert train(stand, output, "--partial", crowns=few) == 0
    aoi = tmp_path / "aoi.gpkg"
    gpd.GeoDataFrame(geometry=[gpd.read_file(few).union_all().envelope], crs=UTM).to_file(aoi)
    assert train(stand, output, "--aoi", str(aoi), "--overwrite", crowns=few) == 0, "complete by declaration"


def crown_arrays(boxes):
    n = len(boxes)
    false = np.zeros(n, bool)
    return CrownArrays(boxes, np.full(n, 0.9, np.float32), np.zeros(n, np.int64), false, false)


def test_partial_annotation_makes_regions_that_are_neither_crown_nor_background(stand, monkeypatch):
    monkeypatch.setattr(annotation_check, "find_crowns", lambda *_, **__: crown_arrays(boxes_of(CIRCLES)))
    few = gpd.read_file(stand / "plain.gpkg").iloc[:12]
    plot = AnnotatedRaster(stand / "stand.tif", few)
    made = planning.make_plan(
        load(stand / "start.safetensors"), [plot], recipe=planning.Recipe("partial", validation_share=0.0)
    )
    ground = made.pools[0].grounds[0]
    assert (ground.classes == -1).sum() == len(CIRCLES) - 12
    assert (ground.classes == 0).sum() == 12


def test_what_predict_wrote_and_a_gis_edited_is_training_data(stand, tmp_path):
    """Predict, correct by hand, train: features added without id, label and score, one deleted, one moved."""
    found = load(stand / "start.safetensors").predict(stand / "stand.tif", score_threshold=0.0).iloc[:0]
    shapes = gpd.read_file(stand / "plain.gpkg").geometry
    with Raster.open(stand / "stand.tif") as raster:
        grid = raster.native_grid
    whole = table.to_table(crown_arrays(boxes_of(CIRCLES)), grid, LabelSchema(), source="stand.tif")
    assert list(found.columns) == list(whole.columns)
    corrected = tmp_path / "corrected.gpkg"
    write_crowns(whole, corrected)
    edited = pyogrio.read_dataframe(corrected, layer="crowns").iloc[1:]
    edited.geometry = [shapely.affinity.translate(edited.geometry.iloc[0], 1.0), *edited.geometry.iloc[1:]]
    drawn = gpd.GeoDataFrame(geometry=[shapes.iloc[0].buffer(0.5)], crs=UTM)
    pyogrio.write_dataframe(pd.concat([edited, drawn]), corrected, layer="crowns")
    output = tmp_path / "m.safetensors"
    assert train(stand, output, "--complete", crowns=corrected) == 0
    stored, _ = model_file.load(output)
    assert stored.provenance["crowns"]["annotated"] == len(CIRCLES)
    assert stored.labels.classes == ("tree",)


def test_a_killed_training_goes_on(stand, tmp_path, capsys, monkeypatch):
    shown = bars.TrainingBar.show

    def stop(self, progress):
        if progress.epoch == 2:
            raise KeyboardInterrupt
        shown(self, progress)

    output = tmp_path / "m.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(bars.TrainingBar, "show", stop)
        assert train(stand, output, "--complete") == 130
    assert "--resume" in capsys.readouterr().err
    assert (tmp_path / "m.safetensors.training" / "last.ckpt").exists()
    assert train(stand, output, "--complete") == 2, "a leftover run is not thrown away unasked"
    assert "--resume" in capsys.readouterr().err
    assert train(stand, output, "--complete", "--resume") == 0
    assert not (tmp_path / "m.safetensors.training").exists()
    with (tmp_path / "m-history.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2
