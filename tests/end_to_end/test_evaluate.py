"""``treedet evaluate``, ``compare`` and ``calibrate`` as a user meets them: what they say, write and refuse."""

import json
import re

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import torch
from factories import UTM, disks, make_raster, paint, tiny_spec

from treedet.cli import main
from treedet.commands import evaluate_command
from treedet.core.spec import OperatingPoint
from treedet.models import model_file
from treedet.models.build import weights_of
from treedet.models.trunk import Trunk
from treedet.rasters.raster import Raster

SIDE = 220
CIRCLES = disks(np.random.default_rng(3), width=SIDE, height=SIDE, count=14, radius=(8, 14))
BOXES = np.concatenate([CIRCLES[:, :2] - CIRCLES[:, 2:], CIRCLES[:, :2] + CIRCLES[:, 2:]], axis=1)
CROWNS = len(CIRCLES)

pytestmark = [
    pytest.mark.filterwarnings("default"),  # the command line shows warnings as lines
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
]


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    """A raster of 22 m, its crowns, what a tool found there, and a small model that finds much everywhere."""
    folder = tmp_path_factory.mktemp("stand")
    path = make_raster(folder / "stand.tif", paint(CIRCLES, width=SIDE, height=SIDE))
    with Raster.open(path) as raster:
        shapes = gpd.GeoSeries(raster.native_grid.to_map(BOXES), crs=UTM)
    gpd.GeoDataFrame(geometry=shapes).to_file(folder / "truth.gpkg")
    gpd.GeoDataFrame(geometry=shapes.centroid).to_file(folder / "stems.gpkg")
    gpd.GeoDataFrame(geometry=shapes.iloc[:0]).to_file(folder / "nothing.gpkg")
    gpd.GeoDataFrame(geometry=[shapes.union_all().envelope.buffer(1)], crs=UTM).to_file(folder / "aoi.gpkg")
    found = gpd.GeoDataFrame(
        {"score": np.linspace(0.5, 0.9, CROWNS - 4)}, geometry=shapes.iloc[4:].translate(0.2).to_numpy(), crs=UTM
    )
    found.to_file(folder / "found.gpkg")
    found.to_crs(4326).to_file(folder / "degrees.gpkg")
    found.assign(score=found["score"] * 100).to_file(folder / "percent.gpkg")
    found.set_geometry(found.translate(5000)).to_file(folder / "elsewhere.gpkg")
    in_pixels = {
        "truth.csv": (BOXES, "stand.tif"),
        "found.csv": (BOXES[4:], "stand.tif"),
        "other.csv": (BOXES, "b.tif"),
    }
    for name, (boxes, image) in in_pixels.items():
        columns = pd.DataFrame(boxes, columns=["xmin", "ymin", "xmax", "ymax"])
        columns.assign(image_path=image, label="Tree", score=0.8).to_csv(folder / name, index=False)
    torch.manual_seed(0)
    spec = tiny_spec(operating_points={"balanced": OperatingPoint(0.3)})
    trunk = Trunk(spec)
    with torch.no_grad():
        trunk.head.classification_head.cls_logits.weight.mul_(100)
        trunk.head.classification_head.cls_logits.bias.fill_(-1.0)
    model_file.save(folder / "start.safetensors", spec, weights_of(trunk))
    return folder


@pytest.fixture
def plain(monkeypatch):
    """Reports without pictures, which take most of the time."""
    monkeypatch.setattr("treedet.evaluation.report.draw_figures", lambda *_, **__: {})
    monkeypatch.setattr("treedet.evaluation.report.draw_overlays", lambda *_, **__: {})


def run(*words):
    """Return the exit code of a command."""
    try:
        return main([str(word) for word in words])
    except SystemExit as stop:
        return stop.code


def of_files(stand, report, *arguments, found="found.gpkg", truth="truth.gpkg"):
    return run("evaluate", report, "--predictions", stand / found, "--truth", stand / truth, *arguments)


def of_model(stand, report, *arguments, model="start.safetensors"):
    return run("evaluate", stand / "stand.tif", stand / "truth.gpkg", report, "--model", stand / model, *arguments)


