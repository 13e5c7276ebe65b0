"""Painted disks through the whole pipeline: what should come out is known to the pixel."""

import math

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from factories import UTM, disks, make_raster, paint, tiny_spec
from geopandas.testing import assert_geodataframe_equal
from scipy import ndimage

from treedet.core import crowns as crowns_table
from treedet.core.labels import LabelSchema
from treedet.errors import CutCrownsWarning
from treedet.inference.detector import Detector
from treedet.models.blobs import BlobDetector
from treedet.vectors.annotations import read_crowns

GSD = 0.1
ORIGIN = (500_000.0, 5_400_000.0)
WIDTH, HEIGHT = 430, 370
UTM_SCALE = 0.9996
"""Map metres per ground metre on the central meridian of UTM, where the rasters lie."""


def detector(**changes):
    return Detector(BlobDetector(tiny_spec(**changes)))


def boxes_in(pixels):
    """Boxes of the blobs of a picture, found in one piece."""
    labels, _ = ndimage.label(pixels[0] >= 128)
    found = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(labels)]
    return np.array(found, dtype=float).reshape(-1, 4)


def pixel_boxes(table, gsd=GSD):
    bounds = table.geometry.bounds.to_numpy()
    left, top = ORIGIN
    return np.stack(
        [
            (bounds[:, 0] - left) / gsd,
            (top - bounds[:, 3]) / gsd,
            (bounds[:, 2] - left) / gsd,
            (top - bounds[:, 1]) / gsd,
        ],
        axis=1,
    )


def in_order(boxes):
    boxes = np.asarray(boxes, dtype=float).round(3)
    return boxes[np.lexsort(boxes.T)]


def assert_exact(table, expected):
    assert len(table) == len(expected)
    np.testing.assert_allclose(in_order(pixel_boxes(table)), in_order(expected), atol=1e-3)


def widest(boxes):
    return float((boxes[:, 2:] - boxes[:, :2]).max())


def crown_for_overlap(overlap_px):
    """The max_crown by which windows share so many pixels."""
    crown = (overlap_px - 6) * GSD
    assert tiny_spec().overlap_px(crown) == overlap_px
    return crown


def polygon_in_pixels(points):
    return shapely.transform(shapely.Polygon(points), lambda xy: xy * [GSD, -GSD] + np.array(ORIGIN))


def write_aoi(path, *polygons, crs=UTM):
    gpd.GeoDataFrame(geometry=list(polygons), crs=crs).to_file(path)
    return str(path)


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    """A raster of disks 7 to 45 px wide, its pixels and the boxes in it."""
    rng = np.random.default_rng(5)
    circles = disks(rng, width=WIDTH, height=HEIGHT, count=45, radius=(3.5, 22))
    pixels = paint(circles, width=WIDTH, height=HEIGHT)
    path = make_raster(
        tmp_path_factory.mktemp("disks") / "disks.tif", pixels, tiled=True, blockxsize=64, blockysize=64
    )
    return path, pixels, boxes_in(pixels)


@pytest.mark.parametrize("window_px", [64, 192, 256, 512])
@pytest.mark.parametrize("radius", [(3, 5), (6, 12), (10, 21)])
@pytest.mark.parametrize("extra", [2, 9])
def test_every_disk_is_found_once_with_its_exact_box(tmp_path, window_px, radius, extra):
    rng = np.random.default_rng(window_px + extra)
    pixels = paint(disks(rng, width=WIDTH, height=HEIGHT, count=60, radius=radius), width=WIDTH, height=HEIGHT)
    expected = boxes_in(pixels)
    path = make_raster(tmp_path / "a.tif", pixels)
    crown = crown_for_overlap(math.ceil(widest(expected)) + extra)
    table = detector(window_px=window_px).predict(path, max_crown=crown)
    assert_exact(table, expected)
    assert not table["cut"].any()
    crowns_table.validate(table)


