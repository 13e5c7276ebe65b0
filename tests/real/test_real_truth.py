"""A shapefile as somebody drew it, over rasters in a local CRS; and what other tools exported."""

import logging
from pathlib import Path

import pyproj
import pytest
import rasterio

from treedet.core import crowns
from treedet.core.grid import Grid
from treedet.core.labels import LabelSchema
from treedet.vectors.truth import on_raster, read_annotations

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="shared/data is not beside the checkout")


def grid_of(path):
    with rasterio.open(path) as raster:
        crs = pyproj.CRS.from_wkt(raster.crs.to_wkt()) if raster.crs else None
        gsd = None if crs else 0.1
        return Grid.build(crs, raster.transform, width=raster.width, height=raster.height, gsd=gsd)


def test_the_crowns_of_four_tiles_in_a_local_crs(caplog):
    annotations = read_annotations(DATA / "pasture-25cm/BOXES.shp")
    assert any("row" in notice and "without geometry" in notice for notice in annotations.notices)
    assert any("every row is 'tree'" in notice for notice in annotations.notices)
    with caplog.at_level(logging.INFO, logger="treedet"):
        found = [on_raster(annotations, grid_of(DATA / f"pasture-25cm/tile0{i}.tif")) for i in (1, 2, 3, 4)]
    assert [len(table) for table in found] == [106, 76, 73, 49]
    assert all(8 <= table["diameter_m"].median() <= 20 for table in found)
    assert "coordinates are kept" in caplog.text
    for table in found:
        crowns.validate(table)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("name", ["samples/SOAP_061.xml", "samples/testfile_multi.csv"])
def test_the_same_plot_in_two_formats(name):
    annotations = read_annotations(DATA / name)
    found = on_raster(annotations, grid_of(DATA / "samples/SOAP_061.png"))
    assert len(found) == 37
    crowns.validate(found, LabelSchema(("Alive", "Dead", "Tree")))
    assert found["crown_m2"].gt(0).all()