def first_row(report):
    return json.loads((report / "report.json").read_text())["tables"]["table"][0]


def counts(report):
    return tuple(first_row(report)[name] for name in ("truth", "predicted", "matched"))


# ---- what comes out


def test_a_model_is_evaluated_and_the_report_is_whole(stand, tmp_path, capsys):
    report = tmp_path / "my report"
    assert of_model(stand, report, "--gsds", "0.2,0.3", "--modes", "adapt,native") == 0
    said = capsys.readouterr().out.splitlines()
    assert re.match(r"Finds \d+ % of the crowns; \d+ % of what it finds is right; counts \d+ % too many\.", said[0])
    assert [line.split(" F1")[0] for line in said[1:6]] == [
        "0.1 m adapt",
        "0.2 m adapt",
        "0.2 m native",
        "0.3 m adapt",
        "0.3 m native",
    ]
    assert said[-1] == f'report      "{report / "report.html"}"'
    assert {path.name for path in report.iterdir()} == {
        "report.html",
        "report.json",
        "table.csv",
        "by_raster.csv",
        "by_size.csv",
        "by_class.csv",
        "curve.csv",
        "precision_recall.csv",
        "reliability.csv",
        "outcomes.gpkg",
        "overlay.png",
        "figures",
    }
    assert {path.name for path in tmp_path.iterdir()} == {report.name}
    truth, predicted, matched = counts(report)
    outcomes = gpd.read_file(report / "outcomes.gpkg", layer="outcomes")["outcome"].value_counts()
    assert truth == CROWNS
    assert 0 < outcomes["hit"] == matched
    assert outcomes["miss"] == truth - matched
    assert outcomes["false alarm"] == predicted - matched


def test_crowns_against_crowns_in_any_order_of_arguments(stand, tmp_path, capsys, plain):
    assert of_files(stand, tmp_path / "a", "--aoi", stand / "aoi.gpkg") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "Finds 71 % of the crowns; 100 % of what it finds is right; counts 29 % too few."
    assert said[1].startswith("crowns      F1 0.833, recall 0.714, precision 1.000")
    given = f"--truth={stand / 'truth.gpkg'}", "--aoi", stand / "aoi.gpkg", "--predictions", stand / "found.gpkg"
    assert run("evaluate", *given, tmp_path / "b") == 0
    assert run("evaluate", *given, stand / "stand.tif", tmp_path / "c") == 0
    assert run("evaluate", stand / "stand.tif", stand / "truth.gpkg", tmp_path / "d", *given[3:]) == 0
    assert "adapt" not in capsys.readouterr().out, "crowns of a file are not read in any mode"
    assert {counts(tmp_path / name) for name in "abcd"} == {(CROWNS, CROWNS - 4, CROWNS - 4)}


def test_what_predict_wrote_counts_as_the_model_does(stand, tmp_path, plain):
    found = tmp_path / "found.gpkg"
    assert run("predict", stand / "stand.tif", found, "--model", stand / "start.safetensors", "--no_look") == 0
    assert of_model(stand, tmp_path / "model") == 0
    given = stand / "stand.tif", stand / "truth.gpkg", tmp_path / "file"
    assert run("evaluate", *given, "--predictions", found) == 0
    assert counts(tmp_path / "file") == counts(tmp_path / "model")
    assert counts(tmp_path / "file")[2] > 0


def test_two_reports_side_by_side(stand, tmp_path, capsys, plain):
    assert of_files(stand, tmp_path / "a") == 0
    assert of_files(stand, tmp_path / "b", found="truth.csv", truth="truth.csv") == 2, "pixels have no size"
    assert of_files(stand, tmp_path / "b", "--score_threshold", "0.7") == 0
    capsys.readouterr()
    output = tmp_path / "both"
    assert run("compare", tmp_path / "a", tmp_path / "b", "--output", output) == 0
    said = capsys.readouterr().out
    assert re.search(r"as it is +F1 0\.833 to 0\.526; on 1 shared rasters -0\.307", said)
    assert {path.name for path in output.iterdir()} == {"compare.html", "compare.csv", "rasters.csv", "compare.png"}
    assert run("compare", tmp_path / "a", tmp_path / "b", "--output", output) == 2
    assert "--overwrite" in error_of(capsys)
    assert run("compare", tmp_path / "a", tmp_path / "b", "--output", output, "--overwrite") == 0


