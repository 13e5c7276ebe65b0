import numpy as np
import pytest

from treedet.inference.ground import no_ground, valid_rectangles


def painted(rectangles, shape, left=0, top=0):
    count = np.zeros(shape, int)
    for x0, y0, x1, y1 in rectangles:
        count[y0 - top : y1 - top, x0 - left : x1 - left] += 1
    return count


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
def test_rectangles_show_the_mask_pixel_for_pixel_where_each_row_is_a_strip(share):
    valid = np.random.default_rng(0).random((23, 31)) < share
    found = valid_rectangles(valid, left=7, top=4, gsd=1.0)
    np.testing.assert_array_equal(painted(found, valid.shape, 7, 4), valid)


def test_a_mask_without_holes_is_one_rectangle():
    assert valid_rectangles(np.ones((40, 60), bool), left=5, top=6).tolist() == [[5, 6, 65, 46]]
    assert valid_rectangles(np.zeros((40, 60), bool)).shape == no_ground().shape


def test_a_straight_border_is_one_rectangle_and_a_slanted_one_is_close():
    valid = np.ones((200, 300), bool)
    valid[:, 250:] = False
    assert valid_rectangles(valid, gsd=0.05).tolist() == [[0, 0, 250, 200]]
    y, x = np.mgrid[:200, :300]
    valid = x + 0.5 < 100 + 0.7 * y
    found = valid_rectangles(valid, gsd=0.05)
    assert painted(found, valid.shape).max() == 1
    assert painted(found, valid.shape).sum() == pytest.approx(valid.sum(), rel=0.005)
