import numpy as np
import pytest
import shapely

from treedet.core.zones import cells, locate
from treedet.errors import ConfigError


def test_points_in_several_polygons_are_in_each():
    polygons = np.array([shapely.box(0, 0, 10, 10), shapely.box(5, 0, 15, 10), shapely.box(40, 0, 50, 10)])
    points = np.array([[7.0, 5], [1, 5], [12, 5], [30, 5]])
    assert locate(polygons, points).T.tolist() == [[0, 0], [0, 1], [1, 0], [2, 1]]


def test_points_on_shared_borders_are_in_one_cell_each():
    grid = cells((0, 0, 30, 30), 10, crs=None, unit_m=1.0)
    x, y = np.meshgrid(np.arange(0.0, 31, 5), np.arange(0.0, 31, 5))
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    found = locate(grid.polygons, points)
    assert found[0].tolist() == list(range(len(points)))


def test_a_point_on_a_border_inside_another_polygon_counts_there():
    polygons = np.array([shapely.box(0, 0, 10, 10), shapely.box(5, 0, 15, 10)])
    assert locate(polygons, np.array([[10.0, 5.0]])).T.tolist() == [[0, 1]]


def test_locating_agrees_with_asking_each_pair():
    rng = np.random.default_rng(1)
    polygons = shapely.buffer(shapely.points(rng.uniform(0, 100, (30, 2))), rng.uniform(2, 20, 30))
    points = rng.uniform(0, 100, (500, 2))
    wanted = np.argwhere(shapely.contains_xy(polygons[None], points[:, :1], points[:, 1:]))
    assert locate(polygons, points).T.tolist() == wanted.tolist()


def test_nothing_lies_nowhere():
    assert locate(np.array([], dtype=object), np.zeros((3, 2))).shape == (2, 0)
    assert locate(np.array([shapely.box(0, 0, 1, 1)]), np.zeros((0, 2))).shape == (2, 0)
    assert locate(np.array([shapely.box(0, 0, 1, 1)]), np.array([[5.0, 5.0]])).shape == (2, 0)


def test_cells_lie_on_multiples_of_their_side_and_cover_the_extent():
    found = cells((500_010.0, 5_399_930.0, 500_210.0, 5_400_000.0), 100, crs=None, unit_m=1.0)
    assert found.ids.tolist() == ["500000_5399900", "500100_5399900", "500200_5399900"]
    assert shapely.union_all(found.polygons).covers(shapely.box(500_010, 5_399_930, 500_210, 5_400_000))
    feet = cells((0, 0, 100, 100), 30.48, crs=None, unit_m=0.3048)
    assert len(feet) == 1
    assert feet.polygons[0].area == pytest.approx(1e4)


@pytest.mark.parametrize("side", [0.0, -5.0, float("nan"), 0.001])
def test_sides_that_make_no_grid_are_refused(side):
    with pytest.raises(ConfigError, match=r"grid"):
        cells((0, 0, 1000, 1000), side, crs=None, unit_m=1.0)
