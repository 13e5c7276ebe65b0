"""Areas along lines, against those that shapely finds with polygons."""

import numpy as np
import pytest
import shapely

from treedet.core.scanlines import (
    Lines,
    Reach,
    ellipse_runs,
    ellipses_in_boxes,
    ellipses_of_axes,
    polygon_edges,
    polygon_runs,
    rectangle_runs,
)

LINES = Lines(origin=0.0, spacing=0.25, count=400)
ALL = {"first": 0, "stop": LINES.count}


def area(runs):
    return float((runs.end - runs.begin).sum()) * LINES.spacing


def ellipse_polygons(centre, u, v, corners=256):
    t = np.linspace(0, 2 * np.pi, corners, endpoint=False)[:, None]
    return shapely.polygons(centre[:, None] + u[:, None] * np.cos(t) + v[:, None] * np.sin(t))


def some_ellipses(n=200, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(10, 90, (n, 2)), rng.uniform(-3, 3, (n, 2)), rng.uniform(-3, 3, (n, 2))


def test_an_ellipse_has_its_area_whatever_its_turn():
    centre, u, v = some_ellipses()
    runs = ellipse_runs(ellipses_of_axes(centre, u, v), LINES, **ALL)
    found = np.bincount(runs.owner, runs.end - runs.begin, minlength=len(u)) * LINES.spacing
    wanted = np.pi * np.abs(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])
    lines = 2 * np.hypot(u[:, 1], v[:, 1]) / LINES.spacing
    tall = lines > 8
    assert (np.abs(found / wanted - 1)[tall] < 1.5 * lines[tall] ** -1.5).all()
    assert found.sum() == pytest.approx(wanted.sum(), rel=0.002)


def test_runs_lie_in_their_ellipse():
    centre, u, v = some_ellipses(n=20)
    runs = ellipse_runs(ellipses_of_axes(centre, u, v), LINES, **ALL)
    polygons = ellipse_polygons(centre, u * 1.001, v * 1.001)
    y = LINES.y(runs.line)
    for x in (runs.begin, runs.end):
        assert shapely.contains_xy(polygons[runs.owner], x, y).all()


def test_a_polygon_with_holes_and_parts_has_its_area():
    shape = shapely.MultiPolygon(
        [
            shapely.Point(40, 40).buffer(20).difference(shapely.Point(42, 41).buffer(7)),
            shapely.Polygon([(70, 70), (95, 72), (80, 95)]),
        ]
    )
    runs = polygon_runs(polygon_edges(np.array([shapely.Polygon(), shape])), LINES, **ALL)
    assert set(runs.owner.tolist()) == {1}
    assert area(runs) == pytest.approx(shape.area, rel=1e-3)


def test_a_box_on_the_lines_is_exact():
    edges = polygon_edges(np.array([shapely.box(3, 5, 13, 11)]))
    assert area(polygon_runs(edges, LINES, **ALL)) == 60
    assert area(rectangle_runs(np.array([[3.0, 5, 13, 11]]), LINES, **ALL)) == 60
    half = polygon_runs(edges, LINES, first=0, stop=32)
    assert area(half) == 30


def test_unions_are_measured_inside_other_runs():
    centre, u, v = some_ellipses(n=400, seed=3)
    zone = shapely.Polygon([(20, 15), (80, 25), (60, 85), (15, 60)])
    reach = Reach(ellipse_runs(ellipses_of_axes(centre, u, v), LINES, **ALL), first=0, left=15.0, width=65.0)
    inside = polygon_runs(polygon_edges(np.array([zone])), LINES, **ALL)
    found = reach.within(inside).sum() * LINES.spacing
    wanted = shapely.union_all(ellipse_polygons(centre, u, v)).intersection(zone).area
    assert found == pytest.approx(wanted, rel=0.002)


def test_nothing_reaches_nowhere():
    none = ellipse_runs(ellipses_in_boxes(np.zeros((0, 4))), LINES, **ALL)
    reach = Reach(none, first=0, left=0.0, width=10.0)
    assert reach.within(rectangle_runs(np.array([[1.0, 1, 2, 2]]), LINES, **ALL)).sum() == 0
    assert len(polygon_edges(np.array([], dtype=object))) == 0
