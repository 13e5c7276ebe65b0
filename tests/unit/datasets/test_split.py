from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from treedet.core.grid import Grid
from treedet.datasets.split import split_blocks, whole
from treedet.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Plot:
    """What a split needs of an annotated raster."""

    grid: Grid
    boxes: np.ndarray
    labels: np.ndarray
    aoi: object = None
    path: str = "plot.tif"
    ignored: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))

    @property
    def diameters_m(self):
        return (self.boxes[:, 2:] - self.boxes[:, :2]).mean(axis=1) * self.grid.gsd


def plot(side_m=200, crowns=100, *, gsd=0.5, diameter=4.0, classes=("tree",), seed=0, aoi=None, within=1.0):
    rng = np.random.default_rng(seed)
    pixels = round(side_m / gsd)
    grid = Grid.build(None, Affine.identity(), width=pixels, height=pixels, gsd=gsd)
    centre = rng.uniform(0, within * pixels, (crowns, 2))
    half = np.full((crowns, 2), diameter / gsd / 2)
    labels = np.array([classes[i % len(classes)] for i in range(crowns)], dtype=object)
    return Plot(grid, np.hstack([centre - half, centre + half]), labels, aoi)


def extent(plot):
    whole = shapely.box(0, 0, plot.grid.width, plot.grid.height)
    return whole if plot.aoi is None else plot.aoi


def part_of(parts, plot):
    return next((part for part in parts if part.plot is plot), None)


def ground(part):
    return shapely.Polygon() if part is None else extent(part.plot) if part.area is None else part.area


def mine(part, plot):
    return np.zeros(len(plot.boxes), bool) if part is None else part.mine


def share_of(split, chosen=None):
    def count(parts):
        return sum(int((p.mine & (True if chosen is None else p.plot.labels == chosen)).sum()) for p in parts)

    return count(split.validation) / (count(split.validation) + count(split.train))


@settings(deadline=None, max_examples=50)
@given(
    sides=st.lists(st.integers(15, 400), min_size=1, max_size=3),
    crowns=st.integers(0, 120),
    diameter=st.floats(1, 30),
    share=st.floats(0.05, 0.6),
    seed=st.integers(0, 2**31),
    with_aoi=st.booleans(),
)
def test_sides_share_no_crown_and_no_ground_and_lose_none(sides, crowns, diameter, share, seed, with_aoi):
    plots = []
    for i, side in enumerate(sides):
        made = plot(side, crowns // (i + 1), diameter=diameter, seed=seed + i)
        # A ring, so that some blocks hold no annotated ground at all.
        ring = shapely.Point(side, side).buffer(side * 0.9).difference(shapely.Point(side, side).buffer(side * 0.3))
        plots.append(replace(made, aoi=shapely.intersection(ring, extent(made))) if with_aoi else made)
    split = split_blocks(plots, share=share, seed=seed)
    for one in plots:
        train, held = part_of(split.train, one), part_of(split.validation, one)
        assert not (mine(train, one) & mine(held, one)).any()
        centre = (one.boxes[:, :2] + one.boxes[:, 2:]) / 2
        inside = shapely.contains_xy(extent(one), *centre.T) if with_aoi else np.ones(len(centre), bool)
        assert np.array_equal(mine(train, one) | mine(held, one), inside)
        assert shapely.intersection(ground(train), ground(held)).area == pytest.approx(0, abs=1e-3)
        assert shapely.union(ground(train), ground(held)).symmetric_difference(extent(one)).area < 1e-3
        for part in filter(None, (train, held)):
            near = shapely.distance(ground(part), shapely.points(centre[part.mine]))
            assert (near < 1e-6).all()


def test_training_windows_never_show_what_is_held_out():
    one = plot(crowns=200)
    split = split_blocks([one])
    train, held = split.train[0], split.validation[0]
    assert shapely.difference(held.area, train.blank).area == pytest.approx(0)
    assert shapely.intersection(train.area, train.blank).area == pytest.approx(0)
    # What lies around a validation block may be seen: its border crowns are whole.
    assert held.blank is None


def test_blank_is_whole_blocks_even_where_the_aoi_covers_a_part_of_them():
    aoi = shapely.Point(200, 200).buffer(190)
    split = split_blocks([plot(crowns=300, aoi=aoi)], seed=1)
    blank, area = split.train[0].blank, split.validation[0].area
    assert blank.area > area.area
    assert shapely.intersection(blank, aoi).symmetric_difference(area).area == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("diameter", "least"), [(2.0, 20.0), (10.0, 40.0)])
