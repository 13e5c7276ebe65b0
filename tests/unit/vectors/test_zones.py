import logging

import geopandas as gpd
import numpy as np
import pytest
import shapely
from factories import UTM

from treedet.errors import CrownsError, CrsMismatchError, MissingColumnError
from treedet.vectors.zones import read_zones

BOWTIE = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])


@pytest.fixture(autouse=True)
def notices(caplog):
    caplog.set_level(logging.INFO, logger="treedet")


def write(path, polygons, *, crs=UTM, **columns):
    gpd.GeoDataFrame(columns, geometry=polygons, crs=crs).to_file(path)
    return path


def square(x, y=0.0, side=10.0):
    return shapely.box(x, y, x + side, y + side)


def crs_of(code=UTM):
    return gpd.GeoSeries([], crs=code).crs


def test_zones_are_numbered_or_named(tmp_path, caplog):
    path = write(tmp_path / "a.gpkg", [square(0), square(20)], stand=["A1", "B2"], code=[4.0, 5.0])
    assert read_zones(path, crs=crs_of()).ids.tolist() == [1, 2]
    assert read_zones(path, crs=crs_of(), zone_id="stand").ids.tolist() == ["A1", "B2"]
    assert read_zones(path, crs=crs_of(), zone_id="code").ids.tolist() == [4, 5]
    assert not caplog.messages


def test_another_crs_is_reprojected_and_said(tmp_path, caplog):
    here = gpd.GeoSeries([square(500_000, 5_400_000, 100)], crs=UTM)
    path = write(tmp_path / "a.gpkg", here.to_crs(4326).to_list(), crs=4326)
    zones = read_zones(path, crs=crs_of())
    assert zones.polygons[0].symmetric_difference(here[0]).area < 1
    assert len(caplog.messages) == 1
    assert "reprojected from 'WGS 84' to 'WGS 84 / UTM zone 32N'" in caplog.text


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_no_crs_is_taken_to_be_that_of_the_raster(tmp_path, caplog):
    path = write(tmp_path / "a.gpkg", [square(0)], crs=None)
    assert read_zones(path, crs=crs_of()).crs == crs_of()
    assert len(caplog.messages) == 1
    assert "has no CRS; its coordinates are taken to be in that of the raster" in caplog.text


def test_a_crs_that_leads_nowhere_is_an_error(tmp_path):
    path = write(tmp_path / "a.gpkg", [square(170, 80, 15)], crs=4326)
    with pytest.raises(CrsMismatchError, match="outside the area"):
        read_zones(path, crs=crs_of())


def test_invalid_polygons_are_repaired_and_said(tmp_path, caplog):
    path = write(tmp_path / "a.gpkg", [BOWTIE, square(20), None, shapely.Polygon()], stand=["A", "B", "C", "D"])
    zones = read_zones(path, crs=crs_of(), zone_id="stand")
    assert zones.ids.tolist() == ["A", "B"]
    assert shapely.area(zones.polygons).tolist() == [50, 100]
    assert shapely.is_valid(zones.polygons).all()
    assert [line.partition(": ")[2] for line in caplog.messages] == [
        "1 invalid polygons are repaired",
        "2 of 4 features have no area and are left out",
    ]


@pytest.mark.parametrize(
    ("shapes", "found"),
    [
        ([], "no geometry at all"),
        ([shapely.Point(0, 0)], "Point"),
        ([shapely.LineString([(0, 0), (1, 1)])], "LineString"),
    ],
)
def test_a_file_without_polygons_is_an_error(tmp_path, shapes, found):
    path = tmp_path / "a.gpkg"
    gpd.GeoDataFrame({"stand": ["A"] * len(shapes)}, geometry=shapes, crs=UTM).to_file(path, engine="pyogrio")
    with pytest.raises(CrownsError, match=f"holds no polygon, found {found}; zones are polygons"):
        read_zones(path, crs=crs_of())


def test_a_missing_column_is_named_with_those_there_are(tmp_path):
    path = write(tmp_path / "a.gpkg", [square(0)], stand=["A"], age=[3])
    with pytest.raises(MissingColumnError, match=r"no column 'STAND' .*it has stand, age"):
        read_zones(path, crs=crs_of(), zone_id="STAND")


@pytest.mark.parametrize("names", [["A", None, "C"], ["A", " ", "C"], [1.0, np.nan, 2.0]])
def test_a_zone_without_name_is_an_error(tmp_path, names):
    path = write(tmp_path / "a.gpkg", [square(0), square(20), square(40)], stand=names)
    with pytest.raises(CrownsError, match=r"1 of 3 zones have no 'stand', the first is feature 2"):
        read_zones(path, crs=crs_of(), zone_id="stand")


def test_features_with_one_name_are_one_zone(tmp_path, caplog):
    path = write(tmp_path / "a.gpkg", [square(0), square(20), square(5)], stand=[7, 8, 7])
    zones = read_zones(path, crs=crs_of(), zone_id="stand")
    assert zones.ids.tolist() == [7, 8]
    assert shapely.area(zones.polygons).tolist() == [150, 100]
    assert len(caplog.messages) == 1
    assert "1 zones come from several features with the same 'stand' (7); each is counted as one zone" in caplog.text


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(CrownsError, match="there is no file"):
        read_zones(tmp_path / "a.gpkg", crs=None)
