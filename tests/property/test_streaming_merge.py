"""Merging row by row, or in shards, gives what merging all at once gives."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from treedet.core.suppression import MergeConfig
from treedet.inference.merge import Candidates, CrownMerger, concat, merge

configs = st.builds(
    MergeConfig,
    iou_threshold=st.sampled_from([0.0, 0.2, 0.4, 0.7, 1.0]),
    ios_threshold=st.sampled_from([0.0, 0.3, 0.6, 0.9]),
    per_class=st.booleans(),
    cut_margin_px=st.sampled_from([0.0, 0.5, 2.0]),
)


@st.composite
def rows_of_windows(draw):
    """Rows ``(top, bottom, candidates)`` of random detections, many of them at window edges, any side cut."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.integers(12, 60))
    step = size - draw(st.integers(0, size * 2 // 3))
    columns, count = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    dense = draw(st.integers(0, 25))
    widest = draw(st.sampled_from([0.2, 0.5, 1.2]))
    at_edges, cut = draw(st.sampled_from([0.0, 0.3, 0.8])), draw(st.sampled_from([0.0, 0.3, 1.0]))
    rows, number = [], 0
    for row in range(count):
        parts = []
        for column in range(columns):
            window = np.array([column * step, row * step, column * step + size, row * step + size], np.float64)
            n = int(rng.integers(0, dense + 1))
            corner = rng.uniform(-0.2 * size, size, (n, 2)).round(int(rng.integers(0, 3)))
            local = np.concatenate([corner, corner + rng.uniform(1, 1 + widest * size, (n, 2))], axis=1)
            near_edge = rng.normal([0, 0, size, size], 1, (n, 4))
            local = np.where(rng.random((n, 4)) < at_edges, near_edge, local)
            local = np.clip(local, 0, size)
            sides = np.where(rng.random(n) < cut, rng.integers(0, 16, n), 0).astype(np.uint8)
            parts.append(
                Candidates(
                    boxes=np.concatenate([local[:, :2], np.maximum(local[:, :2], local[:, 2:])], axis=1)
                    + np.tile(window[:2], 2),
                    scores=rng.random(n).round(int(rng.integers(1, 4))).astype(np.float32),
                    classes=rng.integers(0, 2, n),
                    sides=sides,
                    windows=np.tile(window, (n, 1)),
                    order=number + np.arange(n),
                    edge=rng.random(n) < 0.3,
                    attributes={"status": rng.random((n, 2)).astype(np.float32)},
                )
            )
            number += n
        order = rng.permutation(columns)
        rows.append((row * step, row * step + size, concat([parts[k] for k in order])))
    return rows


def as_set(crowns):
    columns = [crowns.boxes, crowns.windows, crowns.attributes["status"]]
    columns += [v[:, None] for v in (crowns.scores, crowns.classes, crowns.sides, crowns.order, crowns.edge)]
    rows = [tuple(row) for row in np.concatenate(columns, axis=1).tolist()]
    assert len(set(rows)) == len(rows)
    return set(rows)


def sweep(merger, rows, until):
    """Push rows; return what was closed."""
    tops = [top for top, _, _ in rows[1:]] + [until]
    return [merger.push(row, next_top=top) for (_, _, row), top in zip(rows, tops, strict=True)]


@settings(deadline=None, max_examples=150)
@given(rows_of_windows(), configs)
def test_row_by_row_equals_all_at_once(rows, config):
    merger = CrownMerger(config)
    closed = sweep(merger, rows, until=rows[-1][1])
    streamed = concat([*closed, merger.flush()])
    assert as_set(streamed) == as_set(merge(concat([row for _, _, row in rows]), config))
    assert len(merger.open) == 0


@settings(deadline=None, max_examples=100)
@given(rows_of_windows(), configs, st.data())
def test_shards_and_their_open_groups_equal_the_whole(rows, config, data):
    split = data.draw(st.integers(0, len(rows)))
    upper, lower = rows[:split], rows[split:]
    parts, left = [], []
    if upper:
        first = CrownMerger(config)
        parts += sweep(first, upper, until=lower[0][0] if lower else rows[-1][1])
        left.append(first.open)
    if lower:
        second = CrownMerger(config, above=upper[-1][1] if upper else -np.inf)
        parts += sweep(second, lower, until=np.inf)
        left.append(second.open)
    whole = concat([*parts, merge(concat(left), config)])
    assert as_set(whole) == as_set(merge(concat([row for _, _, row in rows]), config))


@settings(deadline=None, max_examples=50)
@given(rows_of_windows(), configs, st.integers(0, 6))
def test_a_restored_merger_goes_on_as_if_never_stopped(rows, config, stop):
    stop = min(stop, len(rows))
    before, after = CrownMerger(config), CrownMerger(config)
    closed = sweep(before, rows[:stop], until=rows[stop][0] if stop < len(rows) else np.inf) if stop else []
    after.restore(before.open)
    closed += sweep(after, rows[stop:], until=np.inf) if stop < len(rows) else []
    assert as_set(concat([*closed, after.flush()])) == as_set(merge(concat([r for _, _, r in rows]), config))


@settings(deadline=None, max_examples=50)
@given(rows_of_windows(), configs, st.integers(0, 2**32 - 1))
def test_the_order_of_arrival_does_not_matter(rows, config, seed):
    everything = concat([row for _, _, row in rows])
    shuffled = everything.take(np.random.default_rng(seed).permutation(len(everything)))
    expected, found = merge(everything, config), merge(shuffled, config)
    np.testing.assert_array_equal(found.order, expected.order)
    assert as_set(found) == as_set(expected)