def test_stems_are_matched_within_a_distance(stand, tmp_path, capsys, plain):
    given = {"truth": "stems.gpkg"}
    assert of_files(stand, tmp_path / "a", "--max_distance", "2", **given) == 0
    said = capsys.readouterr().out
    assert said.startswith("Finds 71 % of the stems; what else it finds can not be judged")
    assert of_files(stand, tmp_path / "b", "--max_distance", "2", "--aoi", stand / "aoi.gpkg", **given) == 0
    assert "100 % of what it finds is right" in capsys.readouterr().out


def test_calibrate_writes_a_model_that_predict_follows_and_evaluate_warns(stand, tmp_path, capsys, plain):
    output = tmp_path / "calibrated.safetensors"
    given = stand / "stand.tif", stand / "truth.gpkg", output, "--model", stand / "start.safetensors"
    assert run("calibrate", *given, "--gsds", "0.2,0.05", "--merge_ious", "0.3") == 0
    said = capsys.readouterr()
    assert f"only {CROWNS} crowns to choose by" in said.err
    assert f"treedet evaluate TEST_RASTERS TRUTH report --model {output}" in said.out
    names = {"calibrated.safetensors", "calibrated-thresholds.png", "calibrated-reliability.png"}
    assert {path.name for path in tmp_path.iterdir()} == names
    before, weights = model_file.load(stand / "start.safetensors")
    spec, kept = model_file.load(output)
    assert all(torch.equal(kept[name], weights[name]) for name in weights)
    assert spec.temperature != before.temperature
    assert set(spec.operating_points) == {"balanced", "count", "precise", "complete"}
    assert [choice.gsd for choice in spec.resolutions] == [0.2], "0.05 m is finer than the raster"

    coarse = make_raster(tmp_path / "coarse.tif", paint(CIRCLES / 2, width=110, height=110), gsd=0.2)
    assert run("predict", coarse, tmp_path / "c.gpkg", "--model", output, "--no_look") == 0
    said = capsys.readouterr()
    assert f"score at least {spec.threshold():.3g}" in said.out
    assert spec.resolutions[0].mode in said.err + said.out
    assert of_model(stand, tmp_path / "report", model=output) == 0
    assert "1 of 1 rasters were used to calibrate this model" in capsys.readouterr().err
    assert run("calibrate", *given) == 2
    assert "--overwrite" in error_of(capsys)


# ---- what is odd, and said


def test_another_crs_is_reprojected(stand, tmp_path, capsys, plain):
    assert of_files(stand, tmp_path / "r", found="degrees.gpkg") == 0
    assert "reprojected from 'WGS 84' to 'WGS 84 / UTM zone 32N'" in capsys.readouterr().err
    assert counts(tmp_path / "r") == (CROWNS, CROWNS - 4, CROWNS - 4)


def test_nothing_found_is_a_result(stand, tmp_path, capsys, plain):
    assert of_files(stand, tmp_path / "r", found="nothing.gpkg") == 0
    assert capsys.readouterr().out.startswith(f"Finds nothing: all {CROWNS} crowns are missed.\n")


def test_truth_of_a_corner_without_an_aoi_is_warned_of(tmp_path, capsys, plain):
    raster = make_raster(tmp_path / "wide.tif", np.full((3, 300, 300), 90, np.uint8), gsd=0.5)
    with Raster.open(raster) as opened:
        shapes = opened.native_grid.to_map([[10, 10, 20, 20], [280, 280, 290, 290]])
    gpd.GeoDataFrame(geometry=shapes[:1], crs=UTM).to_file(tmp_path / "truth.gpkg")
    gpd.GeoDataFrame(geometry=shapes, crs=UTM).to_file(tmp_path / "found.gpkg")
    given = raster, tmp_path / "truth.gpkg", tmp_path / "r", "--predictions", tmp_path / "found.gpkg"
    assert run("evaluate", *given) == 0
    warned = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warned) == 1
    assert all(words in warned[0] for words in ("looks incomplete", "wide.tif", "--aoi"))


