import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treedet.metrics.detection import scores
from treedet.metrics.operating_points import THRESHOLDS, best_threshold, choose_points, score_curve, scores_at
from treedet.metrics.paired import PairedCrowns


def squares(*corners, side=10.0):
    low = np.array(corners, float).reshape(-1, 2)
    return np.concatenate([low, low + side], axis=1)


def random_raster(seed: int, group: str) -> PairedCrowns:
    rng = np.random.default_rng(seed)
    n, m = rng.integers(0, 12, 2)
    low = rng.uniform(0, 40, (n + m, 2))
    boxes = np.concatenate([low, low + rng.uniform(6, 20, (n + m, 2))], axis=1)
    return PairedCrowns(
        boxes[:n],
        boxes[n:],
        np.round(rng.random(m), 2).astype(np.float32),
        truth_classes=rng.integers(0, 2, n),
        predicted_classes=rng.integers(0, 2, m),
        truth_ignored=rng.random(n) < 0.2,
        predicted_ignored=rng.random(m) < 0.2,
        group=group,
    )


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.booleans())
def test_one_pass_gives_what_matching_at_each_threshold_gives(seed, by_class):
    rasters = [random_raster(seed + k, f"set {k % 2}") for k in range(4)]
    thresholds = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    curve = score_curve(rasters, thresholds=thresholds, iou_threshold=0.1, by_class=by_class)
    assert curve.predicted.shape == curve.matched.shape == (4, 5)
    for k, raster in enumerate(rasters):
        for i, threshold in enumerate(thresholds):
            count = raster.at(threshold).counted(iou_threshold=0.1, method="greedy", by_class=by_class)
            assert (count.truth, count.predicted, count.matched) == (
                curve.truth[k],
                curve.predicted[k, i],
                curve.matched[k, i],
            )


def test_a_curve_reads_as_a_table():
    rasters = [
        PairedCrowns(squares((0, 0), (50, 50)), squares((0, 0), (90, 0)), np.array([0.9, 0.5], np.float32)),
        PairedCrowns(squares(), squares((0, 0)), np.array([0.5], np.float32)),
    ]
    curve = score_curve(rasters, thresholds=[0.4, 0.6, 0.95])
    table = curve.to_frame()
    assert table.columns.tolist() == [
        "threshold", "recall", "precision", "f1", "micro_recall", "micro_precision", "micro_f1", "predicted", "truth",
    ]  # fmt: skip
    assert table["threshold"].tolist() == [0.4, 0.6, 0.95]
    assert table["predicted"].tolist() == [3, 1, 0]
    assert table["truth"].tolist() == [2, 2, 2]
    assert table["recall"].tolist() == [0.5, 0.5, 0.0]
    assert table["precision"].tolist()[:2] == [0.25, 1.0]
    assert np.isnan(table["precision"][2])
    assert np.isnan(table["f1"][2])
    assert table["micro_precision"][0] == pytest.approx(1 / 3)
    assert curve.count_error.tolist() == [0.5, 0.5, 1.0]


def test_thresholds_are_chosen_for_what_they_promise():
    truth = np.array([[x, 0.0, x + 10, 10] for x in range(0, 400, 20)])
    found = np.concatenate([truth, truth + 500])
    score = np.concatenate([np.linspace(0.9, 0.45, 20), np.linspace(0.5, 0.1, 20)]).astype(np.float32)
    rasters = [PairedCrowns(truth, found, score, group="set")]
    points = choose_points(rasters)
    assert points["precise"].precision >= 0.9
    assert points["complete"].recall >= 0.9
    assert points["balanced"].f1 >= max(p.f1 for p in points.values()) - 1e-9
    assert abs(int((score >= points["count"].threshold).sum()) - len(truth)) <= 1
    assert scores_at(rasters, 0.0).recall == 1.0


def test_a_small_group_weighs_as_much_as_a_large_one():
    def raster(hit, miss, group):
        return PairedCrowns(
            squares((0, 0)), squares((0, 0), (90, 90)), np.array([hit, miss], np.float32), group=group
        )

    # The large group wants a threshold above 0.6, the small ones one below.
    large = [raster(0.7, 0.6, "large")] * 9
    small = [raster(0.4, 0.2, "first"), raster(0.4, 0.2, "second")]
    assert 0.6 < choose_points(large + small[:0])["balanced"].threshold <= 0.7
    assert 0.2 < choose_points(large + small)["balanced"].threshold <= 0.4


def test_nothing_found_gives_points_without_scores():
    points = choose_points([PairedCrowns(squares((0, 0)), squares(), np.zeros(0, np.float32))])
    assert set(points) == {"balanced", "count", "precise", "complete"}
    assert all((p.precision, p.recall, p.f1) == (0.0, 0.0, 0.0) for p in points.values())
    assert all(p.threshold in THRESHOLDS for p in points.values())


def test_the_best_threshold_parts_hits_from_false_alarms():
    found = np.array([0.7, 0.6, 0.4], np.float32)
    raster = PairedCrowns(squares((0, 0), (50, 50)), squares((0, 0), (50, 50), (90, 0)), found)
    threshold, best = best_threshold([raster])
    assert 0.4 < threshold <= 0.6
    assert best.micro_f1 == 1.0
    assert best == scores([raster.at(threshold).counted()])


def test_thresholds_are_searched_within_classes():
    raster = PairedCrowns(
        squares((0, 0)),
        squares((0, 0)),
        np.array([0.9], np.float32),
        truth_classes=np.array([0]),
        predicted_classes=np.array([1]),
    )
    assert best_threshold([raster])[1].micro_f1 == 0.0
    assert choose_points([raster])["balanced"].f1 == 0.0


def test_points_are_chosen_at_the_overlap_asked_for():
    # The surer box shares 0.7 with its crown, the other all of it.
    truth = np.array([[0.0, 0, 10, 10], [20, 0, 30, 10]])
    found = np.array([[0.0, 0, 10, 7], [20, 0, 30, 10]])
    raster = PairedCrowns(truth, found, np.array([0.6, 0.4], np.float32))
    assert choose_points([raster])["balanced"].f1 == 1.0
    assert choose_points([raster], iou_threshold=0.8)["balanced"].f1 == 0.5
