import numpy as np

from treedet.compat.difference import difference


def test_every_crown_is_counted_once() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 100, (80, 2))
    first = np.concatenate([corners, corners + rng.uniform(4, 20, (80, 2))], axis=1)
    second = first[20:] + rng.normal(0, 1, (60, 4))
    found = difference(first, second)
    assert found.same + found.moved + found.twins + found.only_first == found.first == 80
    assert found.same + found.moved + found.only_second == found.second == 60
    assert found.twins > 0
    assert len(found.lines()) == 6


def test_runs_without_crowns() -> None:
    none, one = np.zeros((0, 4)), np.array([[0.0, 0, 4, 4]])
    assert difference(none, none).same == 0
    assert difference(one, none).only_first == 1
    assert difference(none, one).only_second == 1