def test_classes_that_differ_are_warned_of(stand, tmp_path, capsys, plain):
    table = gpd.read_file(stand / "truth.gpkg")
    kinds = np.arange(CROWNS) % 2
    table.assign(label=np.where(kinds, "oak", "ash")).to_file(tmp_path / "truth.gpkg")
    table.assign(label=np.where(kinds, "oak", "beech")).to_file(tmp_path / "found.gpkg")
    assert of_files(tmp_path, tmp_path / "r") == 0
    warned = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warned) == 1
    assert "ash only in the truth and beech only in the prediction" in warned[0]


def test_bands_are_taken_with_predictions_too(stand, tmp_path, plain):
    two = make_raster(tmp_path / "two.tif", paint(CIRCLES, width=SIDE, height=SIDE)[:2])
    given = two, stand / "truth.gpkg", tmp_path / "r", "--predictions", stand / "found.gpkg"
    assert run("evaluate", *given, "--bands", "2,1,1") == 0


# ---- mistakes


def error_of(capsys):
    """Return the one line of an error."""
    errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(errors) == 1
    return errors[0]


@pytest.fixture
def untouched(tmp_path):
    """After a mistake there is no report, and nothing half written."""
    yield
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("files", "arguments", "words"),
    [
        ({"found": "elsewhere.gpkg"}, [], ("elsewhere.gpkg spans x 505", "do not overlap", "--crs")),
        ({"found": "percent.gpkg"}, [], ("'score' go up to 90", "0 to 1", "--prediction_columns.score")),
        ({"found": "no.gpkg"}, [], ("there is no file", "no.gpkg")),
        ({"truth": "no.gpkg"}, [], ("there is no file", "no.gpkg")),
        ({"truth": "nothing.gpkg"}, [], ("nothing.gpkg holds no crown",)),
        ({"found": "stems.gpkg"}, [], ("holds points", "--diameter")),
        ({"found": "found.csv", "truth": "truth.csv"}, [], ("unknown", "--gsd 0.1")),
        ({"found": "found.csv"}, [], ("in pixels", "give the rasters")),
        ({"found": "other.csv", "truth": "truth.csv"}, ["--gsd", "0.1"], ("names b.tif", "truth.csv")),
        ({}, ["--gsds", "0.2"], ("--gsds", "leave them out")),
        ({}, ["--model", "x.safetensors"], ("--model and --predictions exclude each other",)),
        ({}, ["--score_threshold", "50"], ("50", "from 0 to 1")),
        ({}, ["--score_threshold", "precise"], ("'precise'", "from 0 to 1")),
        ({}, ["--prediction_columns.score", "CONF"], ("no column 'CONF'",)),
        ({}, ["--aoi", "no.gpkg"], ("there is no file no.gpkg",)),
    ],
)
def test_one_line_for_each_mistake_with_files(stand, tmp_path, capsys, files, arguments, words):
    assert of_files(stand, tmp_path / "r", *arguments, **files) == 2
    line = error_of(capsys)
    assert all(word in line for word in words), line


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--gsds", "0.2,0.05"], ("0.05 m would be finer", "--upsample")),
        (["--gsds", "0.2,wide"], ("--gsds can not be wide", "a number")),
        (["--gsds", "0"], ("gsds", "found 0")),
        (["--modes", "fast"], ("--modes can not be fast", "adapt, native, band-limit")),
        (["--score_threshold", "50"], ("50", "from 0 to 1")),
        (["--draws", "many"], ("--draws can not be many", "a whole number")),
        (["--prediction_columns.score", "S"], ("--prediction_columns", "--predictions")),
        (["--colour", "red"], ("--colour", "treedet evaluate --help")),
    ],
)
def test_one_line_for_each_mistake_with_a_model(stand, tmp_path, capsys, arguments, words):
    assert of_model(stand, tmp_path / "r", *arguments) == 2
    line = error_of(capsys)
    assert all(word in line for word in words), line


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("no.tif", "truth.gpkg", "r"), ("there is no file", "no.tif")),
        (("stand.tif", "other.csv", "r"), ("other.csv", "b.tif")),
        (("-", "truth.gpkg", "r"), ("a model needs imagery", "--predictions")),
        (("stand.tif", "truth.gpkg", "no/r"), ("there is no folder",)),
        (("r",), ("required: truth, report; see treedet evaluate --help",)),
    ],
)
def test_one_line_for_each_mistake_with_paths(stand, tmp_path, capsys, given, words):
    places = [name if name == "-" else tmp_path / name if "r" in name.split("/") else stand / name for name in given]
    assert run("evaluate", *places, "--model", stand / "start.safetensors") == 2
    line = error_of(capsys)
    assert all(word in line for word in words), line