@pytest.mark.parametrize(
    "polygons",
    [
        [[(40, 30), (300, 60), (180, 350)]],
        [[(10, 10), (90, 10), (90, 90), (10, 90)], [(330, 280), (420, 280), (420, 360), (330, 360)]],
        [[(5, 180), (425, 182), (425, 190), (5, 188)]],
    ],
    ids=["triangle", "islands", "strip"],
)
@pytest.mark.parametrize("window_px", [64, 256])
def test_an_aoi_keeps_crowns_by_their_centre_and_clips_none(tmp_path, painted, polygons, window_px):
    path, _, boxes = painted
    aoi = shapely.union_all([shapely.Polygon(points) for points in polygons])
    file = write_aoi(tmp_path / "aoi.gpkg", *(polygon_in_pixels(points) for points in polygons))
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = shapely.contains_xy(aoi, centres[:, 0], centres[:, 1])
    assert 0 < inside.sum() < len(boxes)
    table = detector(window_px=window_px).predict(path, aoi=file, max_crown=crown_for_overlap(48))
    assert_exact(table, boxes[inside])
    assert not table["cut"].any()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("corners", [False, True], ids=["alone", "small ones in the corners of its box"])
def test_a_disk_wider_than_the_overlap_is_one_crown(tmp_path, seed, corners):
    rng = np.random.default_rng(seed)
    r = rng.uniform(50, 85)
    x, y = rng.uniform(r + 2, WIDTH - r - 2), rng.uniform(r + 2, HEIGHT - r - 2)
    circles = [(x, y, r)]
    if corners:
        circles += [(x + i * (r - 5), y + j * (r - 5), 5) for i in (-1, 1) for j in (-1, 1)]
    pixels = paint(np.array(circles), width=WIDTH, height=HEIGHT)
    expected = boxes_in(pixels)
    assert len(expected) == len(circles)
    path = make_raster(tmp_path / "a.tif", pixels)
    table = detector(window_px=128).predict(path, max_crown=crown_for_overlap(24))
    assert_exact(table, expected)
    assert not table["cut"].any()


def test_striped_tiled_and_compressed_files_give_the_same_rows(tmp_path, painted):
    path, pixels, _ = painted
    model = detector(window_px=128)
    tiled = model.predict(path)
    striped = make_raster(tmp_path / "striped.tif", pixels, blockysize=1)
    deflated = make_raster(tmp_path / "deflated.tif", pixels, compress="deflate", interleave="band")
    for other in (striped, deflated):
        table = model.predict(other)
        assert_geodataframe_equal(table.drop(columns="source"), tiled.drop(columns="source"))
        assert set(table["source"]) == {str(other)}


@pytest.mark.parametrize("readers", [1, 4])
@pytest.mark.parametrize("batch_size", [1, 5])
def test_threads_and_batches_change_nothing(painted, readers, batch_size):
    path, _, boxes = painted
    assert_exact(detector(window_px=128).predict(path, readers=readers, batch_size=batch_size), boxes)


@pytest.mark.parametrize("ratio", [2, 3])
def test_a_finer_file_gives_the_same_crowns(tmp_path, painted, ratio):
    _, pixels, boxes = painted
    fine = np.repeat(np.repeat(pixels, ratio, axis=1), ratio, axis=2)
    path = make_raster(tmp_path / "fine.tif", fine, gsd=GSD / ratio)
    assert_exact(detector(window_px=128).predict(path), boxes)


def test_a_gsd_that_is_given_overrides_that_of_the_file(painted):
    path, _, boxes = painted
    table = detector(window_px=128).predict(path, gsd=0.101)
    assert_exact(table, boxes)  # places stay those of the file
    sides = (boxes[:, 2:] - boxes[:, :2]) * 0.101
    np.testing.assert_allclose(np.sort(table["area_m2"]), np.sort(sides.prod(axis=1)), rtol=1e-5)


def map_units_per_metre(crs, x, y):
    """Map units per ground metre along both axes, measured with geodesics."""
    crs = pyproj.CRS(crs)
    geod = crs.get_geod()
    to_lonlat = pyproj.Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
    step = 1e-4 if crs.is_geographic else 10.0

    def metres(dx, dy):
        lon, lat = to_lonlat.transform([x - dx, x + dx], [y - dy, y + dy])
        return geod.line_length(lon, lat) / 2

    return step / metres(step, 0), step / metres(0, step)


