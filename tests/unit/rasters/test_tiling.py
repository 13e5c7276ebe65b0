import math

import pytest
import shapely
from affine import Affine

from treedet.core.grid import Grid, Window
from treedet.errors import ConfigError
from treedet.rasters.tiling import TilingConfig, plan_tiles


def grid(width, height):
    return Grid.build(None, Affine.identity(), width=width, height=height, gsd=0.1)


def test_no_more_windows_than_needed():
    plan = plan_tiles(grid(4000, 4000), TilingConfig(1536, 256))
    assert [len(row) for row in plan.rows] == [3, 3, 3]
    assert plan.n_windows == 9


def test_windows_shrink_to_what_covers_the_axis():
    plan = plan_tiles(grid(1600, 1600), TilingConfig(1536, 256))
    assert (plan.width, plan.height) == (960, 960)  # twice 928, in strides of 64
    assert [w.col for w in plan.rows[0]] == [0, 640]


def test_small_grid_is_one_window_of_its_own_size():
    plan = plan_tiles(grid(31, 1500), TilingConfig())
    assert plan.rows == ((Window(0, 0, 1500, 31),),)


def test_aoi_drops_far_windows_and_keeps_row_numbers():
    config = TilingConfig(window_px=128, overlap_px=32, multiple=32)
    full = plan_tiles(grid(1000, 1000), config)
    plan = plan_tiles(grid(1000, 1000), config, aoi=shapely.box(500, 700, 510, 710))
    assert len(plan.rows) == len(full.rows)
    assert plan.rows[0] == ()
    kept = {w for row in plan.rows for w in row}
    assert kept < {w for row in full.rows for w in row}
    reach = {
        w
        for row in full.rows
        for w in row
        if w.col - 32 <= 510 and w.right + 32 >= 500 and w.row - 32 <= 710 and w.bottom + 32 >= 700
    }
    assert kept == reach


def test_next_top_skips_empty_rows():
    config = TilingConfig(window_px=128, overlap_px=32, multiple=32)
    two = shapely.MultiPolygon([shapely.box(0, 0, 9, 9), shapely.box(0, 900, 9, 909)])
    plan = plan_tiles(grid(1000, 1000), config, aoi=two)
    filled = [i for i, row in enumerate(plan.rows) if row]
    gap = next(i for i in filled if i + 1 not in filled and i != filled[-1])
    following = filled[filled.index(gap) + 1]
    assert following > gap + 1
    assert plan.next_top(gap) == plan.rows[following][0].row
    assert plan.next_top(filled[-1]) == math.inf


def test_to_dict_tells_plans_apart():
    base = plan_tiles(grid(3000, 3000))
    assert base.to_dict() == plan_tiles(grid(3000, 3000)).to_dict()
    others = [
        plan_tiles(grid(3000, 3001)),
        plan_tiles(grid(3000, 3000), TilingConfig(overlap_px=320)),
        plan_tiles(grid(3000, 3000), aoi=shapely.box(0, 0, 5, 5)),
    ]
    assert all(other.to_dict() != base.to_dict() for other in others)


@pytest.mark.parametrize(
    "values",
    [{"window_px": 0}, {"window_px": 1000}, {"overlap_px": -1}, {"overlap_px": 1536}, {"multiple": 0}],
)
def test_senseless_sizes_are_refused(values):
    with pytest.raises(ConfigError):
        TilingConfig(**values)


def test_steady_windows_keep_their_size_and_step_but_for_the_last() -> None:
    plan = plan_tiles(grid(1000, 390), TilingConfig(400, 20, multiple=1, steady=True))
    assert (plan.width, plan.height) == (400, 390)
    assert plan.lefts == (0, 380, 600)
    assert plan_tiles(grid(780, 400), TilingConfig(400, 20, multiple=1, steady=True)).lefts == (0, 380)
