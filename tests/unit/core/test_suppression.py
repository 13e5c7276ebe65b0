import numpy as np
import pytest

from treedet.core.boxes import LEFT, RIGHT, area, intersection
from treedet.core.suppression import MergeConfig, preference_order, suppress
from treedet.errors import ConfigError


def kept(boxes, scores, sides=None, classes=None, **settings):
    n = len(boxes)
    return suppress(
        np.array(boxes, np.float64).reshape(-1, 4),
        np.array(scores, np.float32),
        classes=np.zeros(n, np.int64) if classes is None else np.array(classes),
        sides=np.zeros(n, np.uint8) if sides is None else np.array(sides, np.uint8),
        config=MergeConfig(**settings),
    ).tolist()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"iou_threshold": 1.1}, "iou_threshold"),
        ({"ios_threshold": -0.1}, "ios_threshold"),
        ({"iou_threshold": float("nan")}, "iou_threshold"),
        ({"cut_margin_px": -1.0}, "cut_margin_px"),
        ({"cut_margin_px": float("inf")}, "cut_margin_px"),
    ],
)
def test_a_setting_out_of_range_is_named(settings, named):
    with pytest.raises(ConfigError, match=named):
        MergeConfig(**settings)


def test_order_of_preference_key_by_key():
    rows = [  # xmin ymin xmax ymax score side class, best first
        (0, 0, 9, 9, 0.3, 0, 0),
        (0, 0, 4, 4, 0.2, 0, 0),
        (0, 0, 2, 6, 0.2, 0, 0),  # smaller area
        (5, 0, 7, 6, 0.2, 0, 0),  # same area, larger xmin
        (0, 1, 2, 7, 0.2, 0, 0),  # larger ymin
        (0, 1, 3, 5, 0.1, 0, 0),  # lower score
        (0, 1, 3, 5, 0.1, 0, 1),  # later class
        (0, 0, 9, 9, 0.9, LEFT, 0),
    ]
    table = np.array(rows, np.float64)
    for seed in range(10):
        mixed = np.random.default_rng(seed).permutation(len(table))
        values = table[mixed]
        order = preference_order(
            values[:, :4], values[:, 4], classes=values[:, 6].astype(np.int64), sides=values[:, 5].astype(np.uint8)
        )
        assert mixed[order].tolist() == list(range(len(table)))


def test_equals_are_ordered_by_their_running_number():
    boxes, same = np.ones((3, 4)), np.zeros(3, np.int64)
    order = np.array([7, 3, 5])
    assert preference_order(boxes, np.ones(3), classes=same, sides=np.zeros(3, np.uint8), order=order).tolist() == [
        1,
        2,
        0,
    ]


def test_the_better_of_two_is_kept_and_comes_first():
    assert kept([[0, 0, 10, 10], [1, 0, 11, 10], [50, 0, 60, 10]], [0.5, 0.6, 0.9]) == [2, 1]


def test_a_dropped_detection_drops_nothing():
    chain = [[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]]  # neighbours have IoU 0.43, the ends 0.11
    assert kept(chain, [0.9, 0.8, 0.7]) == [0, 2]
    assert kept(chain, [0.8, 0.9, 0.7]) == [1]


def test_iou_at_the_threshold_is_kept():
    assert kept([[0, 0, 2, 1], [1, 0, 3, 1]], [0.9, 0.8], iou_threshold=1 / 3) == [0, 1]
    assert kept([[0, 0, 2, 1], [1, 0, 3, 1]], [0.9, 0.8], iou_threshold=0.33) == [0]


def test_a_whole_crown_drops_the_sliver_of_itself_whatever_the_scores():
    assert kept([[0, 0, 40, 40], [30, 0, 40, 38]], [0.2, 0.9], sides=[0, LEFT]) == [0]


def test_a_small_whole_crown_stays_beside_a_large_cut_one():
    assert kept([[0, 0, 100, 100], [0, 0, 20, 20]], [0.9, 0.8], sides=[RIGHT, 0]) == [1, 0]


def test_a_small_whole_crown_under_a_large_whole_one_stays():
    assert kept([[0, 0, 100, 100], [0, 0, 20, 20]], [0.9, 0.8]) == [0, 1]


def test_classes_count_only_on_request():
    boxes, scores = [[0, 0, 10, 10]] * 2, [0.5, 0.6]
    assert kept(boxes, scores, classes=[0, 1]) == [1]
    assert kept(boxes, scores, classes=[0, 1], per_class=True) == [1, 0]


def test_nothing_in_nothing_out():
    assert kept([], []) == []


@pytest.mark.parametrize("seed", range(20))
def test_equals_the_rule_spelled_out(seed):
    rng = np.random.default_rng(seed)
    n = 60
    corner = rng.uniform(0, 60, (n, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(2, 25, (n, 2))], axis=1)
    scores, classes = rng.random(n).round(1).astype(np.float32), rng.integers(0, 2, n)
    sides = rng.integers(0, 2, n).astype(np.uint8)
    config = MergeConfig(iou_threshold=0.2, ios_threshold=0.5, per_class=bool(seed % 2))
    expected = []
    for k in preference_order(boxes, scores, classes=classes, sides=sides):
        better = [a for a in expected if not config.per_class or classes[a] == classes[k]]
        shared = intersection(boxes[better], np.repeat(boxes[[k]], len(better), axis=0))
        union = area(boxes[better]) + area(boxes[[k]]) - shared
        covered = (sides[k] != 0) & (shared > 0.5 * area(boxes[[k]]))
        if not (covered | (shared > 0.2 * union)).any():
            expected.append(k)
    assert suppress(boxes, scores, classes=classes, sides=sides, config=config).tolist() == expected
