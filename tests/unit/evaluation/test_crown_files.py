import json
import logging
import warnings

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import shapely
from factories import make_raster

from treedet.errors import ConfigError, CrownsError, CrsMismatchError, SparseTruthWarning, UnknownGsdError
from treedet.evaluation.crown_files import paired_files
from treedet.metrics.detection import RasterCount
from treedet.metrics.points import PairedPoints
from treedet.vectors.truth import TruthOptions

UTM = pyproj.CRS(32632)
TRUTH = np.array([[10.0, 10, 14, 14], [20, 10, 26, 16], [30, 30, 38, 36]])
"""Metres east and north of (500000, 5399950); the second and third are found."""
FOUND = np.array([[20.5, 10, 26, 16], [30, 30, 38, 36.5], [2, 40, 6, 44]])


def layer(path, boxes, *, crs=UTM, to=None, x=500_000.0, y=5_399_950.0, **columns):
    boxes = np.asarray(boxes) + np.array([x, y, x, y])
    table = gpd.GeoDataFrame(columns, geometry=shapely.box(*boxes.T), crs=crs)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided")
        (table if to is None else table.to_crs(to)).to_file(path)
    return path


def csv(path, rows, columns="image_path,xmin,ymin,xmax,ymax,label,score"):
    path.write_text("\n".join([columns, *(",".join(map(str, row)) for row in rows)]))
    return path


def counts(paired):
    return [ground.paired.counted() for ground in paired.grounds]


def test_a_map_against_a_map_without_a_raster(tmp_path):
    truth = layer(tmp_path / "truth.gpkg", TRUTH)
    found = layer(tmp_path / "found.gpkg", FOUND, score=[0.9, 0.8, 0.1])
    paired = paired_files(found, truth)
    assert counts(paired) == [RasterCount(3, 3, 2)]
    ground = paired.grounds[0]
    assert paired.has_scores
    assert ground.plot is None
    assert np.isnan(ground.hectares)
    assert ground.paired.truth_diameters == pytest.approx([4, 6, 7], rel=1e-3)
    assert ground.truth_table["diameter_m"].tolist() == pytest.approx([4, 6, 7], rel=1e-3)
    # North is up: what lies north comes first from the top.
    assert ground.paired.truth[2, 1] < ground.paired.truth[0, 1]


@pytest.mark.parametrize("crs", [4326, 3857, 2154])
def test_predictions_in_another_crs_are_reprojected_and_it_is_said(tmp_path, caplog, crs):
    truth = layer(tmp_path / "truth.gpkg", TRUTH)
    found = layer(tmp_path / "found.gpkg", FOUND, to=crs)
    with caplog.at_level(logging.INFO, logger="treedet"):
        paired = paired_files(found, truth)
    assert counts(paired) == [RasterCount(3, 3, 2)]
    assert "found.gpkg: reprojected from" in caplog.text
    assert paired.grounds[0].predicted_table.crs == paired.grounds[0].truth_table.crs == UTM
    assert not paired.has_scores


@pytest.mark.parametrize("crs", [4326, 3857])
def test_metres_are_ground_metres_in_every_crs(tmp_path, crs):
    paired = paired_files(layer(tmp_path / "found.gpkg", FOUND), layer(tmp_path / "truth.gpkg", TRUTH, to=crs))
    assert counts(paired) == [RasterCount(3, 3, 2)]
    assert paired.grounds[0].paired.truth_diameters == pytest.approx([4, 6, 7], rel=0.02)
    assert paired.grounds[0].crs.to_epsg() == crs


def test_files_of_different_places_are_refused(tmp_path):
    truth = layer(tmp_path / "truth.gpkg", TRUTH)
    found = layer(tmp_path / "found.gpkg", FOUND, x=600_000.0)
    with pytest.raises(CrsMismatchError, match=r"found.gpkg spans x 600002.0 to .* do not overlap; .*crs="):
        paired_files(found, truth)


def test_a_file_without_crs_is_taken_to_be_in_that_of_the_other(tmp_path, caplog):
    truth = layer(tmp_path / "truth.gpkg", TRUTH)
    found = layer(tmp_path / "found.shp", FOUND, crs=None)
    with caplog.at_level(logging.INFO, logger="treedet"):
        assert counts(paired_files(found, truth)) == [RasterCount(3, 3, 2)]
    assert "the file has no CRS; its coordinates are taken to be in that of" in caplog.text
    assert "raster" not in caplog.text


