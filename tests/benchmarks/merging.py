"""Time and memory of merging: boxes at once and row by row, in open and in closed canopy.

Run with ``python tests/benchmarks/merging.py [boxes ...]``.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from treedet.core.boxes import cut_sides
from treedet.core.neighbours import overlapping_pairs
from treedet.core.suppression import MergeConfig
from treedet.inference.merge import Candidates, CrownMerger, concat, merge

WINDOW, OVERLAP = 400, 80
CANOPIES = {"sparse": 80.0, "closed": 36.0}
"""Mean distance of stems in pixels, for crowns of 20 to 60 pixels."""


def rows_of_windows(n, spacing, rng):
    """Return ``(top, candidates)`` of each row of windows of a square raster with about ``n`` detections."""
    step = WINDOW - OVERLAP
    side = spacing * np.sqrt(n) * step / WINDOW
    count = max(1, round((side - WINDOW) / step) + 1)
    side = WINDOW + (count - 1) * step
    grid = np.arange(0, side, spacing)
    centres = np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2)
    centres = centres + rng.normal(0, spacing / 6, centres.shape)
    half = rng.uniform(10, 30, (len(centres), 1)) * rng.uniform(0.9, 1.1, centres.shape)
    crowns = np.concatenate([centres - half, centres + half], axis=1)
    rows = []
    for row in range(count):
        near = crowns[(crowns[:, 3] > row * step) & (crowns[:, 1] < row * step + WINDOW)]
        column = np.repeat(np.arange(count), len(near))
        seen = near[np.tile(np.arange(len(near)), count)] if count * len(near) < 5e7 else near
        origin = np.stack([column * step, np.full(len(column), row * step)], -1).astype(float)
        inside = (seen[:, 2] > origin[:, 0] + 3) & (seen[:, 0] < origin[:, 0] + WINDOW - 3)
        inside &= (seen[:, 3] > origin[:, 1] + 3) & (seen[:, 1] < origin[:, 1] + WINDOW - 3)
        boxes, origin, column = seen[inside], origin[inside], column[inside]
        local = boxes - np.tile(origin, 2) + rng.normal(0, 0.7, boxes.shape)
        local = np.clip(local, 0, WINDOW)
        sides = cut_sides(local, width=WINDOW, height=WINDOW, sides=15, margin=2.0)
        order = ((row * count + column) << 32) + np.arange(len(column))
        rows.append(
            (
                row * step,
                Candidates(
                    boxes=local + np.tile(origin, 2),
                    scores=rng.random(len(local)).astype(np.float32),
                    classes=np.zeros(len(local), np.int64),
                    sides=sides,
                    windows=np.concatenate([origin, origin + WINDOW], axis=1),
                    order=order,
                    edge=np.zeros(len(local), bool),
                ),
            )
        )
    return rows


def stream(rows, config):
    """Merge row by row; return the number of crowns and the most detections that were open at once."""
    merger, crowns, most = CrownMerger(config), 0, 0
    tops = [top for top, _ in rows[1:]] + [np.inf]
    for (_, candidates), top in zip(rows, tops, strict=True):
        crowns += len(merger.push(candidates, next_top=top))
        most = max(most, len(merger.open))
    return crowns + len(merger.flush()), most


def timed(call, *args):
    start = time.perf_counter()
    result = call(*args)
    return result, time.perf_counter() - start


def measure(n, canopy):
    """Return counts and seconds of merging about ``n`` boxes, at once and row by row."""
    config = MergeConfig()
    rows = rows_of_windows(n, CANOPIES[canopy], np.random.default_rng(0))
    everything = concat([candidates for _, candidates in rows])
    _, pairs_s = timed(overlapping_pairs, everything.boxes)
    crowns, at_once_s = timed(merge, everything, config)
    (count, most), rows_s = timed(stream, rows, config)
    assert count == len(crowns), (count, len(crowns))
    return {
        "canopy": canopy,
        "boxes": len(everything),
        "crowns": count,
        "pairs_s": pairs_s,
        "at_once_s": at_once_s,
        "rows_s": rows_s,
        "largest_row": max(len(candidates) for _, candidates in rows),
        "most_open": most,
    }


def main(sizes):
    print(f"{'canopy':8}{'boxes':>10}{'crowns':>10}{'pairs s':>9}{'at once s':>11}{'rows s':>9}", end="")
    print(f"{'largest row':>13}{'most open':>11}")
    for canopy in CANOPIES:
        for n in sizes:
            m = measure(n, canopy)
            print(f"{canopy:8}{m['boxes']:>10}{m['crowns']:>10}{m['pairs_s']:>9.2f}{m['at_once_s']:>11.2f}", end="")
            print(f"{m['rows_s']:>9.2f}{m['largest_row']:>13}{m['most_open']:>11}")


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [100_000, 200_000, 1_000_000])
