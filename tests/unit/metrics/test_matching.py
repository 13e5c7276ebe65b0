import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from treedet.metrics.detection import RasterCount, count, scores
from treedet.metrics.matching import match_boxes


def random_boxes(seed: int, n: int, size: float = 60.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, size, (n, 2))
    return np.concatenate([corner, corner + rng.uniform(4, 20, (n, 2))], axis=1)


def table_of_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(2)
    return shared / ((a[:, 2:] - a[:, :2]).prod(1)[:, None] + (b[:, 2:] - b[:, :2]).prod(1)[None] - shared)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(0, 25), st.integers(0, 25))
def test_groupwise_assignment_equals_one_over_all_pairs(seed: int, n: int, m: int) -> None:
    truth, predicted = random_boxes(seed, n), random_boxes(seed + 1, m)
    i, j = match_boxes(truth, predicted, iou_threshold=0.0)
    assert len(set(i.tolist())) == len(i)
    assert len(set(j.tolist())) == len(j)
    overlap = table_of_iou(truth, predicted)
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    assert overlap[i, j].sum() == pytest.approx(overlap[rows, columns].sum())


def test_a_pair_at_the_threshold_does_not_count() -> None:
    truth = np.array([[0.0, 0.0, 10.0, 10.0]])
    half = np.array([[0.0, 0.0, 10.0, 5.0]])
    assert count(truth, half, iou_threshold=0.5).matched == 0
    assert count(truth, half, iou_threshold=0.49).matched == 1


def test_two_predictions_on_one_crown_are_one_hit_and_one_false_alarm() -> None:
    truth = np.array([[0.0, 0.0, 10.0, 10.0]])
    twins = np.array([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0]])
    assert count(truth, twins) == RasterCount(1, 2, 1)


def test_rasters_without_truth_or_predictions_count_where_they_can() -> None:
    result = scores([RasterCount(0, 3, 0), RasterCount(4, 0, 0), RasterCount(2, 2, 2)])
    assert result.recall == pytest.approx(0.5)  # mean over the two rasters with truth
    assert result.precision == pytest.approx(0.5)  # mean over the two rasters with predictions
    assert result.micro_recall == pytest.approx(2 / 6)
    assert result.micro_precision == pytest.approx(2 / 5)


def test_nothing_at_all_scores_zero() -> None:
    assert scores([]).f1 == 0.0
    assert scores([]).micro_f1 == 0.0
