from itertools import pairwise

import numpy as np
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from treedet.core.grid import Grid
from treedet.rasters.tiling import TilingConfig, plan_tiles


@st.composite
def cases(draw):
    multiple = draw(st.sampled_from([1, 8, 32]))
    window = multiple * draw(st.integers(1, 6))
    overlap = draw(st.integers(0, window - 1))
    width, height = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    return width, height, TilingConfig(window_px=window, overlap_px=overlap, multiple=multiple)


@settings(deadline=None, max_examples=60)
@given(cases())
def test_plan_covers_each_pixel_with_equal_windows_that_overlap(case):
    width, height, config = case
    grid = Grid.build(None, Affine.identity(), width=width, height=height, gsd=0.1)
    plan = plan_tiles(grid, config)
    seen = np.zeros((height, width), dtype=bool)
    for row in plan.rows:
        for window in row:
            assert (window.height, window.width) == (plan.height, plan.width)
            assert window.row >= 0
            assert window.bottom <= height
            assert window.col >= 0
            assert window.right <= width
            seen[window.row : window.bottom, window.col : window.right] = True
        assert all(a.right - b.col >= config.overlap_px for a, b in pairwise(row))
    tops = [row[0] for row in plan.rows]
    assert all(a.bottom - b.row >= config.overlap_px for a, b in pairwise(tops))
    assert seen.all()
    assert max(plan.height, plan.width) <= config.window_px
    for side, size in ((plan.width, width), (plan.height, height)):
        assert side == size or side % config.multiple == 0
