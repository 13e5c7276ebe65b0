import geopandas as gpd
import numpy as np
import pytest
import shapely
from factories import UTM, make_raster
from matplotlib.image import imread

from treedet.core.crown_arrays import CrownArrays
from treedet.datasets.annotated import AnnotatedRaster
from treedet.evaluation.ground import common, ground_of
from treedet.evaluation.outcomes import fates
from treedet.evaluation.overlays import draw_overlays
from treedet.vectors.truth import TruthOptions

CLASSES = common(["tree"], ["tree"])


def plotted(tmp_path, name, boxes):
    """Ground of 10 m by 8 m with one crown at 10..50 px."""
    path = make_raster(tmp_path / name, np.full((3, 80, 100), 90, np.uint8))
    crown = shapely.box(500_001, 5_399_995, 500_005, 5_399_999)
    plot = AnnotatedRaster(path, gpd.GeoDataFrame({"label": ["tree"]}, geometry=[crown], crs=UTM))
    np.testing.assert_allclose(plot.boxes, [[10, 10, 50, 50]])
    n = len(boxes)
    none = np.zeros(n, bool)
    boxes = np.array(boxes, float).reshape(-1, 4)
    found = CrownArrays(boxes, np.full(n, 0.9, np.float32), np.zeros(n, np.int64), none, none)
    return ground_of(plot, found, classes=CLASSES, source=str(path))


def drawn(folder, grounds):
    return draw_overlays(folder, grounds, [fates(g, threshold=0.5, iou_threshold=0.4) for g in grounds])


def has(path, colour):
    """Whether a picture holds a colour where crowns are drawn, above the legend."""
    picture = imread(path)[..., :3]
    picture = picture[: round(0.8 * len(picture))]
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return bool((np.abs(picture - rgb).max(axis=2) < 0.03).sum() > 50)


def test_the_best_raster_shows_hits_and_the_worst_its_mistakes(tmp_path):
    right, wrong = plotted(tmp_path, "a.tif", [[10, 10, 50, 52]]), plotted(tmp_path, "b.tif", [[60, 40, 90, 70]])
    said = drawn(tmp_path, [wrong, right])
    assert list(said) == ["best.png", "worst.png"]
    assert "a.tif, F1 1.00" in said["best.png"]
    assert "b.tif, F1 0.00" in said["worst.png"]
    green, red = "#009e73", "#cc3311"
    assert [has(tmp_path / name, green) for name in said] == [True, False]
    assert [has(tmp_path / name, red) for name in said] == [False, True]


def test_a_single_raster_is_neither_best_nor_worst(tmp_path):
    assert list(drawn(tmp_path, [plotted(tmp_path, "a.tif", [])])) == ["overlay.png"]


@pytest.mark.parametrize("grounds", [0, 1])
def test_without_imagery_nothing_is_drawn(tmp_path, grounds):
    one = plotted(tmp_path, "a.tif", [[10, 10, 50, 50]])
    without = type(one)(one.name, one.crs, 1.0, one.truth_table, one.predicted_table, one.paired)
    assert drawn(tmp_path, [without] * grounds) == {}


def test_stems_that_may_be_incomplete_are_told_by_recall(tmp_path):
    path = make_raster(tmp_path / "stems.tif", np.full((3, 80, 100), 90, np.uint8))
    stems = gpd.GeoDataFrame(geometry=gpd.points_from_xy([500_003, 500_008], [5_399_997, 5_399_997]), crs=UTM)
    plot = AnnotatedRaster(path, stems, truth=TruthOptions(points=True))
    none = np.zeros(1, bool)
    found = CrownArrays(np.array([[10.0, 10, 50, 50]]), np.ones(1, np.float32), np.zeros(1, np.int64), none, none)
    said = drawn(tmp_path, [ground_of(plot, found, classes=CLASSES)])
    assert said["overlay.png"].endswith("recall 0.50.")
