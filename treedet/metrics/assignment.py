"""The assignment problem on sparse pairs: which partners make the heaviest one-to-one matching."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Index: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]

STEP = 1e-13
"""Least raise of a bid, as a share of the largest weight: the matching is that much per node short of the best."""
LOOKS = 30
"""How often, on average, the auction looks at a pair before nodes still without a partner are placed one by one."""
ROUNDS = 1000
"""Rounds of the auction, at most."""


def assign(first: Index, second: Index, weight: Floats) -> Index:
    """Choose pairs so that no node comes twice and the total weight is largest (assignment problem, Kuhn 1955).

    Solved by an auction (Bertsekas 1988) in which all nodes of one side bid at once, as array operations. Where nodes
    outbid each other by next to nothing (three of them want the same two twins), it would take forever: those still
    without a partner are then placed by shortest augmenting paths (Jonker and Volgenant 1987), starting from the
    prices reached. Both look at a node's neighbourhood alone, so the time grows with the number of pairs, however
    large the connected components are. The total is the largest up to rounding.

    Args:
        first: Int64 ``[P]``, node of each candidate pair on one side; any numbers from 0.
        second: Int64 ``[P]``, node of each pair on the other side. No pair comes twice.
        weight: Float64 ``[P]``, above 0.

    Returns:
        Int64 ``[K]``, positions of the chosen pairs, ascending.

    >>> assign(np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([0.9, 0.8, 0.7])).tolist()
    [1, 2]
    """
    if not len(first):
        return np.zeros(0, np.int64)
    order = np.argsort(first, kind="stable")
    market = _Market.of(first[order], second[order], np.asarray(weight, np.float64)[order])
    waiting = _auction(market)
    if len(waiting):
        _place(market, waiting)
    return np.sort(order[market.held[market.held >= 0]])


@dataclass(frozen=True, eq=False)
class _Market:
    """Rows that each want one column, and what the columns cost so far.

    Prices and the pairs held change in place. Throughout, a row holds a column that profits it most within a step,
    or holds none and nothing would profit it; a column that is not held costs nothing. When no row waits, these are
    the optimality conditions of the linear programme.
    """

    row: Index
    column: Index
    weight: Floats
    start: Index
    """First pair of each row, and the number of pairs; the pairs of a row lie together."""
    price: Floats
    held: Index
    """The pair that holds each column; -1 for none."""

    @classmethod
    def of(cls, first: Index, second: Index, weight: Floats) -> _Market:
        _, row = np.unique(first, return_inverse=True)
        columns, column = np.unique(second, return_inverse=True)
        start = np.concatenate([[0], np.cumsum(np.bincount(row))])
        return cls(row, column, weight, start, np.zeros(len(columns)), np.full(len(columns), -1))


def _auction(market: _Market) -> Index:
    """Let rows bid until each has a partner or wants none; return the rows still waiting when it takes too long."""
    step = STEP * float(market.weight.max())
    looks = LOOKS * len(market.row)
    waiting = np.arange(len(market.start) - 1)
    for _ in range(ROUNDS):
        size = market.start[waiting + 1] - market.start[waiting]
        looks -= int(size.sum())
        if not len(waiting) or looks < 0:
            break
        pair, bid = _bids(market, waiting, size)
        if not len(pair):
            return pair
        bid += step
        # Of the bids for a column the last of its stretch is the highest.
        order = np.lexsort((bid, market.column[pair]))
        pair, bid = pair[order], bid[order]
        column = market.column[pair]
        won = np.append(column[1:] != column[:-1], True)
        losers = market.row[pair[~won]]
        before = market.held[column[won]]
        market.held[column[won]], market.price[column[won]] = pair[won], bid[won]
        waiting = np.concatenate([losers, market.row[before[before >= 0]]])
    return waiting


def _bids(market: _Market, rows: Index, size: Index) -> tuple[Index, Floats]:
    """Return the pair each row wants most, and the price at which its next best would do as well.

    Rows that nothing profits are left out for good, as prices only rise.
    """
    begin = np.cumsum(size) - size
    pair = np.arange(int(size.sum())) + np.repeat(market.start[rows] - begin, size)
    profit = market.weight[pair] - market.price[market.column[pair]]
    most = np.maximum.reduceat(profit, begin)
    at_most = np.flatnonzero(profit == np.repeat(most, size))
    best = at_most[np.searchsorted(at_most, begin)]
    profit[best] = 0.0
    following = np.maximum(np.maximum.reduceat(profit, begin), 0.0)
    wanted = most > 0
    chosen = pair[best[wanted]]
    return chosen, market.price[market.column[chosen]] + most[wanted] - following[wanted]


def _place(market: _Market, waiting: Index) -> None:
    """Place the rows one by one, each by a shortest augmenting path."""
    paths = _Paths(
        market.row.tolist(),
        market.column.tolist(),
        market.weight.tolist(),
        market.start.tolist(),
        market.price.tolist(),
        market.held.tolist(),
    )
    for row in waiting.tolist():
        paths.place(row)
    market.held[:] = paths.held


@dataclass(frozen=True, eq=False)
class _Reached:
    """What a search has reached: the columns' distances, the pairs they were reached by, and what to look at next."""

    distance: dict[int, float] = field(default_factory=dict)
    pair: dict[int, int] = field(default_factory=dict)
    heap: list[tuple[float, int]] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class _Paths:
    """A market as plain lists: single numbers are read faster from them than from arrays."""

    row: list[int]
    column: list[int]
    weight: list[float]
    start: list[int]
    price: list[float]
    held: list[int]

    def place(self, row: int) -> None:
        """Find a row the place that costs least: a free column, or that it or a row it displaces goes without.

        Dijkstra's search over columns; the distance is the profit that the rows displaced give up.
        """
        reached = _Reached()
        lost_by: dict[int, int] = {}
        done: dict[int, float] = {}
        cost, last = self._look(row, 0.0, reached), -1
        while reached.heap:
            distance, column = heapq.heappop(reached.heap)
            if distance >= cost:
                break
            if column in done:
                continue
            done[column] = distance
            if self.held[column] < 0:
                cost, last = distance, column
                break
            holder = self.row[self.held[column]]
            lost_by[holder] = column
            without = self._look(holder, distance, reached)
            if without < cost:
                cost, last = without, column
        for column, distance in done.items():
            self.price[column] += max(0.0, cost - distance)
        while last >= 0:
            self.held[last] = reached.pair[last]
            last = lost_by.get(self.row[reached.pair[last]], -1)

    def _look(self, row: int, so_far: float, reached: _Reached) -> float:
        """Note what the columns of a row cost it; return the cost of going without."""
        pairs = range(self.start[row], self.start[row + 1])
        profit = [self.weight[pair] - self.price[self.column[pair]] for pair in pairs]
        most = max(0.0, *profit)
        for pair, gain in zip(pairs, profit, strict=True):
            # Added in this order a distance is never below the one before it, so that no path closes on itself.
            column, distance = self.column[pair], so_far + (most - gain)
            if distance < reached.distance.get(column, float("inf")):
                reached.distance[column], reached.pair[column] = distance, pair
                heapq.heappush(reached.heap, (distance, column))
        return so_far + most
