import numpy as np
import pytest

from treedet.core import neighbours
from treedet.core.neighbours import filter_pairs, overlapping_pairs


def all_pairs(a, b=None):
    """The same by comparing everything with everything."""
    other = a if b is None else b
    low = np.maximum(a[:, None, :2], other[None, :, :2])
    high = np.minimum(a[:, None, 2:], other[None, :, 2:])
    hit = (high > low).all(axis=-1)
    return set(zip(*np.nonzero(np.triu(hit, 1) if b is None else hit), strict=True))


def as_set(pairs):
    found = list(zip(*pairs, strict=True))
    assert len(set(found)) == len(found)
    return set(found)


def random_boxes(rng, n):
    centre = rng.uniform(-50, 50, (n, 2)) * 10 ** rng.uniform(-2, 4)
    half = 10 ** rng.uniform(-3, 2.5, (n, 2))
    return np.concatenate([centre - half, centre + half], axis=1)


@pytest.mark.parametrize("seed", range(60))
def test_finds_what_comparing_everything_finds(seed):
    rng = np.random.default_rng(seed)
    a, b = (random_boxes(rng, rng.integers(0, 60)) for _ in range(2))
    if seed % 3 == 0:  # edges that coincide, boxes without area
        a, b = a.round(), b.round()
    assert as_set(overlapping_pairs(a)) == all_pairs(a)
    assert as_set(overlapping_pairs(a, b)) == all_pairs(a, b)


def test_results_do_not_depend_on_the_size_of_chunks(monkeypatch):
    boxes = random_boxes(np.random.default_rng(1), 80)
    monkeypatch.setattr(neighbours, "CHUNK", 7)
    assert as_set(overlapping_pairs(boxes)) == all_pairs(boxes)
    i, j = overlapping_pairs(boxes)
    kept = filter_pairs((i, j), lambda a, b: (a + b) % 2 == 0)
    np.testing.assert_array_equal(kept[0], i[(i + j) % 2 == 0])


def test_the_first_of_a_pair_is_the_smaller_position():
    corner = np.random.default_rng(2).uniform(0, 50, (200, 2))
    i, j = overlapping_pairs(np.concatenate([corner, corner + 5], axis=1))
    assert len(i) > 100
    assert (i < j).all()


def test_touching_boxes_and_boxes_without_area_overlap_nothing():
    boxes = np.array([[0.0, 0, 2, 2], [2, 0, 4, 2], [0, 2, 2, 4], [1, 1, 1, 2], [0, 1, 2, 1], [2, 2, 1, 1]])
    assert as_set(overlapping_pairs(boxes)) == set()


@pytest.mark.parametrize("shape", [(0, 4), (1, 4)])
def test_nothing_to_pair(shape):
    first, second = overlapping_pairs(np.ones(shape))
    assert first.shape == second.shape == (0,)
    assert first.dtype == second.dtype == np.int64


def test_a_huge_box_and_one_very_far_away_among_small_ones():
    rng = np.random.default_rng(3)
    small = random_boxes(rng, 50)
    far = np.array(
        [[-1e300, -1e18, 1e300, 1e18], [1e15, 1e15, 1e15 + 4, 1e15 + 4], [1e15 + 2, 1e15, 1e15 + 6, 1e15 + 2]]
    )
    boxes = np.concatenate([small, far])
    assert as_set(overlapping_pairs(boxes)) == all_pairs(boxes)


def test_many_boxes_are_not_all_compared():
    side = np.arange(300.0)
    corner = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)  # comparing 90,000 with all takes 4e9 tests
    i, _ = overlapping_pairs(np.concatenate([corner, corner + 1.5], axis=1))
    assert len(i) == 2 * 300 * 299 + 2 * 299 * 299
