import pickle

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from affine import Affine
from factories import UTM, make_raster

from treedet.core.grid import Window
from treedet.datasets.annotated import AnnotatedRaster, pair
from treedet.errors import CrownsError, CrsMismatchError, DegenerateCrownError, UnreadableRasterError
from treedet.vectors.truth import TruthOptions

X, Y = 500_000, 5_400_000
BOXES = np.array([[10.0, 20, 30, 50], [100, 100, 121, 120], [60.5, 10.25, 80, 30]])


@pytest.fixture
def notices(caplog):
    caplog.set_level("INFO", logger="treedet")
    return caplog


def black(path, *, at=(X, Y), **profile):
    path.parent.mkdir(parents=True, exist_ok=True)
    where = {"transform": Affine(0.1, 0, at[0], 0, -0.1, at[1])} if profile.get("crs", UTM) else {}
    return make_raster(path, np.full((3, 150, 200), 90, np.uint8), **{**where, **profile})


def on_map(boxes, at=(X, Y)):
    boxes = np.asarray(boxes) * 0.1
    return shapely.box(at[0] + boxes[:, 0], at[1] - boxes[:, 3], at[0] + boxes[:, 2], at[1] - boxes[:, 1])


def table(boxes=BOXES, at=(X, Y), **columns):
    return gpd.GeoDataFrame(columns, geometry=on_map(boxes, at), crs=UTM)


def vector(path, *args, **columns):
    table(*args, **columns).to_file(path)
    return path


def csv(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=["image_path", "xmin", "ymin", "xmax", "ymax", "label"]).to_csv(path, index=False)
    return path


def test_crowns_come_in_pixels_of_the_grid(tmp_path):
    path = black(tmp_path / "a.tif")
    plot = AnnotatedRaster(path, vector(tmp_path / "c.gpkg", label=["tree", "bird", "tree"]))
    assert plot.boxes == pytest.approx(BOXES, abs=1e-5)
    assert plot.labels.tolist() == ["tree", "bird", "tree"]
    assert plot.crowns.crs.to_epsg() == 32632
    # The scale of UTM at its central meridian makes a map metre 1/0.9996 m on the ground.
    assert plot.diameters_m == pytest.approx(np.array([2.5, 2.05, 1.9625]) / 0.9996, abs=1e-4)
    assert plot.hectares == pytest.approx(20 * 15 / 1e4, rel=1e-3)
    assert plot.aoi is None
    assert plot.ignored.shape == (0, 4)


def test_a_table_in_another_crs_is_taken_too(tmp_path):
    path = black(tmp_path / "a.tif")
    plot = AnnotatedRaster(path, table(kind=["a", "b", "c"]).to_crs(4326), columns={"label": "kind"})
    assert plot.boxes == pytest.approx(BOXES, abs=0.02)
    assert plot.labels.tolist() == ["a", "b", "c"]
    assert AnnotatedRaster(path, table()).labels.tolist() == ["tree"] * 3


def test_a_table_without_rows_is_ground_without_crowns(tmp_path):
    plot = AnnotatedRaster(black(tmp_path / "a.tif"), table(np.zeros((0, 4))))
    assert plot.boxes.shape == (0, 4)
    assert len(plot.labels) == len(plot.diameters_m) == 0


def test_a_warped_raster_has_its_crowns_where_its_pixels_show_them(tmp_path):
    pixels = np.zeros((3, 150, 200), np.uint8)
    pixels[:, 40:80, 100:160] = 255
    step = 1e-6
    path = make_raster(tmp_path / "a.tif", pixels, crs="EPSG:4326", transform=Affine(step, 0, 9.0, 0, -step, 48.7))
    crown = shapely.box(9 + 100 * step, 48.7 - 80 * step, 9 + 160 * step, 48.7 - 40 * step)
    plot = AnnotatedRaster(path, gpd.GeoDataFrame(geometry=[crown], crs=4326))
    assert plot.crs.to_epsg() == 4326
    assert plot.grid.crs != plot.crs
    with plot.open() as raster:
        shown = raster.read(Window(0, 0, plot.grid.height, plot.grid.width)).pixels[0] > 127
    rows, columns = np.nonzero(shown)
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert plot.boxes[0] == pytest.approx(found, abs=1.0)


