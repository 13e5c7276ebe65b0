"""Evaluation counts what prediction finds, on real imagery of several windows and of one."""

import pytest

from treedet.datasets.annotated import pair
from treedet.evaluation.evaluate import evaluate
from treedet.inference.loading import load


# The truth of the pasture shows far fewer crowns than the bundled model takes for trees there.
@pytest.mark.filterwarnings("ignore::treedet.errors.TreedetWarning")
def test_what_is_counted_is_what_predict_finds(shared_data):
    detector = load()
    place = shared_data / "pasture-25cm"
    raster = next(iter(sorted(place.glob("*tile03*"))))
    (plot,) = pair(raster, place / "BOXES.shp")
    row = evaluate(detector, [plot]).table.iloc[0]
    found = detector.predict(raster)
    # More than one window of the model, so crowns are merged across seams.
    assert min(plot.grid.width, plot.grid.height) * plot.grid.gsd > 1.2 * detector.spec.window_px * detector.spec.gsd
    assert row.predicted == len(found)
    assert row.truth == 73


def test_a_plot_of_one_window_agrees_with_figures_by_an_independent_scorer(shared_data):
    (plot,) = pair(shared_data / "samples" / "OSBS_029.tif", shared_data / "samples" / "OSBS_029.csv")
    row = evaluate(load(), [plot]).table.iloc[0]
    assert row.predicted == len(load().predict(plot.path))
    assert row.matched / 61 == pytest.approx(row.recall)
    assert row.deepforest_recall == pytest.approx(row.recall, abs=0.02)
