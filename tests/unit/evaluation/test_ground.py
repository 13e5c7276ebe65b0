import warnings

import geopandas as gpd
import numpy as np
import pytest
import shapely
from factories import make_raster
from rasterio.transform import from_origin

from treedet.core.crown_arrays import CrownArrays
from treedet.datasets.annotated import AnnotatedRaster
from treedet.errors import SparseTruthWarning, TreedetWarning
from treedet.evaluation.ground import Classes, check_truth, common, ground_of
from treedet.metrics.detection import RasterCount
from treedet.metrics.paired import PairedCrowns
from treedet.metrics.points import PairedPoints
from treedet.vectors.truth import TruthOptions

ONE = Classes(("tree",), ("tree",))


def map_boxes(boxes, gsd):
    """Pixel boxes as polygons of a raster that ``make_raster`` wrote."""
    x0, y0, x1, y1 = np.asarray(boxes, float).reshape(-1, 4).T * gsd
    return shapely.box(500_000 + x0, 5_400_000 - y1, 500_000 + x1, 5_400_000 - y0)


def table(boxes, *, gsd=0.5, labels=None):
    return gpd.GeoDataFrame({"label": labels or ["tree"] * len(boxes)}, geometry=map_boxes(boxes, gsd), crs=32632)


def crowns(boxes, scores=None, classes=None):
    n = len(boxes)
    return CrownArrays(
        boxes=np.asarray(boxes, float).reshape(-1, 4),
        scores=np.asarray(scores if scores is not None else np.ones(n), np.float32),
        classes=np.asarray(classes if classes is not None else np.zeros(n), np.int64),
        cut=np.zeros(n, bool),
        edge=np.zeros(n, bool),
    )


@pytest.fixture
def raster(tmp_path):
    return make_raster(tmp_path / "a.tif", np.full((3, 80, 100), 90, np.uint8), gsd=0.5)


def test_boxes_become_metres_in_the_order_of_the_tables(raster):
    plot = AnnotatedRaster(raster, table([[10, 20, 20, 30], [40, 40, 44, 48]]))
    ground = ground_of(plot, crowns([[40, 40, 44, 48], [0, 0, 8, 8]], [0.5, 0.25]), classes=ONE)
    assert isinstance(ground.paired, PairedCrowns)
    # The scale of the projection is 0.9996 there.
    assert np.allclose(ground.paired.truth, np.array([[5, 10, 10, 15], [20, 20, 22, 24]]) / 0.9996, atol=1e-4)
    assert np.allclose(ground.paired.predicted, np.array([[20, 20, 22, 24], [0, 0, 4, 4]]) / 0.9996, atol=1e-4)
    assert ground.paired.counted() == RasterCount(2, 2, 1)
    assert ground.predicted_table["score"].tolist() == [0.5, 0.25]
    assert ground.predicted_table["source"].tolist() == [plot.path] * 2
    assert ground.predicted_table.crs == ground.truth_table.crs == ground.crs
    assert np.allclose(ground.predicted_table.bounds.iloc[0], map_boxes([[40, 40, 44, 48]], 0.5)[0].bounds)
    assert (ground.name, ground.hectares, ground.complete) == (plot.path, pytest.approx(0.2, rel=1e-3), False)


def test_crowns_beyond_the_aoi_are_ignored_by_their_centre(raster, tmp_path):
    left = tmp_path / "aoi.gpkg"
    gpd.GeoDataFrame(geometry=map_boxes([[0, 0, 50, 80]], 0.5), crs=32632).to_file(left)
    plot = AnnotatedRaster(raster, table([[40, 10, 58, 30], [44, 50, 58, 60], [80, 10, 90, 20]]), aoi=left)
    found = crowns([[46, 10, 56, 30], [80, 10, 90, 20], [70, 60, 80, 70], [10, 60, 20, 70]])
    ground = ground_of(plot, found, classes=ONE)
    # The first truth is centred inside, its prediction outside: a hit. One false alarm is inside.
    assert ground.paired.truth_ignored.tolist() == [False, True, True]
    assert ground.paired.predicted_ignored.tolist() == [True, True, True, False]
    assert ground.paired.counted() == RasterCount(1, 2, 1)
    assert ground.hectares == pytest.approx(0.1, rel=1e-3)
    assert ground.complete


def test_classes_are_numbered_alike_on_both_sides(raster):
    plot = AnnotatedRaster(raster, table([[0, 0, 8, 8], [20, 0, 28, 8]], labels=["Dead", "Alive"]))
    classes = common(plot.labels, ["alive", "dead"])
    ground = ground_of(plot, crowns([[0, 0, 8, 8], [20, 0, 28, 8]], classes=[1, 1]), classes=classes)
    assert ground.paired.truth_classes.tolist() == [1, 0]
    assert ground.paired.predicted_classes.tolist() == [1, 1]
    assert ground.paired.counted(by_class=True).matched == 1
    assert ground.predicted_table["label"].tolist() == ["dead", "dead"]


