import numpy as np
import pytest

from treedet.errors import ConfigError
from treedet.metrics.average_precision import average_precision, coco_scores, precision_recall
from treedet.metrics.paired import PairedCrowns

CROWNS = np.array([[0.0, 0, 4, 4], [10, 0, 14, 4], [20, 0, 24, 4], [30, 0, 34, 4]])
NOWHERE = np.array([[50.0, 50, 54, 54]])


def paired(truth: np.ndarray, predicted: np.ndarray, scores: list[float], **flags: np.ndarray) -> PairedCrowns:
    return PairedCrowns(truth, predicted, np.array(scores, np.float32), **flags)


def test_a_false_alarm_between_hits_costs_the_recall_beyond_it() -> None:
    # Hit, false alarm, hit on two crowns: precision 1 up to recall 0.5 (51 of 101 points), 2/3 beyond.
    raster = paired(CROWNS[:2], np.concatenate([CROWNS[:1], NOWHERE, CROWNS[1:2]]), [0.9, 0.8, 0.7])
    assert average_precision([raster], iou_threshold=0.5) == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_an_overlap_at_the_threshold_counts() -> None:
    raster = paired(CROWNS[:1], CROWNS[:1] * [1, 1, 1, 0.5], [0.9])
    assert average_precision([raster], iou_threshold=0.5) == 1.0
    assert average_precision([raster], iou_threshold=0.51) == 0.0


def test_scores_are_ranked_over_all_rasters() -> None:
    good = paired(CROWNS[:1], CROWNS[:1], [0.5])
    alarm = paired(CROWNS[:1], NOWHERE, [0.9])
    assert average_precision([good, alarm], iou_threshold=0.5) == pytest.approx(51 * 0.5 / 101)
    assert average_precision([good, paired(CROWNS[:1], NOWHERE, [0.1])], iou_threshold=0.5) == pytest.approx(51 / 101)


def test_many_detections_on_one_raster_all_count() -> None:
    corner = np.stack(np.meshgrid(np.arange(40.0), np.arange(40.0)), axis=-1).reshape(-1, 2) * 10
    crowns = np.concatenate([corner, corner + 4], axis=1)
    scores = coco_scores([paired(crowns, crowns, np.linspace(1, 0.1, len(crowns)).tolist())])
    assert scores.map == 1.0
    assert scores.by_size["small"] == 1.0
    assert np.isnan(scores.by_size["large"])


def test_a_crown_outside_the_aoi_is_neither_missed_nor_a_false_alarm_when_found() -> None:
    outside = np.array([False, True])
    missed = paired(CROWNS[:2], CROWNS[:1], [0.9], truth_ignored=outside)
    found = paired(CROWNS[:2], CROWNS[[1, 0]], [0.9, 0.8], truth_ignored=outside)
    assert average_precision([missed], iou_threshold=0.5) == 1.0
    assert average_precision([found], iou_threshold=0.5) == 1.0


def test_an_ignored_prediction_is_a_hit_on_a_crown_that_counts_and_no_false_alarm_elsewhere() -> None:
    ignored = np.array([True, True])
    raster = paired(CROWNS[:1], np.concatenate([NOWHERE, CROWNS[:1]]), [0.9, 0.8], predicted_ignored=ignored)
    assert average_precision([raster], iou_threshold=0.5) == 1.0


def test_a_crown_that_counts_is_preferred_to_an_ignored_one_with_more_overlap() -> None:
    truth = np.array([[0.0, 0, 10, 10], [0, 0, 10, 8]])
    raster = paired(truth, truth[:1], [0.9], truth_ignored=np.array([True, False]))
    assert average_precision([raster], iou_threshold=0.5) == 1.0


def test_a_size_range_ignores_what_lies_outside_it() -> None:
    wide = np.array([[60.0, 0, 75, 15]])
    raster = paired(np.concatenate([CROWNS[:1], wide]), CROWNS[:1], [0.9])
    assert average_precision([raster], iou_threshold=0.5, size=(0, 100)) == 1.0
    assert average_precision([raster], iou_threshold=0.5, size=(100, np.inf)) == 0.0
    assert np.isnan(average_precision([raster], iou_threshold=0.5, size=(20, 30)))


def test_a_crown_of_another_class_is_no_hit_and_a_class_without_truth_has_no_figure() -> None:
    raster = paired(
        CROWNS[:2], CROWNS[:2], [0.9, 0.8], truth_classes=np.array([0, 0]), predicted_classes=np.array([0, 1])
    )
    scores = coco_scores([raster], classes=("tree", "bird"))
    assert scores.by_class["truth"].tolist() == [2, 0]
    assert scores.by_class["ap50"].to_numpy() == pytest.approx([51 / 101, np.nan], nan_ok=True)
    assert scores.map == pytest.approx(51 / 101)
    assert average_precision([raster], iou_threshold=0.5) == 1.0


def test_nothing_annotated_has_no_figure_and_nothing_predicted_scores_zero() -> None:
    nothing = np.zeros((0, 4))
    assert np.isnan(coco_scores([]).map)
    assert np.isnan(coco_scores([paired(nothing, CROWNS, [0.9] * 4)]).ap[0.5])
    assert coco_scores([paired(CROWNS, nothing, [])]).map == 0.0


def test_a_threshold_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="above 0 and at most 1"):
        average_precision([], iou_threshold=40)
    with pytest.raises(ConfigError, match="above 0 and at most 1"):
        precision_recall([], iou_threshold=0)


def test_the_curve_has_one_row_for_each_score_and_leaves_ignored_crowns_out() -> None:
    raster = paired(
        CROWNS,
        np.concatenate([CROWNS[:2], NOWHERE, NOWHERE + 10]),
        [0.75, 0.5, 0.5, 0.875],
        predicted_ignored=np.array([False, False, False, True]),
    )
    curve = precision_recall([raster])
    assert curve["score"].tolist() == [0.75, 0.5]
    assert curve["recall"].tolist() == [0.25, 0.5]
    assert curve["precision"].tolist() == [1.0, pytest.approx(2 / 3)]


def test_a_long_curve_is_thinned_but_keeps_both_ends() -> None:
    scores = np.linspace(1, 0.1, 3000).astype(np.float32)
    predicted = np.repeat(NOWHERE, 3000, axis=0)
    predicted[-1] = CROWNS[0]
    curve = precision_recall([PairedCrowns(CROWNS[:1], predicted, scores)])
    assert len(curve) == 500
    assert curve["score"].iloc[[0, -1]].tolist() == scores[[0, -1]].tolist()
    assert curve["recall"].iloc[-1] == 1.0
    assert curve["precision"].iloc[-1] == pytest.approx(1 / 3000)


def test_a_curve_without_predictions_is_empty_and_without_truth_has_no_recall() -> None:
    nothing = np.zeros((0, 4))
    empty = precision_recall([paired(CROWNS, nothing, [])])
    assert list(empty.columns) == ["score", "recall", "precision"]
    assert empty.empty
    assert np.isnan(precision_recall([paired(nothing, NOWHERE, [0.5])])["recall"]).all()