def test_without_any_crs_the_unit_has_to_be_said(tmp_path):
    truth = layer(tmp_path / "truth.shp", TRUTH, crs=None, x=0, y=0)
    found = layer(tmp_path / "found.shp", FOUND, crs=None, x=0, y=0)
    with pytest.raises(UnknownGsdError, match="map unit"):
        paired_files(found, truth)
    paired = paired_files(found, truth, gsd=0.5)
    assert paired.grounds[0].paired.truth_diameters == pytest.approx([2, 3, 3.5])


def test_the_aoi_of_a_map(tmp_path):
    truth, found = layer(tmp_path / "truth.gpkg", TRUTH), layer(tmp_path / "found.gpkg", FOUND)
    south = layer(tmp_path / "aoi.geojson", [[0, 0, 50, 20]], to=4326)
    ground = paired_files(found, truth, aoi=south).grounds[0]
    assert ground.paired.counted() == RasterCount(2, 1, 1)
    assert ground.hectares == pytest.approx(0.1, rel=1e-3)
    with pytest.raises(CrsMismatchError, match="centre in the AOI"):
        paired_files(found, truth, aoi=layer(tmp_path / "far.gpkg", [[900, 0, 950, 20]]))


def test_no_crown_found_is_a_result(tmp_path):
    truth = layer(tmp_path / "truth.gpkg", TRUTH)
    found = layer(tmp_path / "found.gpkg", FOUND)
    gpd.read_file(found).iloc[:0].to_file(tmp_path / "none.gpkg")
    assert counts(paired_files(tmp_path / "none.gpkg", truth)) == [RasterCount(3, 0, 0)]


def test_truth_of_a_part_of_what_was_predicted(tmp_path):
    far = np.array([[0.0, 0, 4, 4]]) + np.arange(40)[:, None] * 20 + [500, 500, 500, 500]
    truth = layer(tmp_path / "truth.gpkg", TRUTH)
    found = layer(tmp_path / "found.gpkg", np.vstack([FOUND, far]))
    with pytest.warns(SparseTruthWarning, match="aoi="):
        paired_files(found, truth)


def test_attribute_names_that_differ(tmp_path):
    truth = layer(tmp_path / "truth.gpkg", TRUTH, Art=["Eiche", "Birke", "Eiche"])
    found = layer(tmp_path / "found.gpkg", FOUND, sure=[0.9, 0.8, 0.1], kind=["eiche", "eiche", "birke"])
    paired = paired_files(
        found,
        truth,
        truth_options=TruthOptions(columns={"label": "Art"}),
        prediction_options=TruthOptions(columns={"label": "kind", "score": "sure"}),
    )
    assert paired.classes.names == ("birke", "eiche")
    assert paired.grounds[0].paired.counted(by_class=True).matched == 1
    assert paired.grounds[0].paired.counted().matched == 2


def test_points_of_a_map(tmp_path):
    stems = gpd.GeoDataFrame(geometry=[shapely.Point(500_012, 5_399_962)], crs=UTM)
    stems.to_file(tmp_path / "stems.gpkg")
    found = layer(tmp_path / "found.gpkg", TRUTH)
    ground = paired_files(found, tmp_path / "stems.gpkg", truth_options=TruthOptions(points=True)).grounds[0]
    assert isinstance(ground.paired, PairedPoints)
    assert ground.paired.counted() == RasterCount(1, 3, 1)
    assert ground.paired.matched().distance_m == pytest.approx([0], abs=1e-3)


def test_images_are_matched_by_name_and_missing_ones_are_missed(tmp_path, caplog):
    rows = [("plots/a.tif", 0, 0, 40, 40, "Tree"), ("b.tif", 0, 0, 40, 40, "Tree"), ("empty.tif", 0, 0, 0, 0, "")]
    truth = csv(tmp_path / "truth.csv", rows, "image_path,xmin,ymin,xmax,ymax,label")
    (tmp_path / "out").mkdir()
    found = csv(
        tmp_path / "out" / "found.csv",
        [
            ("a.tif", 0, 0, 40, 44, "Tree", 0.5),
            ("empty.tif", 0, 0, 9, 9, "Tree", 0.5),
            ("c.tif", 0, 0, 9, 9, "Tree", 1),
        ],
    )
    with caplog.at_level(logging.INFO, logger="treedet"):
        paired = paired_files(found, truth, gsd=0.1)
    assert [ground.name for ground in paired.grounds] == ["plots/a.tif", "b.tif", "empty.tif"]
    assert counts(paired) == [RasterCount(1, 1, 1), RasterCount(1, 0, 0), RasterCount(0, 1, 0)]
    assert paired.grounds[0].paired.truth.tolist() == [[0, 0, 4, 4]]
    assert paired.grounds[0].crs is None
    assert "1 images that are not among the 3 images" in caplog.text
    assert "1 images of the truth are not in it" in caplog.text


