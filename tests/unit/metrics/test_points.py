import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treedet.errors import ConfigError
from treedet.metrics.detection import RasterCount
from treedet.metrics.points import PairedPoints, match_points, point_distances, point_scores

CROWN = np.array([[0.0, 0, 4, 4]])


def paired(points, crowns, scores=None, **more):
    crowns = np.asarray(crowns, float).reshape(-1, 4)
    scores = np.ones(len(crowns)) if scores is None else np.asarray(scores)
    return PairedPoints(np.asarray(points, float).reshape(-1, 2), crowns, scores.astype(np.float32), **more)


def cheapest(points, crowns, max_distance):
    """Every matching, tried: the number of pairs, and the least cost of those with most."""
    best = (0, 0.0)
    order = list(range(len(crowns))) + [None] * len(points)
    for chosen in set(itertools.permutations(order, len(points))):
        pairs = [(points[i], crowns[j]) for i, j in enumerate(chosen) if j is not None]
        costs = [cost_of(point, crown, max_distance) for point, crown in pairs]
        if None not in costs:
            best = max(best, (len(pairs), -sum(costs)))
    return best


def cost_of(point, crown, max_distance):
    half = (crown[2:] - crown[:2]) / 2
    off = point - (crown[:2] + crown[2:]) / 2
    distance = np.hypot(*off)
    near = max_distance is not None and distance <= max_distance
    return distance / half.mean() if near or ((off / half) ** 2).sum() <= 1 else None


def test_a_point_belongs_to_the_crown_it_lies_in_not_to_its_box():
    inside, corner = [2.0, 0.1], [0.2, 0.2]
    assert len(match_points(np.array([inside]), CROWN).point) == 1
    assert len(match_points(np.array([corner]), CROWN).point) == 0
    found = match_points(np.array([corner]), CROWN, max_distance=3)
    assert found.distance_m == pytest.approx([np.hypot(1.8, 1.8)])


def test_the_reach_is_taken_from_the_centre_and_includes_its_end():
    beyond = np.array([[2.0, 7.0]])
    assert len(match_points(beyond, CROWN, max_distance=5).point) == 1
    assert len(match_points(beyond, CROWN, max_distance=4.99).point) == 0


def test_as_many_pairs_as_can_be_before_the_nearest():
    # The first point lies at the centre of the only crown that the second can have.
    crowns = np.array([[0.0, 0, 4, 4], [2.0, 0, 12, 10]])
    points = np.array([[2.4, 2.6], [1.0, 2.0]])
    assert len(match_points(points[:1], crowns).point) == 1
    found = match_points(points, crowns, max_distance=5.5)
    assert found.crown.tolist() == [1, 0]


def test_of_equal_distances_the_wider_crown_is_the_cheaper():
    crowns = np.array([[0.0, 0, 4, 4], [0.0, -4, 12, 8]])  # centres at x = 2 and x = 6
    assert match_points(np.array([[4.0, 2.0]]), crowns).crown.tolist() == [1]


def test_nothing_to_match_and_crowns_without_area():
    for points, crowns in (([], CROWN), ([[1, 1]], []), ([[1, 1]], [[1, 1, 1, 1]])):
        found = match_points(np.array(points, float).reshape(-1, 2), np.array(crowns, float), max_distance=9)
        assert len(found.point) == len(found.crown) == len(found.distance_m) == 0


def test_a_sliver_does_not_drown_the_cost_of_the_others():
    sliver = [[0.0, 0.0, 1e-16, 1e-16]]
    crowns = np.array([*sliver, [100.0, 100, 104, 104], [102.0, 100, 106, 104]])
    points = np.array([[1.0, 0], [102.1, 102], [103.9, 102]])
    assert match_points(points, crowns, max_distance=5).crown.tolist() == [0, 1, 2]


@pytest.mark.parametrize("distance", [0, -1, float("nan"), float("inf")])
def test_a_reach_that_is_no_length(distance):
    with pytest.raises(ConfigError, match="max_distance"):
        match_points(np.zeros((1, 2)), CROWN, max_distance=distance)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 1.5, 4.0]))
def test_equals_trying_every_matching(seed, reach):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 6, (rng.integers(1, 5), 2))
    crowns = np.hstack([low, low + rng.uniform(1, 5, low.shape)])
    points = rng.uniform(0, 9, (rng.integers(1, 5), 2))
    found = match_points(points, crowns, max_distance=reach)
    assert len(set(found.point)) == len(found.point)
    assert len(set(found.crown)) == len(found.crown)
    costs = [cost_of(points[i], crowns[j], reach) for i, j in zip(found.point, found.crown, strict=True)]
    count, least = cheapest(points, crowns, reach)
    assert len(costs) == count
    assert sum(costs) == pytest.approx(-least, abs=1e-9)


def test_far_from_the_origin_pairs_are_the_same():
    rng = np.random.default_rng(3)
    points = rng.uniform(0, 100, (200, 2))
    low = rng.uniform(0, 100, (150, 2))
    crowns = np.hstack([low, low + rng.uniform(2, 8, low.shape)])
    here, there = match_points(points, crowns), match_points(points + 2**22, crowns + 2**22)
    assert here.point.tolist() == there.point.tolist()
    assert here.crown.tolist() == there.crown.tolist()


def test_what_counts_at_the_border_of_the_aoi():
    crowns = [[0, 0, 4, 4], [10, 0, 14, 4], [20, 0, 24, 4], [30, 0, 34, 4]]
    raster = paired(
        [[2, 2], [12, 2]],
        crowns,
        point_ignored=np.array([False, True]),
        predicted_ignored=np.array([True, False, True, False]),
    )
    # A counted point with a crown outside is a hit; a crown of an ignored point and a lone one outside are nothing.
    assert raster.counted() == RasterCount(truth=1, predicted=2, matched=1)


def test_precision_is_for_complete_points_alone():
    partial = paired([[2, 2], [50, 50]], [[0, 0, 4, 4], [8, 8, 9, 9]])
    found = point_scores([partial])
    assert found["recall"] == 0.5
    assert all(np.isnan(found[name]) for name in ("precision", "f1", "micro_f1", "count_error", "predicted"))
    full = paired([[2, 2]], [[0, 0, 4, 4], [8, 8, 9, 9], [6, 6, 7, 7]], complete=True)
    found = point_scores([partial, full])
    assert (found["recall"], found["micro_recall"]) == (0.75, pytest.approx(2 / 3))
    assert found["precision"] == pytest.approx(1 / 3)
    assert found["f1"] == pytest.approx(0.5)  # of the complete raster, whose recall is 1
    assert (found["count_error"], found["count_bias"], found["count_error_rel"]) == (2, 2, 2)


def test_thresholds_and_distances():
    raster = paired([[2, 2.5], [12, 2]], [[0, 0, 4, 4], [10, 0, 14, 4]], scores=[0.9, 0.3])
    assert point_distances([raster], threshold=0.3).round(6).tolist() == [0.5, 0.0]
    assert point_distances([raster], threshold=0.5).tolist() == [0.5]
    assert point_scores([raster], threshold=0.5)["distance_median_m"] == 0.5


def test_nothing_at_all_is_not_defined_rather_than_zero():
    found = point_scores([paired([], [], complete=True)])
    assert np.isnan([found["recall"], found["precision"], found["f1"], found["distance_p95_m"]]).all()
    assert found["count_error"] == 0
    assert np.isnan(point_scores([])["recall"])
    none_found = point_scores([paired([[1, 1]], [], complete=True)])
    assert none_found["recall"] == 0
    assert np.isnan(none_found["precision"])
