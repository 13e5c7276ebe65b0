from pathlib import Path

import numpy as np
import pytest

from treedet.datasets.annotated import AnnotatedRaster, pair
from treedet.datasets.split import split_blocks

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="shared/data is not beside the checkout")
PASTURE = DATA / "pasture-25cm"


def test_one_shapefile_covers_four_tiles(caplog):
    caplog.set_level("INFO", logger="treedet")
    plots = pair(PASTURE, PASTURE / "BOXES.shp")
    assert [Path(plot.path).stem for plot in plots] == ["tile01", "tile02", "tile03", "tile04"]
    assert [len(plot) for plot in plots] == [106, 76, 73, 49]
    # One of the 305 rows has no geometry.
    assert "without geometry" in caplog.text
    for plot in plots:
        assert 8 < np.median(plot.diameters_m) < 20
        assert set(plot.labels) == {"tree"}
        assert plot.grid.gsd == pytest.approx(0.25, rel=0.01)


def test_a_single_tile_takes_its_own_crowns(caplog):
    caplog.set_level("INFO", logger="treedet")
    plot = AnnotatedRaster(PASTURE / "tile04.tif", PASTURE / "BOXES.shp")
    assert len(plot) == 49
    assert "255 crowns are outside" in caplog.text


def test_two_tiles_can_be_split():
    plots = pair([PASTURE / "tile01.tif", PASTURE / "tile02.tif"], PASTURE / "BOXES.shp")
    split = split_blocks(plots)
    held = sum(int(part.mine.sum()) for part in split.validation)
    assert 0.1 < held / 182 < 0.5


def test_a_csv_with_two_classes_lies_in_pixels_of_its_image():
    plot = AnnotatedRaster(DATA / "samples/SOAP_061.png", DATA / "samples/testfile_multi.csv", gsd=0.1)
    assert len(plot) == 37
    assert set(plot.labels) == {"Alive", "Dead"}
    assert plot.boxes[0].tolist() == [149, 105, 173, 129]
    assert plot.diameters_m[0] == pytest.approx(2.4)
