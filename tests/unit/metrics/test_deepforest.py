import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from treedet.metrics.deepforest import box_recall_precision
from treedet.metrics.paired import PairedCrowns


def raster(truth, predicted, **values):
    predicted = np.array(predicted, float).reshape(-1, 4)
    truth = np.array(truth, float).reshape(-1, 4)
    return PairedCrowns(truth, predicted, np.ones(len(predicted), np.float32), **values)


# Worked out by hand; (truth, predicted, matched).
TABLE = {
    # IoU 80 / 100 and 30 / 130: the second is assigned but too low.
    "one of two": (
        raster([[0, 0, 10, 10], [20, 0, 30, 10]], [[0, 0, 10, 8], [27, 0, 37, 10]]),
        (2, 2, 1),
    ),
    # Areas shared: the first crown 100 and 90, the second 10 and 20. 100 + 20 is most, and 20 / 180 does not count.
    "crowded": (
        raster([[0, 0, 10, 10], [9, 0, 19, 10]], [[0, 0, 10, 10], [1, 0, 11, 10]]),
        (2, 2, 1),
    ),
    # The wide box shares 100, the tight one 90: the wide one is taken, and its IoU of 100 / 300 does not count.
    "area, not IoU": (raster([[0, 0, 10, 10]], [[0, 0, 10, 30], [0, 0, 10, 9]]), (1, 2, 0)),
    # IoU 40 / 100 is not above 0.4.
    "at the threshold": (raster([[0, 0, 10, 10]], [[0, 0, 10, 4]]), (1, 1, 0)),
    "nothing found": (raster([[0, 0, 10, 10]], []), (1, 0, 0)),
    "nothing there": (raster([], [[0, 0, 10, 10]]), (0, 1, 0)),
}


@pytest.mark.parametrize("name", TABLE)
def test_counts_of_each_image(name):
    one, expected = TABLE[name]
    count = one.counted(method="deepforest")
    assert (count.truth, count.predicted, count.matched) == expected


def test_means_over_images_by_hand():
    recall, precision = box_recall_precision([one for one, _ in TABLE.values()])
    # Five images have truth; of those, four have predictions. The image without truth is not looked at.
    assert recall == pytest.approx((1 / 2 + 1 / 2 + 0 + 0 + 0) / 5)
    assert precision == pytest.approx((1 / 2 + 1 / 2 + 0 + 0) / 4)


def test_what_is_missing_altogether():
    truth, found = [[0.0, 0, 10, 10]], [[0.0, 0, 10, 10]]
    recall, precision = box_recall_precision([raster(truth, [])])
    assert recall == 0
    assert np.isnan(precision)
    recall, precision = box_recall_precision([raster([], found)])
    assert np.isnan(recall)
    assert precision == 0
    assert np.isnan(box_recall_precision([])).all()


def test_ignored_crowns_are_left_out_before_matching():
    ignored = raster([[0, 0, 10, 10], [0, 0, 10, 9]], [[0, 0, 10, 10]], truth_ignored=np.array([True, False]))
    assert box_recall_precision([ignored]) == (1.0, 1.0)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000))
def test_equal_to_a_dense_assignment_of_every_image(seed):
    rng = np.random.default_rng(seed)
    rasters, recalls, precisions = [], [], []
    for n, m in rng.integers(0, 15, (4, 2)):
        low = rng.uniform(0, 40, (n + m, 2))
        boxes = np.concatenate([low, low + rng.uniform(6, 20, (n + m, 2))], axis=1)
        truth, found = boxes[:n], boxes[n:]
        rasters.append(raster(truth, found))
        sides = np.minimum(truth[:, None, 2:], found[None, :, 2:]) - np.maximum(
            truth[:, None, :2], found[None, :, :2]
        )
        shared = np.clip(sides, 0, None).prod(-1)
        sizes = [(b[:, 2:] - b[:, :2]).prod(1) for b in (truth, found)]
        rows, columns = linear_sum_assignment(shared, maximize=True)
        best = shared[rows, columns]
        matched = int((best / (sizes[0][rows] + sizes[1][columns] - best) > 0.4).sum())
        if n:
            recalls.append(matched / n)
        if n and m:
            precisions.append(matched / m)
    expected = [np.mean(values) if values else np.nan for values in (recalls, precisions)]
    if not recalls:
        expected[1] = 0.0 if any(len(r.predicted) for r in rasters) else np.nan
    assert box_recall_precision(rasters) == pytest.approx(expected, nan_ok=True)