def test_a_stated_gsd_holds_for_diameters_too(tmp_path, notices):
    plot = AnnotatedRaster(black(tmp_path / "a.tif"), table(), gsd=0.2)
    assert plot.grid.gsd == pytest.approx(0.2)
    assert plot.diameters_m[0] == pytest.approx(5.0, abs=1e-3)
    with plot.open() as raster:
        assert raster.grid == plot.grid


def test_the_aoi_lies_in_pixels_and_counts_as_the_annotated_ground(tmp_path):
    gpd.GeoDataFrame(geometry=[shapely.box(X, Y - 5, X + 10, Y + 50)], crs=UTM).to_file(tmp_path / "aoi.gpkg")
    plot = AnnotatedRaster(black(tmp_path / "a.tif"), table(), aoi=tmp_path / "aoi.gpkg")
    assert plot.aoi.bounds == pytest.approx((0, 0, 100, 50), abs=1e-4)
    assert plot.hectares == pytest.approx(50 / 1e4, rel=1e-3)


def test_ignored_boxes_go_into_a_copy(tmp_path):
    plot = AnnotatedRaster(black(tmp_path / "a.tif"), table())
    other = plot.with_ignored([[1, 2, 3, 4]])
    assert other.ignored.tolist() == [[1, 2, 3, 4]]
    assert len(plot.ignored) == 0
    assert other.boxes is plot.boxes


def test_a_plot_can_go_to_another_process(tmp_path):
    plot = pickle.loads(pickle.dumps(AnnotatedRaster(black(tmp_path / "a.tif"), table())))
    with plot.open() as raster:
        assert (raster.read(Window(0, 0, 5, 5)).pixels == 90).all()


def test_crowns_beside_the_raster_are_left_out_and_said_by_row(tmp_path, notices):
    boxes = np.vstack([[[900, 900, 910, 910]], BOXES, [[-20, 0, -5, 9]]])
    plot = AnnotatedRaster(black(tmp_path / "a.tif"), vector(tmp_path / "c.gpkg", boxes))
    assert plot.crowns.index.tolist() == [2, 3, 4]
    assert "2 crowns are outside every raster and left out, rows 1, 5" in notices.text


def test_pixel_boxes_beside_their_image_are_a_mistake_unless_they_are_to_be_dropped(tmp_path, notices):
    path = black(tmp_path / "a.tif")
    file = csv(tmp_path / "c.csv", [["a.tif", 1, 1, 9, 9, "tree"], ["a.tif", 300, 1, 310, 9, "tree"]])
    for build in (AnnotatedRaster, pair):
        with pytest.raises(DegenerateCrownError, match=r"1 of 2 boxes .* row 2; found \[300.*--drop"):
            build(path, file)
    plot = AnnotatedRaster(path, file, truth=TruthOptions(drop=True))
    assert plot.boxes.tolist() == [pytest.approx([1, 1, 9, 9], abs=1e-4)]
    assert "1 crown is outside every raster and left out, row 2" in notices.text


def test_what_holds_for_the_file_is_said_once_for_many_rasters(tmp_path, notices):
    paths = [black(tmp_path / f"{name}.tif") for name in "abc"]
    file = tmp_path / "c.shp"
    vector(file)
    file.with_suffix(".prj").unlink()
    assert len(pair(paths, file)) == 3
    assert notices.text.count("the file has no CRS") == 1
    pair(paths, file)
    assert notices.text.count("the file has no CRS") == 2, "and again the next time"


def test_a_file_without_crs_that_lies_elsewhere_is_not_first_said_to_be_taken(tmp_path, notices):
    file = tmp_path / "c.shp"
    vector(file, BOXES, (X + 5000, Y))
    file.with_suffix(".prj").unlink()
    with pytest.raises(CrsMismatchError, match=r"says no CRS .*--crs"):
        pair(black(tmp_path / "a.tif"), file)
    assert "taken to be" not in notices.text


