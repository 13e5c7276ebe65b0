import numpy as np
import pytest

from treedet.metrics.paired import PairedCrowns
from treedet.metrics.raster_f1 import RF1_IOUS, raster_f1


def raster(truth, predicted, scores=None, **values):
    predicted = np.array(predicted, float).reshape(-1, 4)
    truth = np.array(truth, float).reshape(-1, 4)
    scores = np.ones(len(predicted)) if scores is None else scores
    return PairedCrowns(truth, predicted, np.array(scores, np.float32), **values)


def test_the_thresholds_are_those_of_coco():
    assert RF1_IOUS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


def test_a_pair_at_the_threshold_counts():
    at = raster([[0, 0, 10, 10]], [[0, 0, 10, 7.5]])
    assert raster_f1([at]) == 1.0
    assert raster_f1([raster([[0, 0, 10, 10]], [[0, 0, 10, 7.4]])]) == 0.0
    # Matched at 0.50 to 0.75, six of the ten.
    assert raster_f1([at], iou_thresholds=RF1_IOUS) == pytest.approx(0.6)


def test_predictions_choose_by_score():
    # The first to choose takes the only crown that the second could have had at this threshold.
    crowns, found = [[0, 0, 10, 10], [0, 2.6, 10, 10]], [[0, 0, 10, 10], [0, 1, 10, 10]]
    assert raster_f1([raster(crowns, found, [0.9, 0.5])]) == 1.0
    assert raster_f1([raster(crowns, found, [0.5, 0.9])]) == 0.5


def test_rasters_weigh_as_many_crowns_as_they_have():
    right = raster([[x, 0, x + 10, 10] for x in (0, 20, 40)], [[x, 0, x + 10, 10] for x in (0, 20, 40)])
    wrong = raster([[0, 0, 10, 10]], [[50, 0, 60, 10]])
    empty = raster([], [[0, 0, 10, 10]])
    assert raster_f1([right, wrong]) == pytest.approx(3 / 4)
    assert raster_f1([right, empty]) == 1.0
    assert np.isnan(raster_f1([empty]))
    assert np.isnan(raster_f1([]))


def test_crowns_outside_the_aoi_are_neither_hits_nor_misses():
    border = raster(
        [[0, 0, 10, 10], [20, 0, 30, 10]], [[0, 0, 10, 10], [90, 0, 99, 9]],
        truth_ignored=np.array([False, True]), predicted_ignored=np.array([False, True]),
    )  # fmt: skip
    assert raster_f1([border]) == 1.0
