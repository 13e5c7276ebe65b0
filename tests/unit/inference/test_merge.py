import numpy as np
import pytest

from treedet.core.boxes import BOTTOM, LEFT, RIGHT, TOP, cut_sides, open_sides
from treedet.core.detections import Detections
from treedet.core.grid import Window
from treedet.core.suppression import MergeConfig
from treedet.errors import ConfigError
from treedet.inference.merge import Candidates, CrownMerger, concat, merge, place

MARGIN = 2.0
CORNERS = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]])


def starts(total, size, step):
    """First pixels of windows that cover ``total``; the last one is shifted inward."""
    return sorted({min(start, total - size) for start in range(0, total - size + step, step)})


def windows_of(width, height, size, overlap):
    step = size - overlap
    return [Window(y, x, size, size) for y in starts(height, size, step) for x in starts(width, size, step)]


def seen(disks, window, thinnest):
    """Boxes around the part of each disk ``(x, y, radius)`` inside a window, in pixels of the window."""
    x, y, radius = disks.T
    low, high = (window.col, window.row), (window.right, window.bottom)
    dx, dy = (np.maximum(np.maximum(low[k] - c, c - high[k]), 0) for k, c in enumerate((x, y)))
    half_x, half_y = (np.sqrt(np.maximum(radius**2 - d**2, 0)) for d in (dy, dx))
    boxes = np.stack([x - half_x, y - half_y, x + half_x, y + half_y], axis=-1)
    boxes = np.clip(boxes, [*low, *low], [*high, *high]) - [*low, *low]
    return boxes[(dx**2 + dy**2 < radius**2) & (boxes[:, 2:] - boxes[:, :2] > thinnest).all(axis=1)]


def look(disks, width, height, windows, rng, noise=0.0):
    """What a detector that sees disks perfectly says about each window, with scores at random."""
    parts = []
    for number, window in enumerate(windows):
        boxes = seen(disks, window, thinnest=max(0.01, 10 * noise))
        boxes = np.clip(boxes + rng.normal(0, noise, boxes.shape), 0, window.width) if noise else boxes
        inner = open_sides(window.box, width=width, height=height)
        sides = cut_sides(boxes, width=window.width, height=window.height, sides=inner, margin=MARGIN)
        n = len(boxes)
        found = Detections(boxes.astype(np.float32), rng.random(n).astype(np.float32), np.zeros(n, np.int64), sides)
        parts.append(place(found, window, number))
    return concat(parts)


def by_place(boxes):
    return boxes[np.lexsort(boxes.T)]


def assert_found(crowns, disks):
    expected = np.concatenate([disks[:, :2] - disks[:, 2:], disks[:, :2] + disks[:, 2:]], axis=1)
    assert len(crowns) == len(disks)
    np.testing.assert_allclose(by_place(crowns.boxes.round(2)), by_place(expected.round(2)), atol=0.02)


def candidate(box, window, sides, score=0.5, order=0, **attributes):
    return Candidates(
        boxes=np.array([box], np.float64),
        scores=np.array([score], np.float32),
        classes=np.zeros(1, np.int64),
        sides=np.array([sides], np.uint8),
        windows=np.array([window], np.float64),
        order=np.array([order]),
        edge=np.zeros(1, bool),
        attributes={name: np.array([values], np.float32) for name, values in attributes.items()},
    )


@pytest.mark.parametrize("seed", range(120))
def test_one_disk_of_any_size_is_one_crown_with_its_exact_box(seed):
    rng = np.random.default_rng(seed)
    width, height = rng.integers(60, 400, 2)
    size = min(int(rng.integers(30, 150)), width, height)
    overlap = int(rng.integers(0, 0.7 * size))
    radius = rng.uniform(3, min(width, height) / 2.2)
    disk = np.array([[*rng.uniform(radius, [width - radius, height - radius]), radius]])
    crowns = merge(look(disk, width, height, windows_of(width, height, size, overlap), rng), MergeConfig())
    assert_found(crowns, disk)


@pytest.mark.parametrize("seed", range(60))
def test_small_disks_in_the_corners_of_a_large_one_stay(seed):
    rng = np.random.default_rng(seed)
    width, height = rng.integers(200, 400, 2)
    size = int(rng.integers(60, 150))
    overlap = int(rng.integers(12, 0.6 * size))
    radius = rng.uniform(overlap / 2, 90)
    centre = rng.uniform(radius, [width - radius, height - radius])
    small = min(0.17 * radius, overlap / 2 - MARGIN - 0.5)  # fits between disk and corner, and into the overlap
    corners = np.column_stack([centre + CORNERS * (radius - small), np.full(4, small)])
    disks = np.concatenate([[[*centre, radius]], corners])
    crowns = merge(look(disks, width, height, windows_of(width, height, size, overlap), rng), MergeConfig())
    assert_found(crowns, disks)


