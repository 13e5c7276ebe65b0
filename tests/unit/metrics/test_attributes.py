"""Scores of what is said about crowns, against counts made by hand and against a plain loop over crowns."""

import numpy as np
import pytest

from treedet.errors import ConfigError
from treedet.metrics.attributes import attribute_scores, scores_by_attribute
from treedet.metrics.confusion import class_scores, confusion_matrix
from treedet.metrics.paired import PairedAttribute, PairedCrowns

NAMES = ("alive", "dead", "leaning")
TRUTH = np.array([0, 0, 0, 0, 1, 1, -1])
SAID = np.array([0, 0, 0, 1, 1, -1, 1])
MISSED = np.array([0, 1, 1, -1])
SPURIOUS = np.array([0, 1, -1])


@pytest.fixture
def scores():
    p = np.array([0.9, 0.9, 0.9, 0.6, 0.6, 0.5, 0.99])
    return attribute_scores(TRUTH, SAID, NAMES, missed=MISSED, spurious=SPURIOUS, probabilities=p)


def test_truth_is_in_rows_and_what_is_said_in_columns(scores):
    assert scores.confusion.tolist() == [
        [3, 1, 0, 0, 1],  # alive: said alive, dead, leaning, nothing; missed
        [0, 1, 0, 1, 2],
        [0, 0, 0, 0, 0],
        [1, 1, 0, 1, 0],  # spurious
    ]
    assert (scores.missed, scores.spurious, scores.unsaid, scores.unknown) == (3, 3, 1, 1)


def test_matched_crowns_tell_what_the_head_does(scores):
    found = scores.matched
    assert found.truth.tolist() == [4, 2, 0]
    assert found.precision[:2].tolist() == [1, 1 / 2]
    assert found.recall[:2].tolist() == [3 / 4, 1 / 2]  # of the two dead, one is unsaid
    assert found.f1[:2].tolist() == [6 / 7, 1 / 2]
    assert np.isnan([found.precision[2], found.recall[2], found.f1[2]]).all()
    # A class that the truth lacks is not in the mean.
    assert found.macro == pytest.approx(((1 + 1 / 2) / 2, (3 / 4 + 1 / 2) / 2, (6 / 7 + 1 / 2) / 2))
    assert found.micro == pytest.approx((4 / 5, 4 / 6, 8 / 11))
    assert scores.accuracy == pytest.approx(4 / 6)


def test_all_crowns_tell_what_a_user_gets(scores):
    found = scores.all
    assert found.truth.tolist() == [5, 4, 0]
    assert found.predicted.tolist() == [4, 3, 0]
    assert found.precision[:2].tolist() == [3 / 4, 1 / 3]
    assert found.recall[:2].tolist() == [3 / 5, 1 / 4]
    assert found.f1[:2].tolist() == [6 / 9, 2 / 7]
    assert found.micro == pytest.approx((4 / 7, 4 / 9, 8 / 16))


def test_agreement_beyond_chance_and_the_baseline(scores):
    chance = (4 * 3 + 2 * 2) / 36
    assert scores.kappa == pytest.approx((4 / 6 - chance) / (1 - chance))
    assert (scores.majority, scores.majority_accuracy) == ("alive", 4 / 6)


def test_calibration_asks_of_what_is_known_and_said_alone(scores):
    table = scores.reliability.table
    assert table["count"].sum() == 5
    assert scores.reliability.ece == pytest.approx((3 * (1 - 0.9) + 2 * (0.6 - 0.5)) / 5)


def test_a_class_that_is_never_said_has_no_precision_and_counts_as_zero_in_the_mean():
    found = attribute_scores(np.array([0, 1]), np.array([0, 0]), ("a", "b")).matched
    assert np.isnan(found.precision[1])
    assert found.f1[1] == 0
    assert found.macro.precision == pytest.approx(1 / 4)


