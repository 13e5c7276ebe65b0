from types import SimpleNamespace

import geopandas as gpd
import numpy as np
import pytest
from factories import UTM, make_raster

from treedet.core.crown_arrays import CrownArrays
from treedet.core.labels import LabelSchema
from treedet.core.spec import ModelSpec, OperatingPoint
from treedet.datasets.annotated import AnnotatedRaster
from treedet.training import annotation_check
from treedet.training.annotation_check import (
    AnnotationCheck,
    Unannotated,
    check_annotation,
    confident_score,
    met,
)


def found(boxes):
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    n = len(boxes)
    no = np.zeros(n, bool)
    return CrownArrays(boxes, np.full(n, 0.9, np.float32), np.zeros(n, np.int64), no, no)


def row_of(n, *, y=0):
    """Boxes of ten pixels side by side."""
    x = np.arange(n) * 12.0
    return np.stack([x, np.full(n, float(y)), x + 10, np.full(n, y + 10.0)], axis=1)


def check(*counts):
    """Of each raster, the detections without and with an annotation."""
    entries = [
        Unannotated(SimpleNamespace(path=f"{i}.tif"), found(row_of(m)), m + k) for i, (m, k) in enumerate(counts)
    ]
    return AnnotationCheck(tuple(entries), 0.6, LabelSchema())


@pytest.mark.parametrize(
    ("counts", "suspicious"),
    [
        ([(0, 0)], False),
        ([(10, 0)], True),
        ([(9, 0)], False),  # a handful of false alarms
        ([(10, 30)], True),  # a quarter of all
        ([(10, 31)], False),
        ([(5, 5), (5, 5)], True),  # of all rasters together
    ],
)
def test_many_and_a_large_share_make_an_annotation_suspicious(counts, suspicious):
    assert check(*counts).suspicious is suspicious


def test_the_message_counts_names_the_worst_raster_and_gives_three_ways_on():
    text = check((3, 5), (40, 2)).message()
    assert "43 of 50" in text
    assert "40 of them on 1.tif" in text
    assert "0.60" in text
    assert all(way in text for way in ("--aoi", "--partial", "--complete"))
    assert "\n" not in text


@pytest.fixture
def plot(tmp_path):
    path = make_raster(tmp_path / "a.tif", np.zeros((3, 60, 300), np.uint8))
    plot = AnnotatedRaster(path, gpd.GeoDataFrame(geometry=[], crs=UTM))
    plot.boxes = row_of(4)
    return plot


def test_what_meets_no_crown_and_no_ignored_region_is_unannotated(plot, monkeypatch):
    plot = plot.with_ignored([[48.0, 0, 58, 10]])
    asked = {}

    def find(raster, model, *, threshold, area, watch):
        asked.update(threshold=threshold, area=area)
        return found(row_of(7))

    monkeypatch.setattr(annotation_check, "find_crowns", find)
    model = SimpleNamespace(spec=ModelSpec(operating_points={"balanced": OperatingPoint(0.4)}))
    done = check_annotation(model, [plot])
    assert asked == {"threshold": confident_score(model.spec), "area": None}
    assert (done.confident, done.unannotated) == (7, 2)
    assert done.rasters[0].crowns.boxes.tolist() == row_of(7)[5:].tolist()


def test_partial_ignores_the_unannotated_besides_what_was_ignored_and_leaves_the_plot(plot):
    plot = plot.with_ignored([[48.0, 0, 58, 10]])
    entry = Unannotated(plot, found(row_of(7)[5:]), 7)
    (other,) = AnnotationCheck((entry,), 0.6, LabelSchema()).partial()
    assert other.ignored.tolist() == [[48.0, 0, 58, 10], *row_of(7)[5:].tolist()]
    assert len(plot.ignored) == 1
    assert other.boxes is plot.boxes


def test_the_unannotated_of_all_rasters_go_into_one_file_that_is_replaced(plot, tmp_path):
    entries = (
        Unannotated(plot, found(row_of(3)), 9),
        Unannotated(plot, found([]), 9),
        Unannotated(plot, found(row_of(2, y=20)), 9),
    )
    path = tmp_path / "check.gpkg"
    path.write_text("an earlier one")
    AnnotationCheck(entries, 0.6, LabelSchema()).write(path)
    table = gpd.read_file(path, layer="crowns")
    assert table["crown_id"].tolist() == [1, 2, 3, 4, 5]
    assert table.crs == UTM
    assert table.total_bounds == pytest.approx([500_000, 5_400_000 - 3, 500_003.4, 5_400_000])


def points(**thresholds):
    return ModelSpec(operating_points={name: OperatingPoint(value) for name, value in thresholds.items()})


@pytest.mark.parametrize(
    ("spec", "score"),
    [
        (points(balanced=0.4, precise=0.6), 0.5),
        (points(balanced=0.4), 0.55),
        (points(balanced=0.4, precise=0.3), 0.55),
        (points(balanced=0.9), 0.95),
    ],
)
def test_confident_lies_above_the_default_point(spec, score):
    assert confident_score(spec) == pytest.approx(score)


def test_boxes_meet_by_share_of_the_smaller():
    crown = np.array([[0.0, 0, 10, 10]])
    inside, corner, quarter, over = [2.0, 2, 4, 4], [8.0, 8, 18, 18], [7.5, 0, 17.5, 10], [7.4, 0, 17.4, 10]
    assert met(np.array([inside, corner, quarter, over]), crown).tolist() == [True, False, False, True]
    assert met(np.zeros((0, 4)), crown).tolist() == []
    assert met(crown, np.zeros((0, 4))).tolist() == [False]
