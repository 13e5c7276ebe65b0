"""Crowns files against truth on real imagery: a local CRS without authority, four tiles and one file, pixels."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely

from treedet.datasets.annotated import AnnotatedRaster, pair
from treedet.evaluation.crown_files import paired_files
from treedet.evaluation.ground import check_truth
from treedet.metrics.detection import RasterCount
from treedet.vectors.truth import TruthOptions

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="shared/data is not beside the checkout")
BOXES = DATA / "pasture-25cm" / "BOXES.shp"
TILES = [DATA / f"pasture-25cm/tile0{i}.tif" for i in (1, 2, 3, 4)]
NUMBERS = [106, 76, 73, 49]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Every crown but each tenth, a fifth narrower, in degrees and with scores; what else a tool could say."""
    table = gpd.read_file(BOXES)
    table = table[table.geometry.notna()].iloc[np.arange(304) % 10 > 0]
    smaller = gpd.GeoSeries(shapely.box(*table.bounds.to_numpy().T), crs=5348).scale(0.8, 0.8)
    path = tmp_path_factory.mktemp("found") / "found.geojson"
    gpd.GeoDataFrame({"Confidence_score": np.linspace(0.3, 0.9, len(smaller))}, geometry=smaller).to_crs(
        4326
    ).to_file(path)
    return path


def test_one_file_of_predictions_meets_the_truth_of_four_tiles(found, tmp_path):
    # Nothing leads from degrees to the tiles' local CRS; the projection of its name is taken to be it.
    projected = tmp_path / "found.gpkg"
    gpd.read_file(found).to_crs(5348).to_file(projected)
    paired = paired_files(projected, BOXES, rasters=TILES)
    counts = [ground.paired.counted() for ground in paired.grounds]
    assert [count.truth for count in counts] == NUMBERS
    assert sum(count.matched for count in counts) == sum(count.predicted for count in counts) == 273
    assert paired.has_scores
    assert all(ground.hectares == pytest.approx(4.01, abs=0.01) for ground in paired.grounds)


def test_predictions_in_degrees_without_rasters(found):
    paired = paired_files(found, BOXES)
    assert [ground.paired.counted() for ground in paired.grounds] == [RasterCount(304, 273, 273)]
    with_rasters = np.concatenate([plot.diameters_m for plot in pair(TILES, BOXES)])
    without = paired.grounds[0].truth_table["diameter_m"]
    assert np.median(without) == pytest.approx(np.median(with_rasters), rel=1e-3)


def test_open_pasture_does_not_look_incomplete():
    check_truth(pair(TILES, BOXES))


def test_pixels_with_and_without_their_raster():
    path = DATA / "samples/OSBS_029.csv"
    alone, on_raster = (
        paired_files(path, path, gsd=0.1),
        paired_files(path, path, rasters=DATA / "samples/OSBS_029.tif"),
    )
    for paired in (alone, on_raster):
        assert [ground.paired.counted() for ground in paired.grounds] == [RasterCount(61, 61, 61)]
    assert np.allclose(alone.grounds[0].paired.truth, on_raster.grounds[0].paired.truth, rtol=2e-3)


def test_crown_centres_as_stems(tmp_path):
    crowns = gpd.read_file(BOXES)
    crowns = crowns[crowns.geometry.notna()]
    crowns.set_geometry(crowns.centroid)[["geometry"]].to_file(tmp_path / "stems.shp")
    stems = TruthOptions(points=True)
    paired = paired_files(BOXES, tmp_path / "stems.shp", rasters=TILES, truth_options=stems)
    assert [ground.paired.counted() for ground in paired.grounds] == [RasterCount(n, n, n) for n in NUMBERS]
    assert AnnotatedRaster(TILES[0], tmp_path / "stems.shp", truth=stems).points
