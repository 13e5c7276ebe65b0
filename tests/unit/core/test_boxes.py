import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_iou

from treedet.core.boxes import BOTTOM, LEFT, RIGHT, TOP, area, clip, corners, cut_sides, intersection, iou, open_sides


def pairs(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 50, (2, n, 2))
    boxes = np.concatenate([low, low + rng.uniform(0, 30, (2, n, 2))], axis=2)
    return boxes[0], boxes[1]


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(0, 20))
def test_iou_equals_torchvisions_and_is_symmetric(seed: int, n: int) -> None:
    a, b = pairs(seed, n)
    theirs = box_iou(torch.from_numpy(a), torch.from_numpy(b)).diagonal().numpy() if n else np.zeros(0)
    np.testing.assert_allclose(iou(a, b), theirs, atol=1e-9)
    np.testing.assert_allclose(iou(a, b), iou(b, a))
    assert ((iou(a, b) >= 0) & (iou(a, b) <= 1)).all()
    np.testing.assert_allclose(iou(a, a), np.where(area(a) > 0, 1.0, 0.0))


def test_empty_boxes_have_no_overlap() -> None:
    point = np.array([[5.0, 5.0, 5.0, 5.0]])
    assert iou(point, point).tolist() == [0.0]
    assert intersection(point, np.array([[0.0, 0, 10, 10]])).tolist() == [0.0]
    assert area(np.array([[5.0, 5.0, 3.0, 9.0]])).tolist() == [0.0]


def test_clip_keeps_fractions() -> None:
    assert clip(np.array([[-1.5, 2.25, 99.0, 7.75]]), width=10, height=7.5).tolist() == [[0.0, 2.25, 10.0, 7.5]]


def test_corners_go_round() -> None:
    assert corners(np.array([[0.0, 1.0, 2.0, 3.0]])).tolist() == [[[0, 1], [2, 1], [2, 3], [0, 3]]]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([10, 10, 20, 20], 0),
        ([1.9, 10, 20, 20], LEFT),
        ([10, 2.0, 20, 20], TOP),
        ([10, 10, 98.0, 20], RIGHT),
        ([10, 10, 97.9, 20], 0),
        ([0, 0, 100, 50], LEFT | TOP | RIGHT | BOTTOM),
    ],
)
def test_a_box_within_the_margin_of_an_open_side_is_cut(box: list[float], expected: int) -> None:
    all_sides = LEFT | TOP | RIGHT | BOTTOM
    found = cut_sides(np.array([box], float), width=100, height=50, sides=all_sides, margin=2.0)
    assert found.tolist() == [expected]


def test_the_rasters_own_edge_cuts_nothing() -> None:
    box = np.array([[0.0, 0.0, 100.0, 50.0]])
    assert cut_sides(box, width=100, height=50, sides=RIGHT, margin=2.0).tolist() == [RIGHT]
    assert cut_sides(box, width=100, height=50, sides=0, margin=2.0).tolist() == [0]


def test_open_sides_of_a_window() -> None:
    assert open_sides((0, 0, 10, 10), width=10, height=10) == 0
    assert open_sides((5, 5, 8, 8), width=10, height=10) == LEFT | TOP | RIGHT | BOTTOM
