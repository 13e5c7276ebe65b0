"""A model is evaluated on painted disks, whose crowns are known exactly."""

import math

import geopandas as gpd
import numpy as np
import pytest
import shapely
from factories import UTM, disks, make_raster, paint, tiny_spec

from treedet.core.labels import LabelSchema
from treedet.datasets.annotated import AnnotatedRaster
from treedet.errors import ConfigError, SparseTruthWarning, TreedetWarning
from treedet.evaluation.config import EvaluateConfig
from treedet.evaluation.evaluate import evaluate
from treedet.evaluation.tables import Measured, Tables
from treedet.inference.detector import Detector
from treedet.metrics.paired import PairedCrowns
from treedet.models.blobs import BlobDetector
from treedet.rasters.fingerprint import fingerprint
from treedet.rasters.raster import Raster
from treedet.vectors.truth import TruthOptions

SIDE = 400
CIRCLES = disks(np.random.default_rng(1), width=SIDE, height=SIDE, count=30, radius=(8, 20), gap=12)
BOXES = np.concatenate([CIRCLES[:, :2] - CIRCLES[:, 2:], CIRCLES[:, :2] + CIRCLES[:, 2:]], axis=1)


def write(folder, name, circles, boxes, **columns):
    path = make_raster(folder / f"{name}.tif", paint(circles, width=SIDE, height=SIDE))
    with Raster.open(path) as raster:
        shapes = raster.native_grid.to_map(boxes)
    table = gpd.GeoDataFrame(columns, geometry=shapes, crs=UTM)
    return path, table


@pytest.fixture
def plot(tmp_path):
    path, table = write(tmp_path, "stand", CIRCLES, BOXES)
    return AnnotatedRaster(path, table)


@pytest.fixture
def detector():
    return Detector(BlobDetector(tiny_spec()), name="blobs")


def test_painted_disks_are_all_found_and_none_besides(plot, detector):
    row = evaluate(detector, [plot]).table.iloc[0]
    assert (row.truth, row.predicted, row.matched) == (30, 30, 30)
    assert (row.recall, row.precision, row.f1, row.micro_f1) == (1, 1, 1, 1)
    assert row.ap50 == pytest.approx(1.0)
    assert (row.count_error, row.count_bias_rel) == (0, 0)
    assert row.centre_distance_m < 0.1
    assert row.gsd == pytest.approx(0.1, rel=1e-3)
    assert row.hectares == pytest.approx(0.16, rel=2e-3)  # ground metres, not those of the projection
    # A bootstrap over a single raster says nothing.
    assert math.isnan(row.f1_low)


def test_what_was_missed_and_invented_is_counted(tmp_path, detector):
    # Ten of the annotated crowns are not painted, five painted ones are not annotated.
    path, table = write(tmp_path, "stand", CIRCLES[:20], BOXES[5:])
    row = evaluate(detector, [AnnotatedRaster(path, table)]).table.iloc[0]
    assert (row.truth, row.predicted, row.matched) == (25, 20, 15)
    assert row.recall == pytest.approx(15 / 25)
    assert row.precision == pytest.approx(15 / 20)
    assert row.count_bias_rel == pytest.approx(-5 / 25)
    assert row.false_alarms_per_ha == pytest.approx(5 / 0.16, rel=2e-3)


def test_a_raster_without_crowns_counts(tmp_path, plot, detector):
    path = make_raster(tmp_path / "empty.tif", paint(CIRCLES[:4], width=SIDE, height=SIDE))
    empty = AnnotatedRaster(path, gpd.GeoDataFrame(geometry=gpd.GeoSeries([], crs=UTM)))
    report = evaluate(detector, [plot, empty])
    row = report.table.iloc[0]
    assert row.recall == 1
    assert row.precision == pytest.approx((1 + 0) / 2)
    assert row.false_alarms_per_ha_empty == pytest.approx(4 / 0.16, rel=2e-3)
    one = report.by_raster.set_index("raster").loc[str(path)]
    assert (one.truth, one.predicted) == (0, 4)
    assert math.isnan(one.recall)