def geodesic_areas(table):
    geod = table.crs.get_geod()
    lonlat = table.geometry.to_crs(table.crs.geodetic_crs)
    return np.array([abs(geod.geometry_area_perimeter(shape)[0]) for shape in lonlat])


@pytest.mark.parametrize(
    ("crs", "x", "y", "exact"),
    [
        ("EPSG:4326", 8.0, 50.0, False),
        ("EPSG:2263", 1_000_000.0, 200_000.0, True),
        ("EPSG:3395", 900_000.0, 8_000_000.0, True),
        ("EPSG:3857", 900_000.0, 8_000_000.0, True),
    ],
    ids=["degrees", "feet", "Mercator", "web Mercator"],
)
def test_areas_are_ground_metres_in_every_crs(tmp_path, crs, x, y, exact):
    rng = np.random.default_rng(2)
    circles = disks(rng, width=300, height=260, count=12, radius=(12, 24))
    per_x, per_y = map_units_per_metre(crs, x, y)
    transform = Affine(GSD * per_x, 0, x, 0, -GSD * per_y, y)
    path = make_raster(tmp_path / "a.tif", paint(circles, width=300, height=260), crs=crs, transform=transform)
    table = detector(window_px=192).predict(path)
    assert table.crs == pyproj.CRS(crs)
    assert len(table) == len(circles)
    to_map = np.array([transform @ (x, y) for x, y, _ in circles])
    middle = shapely.get_coordinates(shapely.centroid(table.geometry.to_numpy()))
    distance = np.abs((middle[:, None] - to_map[None]) / (transform.a, transform.e)).max(axis=2)
    assert distance.min(axis=0).max() < 1.2  # pixels
    sides = 2 * circles[distance.argmin(axis=1), 2] * GSD
    np.testing.assert_allclose(table["diameter_m"], sides, atol=1.2 * GSD if exact else 1.8 * GSD)
    np.testing.assert_allclose(table["area_m2"], table["diameter_m"] ** 2, rtol=0.01)
    np.testing.assert_allclose(geodesic_areas(table), table["area_m2"], rtol=0.01)
    np.testing.assert_allclose(table["crown_m2"], table["area_m2"] * math.pi / 4, rtol=1e-5)


def test_a_rotated_raster_puts_crowns_where_they_are(tmp_path):
    rng = np.random.default_rng(3)
    circles = disks(rng, width=300, height=260, count=12, radius=(12, 24))
    transform = Affine.translation(*ORIGIN) @ Affine.rotation(30) @ Affine.scale(GSD, -GSD)
    path = make_raster(tmp_path / "a.tif", paint(circles, width=300, height=260), transform=transform)
    table = detector(window_px=192).predict(path)
    assert len(table) == len(circles)
    found = np.stack([table.geometry.centroid.x, table.geometry.centroid.y], axis=1)
    where = np.array([transform @ (x, y) for x, y, _ in circles])
    distance = np.linalg.norm(found[:, None] - where[None], axis=2)
    assert distance.min(axis=0).max() < 1.0 * GSD
    radius = circles[distance.argmin(axis=1), 2]
    np.testing.assert_allclose(table["diameter_m"], 2 * radius * GSD, atol=1.5 * GSD)


def test_a_raster_smaller_than_a_window(tmp_path):
    circles = np.array([[20.0, 20, 9], [60, 40, 12]])
    pixels = paint(circles, width=97, height=61)
    path = make_raster(tmp_path / "small.tif", pixels)
    assert_exact(detector(window_px=256).predict(path), boxes_in(pixels))


def test_a_raster_of_nodata_gives_a_valid_file_without_crowns(tmp_path):
    path = make_raster(tmp_path / "empty.tif", np.zeros((3, 300, 300), np.uint8), nodata=0)
    model = detector(window_px=128)
    summary = model.predict_to_file(path, tmp_path / "out.gpkg")
    assert (summary.crowns, summary.hectares, summary.canopy_cover, summary.per_hectare) == (0, 0, 0, 0)
    assert summary.skipped == summary.windows > 1
    table = read_crowns(tmp_path / "out.gpkg")
    assert len(table) == 0
    assert list(table.columns) == crowns_table.columns(model.spec.labels)
    assert table.crs.to_epsg() == 32632
    assert len(model.predict(path)) == 0


