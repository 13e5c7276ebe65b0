"""Many files as one ground: what is painted across their borders is found once and whole."""

import logging
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from affine import Affine
from factories import UTM, cut_up, disks, make_raster, paint, tiny_spec
from geopandas.testing import assert_geodataframe_equal
from rasterio import shutil
from rasterio.enums import Resampling

from treedet.core import crowns as crowns_table
from treedet.errors import ConfigError, CrownsError, CrsMismatchError, OutputError, UnreadableRasterError
from treedet.inference import campaign, exclusion
from treedet.inference.detector import Detector
from treedet.models.blobs import BlobDetector
from treedet.rasters import decoding
from treedet.rasters.survey import survey
from treedet.vectors.annotations import read_crowns, read_polygons

WIDTH, HEIGHT = 430, 370
COLUMNS, ROWS = (0, 140, 290, WIDTH), (0, 121, 250, HEIGHT)
CIRCLES = np.concatenate(
    [
        # On borders of files and on the corners of four.
        [(140, 60, 12), (290, 121, 14), (140, 250, 9), (60, 121, 11), (215, 250, 13), (290, 310, 10), (140, 121, 8)],
        [(30, 30, 10), (215, 60, 13), (360, 60, 12), (60, 185, 9), (215, 185, 14), (370, 190, 11), (400, 330, 13)],
    ]
).astype(float)
PIXELS = paint(CIRCLES, width=WIDTH, height=HEIGHT)
OPTIONS = {"max_crown": 3.4}


def detector(**changes):
    return Detector(BlobDetector(tiny_spec(**changes)))


def in_order(table):
    """Rows by place, without what depends on order and files."""
    ordered = table.assign(wkb=table.geometry.to_wkb(hex=True)).sort_values("wkb").drop(columns="wkb")
    return ordered.drop(columns=["crown_id", "source"]).reset_index(drop=True)


def centres(table, gsd=0.1):
    points = table.geometry.centroid
    return np.stack([(points.x - 500_000) / gsd, (5_400_000 - points.y) / gsd], axis=1)


def said(caplog):
    return "\n".join(record.getMessage() for record in caplog.records)


