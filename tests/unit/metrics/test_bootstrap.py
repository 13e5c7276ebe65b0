import numpy as np
import pytest

from treedet.errors import ConfigError
from treedet.metrics.bootstrap import Difference, Interval, interval, paired_difference, resamples, score_intervals
from treedet.metrics.detection import RasterCount, scores


def counts(seed: int, *, rasters: int = 30) -> list[RasterCount]:
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(0, 40, rasters), rng.integers(0, 40, rasters)
    matched = np.minimum(truth, predicted) * rng.integers(0, 3, rasters) // 2
    return [RasterCount(*map(int, row)) for row in zip(truth, predicted, matched, strict=True)]


def test_draws_hang_on_the_seed_alone_and_reach_every_raster() -> None:
    drawn = resamples(7, draws=50, seed=3)
    assert drawn.shape == (50, 7)
    assert set(drawn.ravel().tolist()) == set(range(7))
    assert (drawn == resamples(7, draws=50, seed=3)).all()
    assert (drawn != resamples(7, draws=50, seed=4)).any()
    assert resamples(0, draws=5).shape == (5, 0)


def test_an_interval_equals_one_from_scoring_each_draw_alone() -> None:
    some = counts(0)
    alone = [scores([some[i] for i in draw]) for draw in resamples(len(some), draws=200, seed=2)]
    found = score_intervals(some, draws=200, seed=2, level=0.9)
    for name in ("recall", "precision", "f1", "micro_recall", "micro_precision", "micro_f1"):
        expected = np.quantile([getattr(score, name) for score in alone], [0.05, 0.95])
        assert [found[name].low, found[name].high] == pytest.approx(expected), name


def test_an_interval_narrows_with_more_rasters_and_holds_the_score() -> None:
    few, many = counts(0, rasters=10), counts(0, rasters=10) * 16
    wide, narrow = score_intervals(few)["f1"], score_intervals(many)["f1"]
    assert wide.low < scores(few).f1 < wide.high
    assert narrow.low < scores(many).f1 < narrow.high
    assert (narrow.high - narrow.low) == pytest.approx((wide.high - wide.low) / 4, rel=0.25)


@pytest.mark.parametrize("rasters", [0, 1])
def test_fewer_than_two_rasters_have_no_interval(rasters: int) -> None:
    found = score_intervals(counts(0, rasters=rasters))
    assert set(found) >= {"recall", "precision", "f1", "micro_f1"}
    assert all(np.isnan([limits.low, limits.high]).all() for limits in found.values())


def test_draws_that_do_not_define_a_score_are_left_out() -> None:
    assert interval(np.array([np.nan, 1.0, 3.0]), level=0.5) == Interval(1.5, 2.5)
    assert np.isnan(interval(np.full(3, np.nan)).low)
    # A draw of the second raster alone has no truth, so no recall: no warning, and no 0 among the limits.
    assert score_intervals([RasterCount(2, 2, 1), RasterCount(0, 3, 0)])["recall"] == Interval(0.5, 0.5)


def test_a_difference_common_to_all_rasters_is_sure_although_rasters_differ() -> None:
    hard_and_easy = [RasterCount(100, 100, hits) for hits in range(0, 90, 3)]
    better = [RasterCount(100, 100, count.matched + 10) for count in hard_and_easy]
    found = paired_difference(hard_and_easy, better, score="recall")
    assert [found.value, found.low, found.high] == pytest.approx([0.1, 0.1, 0.1])
    alone = score_intervals(hard_and_easy)["recall"]
    assert alone.high - alone.low > 0.1
    assert found.rasters == 30


def test_a_difference_turns_its_sign_with_the_order() -> None:
    a, b = counts(1), counts(2)
    forth, back = paired_difference(a, b, score="micro_f1", seed=5), paired_difference(b, a, score="micro_f1", seed=5)
    assert forth.value == pytest.approx(scores(b).micro_f1 - scores(a).micro_f1)
    assert (back.value, back.low, back.high) == pytest.approx((-forth.value, -forth.high, -forth.low))
    assert forth.low < forth.high


def test_one_raster_has_a_difference_without_an_interval() -> None:
    found = paired_difference([RasterCount(4, 4, 1)], [RasterCount(4, 4, 3)])
    assert (found.value, found.rasters) == (0.5, 1)
    assert np.isnan([found.low, found.high]).all()
    assert isinstance(found, Difference)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ConfigError, match="2 rasters are compared with 3"):
        paired_difference(counts(0, rasters=2), counts(0, rasters=3))
    with pytest.raises(ConfigError, match="'F1'; give one of recall, precision, f1"):
        paired_difference(counts(0), counts(1), score="F1")


def test_draws_in_which_nothing_is_predicted_have_an_f1_of_zero():
    # One raster of two without predictions: a quarter of the draws hold that one alone.
    limits = score_intervals([RasterCount(4, 4, 4), RasterCount(4, 0, 0)])["f1"]
    assert (limits.low, limits.high) == (0.0, 1.0)
    nothing = paired_difference([RasterCount(4, 4, 4)], [RasterCount(4, 0, 0)])
    assert nothing.value == -1.0
