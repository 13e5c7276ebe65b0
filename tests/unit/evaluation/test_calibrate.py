"""What is chosen on validation data; predictions are made up, so that the right choice is known."""

from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import torch
from factories import UTM, make_raster, tiny_spec

from treedet.core.crown_arrays import CrownArrays
from treedet.core.spec import ResolutionChoice
from treedet.datasets.annotated import AnnotatedRaster
from treedet.errors import ConfigError, TreedetWarning
from treedet.evaluation import calibrate as module
from treedet.evaluation.calibrate import calibrate
from treedet.evaluation.config import CalibrateConfig
from treedet.inference.detector import Detector
from treedet.metrics.calibration import with_temperature
from treedet.models.backends.eager import EagerBackend
from treedet.models.blobs import BlobDetector
from treedet.models.network import NetworkDetector
from treedet.models.trunk import Trunk
from treedet.rasters.raster import Raster
from treedet.vectors.truth import TruthOptions

SIDE, STEP = 1000, 50
CORNERS = np.array([(x, y) for y in range(0, SIDE, STEP) for x in range(0, SIDE, STEP)], dtype=float)
CROWNS = np.concatenate([CORNERS + 10, CORNERS + 40], axis=1)
"""400 crowns of 3 m, one in each cell."""


@pytest.fixture
def plot(tmp_path):
    path = make_raster(tmp_path / "stand.tif", np.zeros((3, SIDE, SIDE), np.uint8))
    with Raster.open(path) as raster:
        table = gpd.GeoDataFrame(geometry=raster.native_grid.to_map(CROWNS), crs=UTM)
    return AnnotatedRaster(path, table)


@pytest.fixture
def detector():
    torch.manual_seed(0)
    spec = tiny_spec(temperature=2.0, resolutions=(ResolutionChoice(0.7, "native", 0.1, 0.2),))
    trunk = Trunk(spec)
    return Detector(NetworkDetector(EagerBackend(trunk, device="cpu"), spec), name="made up", trunk=trunk)


def crowns(found, invented, scores):
    """``found`` of the crowns and ``invented`` boxes beside them, with scores in that order."""
    beside = CROWNS[:invented] + np.array([25.0, 0, 25, 0])
    boxes = np.concatenate([CROWNS[:found], beside])
    n = len(boxes)
    return CrownArrays(
        boxes, np.asarray(scores, np.float32), np.zeros(n, np.int64), np.zeros(n, bool), np.zeros(n, bool)
    )


def pretend(monkeypatch, answer):
    """Let ``answer(spec, condition)`` say what is found."""

    def made_up(model, plot, conditions, **_):
        return ((condition, answer(model.spec, condition)) for condition in conditions)

    monkeypatch.setattr(module, "predict_conditions", made_up)


def probable(rng, count, temperature):
    """Scores, and whether each is right: as often as the score says once divided by a temperature."""
    true = rng.uniform(0.02, 0.98, count)
    right = rng.random(count) < true
    return with_temperature(true, 1 / temperature), right


def test_the_temperature_makes_scores_probabilities(monkeypatch, plot, detector):
    scores, right = probable(np.random.default_rng(0), 400, 0.5)
    order = np.argsort(~right, kind="stable")
    found = int(right.sum())
    pretend(monkeypatch, lambda spec, _: crowns(found, 400 - found, scores[order]))
    result = calibrate(detector, [plot], config=CalibrateConfig(gsds=()))
    # The model's own temperature of 2 had been applied before.
    assert result.detector.spec.temperature == pytest.approx(2.0 * 0.5, rel=0.25)
    assert result.after.ece < 0.06 < result.before.ece
    assert calibrate(
        detector, [plot], config=CalibrateConfig(gsds=(), keep_temperature=True)
    ).before.ece == pytest.approx(result.before.ece)


def test_the_best_threshold_and_merging_are_chosen(monkeypatch, plot, detector):
    def answer(spec, _):
        # With the right merge threshold nothing is found twice.
        invented = 50 if spec.iou_threshold == 0.3 else 250
        return crowns(200, invented, np.r_[np.full(200, 0.6), np.full(invented, 0.55)])

    pretend(monkeypatch, answer)
    result = calibrate(detector, [plot], config=CalibrateConfig(gsds=(), keep_temperature=True))
    spec = result.detector.spec
    # All thresholds above 0.55 give 200 right and none wrong, whatever the merging, so the model's own is kept.
    assert spec.iou_threshold == detector.spec.iou_threshold
    assert 0.55 < spec.threshold() <= 0.6
    assert spec.operating_points["balanced"].precision == 1

    def mixed(spec, condition):
        found = answer(spec, condition)
        return CrownArrays(found.boxes, np.full(len(found), 0.6, np.float32), found.classes, found.cut, found.edge)

    pretend(monkeypatch, mixed)
    result = calibrate(detector, [plot], config=CalibrateConfig(gsds=(), keep_temperature=True))
    assert result.detector.spec.iou_threshold == 0.3
    assert result.merging.set_index("merge_iou")["chosen"].to_dict()[0.3]