@pytest.fixture
def tiles(tmp_path):
    """A grid of 3 x 3 files, and their places in pixels."""
    return cut_up(tmp_path / "tiles", PIXELS, columns=COLUMNS, rows=ROWS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The same picture as one file."""
    return make_raster(tmp_path_factory.mktemp("whole") / "whole.tif", PIXELS)


@pytest.mark.parametrize("window_px", [64, 192, 256, 512])
@pytest.mark.parametrize("unit", [1, 5, 128])
def test_disks_across_files_are_the_rows_of_one_file(tmp_path, tiles, whole, monkeypatch, window_px, unit):
    monkeypatch.setattr(campaign, "UNIT_WINDOWS", unit)
    model = detector(window_px=window_px)
    expected = model.predict(whole, **OPTIONS)
    summary = model.predict_many(tmp_path / "tiles", tmp_path / "out.gpkg", **OPTIONS)
    table = read_crowns(tmp_path / "out.gpkg")
    crowns_table.validate(table)
    assert len(table) == summary.crowns == len(CIRCLES)
    assert not table["cut"].any()
    assert_geodataframe_equal(in_order(table), in_order(expected))
    assert table["crown_id"].tolist() == list(range(1, len(CIRCLES) + 1))
    for source, (x, y) in zip(table["source"], centres(table), strict=True):
        left, top, right, bottom = tiles[source]
        assert left - 1e-6 <= x < right - 1e-6  # a disk lies right on the border
        assert top - 1e-6 <= y < bottom - 1e-6
    assert (summary.rasters, summary.grounds, summary.failures) == (9, 1, {})
    assert summary.hectares == pytest.approx(WIDTH * HEIGHT * 0.01 / 1e4, rel=1e-3)
    assert not (tmp_path / "out.gpkg.parts").exists()


@pytest.mark.parametrize("profile", [{"tiled": True, "blockxsize": 16, "blockysize": 16}, {"compress": "lzw"}])
@pytest.mark.parametrize("margin", [1, 20])
def test_files_that_overlap_with_the_same_content(tmp_path, whole, caplog, profile, margin):
    caplog.set_level(logging.INFO, logger="treedet")
    cut_up(tmp_path / "tiles", PIXELS, columns=COLUMNS, rows=ROWS, margin=margin, **profile)
    model = detector(window_px=192)
    model.predict_many(tmp_path / "tiles", tmp_path / "out.parquet", **OPTIONS)
    assert_geodataframe_equal(
        in_order(read_crowns(tmp_path / "out.parquet")), in_order(model.predict(whole, **OPTIONS))
    )
    assert "pairs of rasters overlap; the first by name is read there" in said(caplog)


def test_where_content_differs_the_first_by_name_is_read(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="treedet")
    folder = tmp_path / "tiles"
    folder.mkdir()
    make_raster(folder / "b.tif", paint(np.array([[30.0, 30, 8]]), width=100, height=60))
    make_raster(folder / "a.tif", paint(np.array([[70.0, 30, 8]]), width=100, height=60))
    detector().predict_many(folder, tmp_path / "out.gpkg")
    table = read_crowns(tmp_path / "out.gpkg")
    assert centres(table).round().tolist() == [[70, 30]]
    assert table["source"].tolist() == [str(folder / "a.tif")]
    assert "1 of 1 looked at with different content" in said(caplog)


def test_nodata_of_one_file_is_filled_by_another(tmp_path, whole):
    folder = tmp_path / "tiles"
    folder.mkdir()
    left, right = PIXELS.copy(), PIXELS.copy()
    left[:, :, 200:], right[:, :, :200] = 0, 0
    for name, pixels, valid in (("a", left, slice(0, 200)), ("b", right, slice(200, None))):
        alpha = np.zeros((1, HEIGHT, WIDTH), np.uint8)
        alpha[:, :, valid] = 255
        make_raster(folder / f"{name}.tif", np.concatenate([pixels, alpha]), photometric="RGB", alpha="yes")
    model = detector(window_px=128)
    summary = model.predict_many(folder, tmp_path / "out.gpkg", **OPTIONS)
    assert_geodataframe_equal(in_order(read_crowns(tmp_path / "out.gpkg")), in_order(model.predict(whole, **OPTIONS)))
    assert summary.hectares == pytest.approx(WIDTH * HEIGHT * 0.01 / 1e4, rel=1e-3)


@pytest.mark.parametrize("ratio", [2, 3])
def test_finer_files_are_resampled_as_one(tmp_path, whole, ratio):
    fine = np.repeat(np.repeat(PIXELS, ratio, axis=1), ratio, axis=2)
    # Borders that do not lie on whole pixels of the model's grid.
    columns = tuple(x * ratio + (0 < x < WIDTH) for x in COLUMNS)
    cut_up(tmp_path / "tiles", fine, columns=columns, rows=tuple(y * ratio for y in ROWS), gsd=0.1 / ratio)
    model = detector(window_px=192)
    model.predict_many(tmp_path / "tiles", tmp_path / "out.gpkg", **OPTIONS)
    found, expected = read_crowns(tmp_path / "out.gpkg"), model.predict(whole, **OPTIONS)
    assert len(found) == len(CIRCLES)
    np.testing.assert_allclose(
        np.sort(found.geometry.bounds.to_numpy(), axis=0), np.sort(expected.geometry.bounds.to_numpy(), axis=0)
    )


def with_overviews(path, *factors):
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews(factors, Resampling.average)


@pytest.mark.parametrize("profile", [{}, {"nodata": 0}])
@pytest.mark.parametrize("margin", [0, 24])
def test_overviews_of_all_files_are_read_as_those_of_one(tmp_path, monkeypatch, profile, margin):
    rng = np.random.default_rng(0)
    fine = np.repeat(np.repeat(PIXELS, 4, axis=1), 4, axis=2)
    fine = np.where(fine > 0, fine - rng.integers(0, 9, fine.shape, np.uint8), 40).astype(np.uint8)
    _, height, width = fine.shape
    columns, rows = (0, 560, 1160, width), (0, 480, 1000, height)
    small = {"gsd": 0.025, "compress": "lzw", **profile}
    tiles = cut_up(tmp_path / "tiles", fine, columns=columns, rows=rows, margin=margin, **small)
    whole = make_raster(tmp_path / "whole.tif", fine, **small)
    for path in (whole, *tiles):
        with_overviews(path, 2, 4)
    levels = set()
    connect = decoding.Handle.__init__
    monkeypatch.setattr(
        decoding.Handle,
        "__init__",
        lambda handle, source, level=None: levels.add(level) or connect(handle, source, level),
    )
    model = detector(window_px=192)
    model.predict_many(tmp_path / "tiles", tmp_path / "out.gpkg", **OPTIONS)
    assert levels == ({1, None} if margin else {1})  # overlaps are compared at full resolution
    expected = in_order(model.predict(whole, **OPTIONS))
    assert len(expected) == len(CIRCLES)
    assert_geodataframe_equal(in_order(read_crowns(tmp_path / "out.gpkg")), expected)


@pytest.mark.parametrize("case", ["another", "between"])
def test_overviews_that_are_not_those_of_the_whole_are_left(tmp_path, case):
    columns = (0, 140, WIDTH) if case == "another" else (0, 141, WIDTH)
    tiles = cut_up(tmp_path / "tiles", PIXELS, columns=columns, rows=(0, HEIGHT), gsd=0.05)
    for path, factors in zip(tiles, [(2, 4), (2,) if case == "another" else (2, 4)], strict=True):
        with_overviews(path, *factors)
    (ground,) = survey(list(tiles)).grounds
    assert ground.overviews == ground.facts.overviews == ()


def test_a_lone_file_whose_overviews_are_rounded_down_is_read_as_by_itself(tmp_path):
    """GDAL's driver for cloud-optimised GeoTIFFs halves odd sizes downwards."""
    fine = np.repeat(np.repeat(PIXELS, 4, axis=1), 4, axis=2)[:, :-3, :-3]
    (tmp_path / "tiles").mkdir()
    path = tmp_path / "tiles" / "a.tif"
    options = {"BLOCKSIZE": 128, "OVERVIEW_RESAMPLING": "AVERAGE", "COMPRESS": "LZW"}
    shutil.copy(make_raster(tmp_path / "whole.tif", fine, gsd=0.025), path, driver="COG", **options)
    with rasterio.open(path, overview_level=0) as overview:
        assert overview.width == fine.shape[2] // 2
    summary = detector().predict_many(tmp_path / "tiles", tmp_path / "out.gpkg", **OPTIONS)
    assert summary.failures == {}
    expected = detector().predict(path, **OPTIONS)
    assert len(expected) == len(CIRCLES)
    assert_geodataframe_equal(in_order(read_crowns(tmp_path / "out.gpkg")), in_order(expected))


def test_files_in_degrees_are_read_on_one_local_grid(tmp_path):
    degrees = Affine(0.1 / 71_696, 0, 8, 0, -0.1 / 111_229, 50)
    whole = make_raster(tmp_path / "whole.tif", PIXELS, crs="EPSG:4326", transform=degrees)
    cut_up(tmp_path / "tiles", PIXELS, columns=COLUMNS, rows=ROWS, transform=degrees, crs="EPSG:4326")
    model = detector(window_px=192)
    summary = model.predict_many(tmp_path / "tiles", tmp_path / "out.gpkg", **OPTIONS)
    found, expected = read_crowns(tmp_path / "out.gpkg"), model.predict(whole, **OPTIONS)
    assert (len(found), summary.grounds) == (len(CIRCLES), 1)
    assert found.crs == expected.crs
    pixel = 1.5e-6
    for table in (found, expected):
        table["x"] = table.geometry.bounds[["minx", "maxx"]].mean(axis=1)
    np.testing.assert_allclose(np.sort(found["x"]), np.sort(expected["x"]), atol=pixel)
    np.testing.assert_allclose(np.sort(found["diameter_m"]), np.sort(expected["diameter_m"]), atol=0.15)


def test_grounds_of_several_crs_and_resolutions_are_told_apart(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="treedet")
    folder = tmp_path / "tiles"
    cut_up(folder, PIXELS, columns=COLUMNS, rows=ROWS)
    pixels = paint(np.array([[60.0, 50, 12]]), width=120, height=100)
    far = Affine(0.1, 0, 300_000, 0, -0.1, 5_400_000)
    make_raster(folder / "z33.tif", pixels, crs="EPSG:32633", transform=far)
    make_raster(folder / "z_coarse.tif", pixels, transform=Affine(0.2, 0, 500_500, 0, -0.2, 5_400_000))
    summary = detector().predict_many(folder, tmp_path / "out.gpkg")
    table = read_crowns(tmp_path / "out.gpkg")
    assert (summary.grounds, summary.rasters, len(table)) == (3, 11, len(CIRCLES) + 2)
    assert table.crs == UTM
    alone = detector().predict(folder / "z33.tif")
    moved = table[table["source"] == str(folder / "z33.tif")]
    assert moved.geometry.centroid.distance(alone.geometry.centroid.to_crs(UTM), align=False).max() < 0.01
    text = said(caplog)
    assert "rasters of different CRS or GSD are worked off one after the other: 9 at 0.1 m in" in text
    assert "crowns of all rasters are written in WGS 84 / UTM zone 32N" in text
    assert "11 rasters are 3 pieces of ground" in text


def test_files_that_touch_on_another_pixel_grid_are_named(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="treedet")
    folder = tmp_path / "tiles"
    folder.mkdir()
    pixels = PIXELS[:, :100, :100]
    make_raster(folder / "a.tif", pixels)
    make_raster(folder / "b.tif", pixels, transform=Affine(0.1, 0, 500_009.95, 0, -0.1, 5_400_000))
    summary = detector().predict_many(folder, tmp_path / "out.gpkg")
    assert summary.grounds == 2
    assert f"2 rasters, such as {folder / 'a.tif'}, touch others on another pixel grid" in said(caplog)


def test_one_stretch_for_all(tmp_path):
    wide = PIXELS.astype(np.uint16) * 40
    wide[:, :, 300:] //= 2
    folder = tmp_path / "tiles"
    cut_up(folder, wide, columns=COLUMNS, rows=ROWS)
    one = make_raster(tmp_path / "one.tif", wide)
    model = detector(window_px=192)
    summary = model.predict_many(folder, tmp_path / "out.gpkg", score_threshold=0.1, **OPTIONS)
    expected = model.predict(one, score_threshold=0.1, **OPTIONS)
    assert summary.stretches == {"uint16": pytest.approx([0.0, 8000.0])}
    assert_geodataframe_equal(in_order(read_crowns(tmp_path / "out.gpkg")), in_order(expected))


def test_a_list_with_duplicates_and_full_paths_as_keys(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="treedet")
    pixels = paint(np.array([[60.0, 50, 12]]), width=120, height=100)
    for name, x in (("a", 500_000), ("b", 500_100)):
        (tmp_path / name).mkdir()
        make_raster(tmp_path / name / "1.tif", pixels, transform=Affine(0.1, 0, x, 0, -0.1, 5_400_000))
    (tmp_path / "list.txt").write_text("a/1.tif\nb/1.tif\na/1.tif\nb/../a/1.tif\n")
    detector().predict_many(tmp_path / "list.txt", tmp_path / "out.gpkg")
    table = read_crowns(tmp_path / "out.gpkg")
    assert table["source"].tolist() == [str(tmp_path / "a/1.tif"), str(tmp_path / "b/1.tif")]
    assert "1 paths lead to a raster that is named already" in said(caplog)


@pytest.mark.parametrize("source", ["folder", "glob"])
def test_nothing_to_read_is_one_error(tmp_path, source):
    (tmp_path / "none").mkdir()
    given = tmp_path / "none" if source == "folder" else tmp_path / "*.tif"
    with pytest.raises(UnreadableRasterError, match="names no raster"):
        detector().predict_many(given, tmp_path / "out.gpkg")


def test_an_aoi_leaves_out_the_ground_beside_it(tmp_path, tiles, whole):
    box = shapely.box(500_012, 5_399_970, 500_031, 5_399_999)
    gpd.GeoDataFrame(geometry=[box], crs=UTM).to_file(tmp_path / "aoi.gpkg")
    far = Affine(0.1, 0, 600_000, 0, -0.1, 5_400_000)
    make_raster(tmp_path / "tiles" / "far.tif", PIXELS, transform=far)
    aoi = {"aoi": str(tmp_path / "aoi.gpkg"), **OPTIONS}
    summary = detector(window_px=128).predict_many(tmp_path / "tiles", tmp_path / "out.gpkg", **aoi)
    expected = detector(window_px=128).predict(whole, **aoi)
    table = read_crowns(tmp_path / "out.gpkg")
    assert 0 < len(table) < len(CIRCLES)
    assert_geodataframe_equal(in_order(table), in_order(expected))
    assert summary.outside == 1
    with pytest.raises(CrsMismatchError, match="overlaps none of 1 rasters"):
        detector().predict_many([tmp_path / "tiles" / "far.tif"], tmp_path / "none.gpkg", **aoi)


def test_pixels_of_a_csv_are_those_of_the_file_that_is_named(tmp_path, tiles):
    detector().predict_many(tmp_path / "tiles", tmp_path / "out.csv", **OPTIONS)
    rows = pd.read_csv(tmp_path / "out.csv")
    corners = np.array([tiles[path][:2] for path in rows["image_path"]])
    x = (rows["xmin"] + rows["xmax"]) / 2 + corners[:, 0]
    y = (rows["ymin"] + rows["ymax"]) / 2 + corners[:, 1]
    wanted = CIRCLES[np.lexsort(CIRCLES[:, :2].T)]
    found = np.stack([x, y], axis=1)
    np.testing.assert_allclose(found[np.lexsort(found.round().T)], wanted[:, :2], atol=1)


@pytest.mark.parametrize("unit", [1, 128])
def test_one_file_per_raster(tmp_path, tiles, monkeypatch, unit):
    monkeypatch.setattr(campaign, "UNIT_WINDOWS", unit)
    model = detector(window_px=128)
    model.predict_many(tmp_path / "tiles", tmp_path / "one.gpkg", **OPTIONS)
    summary = model.predict_many(tmp_path / "tiles", tmp_path / "each", per_raster=True, **OPTIONS)
    one = read_crowns(tmp_path / "one.gpkg")
    assert summary.crowns == len(one)
    each = {path.stem: read_crowns(path) for path in sorted((tmp_path / "each").iterdir())}
    assert list(each) == sorted(Path(path).stem for path in tiles)
    for path in tiles:
        table = each[Path(path).stem]
        assert_geodataframe_equal(in_order(table), in_order(one[one["source"] == path]), check_dtype=False)
        assert table["crown_id"].tolist() == list(range(1, len(table) + 1))
    with pytest.raises(OutputError, match="exists already"):
        model.predict_many(tmp_path / "tiles", tmp_path / "each", per_raster=True)


def test_files_of_each_raster_stay_in_the_folder(tmp_path):
    for name in ("lists", "data"):
        (tmp_path / name).mkdir()
    make_raster(tmp_path / "lists" / "a.tif", PIXELS)
    make_raster(tmp_path / "data" / "b.tif", PIXELS, transform=Affine(0.1, 0, 500_900, 0, -0.1, 5_400_000))
    (tmp_path / "lists" / "both.txt").write_text("a.tif\n../data/b.tif\n")
    detector().predict_many(tmp_path / "lists" / "both.txt", tmp_path / "each", per_raster=True, **OPTIONS)
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.gpkg"))
    assert written == ["each/data/b.gpkg", "each/lists/a.gpkg"]


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_pictures_without_a_place(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in "ab":
        make_raster(folder / f"{name}.tif", PIXELS[:, :150, :200], crs=None)
    summary = detector().predict_many(folder, tmp_path / "out.csv", gsd=0.1)
    rows = pd.read_csv(tmp_path / "out.csv")
    assert summary.grounds == 2
    assert len(set(rows["image_path"])) == 2
    make_raster(folder / "c.tif", PIXELS[:, :150, :200])
    with pytest.raises(ConfigError, match="has no CRS and others have one"):
        detector().predict_many(folder, tmp_path / "mixed.gpkg", gsd=0.1)


def test_many_small_files_far_apart(tmp_path):
    rng = np.random.default_rng(1)
    circles = disks(rng, width=100, height=80, count=4, radius=(5, 10))
    for i in range(12):
        corner = Affine(0.1, 0, 500_000 + 50 * i, 0, -0.1, 5_400_000)
        (tmp_path / "tiles").mkdir(exist_ok=True)
        make_raster(tmp_path / "tiles" / f"{i:02}.tif", paint(circles, width=100, height=80), transform=corner)
    summary = detector().predict_many(tmp_path / "tiles", tmp_path / "out.gpkg")
    table = read_crowns(tmp_path / "out.gpkg")
    assert summary.grounds == 12
    assert table.groupby("source").size().tolist() == [len(circles)] * 12
    assert table["crown_id"].is_unique


def around(x, y):
    """A square on the map about a pixel."""
    east, north = 500_000 + x * 0.1, 5_400_000 - y * 0.1
    return shapely.box(east - 0.5, north - 0.5, east + 0.5, north + 0.5)


@pytest.mark.parametrize("per_raster", [False, True])
def test_buildings_hold_no_crowns_in_any_file_and_are_read_once(tmp_path, tiles, monkeypatch, per_raster):
    make_raster(tmp_path / "tiles" / "far.tif", PIXELS, transform=Affine(0.1, 0, 500_900, 0, -0.1, 5_400_000))
    houses = gpd.GeoDataFrame(geometry=[around(*CIRCLES[0, :2]), around(*CIRCLES[10, :2])], crs=UTM)
    houses.to_file(tmp_path / "houses.gpkg")
    read = []
    monkeypatch.setattr(exclusion, "read_polygons", lambda *a, **k: read.append(a) or read_polygons(*a, **k))
    output = tmp_path / ("out" if per_raster else "out.gpkg")
    summary = detector().predict_many(
        tmp_path / "tiles", output, **OPTIONS, exclude=str(tmp_path / "houses.gpkg"), per_raster=per_raster
    )
    assert summary.grounds == 2
    assert summary.crowns == 2 * len(CIRCLES) - 2
    assert len(read) == 1
    files = sorted(output.glob("*.gpkg")) if per_raster else [output]
    left = pd.concat([read_crowns(file).geometry.centroid for file in files])
    assert not left.within(houses.union_all()).any()
    assert len(left) == summary.crowns


def test_a_file_of_buildings_that_is_not_there_is_said_before_any_work(tmp_path, tiles, monkeypatch):
    monkeypatch.setattr(BlobDetector, "detect", lambda *_, **__: pytest.fail("worked before it was said"))
    with pytest.raises(CrownsError, match=r"houses\.gpgk"):
        detector().predict_many(
            tmp_path / "tiles", tmp_path / "out.gpkg", **OPTIONS, exclude=str(tmp_path / "houses.gpgk")
        )


def test_buildings_beside_all_files_are_said_once(tmp_path, tiles, caplog):
    caplog.set_level(logging.INFO, logger="treedet")
    gpd.GeoDataFrame(geometry=[around(90_000, 10)], crs=UTM).to_file(tmp_path / "houses.gpkg")
    summary = detector().predict_many(
        tmp_path / "tiles", tmp_path / "out.gpkg", **OPTIONS, exclude=str(tmp_path / "houses.gpkg")
    )
    assert summary.crowns == len(CIRCLES)
    assert said(caplog).count("no polygon lies on any raster, so nothing is dropped") == 1
