from types import SimpleNamespace

import geopandas as gpd
import numpy as np
import pytest
import shapely
from factories import UTM, make_raster

from treedet.core.crown_arrays import CrownArrays
from treedet.core.labels import LabelSchema
from treedet.core.spec import ModelSpec
from treedet.datasets.annotated import AnnotatedRaster
from treedet.datasets.split import Part
from treedet.errors import ConfigError
from treedet.training import validation
from treedet.training.plan import renamed
from treedet.training.validation import lies_on, predict_part


def test_lying_on_a_region_is_a_share_of_the_box_itself():
    regions = np.array([[0.0, 0, 10, 10], [100, 100, 400, 400]])
    boxes = np.array([[5.0, 0, 15, 10], [6, 0, 16, 10], [0, 0, 40, 40], [150, 150, 160, 160]])
    assert lies_on(boxes, regions, share=0.5).tolist() == [True, False, False, True]
    assert lies_on(boxes, np.zeros((0, 4)), share=0.5).tolist() == [False] * 4
    assert lies_on(np.zeros((0, 4)), regions, share=0.5).tolist() == []


@pytest.fixture
def plot(tmp_path):
    path = make_raster(tmp_path / "a.tif", np.zeros((3, 200, 300), np.uint8))
    x = 500_000 + np.array([1.0, 6, 21])
    shapes = shapely.box(x, 5_399_998, x + 1, 5_399_999)
    return AnnotatedRaster(path, gpd.GeoDataFrame({"label": ["Tree", "snag", "tree"]}, geometry=shapes, crs=UTM))


def test_a_part_is_predicted_on_its_ground_with_its_own_crowns(plot, monkeypatch):
    area = shapely.box(0, 0, 150, 200)
    plot = plot.renamed({"Tree": "tree"}).with_ignored([[100.0, 100, 150, 150]])
    asked = {}

    def find(raster, model, *, threshold, area):
        asked.update(threshold=threshold, area=area)
        boxes = np.array([[110.0, 110, 120, 120], [10, 10, 20, 20]])
        no = np.zeros(2, bool)
        return CrownArrays(boxes, np.array([0.5, 0.7], np.float32), np.array([0, 1]), no, no)

    monkeypatch.setattr(validation, "find_crowns", find)
    model = SimpleNamespace(spec=ModelSpec(labels=LabelSchema(("snag", "tree"))))
    p = predict_part(model, Part(plot, area, None, np.array([True, True, False])), threshold=0.2)
    assert asked == {"threshold": 0.2, "area": area}
    gsd = plot.grid.gsd
    assert p.truth == pytest.approx(plot.boxes[:2] * gsd), "metres on the ground, as every score is"
    assert p.predicted[1] == pytest.approx(np.array([10, 10, 20, 20]) * gsd)
    assert p.truth_classes.tolist() == [1, 0]
    assert p.predicted_classes.tolist() == [0, 1]
    assert p.predicted_ignored.tolist() == [True, False]
    one = SimpleNamespace(spec=ModelSpec())
    plain = predict_part(one, Part(plot.renamed({"snag": "tree"}), area, None, np.ones(3, bool)))
    assert plain.predicted_classes is None
    assert len(plain.truth) == 3


def test_crowns_of_a_class_that_was_not_trained_count_neither_way(plot, monkeypatch):
    """The classes come from the training ground; what is held out may hold others."""
    plot = plot.renamed({"Tree": "tree"})

    def find(raster, model, *, threshold, area):
        none = np.zeros(3, bool)
        return CrownArrays(plot.boxes, np.full(3, 0.9, np.float32), np.zeros(3, np.int64), none, none)

    monkeypatch.setattr(validation, "find_crowns", find)
    for classes in (("tree",), ("tree", "palm")):
        model = SimpleNamespace(spec=ModelSpec(labels=LabelSchema(classes)))
        paired = predict_part(model, Part(plot, None, None, np.ones(3, bool)))
        assert paired.truth == pytest.approx(plot.boxes[[0, 2]] * plot.grid.gsd)
        assert paired.predicted_ignored.tolist() == [False, True, False]
        truth, predicted, hits = paired.counts(paired.matched(by_class=True))
        assert (truth.sum(), predicted.sum(), hits.sum()) == (2, 2, 2)


class TestRenamed:
    def labels(self, groups):
        return [[plot.labels.tolist() for plot in group] for group in groups]

    def test_classes_take_the_starting_models_spelling(self, plot):
        groups = renamed([[plot], []], ("tree",), None)
        assert self.labels(groups) == [[["tree", "snag", "tree"]], []]

    def test_a_single_class_stands_for_all(self, plot):
        groups = renamed([[plot], [plot]], ("tree",), ("crown",))
        assert self.labels(groups) == [[["crown"] * 3]] * 2
        assert plot.labels.tolist() == ["Tree", "snag", "tree"], "the plot given is as it was"

    def test_a_user_spells_as_well(self, plot):
        groups = renamed([[plot]], (), ("TREE", "Snag"))
        assert self.labels(groups) == [[["TREE", "Snag", "TREE"]]]

    def test_a_crown_of_no_class_wanted_is_an_error(self, plot):
        with pytest.raises(ConfigError, match=r"1 crowns are 'snag'.*\['tree', 'bird'\]"):
            renamed([[plot]], ("tree",), ("tree", "bird"))

    def test_nothing_to_rename_leaves_the_plots(self, plot):
        plot = plot.renamed({"Tree": "tree"})
        assert renamed([[plot]], ("tree",), None)[0][0] is plot