def test_the_same_names_in_two_folders_are_told_apart(tmp_path):
    both = [("x/a.tif", 0, 0, 40, 40, "Tree", 1), ("y/a.tif", 50, 0, 90, 40, "Tree", 1)]
    paired = paired_files(csv(tmp_path / "found.csv", both[::-1]), csv(tmp_path / "truth.csv", both), gsd=0.1)
    assert counts(paired) == [RasterCount(1, 1, 1)] * 2
    bare = csv(tmp_path / "bare.csv", [("a.tif", 0, 0, 40, 40, "Tree", 1)])
    with pytest.raises(CrownsError, match="may be"):
        paired_files(bare, csv(tmp_path / "truth.csv", both), gsd=0.1)


def test_pixels_need_a_gsd_and_names_in_common(tmp_path):
    truth = csv(tmp_path / "truth.csv", [("a.tif", 0, 0, 40, 40, "Tree", 1)])
    with pytest.raises(UnknownGsdError, match="gsd="):
        paired_files(truth, truth)
    other = csv(tmp_path / "other.csv", [("z.tif", 0, 0, 40, 40, "Tree", 1)])
    with pytest.raises(CrownsError, match=r"names z.tif, none of which is among"):
        paired_files(other, truth, gsd=0.1)
    with pytest.raises(ConfigError, match="give the rasters"):
        paired_files(layer(tmp_path / "found.gpkg", FOUND), truth, gsd=0.1)


def test_the_size_that_a_file_tells_gives_hectares_and_is_checked(tmp_path):
    def coco(name, width):
        item = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 40, 40], "score": 0.5}
        image = {"id": 1, "file_name": "a.tif", "width": width, "height": 100}
        (tmp_path / name).write_text(
            json.dumps({"images": [image], "categories": [{"id": 1, "name": "tree"}], "annotations": [item]})
        )
        return tmp_path / name

    assert paired_files(coco("found.json", 200), coco("truth.json", 200), gsd=0.5).grounds[0].hectares == 0.5
    with pytest.raises(CrownsError, match="annotated at 400x100 pixels"):
        paired_files(coco("found.json", 400), coco("truth.json", 200), gsd=0.5)


@pytest.fixture
def rasters(tmp_path):
    folder = tmp_path / "imagery"
    folder.mkdir()
    for name in ("a.tif", "b.tif"):
        make_raster(folder / name, np.full((3, 100, 100), 90, np.uint8), gsd=0.5)
    return folder


def test_with_rasters_both_sides_are_brought_to_each(tmp_path, rasters):
    truth = layer(tmp_path / "truth.gpkg", TRUTH)
    found = layer(tmp_path / "found.geojson", FOUND, to=4326, score=[0.9, 0.8, 0.1])
    paired = paired_files(found, truth, rasters=rasters / "a.tif")
    assert counts(paired) == [RasterCount(3, 3, 2)]
    assert paired.grounds[0].plot is not None
    assert paired.grounds[0].hectares == pytest.approx(0.25, rel=1e-3)
    assert paired.grounds[0].paired.scores.tolist() == pytest.approx([0.9, 0.8, 0.1])
    assert np.allclose(paired.grounds[0].paired.truth[0], [10, 36, 14, 40], rtol=1e-3)


def test_a_raster_that_predictions_do_not_name_shows_none(tmp_path, rasters, caplog):
    rows = [("a.tif", 0, 0, 8, 8, "Tree", 1), ("b.tif", 0, 0, 8, 8, "Tree", 1)]
    with caplog.at_level(logging.INFO, logger="treedet"):
        paired = paired_files(csv(tmp_path / "f.csv", rows[:1]), csv(tmp_path / "t.csv", rows), rasters=rasters)
    assert counts(paired) == [RasterCount(1, 1, 1), RasterCount(1, 0, 0)]
    assert "1 rasters are without predictions" in caplog.text
    assert paired.has_scores


def test_one_file_of_predictions_per_raster(tmp_path, rasters):
    folder = tmp_path / "found"
    folder.mkdir()
    layer(folder / "b.gpkg", FOUND, score=[0.9, 0.8, 0.1])
    truth = layer(tmp_path / "truth.gpkg", TRUTH)
    assert counts(paired_files(folder, truth, rasters=rasters)) == [RasterCount(3, 0, 0), RasterCount(3, 3, 2)]


def test_predictions_beside_the_raster_are_refused(tmp_path, rasters):
    truth = layer(tmp_path / "truth.gpkg", TRUTH)
    with pytest.raises(CrsMismatchError, match=r"none of the 3 crowns of .*found.gpkg lies on"):
        paired_files(layer(tmp_path / "found.gpkg", FOUND, x=600_000), truth, rasters=rasters / "a.tif")
