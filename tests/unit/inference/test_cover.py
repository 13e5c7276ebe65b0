import math

import numpy as np
import pytest
from affine import Affine

from treedet.core.grid import Grid
from treedet.inference import cover
from treedet.inference.cover import CanopyCover


def grid(width, height, gsd=0.1):
    return Grid.build(None, Affine.identity(), width=width, height=height, gsd=gsd)


def hectares(width, height, *parts, gsd=0.1):
    found = CanopyCover(grid(width, height, gsd))
    for part in parts:
        found.add(np.asarray(part, dtype=float).reshape(-1, 4))
    return found.hectares


def test_nothing_covers_nothing():
    assert hectares(100, 100) == 0
    assert hectares(100, 100, np.zeros((0, 4))) == 0


@pytest.mark.parametrize("box", [(10, 10, 90, 90), (5.3, 40.2, 95.1, 77.7)])
@pytest.mark.parametrize("width", [100, 2000])
def test_one_ellipse_has_its_area(box, width):
    area_px = math.pi / 4 * (box[2] - box[0]) * (box[3] - box[1])
    assert hectares(width, 100, [box]) == pytest.approx(area_px * 0.01 / 1e4, rel=0.01)


def test_overlapping_crowns_count_once_whatever_the_parts():
    box = (10, 10, 90, 90)
    once = hectares(100, 100, [box])
    assert hectares(100, 100, [box, box]) == once
    assert hectares(100, 100, [box], [box]) == once
    shifted = (30, 10, 110, 90)
    both = hectares(200, 100, [box, shifted])
    # Two circles of radius r whose centres are d apart share a lens.
    r, d = 40.0, 20.0
    lens = 2 * r * r * math.acos(d / (2 * r)) - d / 2 * math.sqrt(4 * r * r - d * d)
    assert both == pytest.approx((2 * math.pi * r * r - lens) * 0.01 / 1e4, rel=0.01)


def test_crowns_that_leave_the_grid_count_inside_it():
    half = hectares(100, 100, [(-40, 10, 40, 90)])
    assert half == pytest.approx(math.pi / 8 * 80 * 80 * 0.01 / 1e4, rel=0.02)
    assert hectares(100, 100, [(-400, -400, -300, -300)]) == 0
    assert hectares(100, 100, [(-500, -500, 600, 600)]) == pytest.approx(0.01)


def test_chunks_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 900, (300, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 90, (300, 2))], axis=1)
    whole = hectares(1000, 1000, boxes)
    monkeypatch.setattr(cover, "CHUNK", 1000)
    assert hectares(1000, 1000, boxes) == whole


def test_many_small_crowns_on_a_large_raster():
    rng = np.random.default_rng(1)
    at = np.stack(np.meshgrid(np.arange(20, 20_000, 100), np.arange(20, 20_000, 100)), axis=-1).reshape(-1, 2)
    sides = rng.uniform(30, 60, len(at))
    boxes = np.concatenate([at, at + sides[:, None]], axis=1)
    expected = (math.pi / 4 * sides**2).sum() * 0.01 / 1e4
    assert hectares(20_000, 20_000, boxes) == pytest.approx(expected, rel=0.01)