def test_one_class_agrees_by_chance_alone():
    scores = attribute_scores(np.zeros(3, int), np.zeros(3, int), ("alive", "dead"))
    assert (scores.accuracy, scores.majority_accuracy) == (1, 1)
    assert np.isnan(scores.kappa)
    assert scores.matched.macro == (1, 1, 1)


def test_without_crowns_nothing_is_defined():
    none = np.zeros(0, int)
    scores = attribute_scores(none, none, NAMES, probabilities=np.zeros(0))
    assert scores.confusion.sum() == 0
    assert scores.majority is None
    figures = [scores.accuracy, scores.kappa, scores.majority_accuracy, scores.reliability.ece]
    assert np.isnan([*figures, *scores.matched.macro, *scores.all.micro]).all()


def test_missed_and_spurious_alone_are_zero_and_not_undefined():
    none = np.zeros(0, int)
    scores = attribute_scores(none, none, NAMES, missed=np.array([1]), spurious=np.array([1, 1]))
    assert scores.all.recall[1] == scores.all.precision[1] == scores.all.f1[1] == 0
    assert scores.all.macro == (0, 0, 0)
    assert np.isnan(scores.matched.macro.f1)


def test_it_agrees_with_a_loop_over_crowns():
    rng = np.random.default_rng(0)
    for _ in range(20):
        k, n = int(rng.integers(2, 6)), int(rng.integers(0, 40))
        truth, said = rng.integers(-1, k, (2, n))
        missed, spurious = rng.integers(-1, k, rng.integers(0, 9)), rng.integers(-1, k, rng.integers(0, 9))
        scores = attribute_scores(truth, said, [str(i) for i in range(k)], missed=missed, spurious=spurious)
        pairs = [(t, s) for t, s in zip(truth, said, strict=True) if t >= 0]
        everything = [*pairs, *((m, None) for m in missed if m >= 0), *((None, s) for s in spurious)]
        for found, crowns in ((scores.matched, pairs), (scores.all, everything)):
            for c in range(k):
                right = sum(t == s == c for t, s in crowns)
                is_, is_said = sum(t == c for t, _ in crowns), sum(s == c for _, s in crowns)
                np.testing.assert_equal(found.recall[c], right / is_ if is_ else np.nan)
                np.testing.assert_equal(found.precision[c], right / is_said if is_said else np.nan)
                np.testing.assert_equal(found.f1[c], 2 * right / (is_ + is_said) if is_ + is_said else np.nan)


def test_it_agrees_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(1)
    truth, said = rng.integers(0, 4, (2, 200))
    scores = attribute_scores(truth, said, "abcd")
    assert scores.confusion[:4, :4].tolist() == metrics.confusion_matrix(truth, said).tolist()
    assert scores.matched.macro == pytest.approx(
        metrics.precision_recall_fscore_support(truth, said, average="macro")[:3]
    )
    assert scores.kappa == pytest.approx(metrics.cohen_kappa_score(truth, said))
    assert scores.matched.macro.recall == pytest.approx(metrics.balanced_accuracy_score(truth, said))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (([0, 1], [0], "ab"), "2 crowns are known and 1 said"),
        (([0], [2], "ab"), "class 2 is unknown; accepted are positions from 0 to 1"),
        (([-2], [0], "ab"), "class -2 is unknown"),
    ],
)
def test_codes_that_make_no_sense_are_refused(arguments, told):
    with pytest.raises(ConfigError, match=told):
        attribute_scores(*arguments)


def test_as_many_probabilities_as_crowns():
    with pytest.raises(ConfigError, match="1 crowns have 2 probabilities"):
        attribute_scores(np.array([0]), np.array([0]), "ab", probabilities=np.array([0.5, 0.5]))
    with pytest.raises(ConfigError, match="probabilities from 0 to 1"):
        attribute_scores(np.array([0]), np.array([0]), "ab", probabilities=np.array([1.5]))


def test_a_confusion_matrix_of_unknown_crowns_is_empty():
    assert confusion_matrix([-1, -1], [0, -1], 2, missed=[-1]).sum() == 0


