import numpy as np
import pytest

from treedet.errors import ConfigError
from treedet.metrics.plot_shift import find_shift


def stand(seed=0, count=30, side=45.0):
    """Centres that do not touch, and their boxes."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, side, (4000, 2))
    kept = [places[0]]
    for place in places:
        if len(kept) < count and np.hypot(*(np.array(kept) - place).T).min() > 5:
            kept.append(place)
    centre = np.array(kept)
    half = rng.uniform(1, 2.4, (len(centre), 1))
    return centre, np.hstack([centre - half, centre + half]), rng


@pytest.mark.parametrize("metres", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_shift_is_found_within_half_a_metre_through_noise_and_strangers(seed, metres):
    centre, boxes, rng = stand(seed)
    angle = rng.uniform(0, 2 * np.pi)
    truth = metres * np.array([np.cos(angle), np.sin(angle)])
    stems = np.vstack([centre + rng.normal(0, 0.4, centre.shape), rng.uniform(0, 45, (6, 2))]) - truth
    found = find_shift(stems, boxes)
    assert found.reason == ""
    assert np.hypot(found.dx - truth[0], found.dy - truth[1]) < 0.5
    assert found.after > found.before + 0.05


def test_stems_that_agree_already_stay():
    centre, boxes, _ = stand()
    found = find_shift(centre, boxes)
    assert (found.dx, found.dy, found.reason) == (0, 0, "no clear gain")
    assert found.before == found.after == 1


@pytest.mark.parametrize("seed", range(5))
def test_stems_that_have_nothing_to_do_with_crowns_stay(seed):
    _, boxes, rng = stand(seed)
    found = find_shift(rng.uniform(0, 45, (30, 2)), boxes)
    assert (found.dx, found.dy) == (0, 0)
    assert found.reason


def test_four_stems_say_nothing():
    centre, boxes, _ = stand()
    found = find_shift(centre[:4] + 2, boxes)
    assert (found.dx, found.dy, found.reason) == (0, 0, "fewer than 5 stems")
    assert np.isnan(find_shift(np.full((3, 2), np.nan), boxes).before)


def test_a_plantation_that_fits_in_two_ways_stays():
    x, y = np.meshgrid(np.arange(20) * 4.0, np.arange(20) * 4.0)
    centre = np.column_stack([x.ravel(), y.ravel()])
    inner = centre[(centre > 20).all(axis=1) & (centre < 50).all(axis=1)]
    found = find_shift(inner + np.array([2.0, 0]), np.hstack([centre - 1.5, centre + 1.5]))
    assert (found.dx, found.dy, found.reason) == (0, 0, "other shifts agree about as well")


def test_no_plot_moves_further_than_allowed():
    centre, boxes, _ = stand()
    assert find_shift(centre + np.array([3, 0]), boxes, max_shift=0).reason == "no shift asked for"
    found = find_shift(centre + np.array([3, 0]), boxes, max_shift=3.1)
    assert found.dx == pytest.approx(-3, abs=0.11)
    nearer = find_shift(centre + np.array([3, 0]), boxes, max_shift=2.5)
    assert np.hypot(nearer.dx, nearer.dy) <= 2.5


def test_many_stems_are_searched_by_the_largest():
    centre, boxes, rng = stand(count=60, side=70)
    noise = rng.uniform(0, 70, (2000, 2))
    sizes = np.concatenate([np.full(len(centre), 40.0), np.full(len(noise), np.nan)])
    found = find_shift(np.vstack([centre + 1.5, noise]), boxes, sizes=sizes)
    assert (found.dx, found.dy) == (pytest.approx(-1.5, abs=0.3), pytest.approx(-1.5, abs=0.3))


@pytest.mark.parametrize("metres", [-1.0, np.nan])
def test_a_reach_that_is_none_is_refused(metres):
    with pytest.raises(ConfigError, match="max_shift must be a number of metres"):
        find_shift(np.zeros((1, 2)), np.zeros((0, 4)), max_shift=metres)