def test_each_resolution_and_mode_has_a_row(plot, detector):
    report = evaluate(detector, [plot], gsds=[0.2, 0.4], modes=["adapt", "native"])
    assert list(zip(report.table["gsd"].round(3), report.table["mode"], strict=True)) == [
        (0.1, "adapt"),
        (0.2, "adapt"),
        (0.2, "native"),
        (0.4, "adapt"),
        (0.4, "native"),
    ]
    assert (report.table["f1"] > 0.9).all()
    # The crowns listed one by one are those of the imagery as it is.
    assert len(report.grounds) == 1
    assert len(report.grounds[0].predicted_table) >= 30


def test_band_limit_is_said_to_be_adapt_where_it_is(plot, detector):
    report = evaluate(detector, [plot], gsds=[0.2], modes=["adapt", "band-limit"])
    assert any("band-limit is the same as adapt" in note for note in report.notes)
    f1 = report.table.set_index("mode")["f1"]
    assert f1["band-limit"] == f1["adapt"].iloc[-1]


def test_finer_than_the_raster_is_refused_unless_asked_for(plot, detector):
    with pytest.raises(ConfigError, match="upsample"):
        evaluate(detector, [plot], gsds=[0.05])
    report = evaluate(detector, [plot], gsds=[0.05], upsample=True)
    assert report.table["upsampled"].tolist() == [False, True]


def test_crowns_outside_the_aoi_do_not_count(tmp_path, plot, detector):
    aoi = tmp_path / "aoi.gpkg"
    xmin, _, _, ymax = 500_000, 0, 0, 5_400_000
    half = shapely.box(xmin, ymax - 40, xmin + 20, ymax)
    gpd.GeoDataFrame(geometry=[half], crs=UTM).to_file(aoi)
    inside = int((CIRCLES[:, 0] < 200).sum())
    limited = AnnotatedRaster(plot.path, plot.crowns[["geometry"]], aoi=aoi)
    row = evaluate(detector, [limited]).table.iloc[0]
    assert (row.truth, row.predicted, row.matched) == (inside, inside, inside)
    assert row.hectares == pytest.approx(0.08, rel=2e-3)


def test_points_are_matched_as_stems(tmp_path, detector):
    path, table = write(tmp_path, "stand", CIRCLES, BOXES)
    stems = table.set_geometry(table.geometry.centroid)
    plot = AnnotatedRaster(path, stems, truth=TruthOptions(points=True))
    report = evaluate(detector, [plot])
    row = report.points.iloc[0]
    assert row.recall == 1
    assert row.distance_median_m < 0.2
    # Nobody said that all stems were surveyed.
    assert math.isnan(row.precision)
    assert report.table.empty


def test_several_classes_have_a_row_each(tmp_path):
    path, table = write(tmp_path, "stand", CIRCLES, BOXES, label=["tree"] * 20 + ["bird"] * 10)
    detector = Detector(BlobDetector(tiny_spec(labels=LabelSchema(("tree", "bird")))), name="blobs")
    report = evaluate(detector, [AnnotatedRaster(path, table)])
    rows = report.by_class.set_index("label")
    # The blob detector calls everything a tree.
    assert rows.loc["tree", ["truth", "predicted", "matched"]].tolist() == [20, 30, 20]
    assert rows.loc["bird", ["truth", "predicted", "matched"]].tolist() == [10, 0, 0]
    assert report.table.iloc[0].f1 == 1


def test_names_that_differ_are_warned_of(tmp_path):
    path, table = write(tmp_path, "stand", CIRCLES, BOXES, label=["spruce"] * 20 + ["birch"] * 10)
    detector = Detector(BlobDetector(tiny_spec(labels=LabelSchema(("PIAB", "BEPE")))), name="blobs")
    with pytest.warns(TreedetWarning, match="spruce"):
        evaluate(detector, [AnnotatedRaster(path, table)])