def test_blocks_hold_several_crowns(diameter, least):
    one = plot(side_m=170, crowns=300, diameter=diameter)
    held = split_blocks([one]).validation[0].area
    x0, y0, x1, y1 = np.array(held.bounds) * one.grid.gsd
    assert min(x1 - x0, y1 - y0) >= least - 1e-6
    # Blocks tile the plot, so every side of the held-out ground lies on a multiple of the block's.
    block = 170 / (170 // least)
    assert np.allclose(np.array([x0, y0, x1, y1]) / block, np.round(np.array([x0, y0, x1, y1]) / block))


@pytest.mark.parametrize("share", [0.1, 0.2, 0.4])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_validation_holds_about_its_share_of_crowns_and_of_each_class(share, seed):
    plots = [plot(crowns=120, classes=("tree", "tree", "bird"), seed=i) for i in range(3)]
    split = split_blocks(plots, share=share, seed=seed)
    assert share_of(split) == pytest.approx(share, abs=0.03)
    assert share_of(split, "bird") == pytest.approx(share, abs=0.08)


def test_a_class_that_keeps_to_one_corner_is_on_both_sides():
    one = plot(side_m=400, crowns=200)
    centre = (one.boxes[:, :2] + one.boxes[:, 2:]) / 2
    one.labels[(centre < 250).all(axis=1)] = "bird"
    for seed in range(5):
        assert 0 < share_of(split_blocks([one], seed=seed), "bird") < 1


def test_small_rasters_are_held_out_whole():
    plots = [plot(side_m=25, crowns=12, seed=i) for i in range(20)]
    split = split_blocks(plots)
    assert len(split.train) + len(split.validation) == 20
    assert len(split.validation) == 4
    for part in split.train + split.validation:
        assert part.blank is None
        assert part.area is None
        assert part.mine.all()


def test_a_raster_of_two_blocks_is_not_cut():
    wide = plot(crowns=40)
    grid = Grid.build(None, Affine.identity(), width=90, height=45, gsd=0.5)
    small = replace(wide, grid=grid, boxes=wide.boxes * ([90 / 400, 45 / 400] * 2))
    split = split_blocks([small, plot(side_m=20, crowns=10)])
    assert all(part.area is None for part in split.train + split.validation)


def test_crowns_crowded_in_a_corner_of_a_large_raster_are_still_split():
    split = split_blocks([plot(side_m=3000, crowns=400, within=0.08)])
    assert share_of(split) == pytest.approx(0.2, abs=0.07)


def test_the_draw_depends_on_the_seed_alone():
    def draw(seed):
        return split_blocks([plot(crowns=150), plot(crowns=90, seed=4)], seed=seed)

    np.random.seed(1)  # noqa: NPY002 - the global generator must not matter
    first = draw(3)
    np.random.seed(2)  # noqa: NPY002
    second = draw(3)
    assert [p.mine.tolist() for p in first.validation] == [p.mine.tolist() for p in second.validation]
    others = [draw(seed) for seed in range(4, 9)]
    assert any(
        [p.mine.tolist() for p in first.validation] != [p.mine.tolist() for p in other.validation] for other in others
    )


@pytest.mark.parametrize(
    ("plots", "why"),
    [
        ([plot(crowns=9)], "9 crowns are too few"),
        ([plot(side_m=30, crowns=20)], "one block"),
        ([plot(side_m=3000, crowns=20, within=0.002)], "one block"),
        ([plot(side_m=30, crowns=20), plot(side_m=30, crowns=0)], "one block"),
        ([], "0 crowns"),
    ],
)
def test_what_can_not_be_split_is_all_trained_on_and_said(plots, why, caplog):
    caplog.set_level("INFO", logger="treedet")
    split = split_blocks(plots)
    assert split.validation == ()
    assert [part.plot for part in split.train] == plots
    assert why in caplog.text
    assert "give rasters of their own for it (--validation)" in caplog.text


def test_the_split_is_said_in_numbers(caplog):
    caplog.set_level("INFO", logger="treedet")
    split = split_blocks([plot(crowns=100)])
    assert f"{split.validation[0].mine.sum()} of 100 crowns" in caplog.text


def test_whole_plots_belong_to_their_aoi_alone():
    one, other = plot(aoi=shapely.box(0, 0, 200, 400)), plot()
    first, second = whole([one, other])
    assert first.area is one.aoi
    assert np.array_equal(first.mine, (one.boxes[:, 0] + one.boxes[:, 2]) / 2 < 200)
    assert second.area is None
    assert second.mine.all()


@pytest.mark.parametrize("share", [0.0, 1.0, -0.2, 20.0, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ConfigError, match="above 0 and below 1"):
        split_blocks([plot()], share=share)