def test_only_a_report_is_replaced_and_only_on_request(stand, tmp_path, capsys, plain):
    report = tmp_path / "r"
    assert of_files(stand, report) == 0
    capsys.readouterr()
    assert of_files(stand, report, found="no.gpkg") == 2
    assert "--overwrite" in error_of(capsys), "before any file is read"
    assert of_files(stand, report, "--overwrite", found="no.gpkg") == 2
    assert counts(report) == (CROWNS, CROWNS - 4, CROWNS - 4), "an error leaves the older report"
    (report / "figures" / "my sketch.odg").write_text("mine")
    capsys.readouterr()
    assert of_files(stand, report, "--overwrite") == 2
    assert "my sketch.odg" in error_of(capsys)
    (report / "figures" / "my sketch.odg").unlink()
    assert of_files(stand, report, "--overwrite") == 0


@pytest.mark.parametrize("name", ["stand.tif", "figures/a.png", "outcomes.qgz", "table.csv"])
def test_a_folder_that_is_no_report_stays(stand, tmp_path, capsys, name):
    mine = tmp_path / "r" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert of_files(stand, tmp_path / "r", "--overwrite") == 2
    assert "is not replaced" in error_of(capsys)
    assert mine.read_text() == "mine"


def test_a_truncated_report_can_not_be_compared(stand, tmp_path, capsys, plain):
    for name in "ab":
        assert of_files(stand, tmp_path / name) == 0
    whole = (tmp_path / "b" / "report.json").read_text()
    (tmp_path / "b" / "report.json").write_text(whole[: len(whole) // 2])
    capsys.readouterr()
    assert run("compare", tmp_path / "a", tmp_path / "b", "--output", tmp_path / "c") == 2
    line = error_of(capsys)
    assert all(word in line for word in (str(tmp_path / "b"), "holds no report", "treedet evaluate"))
    assert not (tmp_path / "c").exists()
    assert run("compare", tmp_path / "a", tmp_path / "a", "--output", tmp_path / "no" / "c") == 2
    assert "there is no folder" in error_of(capsys)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("truth", "arguments", "words"),
    [
        ("stems.gpkg", [], ("points", "--diameter")),
        ("nothing.gpkg", [], ("holds no crown",)),
        ("truth.gpkg", ["--gsds", "wide"], ("--gsds can not be wide",)),
        ("truth.gpkg", ["--merge_ious", "2"], ("merge_ious", "between 0 and 1")),
    ],
)
def test_one_line_for_each_mistake_of_a_calibration(stand, tmp_path, capsys, truth, arguments, words):
    given = stand / "stand.tif", stand / truth, tmp_path / "c.safetensors", "--model", stand / "start.safetensors"
    assert run("calibrate", *given, *arguments) == 2
    line = error_of(capsys)
    assert all(word in line for word in words), line


@pytest.mark.usefixtures("untouched")
def test_an_interrupted_evaluation_leaves_nothing_and_speaks_of_no_resume(stand, tmp_path, capsys, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate_command.EvaluationBar, "show", stop)
    assert of_model(stand, tmp_path / "r") == 130
    assert capsys.readouterr().err.splitlines()[-1] == "treedet: interrupted; evaluate begins anew next time"
