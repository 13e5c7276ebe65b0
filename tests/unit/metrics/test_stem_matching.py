import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treedet.errors import ConfigError
from treedet.metrics.stem_matching import AMBIGUOUS, MATCHED, UNMATCHED, match_stems

ALONE = np.array([[0.0, 0, 4, 4]])
TOUCHING = np.array([[0.0, 0, 4, 4], [4, 0, 8, 4]])


def places(*rows):
    return np.array(rows, float).reshape(-1, 2)


def test_the_larger_stem_has_the_crown_though_a_smaller_one_is_nearer():
    found = match_stems(places([2, 2.1], [1.2, 2]), ALONE, sizes=np.array([9.0, 40]))
    assert found.fate.tolist() == [UNMATCHED, MATCHED]
    assert found.crown.tolist() == [-1, 0]
    assert found.rival_stem.tolist() == [1, -1]
    assert found.distance_m[1] == pytest.approx(0.8)


def test_without_sizes_the_nearest_has_it():
    found = match_stems(places([1.2, 2], [2, 2.1]), ALONE)
    assert found.fate.tolist() == [UNMATCHED, MATCHED]


def test_a_stem_without_size_chooses_last():
    found = match_stems(places([2, 2], [1, 2]), ALONE, sizes=np.array([np.nan, 3]))
    assert found.fate.tolist() == [UNMATCHED, MATCHED]


def test_the_second_best_crown_is_taken_where_the_best_is_gone():
    found = match_stems(places([2, 2], [3.3, 2]), TOUCHING, sizes=np.array([40.0, 20]))
    assert found.crown.tolist() == [0, 1]
    assert found.fate.tolist() == [MATCHED, MATCHED]


def test_a_stem_between_two_crowns_is_ambiguous_and_keeps_its_best_from_smaller_ones():
    found = match_stems(places([3.9, 2], [2.2, 2]), TOUCHING, sizes=np.array([40.0, 20]))
    assert found.fate.tolist() == [AMBIGUOUS, UNMATCHED]
    assert (found.crown[0], found.rival_crown[0]) == (0, 1)
    assert found.rival_stem[1] == 0


def test_it_is_not_where_its_second_crown_is_taken():
    found = match_stems(places([3.9, 2], [6, 2]), TOUCHING, sizes=np.array([40.0, 60]))
    assert found.fate.tolist() == [MATCHED, MATCHED]


@pytest.mark.parametrize(
    ("size", "x", "fate"),
    [(38.0, 3.05, AMBIGUOUS), (20.0, 3.05, MATCHED), (38.0, 3.9, MATCHED), (38.0, 2.1, AMBIGUOUS)],
)
def test_two_stems_of_a_size_at_a_distance_are_not_told_apart(size, x, fate):
    found = match_stems(places([1, 2], [x, 2]), ALONE, sizes=np.array([40.0, size]))
    assert found.fate[0] == fate
    assert (found.fate[1] == AMBIGUOUS) == (fate == AMBIGUOUS)
    if fate == AMBIGUOUS:
        assert found.rival_stem.tolist() == [1, 0]


def test_the_reach_is_the_radius_and_a_metre_or_what_is_asked_for():
    beyond = places([2, 5.1])
    assert match_stems(places([2, 4.9]), ALONE).fate[0] == MATCHED
    assert match_stems(beyond, ALONE).fate[0] == UNMATCHED
    assert match_stems(beyond, ALONE, max_distance=3.2).fate[0] == MATCHED
    # A stem in a crown is within reach however short that is.
    assert match_stems(places([2, 3.5]), ALONE, max_distance=0.1).fate[0] == MATCHED


def test_a_stem_that_is_nowhere_and_no_crowns_at_all_are_no_trouble():
    assert match_stems(places([np.nan, 1]), ALONE).fate.tolist() == [UNMATCHED]
    assert match_stems(places([1, 1]), np.zeros((0, 4))).fate.tolist() == [UNMATCHED]
    assert len(match_stems(np.zeros((0, 2)), ALONE).fate) == 0


@pytest.mark.parametrize("distance", [0.0, -1.0, np.nan])
def test_a_reach_that_is_none_is_refused(distance):
    with pytest.raises(ConfigError, match="max_distance must be a positive number of metres"):
        match_stems(places([1, 1]), ALONE, max_distance=distance)


@st.composite
def stands(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    stems, crowns = draw(st.integers(1, 40)), draw(st.integers(1, 25))
    # A coarse grid of places and sizes makes ties.
    step = draw(st.sampled_from([1.0, 0.25, 0.01]))
    centre, half = rng.integers(0, 20 / step, (crowns, 2)) * step, rng.uniform(0.5, 4, (crowns, 1))
    sizes = rng.choice([10.0, 11, 20, 40, np.nan], stems) if draw(st.booleans()) else None
    return rng.integers(0, 20 / step, (stems, 2)) * step, np.hstack([centre - half, centre + half]), sizes


@settings(deadline=None, max_examples=150)
@given(stands())
def test_matching_is_one_to_one_and_every_stem_has_one_fate(stand):
    stems, crowns, sizes = stand
    found = match_stems(stems, crowns, sizes=sizes)
    taken = found.crown[found.matched]
    assert len(np.unique(taken)) == len(taken)
    assert set(found.fate) <= {MATCHED, AMBIGUOUS, UNMATCHED}
    assert ((found.crown >= 0) == (found.fate != UNMATCHED)).all()
    # What an ambiguous stem may own is nobody's.
    assert not set(found.crown[found.fate == AMBIGUOUS]) & set(taken)
    centre = (crowns[:, :2] + crowns[:, 2:]) / 2
    assert np.allclose(np.hypot(*(stems - centre[found.crown]).T)[found.matched], found.distance_m[found.matched])


@settings(deadline=None, max_examples=100)
@given(stands(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(stand, random):
    stems, crowns, sizes = stand
    stems, first = np.unique(stems, axis=0, return_index=True)
    sizes = None if sizes is None else sizes[first]
    order = np.array(random.sample(range(len(stems)), len(stems)))
    one = match_stems(stems, crowns, sizes=sizes)
    other = match_stems(stems[order], crowns, sizes=None if sizes is None else sizes[order])
    assert one.fate[order].tolist() == other.fate.tolist()
    assert one.crown[order].tolist() == other.crown.tolist()
