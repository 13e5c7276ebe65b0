import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treedet.metrics.detection import RasterCount
from treedet.metrics.matching import Overlaps
from treedet.metrics.paired import PairedCrowns, diameters


def squares(*corners, side=10.0):
    low = np.array(corners, float).reshape(-1, 2)
    return np.concatenate([low, low + side], axis=1)


def paired(truth, predicted, scores, **values):
    return PairedCrowns(squares(*truth), squares(*predicted), np.array(scores, np.float32), **values)


def flags(*values):
    return np.array(values, bool)


class TestThreshold:
    def test_counts_follow_the_score(self):
        p = paired([(0, 0), (50, 50)], [(0, 0), (50, 50), (90, 0)], [0.9, 0.4, 0.6])
        assert p.at(0.5).counted() == RasterCount(2, 2, 1)
        assert p.at(0.3).counted() == RasterCount(2, 3, 2)

    def test_a_score_as_high_as_the_threshold_is_kept_whatever_its_float(self):
        # float32(0.7) is below float64(0.7).
        assert len(paired([], [(0, 0)], [0.7]).at(np.float64(0.7)).predicted) == 1

    def test_positions_are_those_of_what_is_kept(self):
        p = paired([(0, 0), (50, 50)], [(90, 0), (50, 50), (0, 0)], [0.2, 0.6, 0.7]).at(0.5)
        matching = p.matched()
        assert sorted(zip(matching.truth.tolist(), matching.predicted.tolist(), strict=True)) == [(0, 1), (1, 0)]

    @settings(deadline=None, max_examples=50)
    @given(st.integers(0, 10_000), st.floats(0, 1))
    def test_overlaps_filtered_are_those_found_anew(self, seed, threshold):
        rng = np.random.default_rng(seed)
        low = rng.uniform(0, 40, (60, 2))
        boxes = np.concatenate([low, low + rng.uniform(4, 20, (60, 2))], axis=1)
        whole = PairedCrowns(
            boxes[:30],
            boxes[30:],
            rng.random(30).astype(np.float32),
            truth_classes=rng.integers(0, 2, 30),
            predicted_classes=rng.integers(0, 2, 30),
            truth_ignored=rng.random(30) < 0.3,
            predicted_ignored=rng.random(30) < 0.3,
            name="a",
            group="b",
            hectares=2.0,
        )
        for part in (
            whole.at(threshold),
            whole.of_class(1),
            whole.at(threshold).of_class(0),
            whole.without_ignored(),
        ):
            anew = Overlaps.of(part.truth, part.predicted)
            order, again = (np.lexsort((o.predicted, o.truth)) for o in (part.overlaps, anew))
            for name in ("truth", "predicted", "intersection", "iou"):
                np.testing.assert_array_equal(getattr(part.overlaps, name)[order], getattr(anew, name)[again])
            assert (
                len(part.scores) == len(part.predicted_classes) == len(part.predicted_ignored) == len(part.predicted)
            )
            assert len(part.truth_classes) == len(part.truth_ignored) == len(part.truth)
            assert (part.name, part.group, part.hectares) == ("a", "b", 2.0)


class TestIgnored:
    def test_a_prediction_outside_is_no_false_alarm_but_may_be_a_hit(self):
        p = paired([(0, 0)], [(0, 0), (90, 0), (90, 50)], [0.9] * 3, predicted_ignored=flags(True, True, False))
        truth, predicted, hits = p.counts(p.matched())
        assert (truth.tolist(), predicted.tolist(), hits.tolist()) == ([True], [True, False, True], [True])
        assert p.counted() == RasterCount(1, 2, 1)

    def test_truth_outside_is_not_missed_and_what_finds_it_is_no_false_alarm(self):
        p = paired([(0, 0), (50, 0), (90, 0)], [(0, 0), (50, 0)], [0.9] * 2, truth_ignored=flags(False, True, True))
        assert p.counted() == RasterCount(1, 1, 1)

    def test_all_take_part_in_matching(self):
        # The ignored truth fits the prediction better, so that the other truth is missed.
        p = paired([(0, 0), (3, 0)], [(0, 0)], [0.9], truth_ignored=flags(True, False))
        assert p.counted() == RasterCount(1, 0, 0)
        assert p.without_ignored().counted() == RasterCount(1, 1, 1)

    def test_without_ignored_is_the_same_where_none_is(self):
        p = paired([(0, 0)], [(0, 0)], [0.9])
        assert p.without_ignored() is p


class TestClasses:
    def test_a_hit_of_another_class_is_none_where_classes_matter(self):
        p = paired(
            [(0, 0), (50, 50)],
            [(0, 0), (50, 50)],
            [0.9, 0.9],
            truth_classes=np.array([0, 1]),
            predicted_classes=np.array([0, 0]),
        )
        assert p.counted() == RasterCount(2, 2, 2)
        assert p.counted(by_class=True) == RasterCount(2, 2, 1)
        assert p.of_class(0).counted() == RasterCount(1, 2, 1)
        assert p.of_class(1).counted() == RasterCount(1, 0, 0)

    @pytest.mark.parametrize("method", ["hungarian", "greedy", "deepforest"])
    def test_of_two_classes_on_one_place_each_finds_its_own(self, method):
        p = paired(
            [(0, 0), (0, 0)],
            [(0, 0), (0, 0)],
            [0.9, 0.8],
            truth_classes=np.array([1, 0]),
            predicted_classes=np.array([0, 1]),
        )
        matching = p.matched(by_class=True, method=method)
        assert sorted(zip(matching.truth.tolist(), matching.predicted.tolist(), strict=True)) == [(0, 1), (1, 0)]

    def test_one_class_is_class_0(self):
        p = paired([(0, 0)], [(0, 0)], [0.9])
        assert p.counted(by_class=True) == p.of_class(0).counted() == RasterCount(1, 1, 1)
        assert p.of_class(1).counted() == RasterCount(0, 0, 0)


def test_methods_differ_in_what_they_sum():
    # The wide prediction shares more area with the crown, the tight one overlaps it better.
    p = PairedCrowns(
        np.array([[0.0, 0, 10, 10]]),
        np.array([[0.0, 0, 10, 20], [0.0, 0, 10, 9]]),
        np.array([0.5, 0.4], np.float32),
    )
    assert p.matched().predicted.tolist() == [1]
    assert p.matched(method="deepforest").predicted.tolist() == [0]
    assert p.matched(method="greedy").predicted.tolist() == [0]


def test_a_diameter_is_the_mean_of_the_sides():
    p = PairedCrowns(np.array([[0.0, 0, 4, 6]]), np.array([[1, 1, 3, 4]]), np.ones(1, np.float32))
    assert p.truth_diameters.tolist() == [5.0]
    assert p.predicted_diameters.tolist() == [2.5]
    assert diameters(np.zeros((0, 4))).tolist() == []