def test_crowns_of_another_place_are_refused(tmp_path):
    path = black(tmp_path / "a.tif")
    far = vector(tmp_path / "far.gpkg", BOXES, (X + 5000, Y))
    for build in (lambda: AnnotatedRaster(path, far), lambda: pair(path, far)):
        with pytest.raises(CrsMismatchError, match=r"none of the 3 crowns of .*far\.gpkg lies on .*--crs"):
            build()


def test_a_crown_belongs_to_every_raster_that_shows_it(tmp_path, notices):
    west, east = black(tmp_path / "r/a.tif"), black(tmp_path / "r/b.tif", at=(X + 9, Y))
    black(tmp_path / "r/c.tif", at=(X + 900, Y))
    plots = pair(tmp_path / "r", vector(tmp_path / "c.gpkg"))
    assert [plot.path for plot in plots] == [str(west), str(east), str(tmp_path / "r/c.tif")]
    assert [len(plot) for plot in plots] == [3, 1, 0]
    assert plots[1].boxes[0] == pytest.approx([10, 100, 31, 120], abs=1e-4)
    assert "3 rasters" in notices.text
    assert "1 rasters are without crowns and kept as such" in notices.text
    assert "lie outside" not in notices.text


@pytest.mark.parametrize("how", ["glob", "list", "sequence"])
def test_rasters_are_given_in_many_ways(tmp_path, how):
    paths = [black(tmp_path / f"{name}.tif") for name in "ab"]
    black(tmp_path / "other.tif")
    (tmp_path / "list.txt").write_text("a.tif\n\n# not this: other.tif\nb.tif\n")
    given = {"glob": str(tmp_path / "?.tif"), "list": tmp_path / "list.txt", "sequence": paths}[how]
    assert [plot.path for plot in pair(given, vector(tmp_path / "c.gpkg"))] == [str(path) for path in paths]


def test_a_folder_or_a_pattern_without_rasters_is_refused(tmp_path):
    for given in (tmp_path, str(tmp_path / "*.tif"), []):
        with pytest.raises(UnreadableRasterError, match="raster"):
            pair(given, "c.gpkg")


def test_images_are_known_by_their_path_before_their_basename(tmp_path):
    for folder in "ab":
        black(tmp_path / folder / "plot.tif")
    rows = [["a/plot.tif", 1, 1, 9, 9, "oak"], ["b/plot.tif", 1, 1, 9, 9, "ash"], ["b/plot.tif", 20, 1, 29, 9, "ash"]]
    file = csv(tmp_path / "c.csv", rows)
    plots = pair([tmp_path / "b/plot.tif", tmp_path / "a/plot.tif"], file)
    assert [plot.labels.tolist() for plot in plots] == [["ash", "ash"], ["oak"]]
    assert AnnotatedRaster(tmp_path / "b/plot.tif", file).labels.tolist() == ["ash", "ash"]


def test_a_basename_that_fits_two_rasters_is_refused(tmp_path):
    for folder in "ab":
        black(tmp_path / folder / "plot.tif")
    file = csv(tmp_path / "notes/c.csv", [["plot.tif", 1, 1, 9, 9, "oak"]])
    with pytest.raises(CrownsError, match=r"'plot\.tif' may be .*a/plot\.tif or .*b/plot\.tif"):
        pair([tmp_path / "a/plot.tif", tmp_path / "b/plot.tif"], file)
    # One of them alone is clear.
    assert len(pair(tmp_path / "a/plot.tif", file)) == 1


def test_images_that_are_not_among_some_rasters_are_left_out_with_their_number(tmp_path, notices):
    black(tmp_path / "a.tif")
    rows = [["a.tif", 1, 1, 9, 9, "oak"], ["gone.tif", 1, 1, 9, 9, "oak"], ["gone.tif", 20, 1, 29, 9, "oak"]]
    plots = pair(tmp_path / "a.tif", csv(tmp_path / "c.csv", rows))
    assert [len(plot) for plot in plots] == [1]
    assert "1 images that are not among the rasters are left out, with their 2 crowns" in notices.text


def test_an_image_missing_from_a_whole_folder_is_an_error(tmp_path):
    black(tmp_path / "r/a.tif")
    file = csv(tmp_path / "c.csv", [["a.tif", 1, 1, 9, 9, "oak"], ["gone.tif", 1, 1, 9, 9, "oak"]])
    with pytest.raises(CrownsError, match=r"names 1 images that are not among the 1 rasters: gone\.tif; give"):
        pair(tmp_path / "r", file)


