"""Points that stay points: stems, street trees."""

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine

from treedet.core.grid import Grid
from treedet.errors import ConfigError, CrownsError
from treedet.vectors.truth import TruthOptions, on_raster, read_annotations

GRID = Grid.build(pyproj.CRS(32633), Affine(0.1, 0, 500_000, 0, -0.1, 5_200_000), width=1000, height=800)
STEMS = [shapely.Point(500_010, 5_199_990), shapely.Point(500_020, 5_199_980), shapely.Point(500_900, 5_199_980)]


def stems(tmp_path, **columns):
    path = tmp_path / "stems.geojson"
    gpd.GeoDataFrame(columns, geometry=STEMS, crs=32633).to_crs(4326).to_file(path)
    return path


def test_points_need_no_diameter_and_keep_their_place(tmp_path):
    path = stems(tmp_path, species=["PISY", "PIAB", "PISY"])
    with pytest.raises(CrownsError, match="holds points"):
        read_annotations(path)
    annotations = read_annotations(path, TruthOptions(points=True))
    assert annotations.points
    table = on_raster(annotations, GRID)
    assert (table.geom_type == "Point").all()
    assert table["species"].tolist() == ["PISY", "PIAB"]
    assert np.allclose(
        GRID.to_pixels(table.geometry.to_numpy()), [[100, 100, 100, 100], [200, 200, 200, 200]], atol=0.01
    )
    assert table[["diameter_m", "area_m2", "crown_m2"]].isna().all(axis=None)


def test_a_column_of_diameters_is_not_used(tmp_path):
    path = stems(tmp_path, crown_diameter=[3.0, 4.0, 5.0])
    assert on_raster(read_annotations(path), GRID)["diameter_m"].tolist() == pytest.approx([3, 4], abs=0.01)
    assert on_raster(read_annotations(path, TruthOptions(points=True)), GRID)["diameter_m"].isna().all()


def test_polygons_stay_crowns(tmp_path):
    path = tmp_path / "crowns.gpkg"
    gpd.GeoDataFrame(geometry=[STEMS[0].buffer(2)], crs=32633).to_file(path)
    annotations = read_annotations(path, TruthOptions(points=True))
    assert not annotations.points
    assert on_raster(annotations, GRID)["diameter_m"].tolist() == pytest.approx([4], abs=0.1)


def test_points_of_a_table_in_pixels(tmp_path):
    path = tmp_path / "stems.csv"
    path.write_text("image_path,x,y\na.tif,100,50\nb.tif,3,4\n")
    annotations = read_annotations(path, TruthOptions(points=True))
    boxes = GRID.to_pixels(on_raster(annotations, GRID, image="a.tif").geometry.to_numpy())
    assert np.allclose(boxes, [[100, 50, 100, 50]])


def test_points_and_a_diameter_exclude_each_other():
    with pytest.raises(ConfigError, match="exclude each other"):
        TruthOptions(points=True, diameter=4.0)
