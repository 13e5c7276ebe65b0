"""One-to-one matching of predicted crowns to annotated ones."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from treedet.core.boxes import Boxes, iou
from treedet.core.neighbours import overlapping_pairs

Index: TypeAlias = npt.NDArray[np.int64]


def match_boxes(truth: Boxes, predicted: Boxes, *, iou_threshold: float = 0.4) -> tuple[Index, Index]:
    """Match boxes one to one so that the sum of overlaps is largest (Hungarian assignment, Kuhn 1955).

    Solved for each group of overlapping boxes alone, so the cost grows with the number of crowns, not its cube.

    Args:
        truth: Float ``[N, 4]``.
        predicted: Float ``[M, 4]``.
        iou_threshold: A pair counts where its intersection over union is above this.

    Returns:
        Int64 ``[K]`` positions in ``truth`` and in ``predicted``.

    >>> t, p = match_boxes(np.array([[0.0, 0, 4, 4], [9, 9, 12, 12]]), np.array([[0.0, 0, 4, 5]]))
    >>> t.tolist(), p.tolist()
    ([0], [0])
    """
    a, b = overlapping_pairs(np.asarray(truth, np.float64), np.asarray(predicted, np.float64))
    if not len(a):
        none = np.zeros(0, np.int64)
        return none, none
    overlap = iou(truth[a], predicted[b])
    n, m = len(truth), len(predicted)
    graph = coo_array((np.ones(len(a), bool), (a, b + n)), shape=(n + m, n + m))
    _, group = connected_components(graph, directed=False)
    order = np.argsort(group[a], kind="stable")
    starts = np.flatnonzero(np.diff(group[a][order], prepend=-1))
    found_t, found_p = [], []
    for pairs in np.split(order, starts[1:]):
        rows, i = np.unique(a[pairs], return_inverse=True)
        columns, j = np.unique(b[pairs], return_inverse=True)
        weight = np.zeros((len(rows), len(columns)))
        weight[i, j] = overlap[pairs]
        r, c = linear_sum_assignment(weight, maximize=True)
        good = weight[r, c] > iou_threshold
        found_t.append(rows[r[good]])
        found_p.append(columns[c[good]])
    return np.concatenate(found_t), np.concatenate(found_p)