def test_no_image_among_the_rasters_is_an_error(tmp_path):
    path = black(tmp_path / "other.tif")
    file = csv(tmp_path / "c.csv", [["a.tif", 1, 1, 9, 9, "oak"]])
    for build in (lambda: pair(path, file), lambda: AnnotatedRaster(path, file)):
        with pytest.raises(CrownsError, match=r"names .*a\.tif"):
            build()


def test_a_raster_that_nobody_annotated_is_left_out_but_an_empty_one_kept(tmp_path, notices):
    for name in "abc":
        black(tmp_path / f"r/{name}.tif")
    plots = pair(tmp_path / "r", csv(tmp_path / "c.csv", [["a.tif", 1, 1, 9, 9, "oak"], ["b.tif", 0, 0, 0, 0, ""]]))
    assert [len(plot) for plot in plots] == [1, 0]
    assert "1 rasters are left out, not named in" in notices.text


def test_a_folder_of_files_is_paired_by_stem(tmp_path, notices):
    for name in "abc":
        black(tmp_path / f"r/{name}.tif")
    (tmp_path / "v").mkdir()
    vector(tmp_path / "v/a.gpkg", BOXES[:1])
    vector(tmp_path / "v/c.geojson", BOXES[1:])
    plots = pair(tmp_path / "r", tmp_path / "v")
    assert [len(plot) for plot in plots] == [1, 2]
    assert "1 rasters are left out, without a file of that name" in notices.text
    vector(tmp_path / "v/a.shp", BOXES)
    with pytest.raises(CrownsError, match=r"holds a\.shp and a\.gpkg"):
        pair(tmp_path / "r", tmp_path / "v")


def test_a_raster_outside_the_aoi_is_left_out_unless_it_is_the_only_one(tmp_path, notices):
    paths = [black(tmp_path / "a.tif"), black(tmp_path / "b.tif", at=(X + 40, Y))]
    gpd.GeoDataFrame(geometry=[shapely.box(X, Y - 5, X + 10, Y)], crs=UTM).to_file(tmp_path / "aoi.gpkg")
    file = vector(tmp_path / "c.gpkg")
    assert [plot.path for plot in pair(paths, file, aoi=tmp_path / "aoi.gpkg")] == [str(paths[0])]
    assert "left out: the AOI" in notices.text
    with pytest.raises(CrsMismatchError, match="does not overlap"):
        pair(paths[1], file, aoi=tmp_path / "aoi.gpkg")


def test_how_crowns_are_read_is_handed_on(tmp_path):
    points = gpd.GeoDataFrame(geometry=[shapely.Point(X + 5, Y - 5)], crs=UTM)
    points.to_file(tmp_path / "p.gpkg")
    plots = pair(black(tmp_path / "a.tif"), tmp_path / "p.gpkg", truth=TruthOptions(diameter=4.0))
    assert plots[0].boxes[0] == pytest.approx([30, 30, 70, 70], abs=0.1)
    direct = AnnotatedRaster(tmp_path / "a.tif", points, truth=TruthOptions(diameter=4.0))
    assert direct.boxes == pytest.approx(plots[0].boxes)


def test_a_table_is_checked_as_a_file_is(tmp_path, notices):
    path = black(tmp_path / "a.tif")
    plot = AnnotatedRaster(path, table(np.vstack([BOXES, BOXES[:1]])))
    assert plot.crowns.index.tolist() == [1, 2, 3]
    assert "the table of crowns: 1 exact repetitions dropped, row 4" in notices.text
    shapes = on_map(BOXES)
    shapes[1] = shapes[1].centroid
    with pytest.raises(CrownsError, match=r"the table of crowns mixes polygons with Point: row 2"):
        AnnotatedRaster(path, gpd.GeoDataFrame(geometry=shapes, crs=UTM))
    with pytest.raises(CrownsError, match=r"the table of crowns holds points.*--diameter"):
        AnnotatedRaster(path, gpd.GeoDataFrame(geometry=shapely.centroid(on_map(BOXES)), crs=UTM))
