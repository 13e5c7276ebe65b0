import numpy as np
import pyproj
import pytest

from treedet.core.grid import metres_per_unit
from treedet.core.ground_scale import square_metres


@pytest.mark.parametrize(
    ("code", "places"),
    [
        (32632, [[500_000.0, 5_400_000.0], [700_000, 6_000_000]]),
        (2263, [[1_000_000.0, 200_000.0]]),
        (3857, [[900_000.0, 8_000_000.0], [0, 0]]),
        (4326, [[8.0, 50.0], [-60.0, -3.0]]),
    ],
)
def test_many_places_are_as_each_by_itself(code, places):
    crs = pyproj.CRS(code)
    found = square_metres(crs, np.array(places))
    wanted = [np.prod(metres_per_unit(crs, *place)) for place in places]
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_a_local_crs_has_its_unit_alone():
    local = pyproj.CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]')
    assert square_metres(local, np.zeros((2, 2))).tolist() == [1, 1]


def test_places_outside_the_projection_have_no_ground():
    assert square_metres(pyproj.CRS(32632), np.array([[1e9, 1e9], [5e5, 5e6]])).tolist()[0] == 0