def paired(truth, predicted, codes, said, **more):
    boxes = [np.array([[10.0 * x, 0, 10 * x + 4, 4] for x in xs]).reshape(-1, 4) for xs in (truth, predicted)]
    p = np.full(len(said), 0.8, np.float32)
    attribute = PairedAttribute(("alive", "dead"), np.array(codes, int), np.array(said, int), p)
    return PairedCrowns(*boxes, np.ones(len(said), np.float32), attributes={"status": attribute}, **more)


def test_crowns_are_matched_whatever_is_said_about_them():
    # Found and right, found and wrong, found and unknown, missed, missed and unknown; two that are nowhere.
    raster = paired([0, 1, 2, 3, 4], [2, 1, 0, 8, 9], [0, 1, -1, 1, -1], [1, 0, 0, 1, -1])
    found = scores_by_attribute([raster])["status"]
    assert found.confusion.tolist() == [[1, 0, 0, 0], [1, 0, 0, 1], [0, 1, 1, 0]]
    assert found.unknown == 2
    assert found.reliability.table["count"].sum() == 2


def test_ignored_crowns_are_neither_missed_nor_spurious():
    # Ignored: a truth that is matched, one that is not, a prediction on no crown; one on a crown that counts.
    raster = paired(
        [0, 1, 2],
        [0, 2, 5],
        [1, 1, 0],
        [1, 0, 1],
        truth_ignored=np.array([True, True, False]),
        predicted_ignored=np.array([False, True, True]),
    )
    assert scores_by_attribute([raster])["status"].confusion.tolist() == [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_a_raster_that_says_nothing_of_the_attribute_is_left_out_and_one_without_crowns_is_not():
    silent, bare = paired([0, 1], [0, 7], [-1, -1], [0, 0]), paired([], [3], [], [1])
    found = scores_by_attribute([silent, bare])["status"]
    assert found.unknown == 2
    assert found.confusion.tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]]


def test_only_crowns_above_the_threshold_are_compared():
    raster = paired([0, 1], [0, 1, 5], [0, 1], [0, 0, 1])
    kept = PairedCrowns(**{**vars(raster), "scores": np.array([0.9, 0.2, 0.1], np.float32)}).at(0.5)
    assert scores_by_attribute([kept])["status"].confusion.tolist() == [[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]


def test_rasters_without_attributes_have_no_scores():
    box = np.array([[0.0, 0, 4, 4]])
    assert scores_by_attribute([PairedCrowns(box, box, np.ones(1, np.float32))]) == {}


def test_intervals_come_from_drawing_rasters() -> None:
    box = np.array([[20.0 * i, 0, 20 * i + 10, 10] for i in range(8)])
    ones = np.ones(8, np.float32)

    def raster(right: int) -> PairedCrowns:
        said = np.array([0] * right + [1] * (8 - right))
        attribute = PairedAttribute(("alive", "dead"), np.zeros(8, np.int64), said, ones)
        return PairedCrowns(box, box, ones, attributes={"status": attribute})

    spread = scores_by_attribute([raster(right) for right in (2, 4, 6, 8)])["status"]
    alike = scores_by_attribute([raster(6)] * 4)["status"]
    assert spread.accuracy == 20 / 32
    low, high = spread.intervals["accuracy"].low, spread.intervals["accuracy"].high
    assert 2 / 8 <= low < 20 / 32 < high <= 1
    assert (alike.intervals["accuracy"].low, alike.intervals["accuracy"].high) == (0.75, 0.75)
    assert np.isnan(scores_by_attribute([raster(6)])["status"].intervals["accuracy"].low), "one raster has no spread"


def test_means_of_many_cases_are_those_of_each() -> None:
    confusions = np.random.default_rng(0).integers(0, 5, (20, 4, 5))
    confusions[:5, 1] = 0
    together = class_scores(confusions, 3)
    each = [class_scores(confusion, 3) for confusion in confusions]
    np.testing.assert_allclose(together.macro_f1, [one.macro.f1 for one in each])
    np.testing.assert_allclose(together.accuracy, [one.micro.recall for one in each])
