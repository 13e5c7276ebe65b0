import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from treedet.metrics import assignment
from treedet.metrics.assignment import assign


def random_pairs(seed: int, *, nodes: int, share: float, levels: int | None = None):
    """Return random distinct pairs of sparse node numbers, with weights of few levels where ties are wanted."""
    rng = np.random.default_rng(seed)
    table = rng.random((nodes, nodes)) * (rng.random((nodes, nodes)) < share)
    if levels:
        table = np.ceil(table * levels) / levels
    first, second = np.nonzero(table)
    shuffle = rng.permutation(len(first))
    return 3 * first[shuffle], 7 * second[shuffle] + 2, table[first, second][shuffle], table


def best_total(table: np.ndarray) -> float:
    return float(table[linear_sum_assignment(table, maximize=True)].sum())


@pytest.mark.parametrize("rounds", [assignment.ROUNDS, 3, 0])
@pytest.mark.parametrize("levels", [None, 2])
@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000), nodes=st.integers(1, 25), share=st.floats(0.02, 0.9))
def test_the_total_weight_is_that_of_a_dense_solution(rounds, levels, seed, nodes, share):
    first, second, weight, table = random_pairs(seed, nodes=nodes, share=share, levels=levels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assignment, "ROUNDS", rounds)
        chosen = assign(first, second, weight)
    assert len(np.unique(first[chosen])) == len(np.unique(second[chosen])) == len(chosen)
    assert weight[chosen].sum() == pytest.approx(best_total(table), rel=1e-12)
    assert (np.diff(chosen) > 0).all()


def test_one_large_component():
    n = 300
    rng = np.random.default_rng(1)
    near = (np.arange(n)[:, None] + rng.integers(-3, 4, (n, 6))) % n
    table = np.zeros((n, n))
    table[np.repeat(np.arange(n), 6), near.ravel()] = rng.uniform(0.4, 0.6, near.size)
    first, second = np.nonzero(table)
    chosen = assign(first, second, table[first, second])
    assert table[first, second][chosen].sum() == pytest.approx(best_total(table), rel=1e-12)


def test_three_that_want_the_same_two_do_not_outbid_each_other_for_ever():
    triples = np.arange(200)
    first = (3 * triples[:, None, None] + np.arange(3)[:, None] + np.zeros(2, int)).ravel()
    second = (2 * triples[:, None, None] + np.zeros((3, 1), int) + np.arange(2)).ravel()
    weight = np.full(len(first), 0.5)
    chosen = assign(first, second, weight)
    assert len(chosen) == len(np.unique(second[chosen])) == len(np.unique(first[chosen])) == 400


def test_a_heavy_pair_gives_way_to_two_that_weigh_more_together():
    first, second = np.array([0, 0, 1]), np.array([0, 1, 0])
    assert assign(first, second, np.array([0.6, 0.4, 0.3])).tolist() == [1, 2]
    assert assign(first, second, np.array([0.8, 0.4, 0.3])).tolist() == [0]


def test_nothing_to_choose_from():
    none = np.zeros(0, np.int64)
    chosen = assign(none, none, np.zeros(0))
    assert chosen.dtype == np.int64
    assert chosen.shape == (0,)