@pytest.mark.parametrize(("size", "overlap"), [(64, 24), (100, 40), (128, 90), (250, 60)])
def test_a_stand_of_disks_is_counted_exactly_with_noise_and_in_rows(size, overlap):
    rng = np.random.default_rng(size)
    grid = np.stack(np.meshgrid(np.arange(14, 490, 22.0), np.arange(14, 490, 22.0)), -1).reshape(-1, 2)
    disks = np.column_stack([grid + rng.uniform(-2, 2, grid.shape), rng.uniform(6, 9.5, len(grid))])
    windows = windows_of(500, 500, size, overlap)
    candidates = look(disks, 500, 500, windows, rng, noise=0.3)
    merger, parts = CrownMerger(MergeConfig()), []
    tops = sorted({window.row for window in windows})
    for top, following in zip(tops, [*tops[1:], np.inf], strict=True):
        row = candidates.take(candidates.windows[:, 1] == top)
        parts.append(merger.push(row, next_top=following))
        assert len(merger.open) <= 2 * len(row)
    assert len(merger.open) == 0
    assert len(concat(parts)) == len(disks)
    assert not concat(parts).cut.any()


def test_a_crown_wider_than_the_overlap_takes_score_and_attributes_of_its_best_part():
    left = candidate((50, 10, 100, 60), (0, 0, 100, 100), RIGHT, score=0.6, order=1, status=(0.2, 0.8))
    right = candidate((60, 11, 110, 60), (60, 0, 160, 100), LEFT, score=0.7, order=2, status=(0.9, 0.1))
    crowns = merge(concat([left, right]), MergeConfig())
    np.testing.assert_array_equal(crowns.boxes, [[50, 10, 110, 60]])
    np.testing.assert_array_equal(crowns.attributes["status"], right.attributes["status"])
    assert (crowns.scores[0], crowns.sides[0], crowns.order[0]) == (np.float32(0.7), 0, 2)


def test_a_joined_crown_touches_the_end_of_imagery_if_a_part_does():
    left = candidate((50, 10, 100, 60), (0, 0, 100, 100), RIGHT, score=0.6, order=1)
    right = candidate((60, 11, 110, 60), (60, 0, 160, 100), LEFT, score=0.7, order=2)
    assert merge(concat([left, right]), MergeConfig()).edge.tolist() == [False]
    assert merge(concat([left.with_edge(np.array([True])), right]), MergeConfig()).edge.tolist() == [True]


def test_a_joined_crown_stays_cut_where_no_part_saw_its_end():
    left = candidate((50, 40, 100, 100), (0, 0, 100, 100), RIGHT | BOTTOM, order=1)
    right = candidate((60, 40, 110, 100), (60, 0, 160, 100), LEFT | BOTTOM, order=2)
    assert merge(concat([left, right]), MergeConfig()).sides.tolist() == [BOTTOM]


def test_windows_without_overlap_are_joined_at_the_seam():
    upper = candidate((10, 50, 60, 99), (0, 0, 100, 100), BOTTOM, order=1)
    lower = candidate((12, 101, 58, 140), (0, 100, 100, 200), TOP, order=2)
    np.testing.assert_array_equal(merge(concat([upper, lower]), MergeConfig()).boxes, [[10, 50, 60, 140]])


def test_the_end_that_one_part_saw_is_not_the_end_of_a_longer_part():
    left = candidate((50, 10, 100, 60), (0, 0, 100, 100), RIGHT, order=1)
    right = candidate((60, 10, 110, 100), (60, 0, 160, 100), LEFT | BOTTOM, order=2)
    assert merge(concat([left, right]), MergeConfig()).sides.tolist() == [BOTTOM]


def test_a_shorter_view_never_drops_a_longer_one():
    longer = candidate((55, 10, 150, 50), (55, 0, 155, 100), LEFT, score=0.5, order=1)
    shorter = candidate((110, 10, 150, 50), (110, 0, 210, 100), LEFT, score=0.9, order=2)
    crowns = merge(concat([longer, shorter]), MergeConfig())
    np.testing.assert_array_equal(crowns.boxes, longer.boxes)
    assert (crowns.scores[0], crowns.sides[0]) == (np.float32(0.9), LEFT)


def test_cut_crowns_beside_each_other_along_the_seam_are_not_joined():
    left = candidate((20, 10, 100, 60), (0, 0, 100, 100), RIGHT, order=1)
    right = candidate((60, 50, 130, 95), (60, 0, 160, 100), LEFT, order=2)
    np.testing.assert_array_equal(merge(concat([left, right]), MergeConfig()).boxes, [left.boxes[0], right.boxes[0]])


def test_cut_crowns_that_end_within_the_overlap_are_not_joined():
    left = candidate((75, 10, 100, 60), (0, 0, 100, 100), RIGHT, order=1)
    right = candidate((60, 20, 85, 70), (60, 0, 160, 100), LEFT, order=2)
    np.testing.assert_array_equal(merge(concat([left, right]), MergeConfig()).boxes, [left.boxes[0], right.boxes[0]])


