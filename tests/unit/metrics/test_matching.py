import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from treedet.metrics.detection import RasterCount, count, score_arrays, scores
from treedet.metrics.matching import Overlaps, greedy, hungarian, match_boxes


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


def plain_greedy(overlap: np.ndarray, scores: np.ndarray, threshold: float) -> set[tuple[int, int]]:
    """Match as the definition reads, one prediction after the other."""
    free = np.ones(len(overlap), bool)
    pairs = set()
    for p in np.argsort(-scores, kind="stable"):
        wanted = np.where(free, overlap[:, p], -1.0)
        if len(wanted) and wanted.max() > threshold:
            t = int(np.argmax(wanted))
            free[t] = False
            pairs.add((t, int(p)))
    return pairs


def pairs_of(matching) -> set[tuple[int, int]]:
    assert len(set(matching.truth.tolist())) == len(set(matching.predicted.tolist())) == len(matching)
    return set(zip(matching.truth.tolist(), matching.predicted.tolist(), strict=True))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(0, 25), st.integers(0, 40), st.sampled_from([0.0, 0.2, 0.5]))
def test_greedy_is_the_plain_loop_ties_included(seed: int, n: int, m: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    # Whole metres and few scores, so that overlaps and scores are often equal.
    truth, predicted = np.round(random_boxes(seed, n, 30.0)), np.round(random_boxes(seed + 1, m, 30.0))
    found = rng.integers(0, 5, m).astype(np.float32) / 4
    overlap = table_of_iou(truth, predicted)
    matching = greedy(Overlaps.of(truth, predicted), found, iou_threshold=threshold)
    assert pairs_of(matching) == plain_greedy(overlap, found, threshold)
    assert matching.iou == pytest.approx(overlap[matching.truth, matching.predicted])
    assert (np.diff(found[matching.predicted]) <= 0).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 25), st.integers(1, 25))
def test_areas_shared_are_summed_where_asked_for(seed: int, n: int, m: int) -> None:
    truth, predicted = random_boxes(seed, n), random_boxes(seed + 1, m)
    overlaps = Overlaps.of(truth, predicted)
    matching = hungarian(overlaps, iou_threshold=0.0, weight="intersection")
    shared = np.zeros((n, m))
    shared[overlaps.truth, overlaps.predicted] = overlaps.intersection
    rows, columns = linear_sum_assignment(shared, maximize=True)
    assert shared[matching.truth, matching.predicted].sum() == pytest.approx(shared[rows, columns].sum())


def test_greedy_takes_by_score_where_hungarian_takes_by_overlap() -> None:
    truth = np.array([[0.0, 0, 10, 10]])
    predicted = np.array([[0.0, 0, 10, 10], [0.0, 0, 10, 8]])
    overlaps = Overlaps.of(truth, predicted)
    assert greedy(overlaps, np.array([0.3, 0.9])).predicted.tolist() == [1]
    assert hungarian(overlaps).predicted.tolist() == [0]


def test_a_chain_in_which_each_choice_hangs_on_the_one_before() -> None:
    n = 20_000
    left = np.arange(float(n))[:, None] * 2
    truth = np.hstack([left, left * 0, left + 4, left * 0 + 4])
    overlaps = Overlaps.of(truth, truth + np.array([1.1, 0, 1.1, 0]))
    # Each wants the crown to its right more than its own. From the left on it is free; from the right on it is taken.
    assert greedy(overlaps, np.ones(n), iou_threshold=0.3).truth.tolist() == list(range(1, n))
    assert greedy(overlaps, np.arange(n), iou_threshold=0.3).truth.tolist() == list(range(n))[::-1]


def test_overlaps_taken_by_mask_keep_their_rows_together() -> None:
    boxes = np.array([[0.0, 0, 4, 4], [3, 0, 7, 4]])
    overlaps = Overlaps.of(boxes, boxes)
    same = overlaps.take(overlaps.truth == overlaps.predicted)
    assert len(same) == 2
    assert same.iou.tolist() == [1.0, 1.0]
    assert same.intersection.tolist() == [16.0, 16.0]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=3), min_size=1))
def test_scores_of_many_draws_are_those_of_each(draws: list[list[tuple[int, int]]]) -> None:
    truth, predicted = np.moveaxis(np.array(draws), -1, 0)
    matched = np.minimum(truth, predicted) // 2
    together = score_arrays(truth, predicted, matched)
    for i in range(len(draws)):
        one = scores([RasterCount(*c) for c in zip(truth[i], predicted[i], matched[i], strict=True)])
        for name, values in together.items():
            assert np.nan_to_num(values[i]) == pytest.approx(getattr(one, name))


def test_figures_that_are_not_defined_are_nan() -> None:
    empty = score_arrays(np.zeros(2), np.array([3, 0]), np.zeros(2))
    assert np.isnan([empty[name] for name in ("recall", "micro_recall", "f1", "micro_f1")]).all()
    assert empty["precision"] == empty["micro_precision"] == 0.0
    assert np.isnan(score_arrays(np.zeros(0), np.zeros(0), np.zeros(0))["precision"])
    assert score_arrays([2], [2], [0])["f1"] == 0.0