def test_points_stay_points_and_an_aoi_makes_them_complete(raster, tmp_path):
    stems = gpd.GeoDataFrame(geometry=[shapely.Point(500_005, 5_399_990)], crs=32632)
    plot = AnnotatedRaster(raster, stems, truth=TruthOptions(points=True))
    assert plot.points
    assert np.allclose(plot.boxes, [[10, 20, 10, 20]])
    ground = ground_of(plot, crowns([[6, 16, 14, 24]]), classes=ONE)
    assert isinstance(ground.paired, PairedPoints)
    assert np.allclose(ground.paired.points, [[5, 10]], rtol=1e-3)
    assert (ground.paired.complete, ground.paired.counted()) == (False, RasterCount(1, 1, 1))
    everywhere = tmp_path / "aoi.gpkg"
    gpd.GeoDataFrame(geometry=map_boxes([[0, 0, 100, 80]], 0.5), crs=32632).to_file(everywhere)
    plot = AnnotatedRaster(raster, stems, truth=TruthOptions(points=True), aoi=everywhere)
    assert ground_of(plot, crowns([]), classes=ONE).paired.complete


def test_an_empty_raster_and_an_empty_prediction(raster):
    plot = AnnotatedRaster(raster, table([]))
    assert ground_of(plot, crowns([]), classes=ONE).paired.counted() == RasterCount(0, 0, 0)
    assert ground_of(plot, crowns([[0, 0, 9, 9]]), classes=ONE).paired.counted() == RasterCount(0, 1, 0)


def test_a_warped_raster_is_measured_on_its_own_grid(tmp_path):
    """The tables are in degrees, the boxes in metres of the local grid that the raster is read on."""
    place = from_origin(8.0, 60.0, 0.5 / 55_800, 0.5 / 111_412)
    path = make_raster(tmp_path / "d.tif", np.full((3, 80, 100), 90, np.uint8), crs="EPSG:4326", transform=place)
    drawn = shapely.box(*(place @ (10, 30)), *(place @ (20, 20)))
    plot = AnnotatedRaster(path, gpd.GeoDataFrame(geometry=[drawn], crs=4326))
    ground = ground_of(plot, crowns(plot.boxes), classes=ONE)
    assert ground.paired.truth_diameters == pytest.approx([5.0], rel=0.01)
    assert ground.predicted_table.crs.to_epsg() == 4326
    assert np.allclose(ground.predicted_table.bounds.iloc[0], drawn.bounds, atol=1e-6)


@pytest.mark.parametrize(
    ("truth", "predicted", "names", "told"),
    [
        (["Tree"], ["tree"], ("tree",), False),
        (["oak"], ["tree"], ("tree",), True),
        (["Alive", "Dead"], ["tree"], ("tree",), True),
        (["Tree"], ["alive", "dead"], ("Tree",), True),
        (["DEAD", "alive"], ["Alive", "Dead"], ("Alive", "Dead"), False),
        ([], ["alive", "dead"], ("alive", "dead"), False),
        ([], [], ("tree",), False),
    ],
)
def test_names_are_compared_without_case(truth, predicted, names, told):
    classes = common(truth, predicted)
    assert classes.names == names
    assert bool(classes.said) == told


def test_classes_on_one_side_are_named_and_kept():
    with pytest.warns(TreedetWarning, match="birch only in the truth and palm only in the prediction; their crowns"):
        classes = common(["oak", "birch"], ["palm", "Oak"])
    assert classes.names == ("palm", "Oak", "birch")
    assert classes.codes(["OAK", "birch", "oak"]).tolist() == [1, 2, 1]
    with pytest.warns(TreedetWarning, match="no class is on both sides"):
        assert common(["oak", "birch"], ["alive", "dead"]).codes(["oak"]) is None


def large(tmp_path, boxes):
    path = make_raster(tmp_path / "large.tif", np.full((3, 300, 300), 90, np.uint8), gsd=1.0)
    return AnnotatedRaster(path, table(boxes, gsd=1.0))


def test_truth_in_a_corner_of_a_large_raster_looks_incomplete(tmp_path):
    plot = large(tmp_path, [[10, 10, 16, 16], [30, 20, 38, 28]])
    with pytest.warns(SparseTruthWarning, match=r"large.tif is near an annotated crown.*aoi="):
        check_truth([plot])


@pytest.mark.parametrize(
    "boxes",
    [
        [[x, y, x + 6, y + 6] for x in range(20, 290, 70) for y in range(20, 290, 70)],  # open, but all over
        [],  # ground without trees is taken at its word
    ],
)
def test_open_ground_is_not_incomplete(tmp_path, boxes):
    with warnings.catch_warnings():
        warnings.simplefilter("error", SparseTruthWarning)
        check_truth([large(tmp_path, boxes)])


def test_an_aoi_says_that_the_rest_is_not_annotated(tmp_path):
    aoi = tmp_path / "aoi.gpkg"
    gpd.GeoDataFrame(geometry=map_boxes([[0, 0, 40, 40]], 1.0), crs=32632).to_file(aoi)
    path = large(tmp_path, []).path
    check_truth([AnnotatedRaster(path, table([[10, 10, 16, 16]], gsd=1.0), aoi=aoi)])