def test_two_detections_of_one_window_are_never_joined():
    better = candidate((1, 10, 100, 60), (0, 0, 100, 100), RIGHT, score=0.8, order=1)
    worse = candidate((0, 15, 99, 62), (0, 0, 100, 100), LEFT, score=0.7, order=2)
    np.testing.assert_array_equal(merge(concat([better, worse]), MergeConfig()).boxes, better.boxes)


def test_parts_of_different_classes_are_joined_unless_per_class():
    left = candidate((50, 10, 100, 60), (0, 0, 100, 100), RIGHT, order=1)
    right = candidate((60, 10, 110, 60), (60, 0, 160, 100), LEFT, order=2)
    object.__setattr__(right, "classes", np.array([1]))
    assert len(merge(concat([left, right]), MergeConfig())) == 1
    assert len(merge(concat([left, right]), MergeConfig(per_class=True))) == 2


def test_a_detection_waits_for_the_crown_that_will_cover_it():
    """Two parts, each too small to drop a third detection, do so when joined; none of the three can still grow."""
    parts = [
        candidate((20, 10, 100, 50), (0, 0, 100, 100), RIGHT, score=0.9, order=1),
        candidate((95, 10, 180, 50), (95, 0, 195, 100), LEFT, score=0.9, order=2),
        candidate((60, 12, 140, 48), (50, 12, 150, 112), TOP, score=0.1, order=3),
        # These two reach the next row, and hold the first part back with them.
        candidate((20, 20, 100, 60), (0, 0, 100, 100), 0, score=0.3, order=4),
        candidate((20, 40, 100, 60), (0, 0, 100, 100), 0, score=0.5, order=5),
    ]
    merger = CrownMerger(MergeConfig())
    assert len(merger.push(concat(parts), next_top=57)) == 0
    assert merger.flush().boxes.tolist() == [[20, 10, 180, 50], [20, 40, 100, 60]]


def test_what_no_later_row_can_reach_is_closed_at_once():
    upper, lower = (candidate((10, y, 40, y + 30), (0, 0, 100, 100), 0, order=y) for y in (10, 60))
    merger = CrownMerger(MergeConfig())
    assert merger.push(concat([upper, lower]), next_top=60).order.tolist() == [10]
    assert merger.open.order.tolist() == [60]
    assert merger.flush().order.tolist() == [60]
    assert len(merger.open) == 0


def test_what_another_shard_may_reach_stays_open():
    upper, lower = (candidate((10, y, 40, y + 30), (0, 90, 100, 190), 0, order=y) for y in (95, 140))
    merger = CrownMerger(MergeConfig(), above=100)
    assert merger.push(concat([upper, lower]), next_top=np.inf).order.tolist() == [140]
    assert merger.open.order.tolist() == [95]


def test_rows_out_of_order_are_refused():
    merger = CrownMerger(MergeConfig())
    merger.push(Candidates.empty(), next_top=60)
    with pytest.raises(ConfigError, match="top to bottom"):
        merger.push(candidate((10, 59, 40, 80), (0, 0, 100, 100), 0), next_top=120)


def test_no_detections_are_no_crowns_with_the_same_attributes():
    merger = CrownMerger(MergeConfig())
    crowns = concat([merger.push(Candidates.empty({"status": 2}), next_top=10), merger.flush()])
    assert len(crowns) == 0
    assert crowns.attributes["status"].shape == (0, 2)


def test_candidates_of_different_attributes_are_refused():
    one, other = (candidate((0, 0, 1, 1), (0, 0, 9, 9), 0, **{name: (0.5, 0.5)}) for name in ("status", "species"))
    with pytest.raises(ConfigError, match="species"):
        concat([one, other])


@pytest.mark.parametrize("name", ["scores", "windows", "order", "edge"])
def test_arrays_of_different_length_are_refused(name):
    values = {
        key: getattr(Candidates.empty(), key)
        for key in ("boxes", "scores", "classes", "sides", "windows", "order", "edge")
    }
    with pytest.raises(ConfigError, match=name):
        Candidates(**{**values, name: np.zeros(3)})


def test_placing_clips_to_the_window_and_numbers_by_window():
    found = Detections(
        np.array([[-1, 2, 30, 51]], np.float32),
        np.ones(1, np.float32),
        np.zeros(1, np.int64),
        np.array([3], np.uint8),
    )
    first, second = (place(found, Window(row=100, col=10, height=50, width=50), number) for number in (1, 2))
    np.testing.assert_array_equal(first.boxes, [[10, 102, 40, 150]])
    np.testing.assert_array_equal(first.windows, [[10, 100, 60, 150]])
    assert first.order[0] < second.order[0]
    assert first.boxes.dtype == np.float64


def test_slices_share_memory():
    candidates = concat([candidate((0, 0, 1, 1), (0, 0, 9, 9), 0, order=k) for k in range(4)])
    assert np.shares_memory(candidates.take(slice(1, 3)).boxes, candidates.boxes)
