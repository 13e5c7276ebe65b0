import math

import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from treedet.core.grid import Grid, Window, metres_per_unit, scales_at
from treedet.errors import ConfigError, UnknownGsdError

UTM = pyproj.CRS.from_epsg(32632)


def grid(**changes: object) -> Grid:
    values = {"crs": UTM, "transform": Affine(0.1, 0, 500_000, 0, -0.1, 5_400_000), "width": 400, "height": 300}
    values |= changes
    return Grid.build(
        values["crs"],  # type: ignore[arg-type]
        values["transform"],  # type: ignore[arg-type]
        width=values["width"],  # type: ignore[arg-type]
        height=values["height"],  # type: ignore[arg-type]
        gsd=values.get("gsd"),  # type: ignore[arg-type]
    )


def test_utm_metres_are_almost_ground_metres() -> None:
    # The scale factor on the central meridian is 0.9996, so a map metre is 1.0004 m of ground.
    assert grid().gsd == pytest.approx(0.1 / 0.9996, rel=1e-4)


def test_a_mercator_metre_is_not_a_ground_metre() -> None:
    mercator = pyproj.CRS.from_epsg(3395)
    x, y = pyproj.Transformer.from_crs(4326, mercator, always_xy=True).transform(10.0, 60.0)
    found = grid(crs=mercator, transform=Affine(1, 0, x, 0, -1, y)).gsd
    # Of the ellipsoid at 60 degrees: between the 0.5 of a sphere and 0.503.
    assert found == pytest.approx(0.5013, abs=0.001)


def test_feet_are_converted() -> None:
    feet = pyproj.CRS.from_epsg(2263)
    x, y = pyproj.Transformer.from_crs(4326, feet, always_xy=True).transform(-74.0, 40.7)
    assert grid(crs=feet, transform=Affine(1, 0, x, 0, -1, y)).gsd == pytest.approx(0.3048, rel=1e-3)


def test_degrees_are_measured_along_the_ellipsoid() -> None:
    degrees = pyproj.CRS.from_epsg(4326)
    found = grid(crs=degrees, transform=Affine(1e-6, 0, 10.0, 0, -1e-6, 60.0))
    assert found.gsd_y == pytest.approx(0.1114, abs=0.0003)
    assert found.gsd_x == pytest.approx(0.0558, abs=0.0003)


@pytest.mark.parametrize("code", [32632, 3857, 4326, 2263])
def test_scales_of_many_points_are_those_of_each(code: int) -> None:
    crs = pyproj.CRS.from_epsg(code)
    box = (5.0, 45.0, 12.0, 55.0) if code != 2263 else (-74.2, 40.5, -73.7, 40.9)
    to_map = pyproj.Transformer.from_crs(4326, crs, always_xy=True)
    xy = np.stack(to_map.transform(np.linspace(box[0], box[2], 5), np.linspace(box[1], box[3], 5)), axis=-1)
    assert scales_at(crs, xy).tolist() == [list(metres_per_unit(crs, x, y)) for x, y in xy]


def test_a_local_crs_counts_by_its_unit() -> None:
    local = pyproj.CRS.from_wkt(
        'ENGCRS["site",EDATUM["local"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["foot",0.3048]]'
    )
    assert metres_per_unit(local, 5.0, 5.0) == (0.3048, 0.3048)


def test_without_a_crs_the_gsd_must_be_given() -> None:
    with pytest.raises(UnknownGsdError, match="--gsd"):
        grid(crs=None)
    found = grid(crs=None, transform=Affine.identity(), gsd=0.25)
    assert (found.gsd_x, found.gsd_y) == (0.25, 0.25)


def test_a_given_gsd_wins() -> None:
    assert grid(gsd=0.2).gsd == pytest.approx(0.2)
    for wrong in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match="positive"):
            grid(gsd=wrong)


def test_a_centre_outside_the_projection_is_told() -> None:
    with pytest.raises(UnknownGsdError, match="outside the area"):
        grid(transform=Affine(1, 0, 1e12, 0, -1, 1e12))


def test_at_gsd_keeps_the_extent() -> None:
    fine = grid(width=1003, height=777)
    coarse = fine.at_gsd(0.4)
    assert (coarse.width, coarse.height) == (251, 194)
    for corner in ((0, 0), (1, 0), (0, 1), (1, 1)):
        a = fine.transform @ (corner[0] * fine.width, corner[1] * fine.height)
        b = coarse.transform @ (corner[0] * coarse.width, corner[1] * coarse.height)
        assert a == pytest.approx(b, abs=1e-6)


def test_within_two_percent_nothing_changes() -> None:
    same = grid()
    assert same.at_gsd(0.1015) is same
    assert same.at_gsd(0.105) is not same


def test_a_strip_never_vanishes() -> None:
    assert grid(width=3, height=1000).at_gsd(5.0).width == 1


def test_boxes_are_edges_not_pixel_centres() -> None:
    polygon = grid().to_map(np.array([[0.0, 0.0, 1.0, 1.0]]))[0]
    assert shapely.bounds(polygon) == pytest.approx((500_000, 5_399_999.9, 500_000.1, 5_400_000))


@settings(deadline=None, max_examples=60)
@given(
    st.floats(-180, 180),
    st.floats(0.01, 5),
    st.floats(0.01, 5),
    st.lists(st.tuples(*[st.floats(0, 5000)] * 4), min_size=1, max_size=8),
)
def test_pixels_to_map_and_back(turn: float, wide: float, high: float, values: list[tuple[float, ...]]) -> None:
    transform = Affine.translation(4e5, 5e6) @ Affine.rotation(turn) @ Affine.scale(wide, -high)
    boxes = np.array(values)
    boxes = np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1)
    made = grid(transform=transform)
    np.testing.assert_allclose(made.to_pixels(made.to_map(boxes)), boxes, atol=1e-4)


def test_a_rotated_raster_gives_rotated_polygons() -> None:
    turned = grid(transform=Affine.translation(5e5, 5.4e6) @ Affine.rotation(30) @ Affine.scale(0.1, -0.1))
    assert turned.is_rotated
    assert not grid().is_rotated
    polygon = turned.to_map(np.array([[10.0, 10.0, 40.0, 30.0]]))[0]
    assert shapely.area(polygon) == pytest.approx(3.0 * 2.0)
    assert shapely.area(shapely.envelope(polygon)) > 8
    assert turned.gsd == pytest.approx(grid().gsd, rel=1e-6)


def test_no_boxes_is_no_polygons() -> None:
    assert grid().to_map(np.zeros((0, 4))).shape == (0,)
    assert grid().to_pixels(np.array([], dtype=object)).shape == (0, 4)


def test_a_sub_grid_lies_where_its_window_does() -> None:
    part = grid().sub_grid(Window(row=20, col=10, height=5, width=6))
    assert (part.width, part.height) == (6, 5)
    assert part.transform @ (0, 0) == pytest.approx(grid().transform @ (10, 20))


def test_hectares() -> None:
    assert grid(gsd=0.5, width=200, height=100).hectares == pytest.approx(0.5)