def test_truth_that_covers_little_of_a_large_raster_is_warned_of(tmp_path, detector):
    # 1.44 ha, crowns in one corner.
    pixels = np.zeros((3, 1200, 1200), np.uint8)
    corner = CIRCLES[(BOXES[:, 2:] < 200).all(axis=1)]
    pixels[:, :SIDE, :SIDE] = paint(corner, width=SIDE, height=SIDE)
    path = make_raster(tmp_path / "large.tif", pixels)
    boxes = np.concatenate([corner[:, :2] - corner[:, 2:], corner[:, :2] + corner[:, 2:]], axis=1)
    with Raster.open(path) as raster:
        table = gpd.GeoDataFrame(geometry=raster.native_grid.to_map(boxes), crs=UTM)
    with pytest.warns(SparseTruthWarning, match="--aoi"):
        evaluate(detector, [AnnotatedRaster(path, table)])


def test_a_raster_the_model_was_calibrated_on_is_warned_of(plot):
    spec = tiny_spec(provenance={"calibration rasters": {fingerprint(plot.path): "stand.tif"}})
    with pytest.warns(TreedetWarning, match="used to calibrate this model"):
        evaluate(Detector(BlobDetector(spec)), [plot])


def test_nothing_to_evaluate_is_an_error(detector):
    with pytest.raises(ConfigError, match="at least one annotated raster"):
        evaluate(detector, [])


def test_progress_is_told(plot, detector):
    told = []
    evaluate(detector, [plot, plot], gsds=[0.2], watch=told.append)
    assert (told[0].done, told[0].total) == (0, 2)
    assert (told[-1].done, told[-1].share) == (1, 1.0)
    whole = [standing.done + standing.share for standing in told]
    assert whole == sorted(whole)


def test_a_gsd_that_the_rasters_have_is_no_second_row(plot, detector):
    report = evaluate(detector, [plot], gsds=[plot.grid.gsd, 0.2])
    assert len(report.table) == 2
    assert len(report.of_first(report.by_raster)) == 1


def test_a_gsd_finer_than_any_raster_is_refused_before_work(tmp_path, plot, detector):
    path = make_raster(tmp_path / "coarse.tif", paint(CIRCLES, width=SIDE, height=SIDE))
    coarse = AnnotatedRaster(path, gpd.GeoDataFrame(geometry=gpd.GeoSeries([], crs=UTM)), gsd=0.3)
    told = []
    with pytest.raises(ConfigError, match=r"coarse\.tif has 0\.3 m"):
        evaluate(detector, [plot, coarse], gsds=[0.2], watch=told.append)
    assert not told


def test_counts_by_raster_are_by_centres(tmp_path, detector):
    # The AOI's edge cuts through a crown whose annotation is centred inside and whose disk is outside.
    disk = np.array([[102.0, 100, 20]])
    box = np.array([[78.0, 80, 118, 120]])
    path, table = write(tmp_path, "border", disk, box)
    with Raster.open(path) as raster:
        area = raster.native_grid.to_map(np.array([[0.0, 0, 100, 400]]))
    gpd.GeoDataFrame(geometry=area, crs=UTM).to_file(tmp_path / "aoi.gpkg")
    report = evaluate(detector, [AnnotatedRaster(path, table, aoi=tmp_path / "aoi.gpkg")])
    one, row = report.by_raster.iloc[0], report.table.iloc[0]
    assert (one.truth, one.predicted, one.matched) == (1, 1, 1)
    assert one.count_difference == row.count_bias == -1


def test_unknown_ground_is_not_zero_hectares():
    boxes = np.array([[0.0, 0, 4, 4]])
    paired = PairedCrowns(boxes, boxes, np.ones(1, np.float32))
    tables = Tables()
    tables.add({"gsd": 0.1, "mode": "adapt"}, [paired], Measured(0.0, EvaluateConfig()))
    assert math.isnan(tables.table[0]["hectares"])
