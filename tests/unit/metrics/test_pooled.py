import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from treedet.metrics.matching import settle
from treedet.metrics.paired import PairedCrowns
from treedet.metrics.pooled import Pool


def one_after_the_other(truth: list[int], predicted: list[int], predictions: int) -> list[int]:
    taken = [-1] * predictions
    for t, p in zip(truth, predicted, strict=True):
        if taken[p] < 0 and t not in taken:
            taken[p] = t
    return taken


@settings(deadline=None, max_examples=80)
@given(st.lists(st.lists(st.integers(0, 7), unique=True, max_size=8), max_size=10))
def test_asking_together_settles_what_choosing_in_turn_would(lists: list[list[int]]) -> None:
    predicted = [p for p, wanted in enumerate(lists) for _ in wanted]
    truth = [t for wanted in lists for t in wanted]
    found = settle(np.array(truth, np.int64), np.array(predicted, np.int64), truths=8, predictions=len(lists))
    assert found.tolist() == one_after_the_other(truth, predicted, len(lists))


def test_a_chain_in_which_each_displaces_the_next_is_settled() -> None:
    # Prediction k asks for truth k - 1 first, which every earlier one ends up holding.
    n = 500
    predicted = np.repeat(np.arange(n), 2)[1:]
    truth = predicted - np.append(0, np.tile([1, 0], n - 1))
    assert settle(truth, predicted, truths=n, predictions=n).tolist() == list(range(n))


def test_crowns_of_different_rasters_never_pair() -> None:
    box = np.array([[0.0, 0, 4, 4]])
    rasters = [
        PairedCrowns(box, np.zeros((0, 4)), np.zeros(0, np.float32)),
        PairedCrowns(np.zeros((0, 4)), box, np.ones(1, np.float32)),
        PairedCrowns(box, box, np.ones(1, np.float32)),
    ]
    pool = Pool.of(rasters, least=0.4, by_class=False)
    assert pool.pair_truth.tolist() == [1]
    assert pool.pair_predicted.tolist() == [1]
