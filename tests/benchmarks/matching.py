"""Time of matching as many predictions as crowns on one raster: the pairs that overlap, greedy, and Hungarian.

Run with ``python tests/benchmarks/matching.py [crowns ...]``; prints JSON. In sparse canopy crowns hardly touch, in
closed canopy each overlaps its neighbours. The third kind has such poor predictions over closed canopy that nearly
all crowns hang together in one component, and most of them have no clear partner.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from machine import commit, machine, versions
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from treedet.metrics.matching import Overlaps, greedy, hungarian

CANOPIES = {"sparse": (8.0, 5.0, 0.1), "closed": (4.0, 5.0, 0.1), "closed, predictions off": (4.0, 6.0, 0.3)}
"""Metres between stems, metres of crown diameter, and how far predictions are off, as a share of the diameter."""


def forest(n, canopy):
    """Return boxes of ``n`` crowns, of predictions of them in random order, and the scores of those."""
    spacing, diameter, off = CANOPIES[canopy]
    rng = np.random.default_rng(0)
    row, column = np.divmod(np.arange(n), int(np.ceil(np.sqrt(n))))
    centre = np.stack([column, row], axis=1) * spacing + rng.uniform(-0.3, 0.3, (n, 2)) * spacing
    size = diameter * rng.lognormal(0, 0.3, (n, 2))
    there, as_large = centre + rng.normal(0, off * diameter, (n, 2)), size * rng.lognormal(0, 0.15, (n, 2))
    truth = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
    predicted = np.concatenate([there - as_large / 2, there + as_large / 2], axis=1)
    return truth, predicted[rng.permutation(n)], rng.random(n).astype(np.float32)


def timed(call, *args):
    """Return the result, and the seconds of the fastest of three runs."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        result = call(*args)
        seconds.append(time.perf_counter() - start)
    return result, round(min(seconds), 3)


def measure(n, canopy):
    truth, predicted, scores = forest(n, canopy)
    overlaps, finding = timed(Overlaps.of, truth, predicted)
    by_score, greedy_s = timed(greedy, overlaps, scores)
    best, hungarian_s = timed(hungarian, overlaps)
    graph = coo_array((np.ones(len(overlaps)), (overlaps.truth, overlaps.predicted + n)), shape=(2 * n, 2 * n))
    return {
        "canopy": canopy,
        "crowns": n,
        "pairs": len(overlaps),
        "largest_component": int(np.bincount(connected_components(graph, directed=False)[1]).max()),
        "overlaps_s": finding,
        "greedy_s": greedy_s,
        "hungarian_s": hungarian_s,
        "greedy_matched": len(by_score),
        "hungarian_matched": len(best),
    }


if __name__ == "__main__":
    sizes = [int(argument) for argument in sys.argv[1:]] or [25_000, 50_000, 100_000]
    rows = [measure(n, canopy) for canopy in CANOPIES for n in sizes]
    about = {"commit": commit(), "machine": machine(), "versions": versions()}
    sys.stdout.write(json.dumps({**about, "matching": rows}, indent=1) + "\n")