HOLE = (slice(None, None), slice(200, None))
"""Columns of the painted raster that masks declare invalid."""


def masked(kind, folder, pixels):
    """The painted raster with its right part invalid, each way that a file can say so."""
    path = folder / f"{kind}.tif"
    valid = np.ones(pixels.shape[1:], bool)
    valid[HOLE] = False
    if kind == "alpha":
        make_raster(path, np.concatenate([pixels, valid[None] * np.uint8(255)]), photometric="RGB", alpha="YES")
    elif kind == "mask":
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            make_raster(path, pixels)
            with rasterio.open(path, "r+") as file:
                file.write_mask(valid)
    elif kind == "nodata":
        make_raster(path, np.where(valid, np.maximum(pixels, 1), 0).astype(np.uint8), nodata=0)
    elif kind == "NaN":
        make_raster(path, np.where(valid, pixels / np.float32(500), np.float32("nan")).astype(np.float32))
    elif kind == "16 bit":
        make_raster(path, np.where(valid, pixels.astype(np.uint16) * 40 + 7, 0).astype(np.uint16), nodata=0)
    return path, valid


@pytest.mark.parametrize("kind", ["alpha", "mask", "nodata", "NaN", "16 bit"])
@pytest.mark.parametrize("window_px", [64, 512])
def test_invalid_ground_holds_no_crowns(tmp_path, painted, kind, window_px):
    _, pixels, boxes = painted
    path, valid = masked(kind, tmp_path, pixels)
    summary = detector(window_px=window_px).predict_to_file(path, tmp_path / "out.gpkg")
    table = read_crowns(tmp_path / "out.gpkg")
    found, ends = pixel_boxes(table), HOLE[1].start
    whole = boxes[boxes[:, 2] <= ends - 3]
    is_whole = found[:, 2] <= ends - 3
    np.testing.assert_allclose(in_order(found[is_whole]), in_order(whole), atol=1e-3)
    centres = (found[:, 0] + found[:, 2]) / 2
    assert (centres < ends).all()
    np.testing.assert_array_equal(table["edge"], found[:, 2] >= ends - 1)
    assert table["edge"].any()
    assert summary.hectares == pytest.approx(valid.sum() * (GSD / UTM_SCALE) ** 2 / 1e4, rel=1e-4)


def test_a_palette_is_read_by_its_colours(tmp_path, painted):
    _, pixels, boxes = painted
    path = make_raster(
        tmp_path / "palette.tif", np.where(pixels[:1] > 0, 7, 3).astype(np.uint8), photometric="palette"
    )
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {3: (10, 20, 30, 255), 7: (220, 210, 200, 255)})
    assert_exact(detector(window_px=128).predict(path), boxes)


def test_edge_says_that_the_imagery_ends(tmp_path):
    circles = np.array([[0.0, 50, 20], [100, 60, 15], [150, 118, 16], [199, 20, 12]])
    pixels = paint(circles, width=200, height=120)
    path = make_raster(tmp_path / "a.tif", pixels)
    table = detector(window_px=64).predict(path, max_crown=crown_for_overlap(40))
    assert_exact(table, boxes_in(pixels))
    by_x = table.iloc[np.argsort(table.geometry.bounds["minx"])]
    assert by_x["edge"].tolist() == [True, False, True, True]
    assert not table["cut"].any()


def test_a_crown_that_windows_left_out_would_have_shown_is_flagged_cut(tmp_path):
    pixels = paint(np.array([[400.0, 210, 190], [40, 40, 15]]), width=1000, height=420)
    path = make_raster(tmp_path / "a.tif", pixels)
    strip = polygon_in_pixels([(20, 20), (405, 20), (405, 400), (20, 400)])
    aoi = write_aoi(tmp_path / "aoi.gpkg", strip)
    with pytest.warns(CutCrownsWarning, match=r"wider than the overlap .*--max_crown"):
        table = detector(window_px=128).predict(path, aoi=aoi, max_crown=crown_for_overlap(34))
    assert sorted(table["cut"]) == [False, True]
    with pytest.warns(CutCrownsWarning):
        summary = detector(window_px=128).predict_to_file(
            path, tmp_path / "out.gpkg", aoi=aoi, max_crown=crown_for_overlap(34)
        )
    assert summary.cut == 1
    # The cure that is offered does cure it.
    cured = detector(window_px=128).predict(path, aoi=aoi, max_crown=summary.cure_m)
    assert_exact(cured, boxes_in(pixels))
    assert not cured["cut"].any()