def test_the_better_reading_of_coarse_imagery_is_stored(monkeypatch, plot, detector):
    right = {(0.2, "adapt"): 300, (0.2, "native"): 200, (0.5, "adapt"): 50, (0.5, "native"): 100}

    def answer(_, condition):
        found = right.get((condition.gsd, condition.mode), 400)
        return crowns(found, 0, np.full(found, 0.6))

    pretend(monkeypatch, answer)
    result = calibrate(detector, [plot], config=CalibrateConfig(gsds=(0.05, 0.1, 0.5, 0.2), keep_temperature=True))
    # Not finer than the raster, and not the choices of the model before.
    assert [(c.gsd, c.mode) for c in result.detector.spec.resolutions] == [(0.2, "adapt"), (0.5, "native")]
    assert result.detector.spec.mode_at(0.5) == "native"
    assert result.detector.spec.mode_at(0.2) == "adapt"
    assert any("0.5 m" in line and "native" in line for line in result.lines())


def test_what_it_was_chosen_on_is_remembered(monkeypatch, plot, detector):
    pretend(monkeypatch, lambda *_: crowns(400, 0, np.full(400, 0.6)))
    result = calibrate(detector, [plot], config=CalibrateConfig(gsds=(), keep_temperature=True))
    (path,) = result.detector.spec.provenance["calibration rasters"].values()
    assert Path(path).name == "stand.tif"


def test_few_crowns_are_warned_of(monkeypatch, plot, detector):
    few = AnnotatedRaster(plot.path, plot.crowns[["geometry"]].iloc[:30])
    pretend(monkeypatch, lambda *_: crowns(30, 0, np.full(30, 0.6)))
    with pytest.warns(TreedetWarning, match="only 30 crowns"):
        calibrate(detector, [few], config=CalibrateConfig(gsds=(), keep_temperature=True))


def test_what_can_not_be_calibrated_is_refused(plot, detector):
    with pytest.raises(ConfigError, match="no weights"):
        calibrate(Detector(BlobDetector()), [plot])
    stems = plot.crowns[["geometry"]].set_geometry(plot.crowns.geometry.centroid)
    with pytest.raises(ConfigError, match="points"):
        calibrate(detector, [AnnotatedRaster(plot.path, stems, truth=TruthOptions(points=True))])
    with pytest.raises(ConfigError, match="found none"):
        calibrate(detector, [AnnotatedRaster(plot.path, gpd.GeoDataFrame(geometry=gpd.GeoSeries([], crs=UTM)))])


def test_scores_that_tell_nothing_are_said_to(monkeypatch, plot, detector):
    # Right as often at a low score as at a high one, and sure of it.
    scores = np.r_[np.tile([0.99, 0.01], 100), np.tile([0.99, 0.01], 100)]
    pretend(monkeypatch, lambda *_: crowns(200, 200, scores))
    result = calibrate(detector, [plot], config=CalibrateConfig(gsds=()))
    assert any("hardly tell right from wrong" in line for line in result.lines())


def test_rasters_the_model_was_trained_on_are_warned_of(monkeypatch, plot, detector):
    spec = replace(detector.spec, provenance={"rasters": [plot.path]})
    trained = Detector(NetworkDetector(EagerBackend(detector.trunk, device="cpu"), spec), trunk=detector.trunk)
    pretend(monkeypatch, lambda *_: crowns(400, 0, np.full(400, 0.6)))
    with pytest.warns(TreedetWarning, match="1 of 1 rasters were used to train"):
        result = calibrate(trained, [plot], config=CalibrateConfig(gsds=(), keep_temperature=True))
    assert any("used to train" in note for note in result.notes)


def test_no_threshold_lies_below_what_was_looked_for(monkeypatch, plot, detector):
    spec = replace(detector.spec, temperature=0.4)
    sharp = Detector(NetworkDetector(EagerBackend(detector.trunk, device="cpu"), spec), trunk=detector.trunk)
    scores, right = probable(np.random.default_rng(0), 400, 4.0)
    order = np.argsort(~right, kind="stable")
    pretend(monkeypatch, lambda *_: crowns(int(right.sum()), 400 - int(right.sum()), scores[order]))
    result = calibrate(sharp, [plot], config=CalibrateConfig(gsds=()))
    # Predictions with 0.01 and more were asked for; the new temperature makes more of that.
    least = with_temperature(np.array([0.01]), result.detector.spec.temperature / 0.4)[0]
    assert least > 0.1
    assert result.curve["threshold"].min() >= least