def test_attributes_come_with_their_crown(tmp_path):
    labels = LabelSchema(attributes={"status": ("alive", "dead")})
    circles = np.array([[x, y, 14] for x in (30.0, 100, 170, 240) for y in (30.0, 100, 170)])
    pixels = paint(circles, width=270, height=200)
    dead = np.zeros(pixels.shape[1:], bool)
    dead[:, 135:] = True
    pixels[1] = np.where(dead & (pixels[0] > 0), 250, 0)
    path = make_raster(tmp_path / "a.tif", pixels)
    model = detector(window_px=128, labels=labels)
    table = model.predict(path)
    assert len(table) == len(circles)
    right = table.geometry.centroid.x > ORIGIN[0] + 13.5
    assert (table["status"] == np.where(right, "dead", "alive")).all()
    kept = model.predict(path, where="status == 'dead' and diameter_m > 1")
    assert len(kept) == right.sum()
    assert kept["crown_id"].tolist() == list(range(1, len(kept) + 1))


@pytest.mark.parametrize("window_px", [64, 128, 512])
def test_hectares_and_cover_count_ground_once(tmp_path, painted, window_px):
    path, pixels, boxes = painted
    sides = boxes[:, 2:] - boxes[:, :2]
    area = math.pi / 4 * sides.prod(axis=1)
    to_ha = (GSD / UTM_SCALE) ** 2 / 1e4
    model = detector(window_px=window_px)
    summary = model.predict_to_file(path, tmp_path / "all.gpkg")
    assert summary.hectares == pytest.approx(WIDTH * HEIGHT * to_ha, rel=1e-6)
    assert summary.canopy_cover == pytest.approx(area.sum() / (WIDTH * HEIGHT), rel=0.01)
    assert summary.per_hectare == pytest.approx(len(boxes) / summary.hectares)

    points = [(40, 30), (300, 60), (180, 350)]
    triangle = shapely.Polygon(points)
    aoi = write_aoi(tmp_path / "aoi.gpkg", polygon_in_pixels(points))
    inside = shapely.contains_xy(triangle, *((boxes[:, :2] + boxes[:, 2:]) / 2).T)
    summary = model.predict_to_file(path, tmp_path / "aoi_out.gpkg", aoi=aoi)
    assert summary.hectares == pytest.approx(triangle.area * to_ha, rel=1e-6)
    assert summary.canopy_cover == pytest.approx(area[inside].sum() / triangle.area, rel=0.02)

    holed, _ = masked("nodata", tmp_path, pixels)
    summary = model.predict_to_file(holed, tmp_path / "holed.gpkg", aoi=aoi)
    left = triangle.intersection(shapely.box(0, 0, HOLE[1].start, HEIGHT))
    assert summary.hectares == pytest.approx(left.area * to_ha, rel=0.003)


def test_a_file_holds_what_predict_returns(tmp_path, painted):
    path, _, _ = painted
    model = detector(window_px=128)
    summary = model.predict_to_file(path, tmp_path / "out.gpkg", where="diameter_m > 2")
    assert_geodataframe_equal(
        read_crowns(tmp_path / "out.gpkg"), model.predict(path, where="diameter_m > 2"), check_less_precise=True
    )
    assert summary.crowns == len(read_crowns(tmp_path / "out.gpkg"))
    assert summary.overlap_px == model.spec.overlap_px()
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.gpkg"]


@pytest.mark.parametrize("suffix", [".shp", ".geojson", ".parquet", ".fgb", ".csv", ".json"])
def test_every_format_holds_every_crown(tmp_path, painted, suffix):
    path, _, boxes = painted
    detector(window_px=128).predict_to_file(path, tmp_path / f"out{suffix}")
    assert len(read_crowns(tmp_path / f"out{suffix}")) == len(boxes)
    assert not [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")]
