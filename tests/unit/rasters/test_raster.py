import logging

import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from treedet.core.grid import Window
from treedet.errors import BandMismatchError, ConfigError, RasterError, UnknownGsdError, UnreadableRasterError
from treedet.rasters.raster import Raster

UTM = "EPSG:32632"
NORTH_UP = Affine(0.1, 0, 500_000, 0, -0.1, 5_500_000)


def write(path, pixels, *, crs=UTM, transform=NORTH_UP, tags=None, overviews=(), mask=None, **profile):
    """Write ``[bands, height, width]`` pixels and return the path as text."""
    count, height, width = pixels.shape
    profile = {"driver": "GTiff", "dtype": pixels.dtype, "crs": crs, "transform": transform, **profile}
    with rasterio.open(path, "w", count=count, height=height, width=width, **profile) as out:
        if tags:
            out.colorinterp = tags
        out.write(pixels)
        if mask is not None:
            out.write_mask(mask)
        if overviews:
            out.build_overviews(overviews, rasterio.enums.Resampling.average)
    return str(path)


def noise(height=64, width=80, bands=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (bands, height, width), dtype=np.uint8)


def block_means(pixels, step):
    bands, height, width = pixels.shape
    return pixels.reshape(bands, height // step, step, width // step, step).mean(axis=(2, 4))


def test_own_gsd_returns_the_file_bytes(tmp_path):
    pixels = noise()
    with Raster.open(write(tmp_path / "a.tif", pixels)) as raster:
        tile = raster.read(Window(5, 7, 20, 30))
        nearly = raster.read(Window(5, 7, 20, 30), gsd=0.1015)
        assert raster.facts.gsd == pytest.approx(0.1, rel=1e-3)
    assert np.array_equal(tile.pixels, pixels[:, 5:25, 7:37])
    assert np.array_equal(nearly.pixels, tile.pixels)
    assert tile.valid.all()
    assert tile.pixels.dtype == np.uint8


def test_whole_ratio_is_the_exact_block_mean(tmp_path):
    pixels = noise(64, 80)
    path = write(tmp_path / "a.tif", pixels)
    with Raster.open(path, gsd=0.1) as raster:
        tile = raster.read(Window(3, 2, 9, 11), gsd=0.4)
    expected = np.floor(block_means(pixels, 4) + 0.5)[:, 3:12, 2:13]
    assert np.array_equal(tile.pixels, expected)


@pytest.mark.parametrize("gsd", [0.05, 0.1, 0.137, 0.2, 0.25, 0.4])
def test_step_edge_lands_at_its_sub_pixel_place(tmp_path, gsd):
    # A white half plane from x = 37: the white ground in a row, in metres, places the edge.
    pixels = np.zeros((3, 40, 100), dtype=np.uint8)
    pixels[:, :, 37:] = 255
    pixels[:, 23:] = 0
    with Raster.open(write(tmp_path / "a.tif", pixels), gsd=0.1) as raster:
        model = raster.grid.at_gsd(gsd)
        tile = raster.read(model.full_window, gsd)
    share = tile.pixels[0] / 255
    edge_x = (model.width - share[0].sum()) * 100 / model.width
    edge_y = share[:, -1].sum() * 40 / model.height
    assert edge_x == pytest.approx(37, abs=0.03)
    assert edge_y == pytest.approx(23, abs=0.03)
    columns = np.arange(model.width)
    assert (share[0][columns < 35 * model.width / 100 - 1] == 0).all()
    assert (share[0][columns > 39 * model.width / 100 + 1] == 1).all()


def test_window_cut_at_odd_places_is_not_truncated_to_whole_source_pixels(tmp_path):
    # A ramp of one level per source pixel tells where each model pixel was taken from.
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8), (3, 30, 200)).copy()
    with Raster.open(write(tmp_path / "a.tif", ramp), gsd=0.1) as raster:
        model = raster.grid.at_gsd(0.23)
        tile = raster.read(Window(2, 31, 5, 40), gsd=0.23)
    centres = (31 + np.arange(40) + 0.5) * 200 / model.width - 0.5
    assert np.abs(tile.pixels[0, 2] - centres).max() <= 0.51


def test_tile_has_the_size_that_was_asked_for(tmp_path):
    with Raster.open(write(tmp_path / "a.tif", noise(13, 17)), gsd=0.1) as raster:
        for gsd in (0.03, 0.1, 0.3, 5.0):
            model = raster.grid.at_gsd(gsd)
            tile = raster.read(model.full_window, gsd)
            assert tile.pixels.shape == (3, model.height, model.width)
            assert tile.valid.shape == (model.height, model.width)


def test_window_beyond_the_grid_is_refused(tmp_path):
    with Raster.open(write(tmp_path / "a.tif", noise())) as raster:
        with pytest.raises(ConfigError, match="not inside the grid"):
            raster.read(Window(0, 0, 65, 10))
        with pytest.raises(ConfigError, match="not inside the grid"):
            raster.read(Window(-1, 0, 5, 10))


def test_overviews_are_used_and_agree(tmp_path):
    smooth = np.clip(np.add.outer(np.arange(256), np.arange(256)) / 2, 0, 255).astype(np.uint8)
    pixels = np.stack([smooth] * 3)
    path = write(tmp_path / "a.tif", pixels, tiled=True, blockxsize=64, blockysize=64, overviews=(2, 4))
    with Raster.open(path, gsd=0.1) as raster:
        assert raster.facts.overviews == (2, 4)
        assert raster.prepare(raster.grid.at_gsd(0.41)).width == 64
        assert raster.prepare(raster.grid.at_gsd(0.3)).width == 128
        assert raster.prepare(raster.grid.at_gsd(0.15)).width == 256
        tile = raster.read(Window(10, 10, 30, 30), gsd=0.4)
    assert np.abs(tile.pixels - block_means(pixels, 4)[:, 10:40, 10:40]).max() <= 1


def test_nodata_is_invalid_only_where_all_bands_have_it(tmp_path):
    pixels = np.full((3, 8, 8), 100, dtype=np.uint8)
    pixels[:, :4, :4] = 255
    pixels[0, 6, 6] = 255
    with Raster.open(write(tmp_path / "a.tif", pixels, nodata=255), gsd=0.1) as raster:
        tile = raster.read(raster.grid.full_window)
        coarse = raster.read(Window(0, 0, 4, 4), gsd=0.2)
    expected = np.ones((8, 8), dtype=bool)
    expected[:4, :4] = False
    assert np.array_equal(tile.valid, expected)
    assert coarse.pixels[0, 3, 3] == round((3 * 100 + 255) / 4)  # nodata is off while averaging
    assert coarse.pixels[1, 3, 3] == 100
    assert np.array_equal(coarse.valid, expected[::2, ::2])


def test_model_pixel_is_valid_when_half_of_its_ground_is(tmp_path):
    pixels = np.full((3, 2, 8), 100, dtype=np.uint8)
    pixels[:, :, 1] = pixels[:, 0, 2:4] = pixels[:, 1, 2] = 0
    with Raster.open(write(tmp_path / "a.tif", pixels, nodata=0), gsd=0.1) as raster:
        tile = raster.read(Window(0, 0, 1, 4), gsd=0.2)
    assert tile.valid[0].tolist() == [True, False, True, True]


def test_alpha_is_the_mask(tmp_path):
    pixels = np.concatenate([noise(), np.full((1, 64, 80), 255, np.uint8)])
    pixels[3, :, :30] = 0
    path = write(tmp_path / "a.tif", pixels, photometric="RGB", alpha="YES")
    with Raster.open(path) as raster:
        tile = raster.read(raster.grid.full_window)
        assert raster.facts.mask == "alpha band 4"
        assert raster.valid_share() == pytest.approx(50 / 80)
    assert np.array_equal(tile.valid, pixels[3] > 0)
    assert np.array_equal(tile.pixels, pixels[:3])


def test_colour_tagged_alpha_is_no_mask(tmp_path, caplog):
    pixels = noise(bands=4)  # near infrared of many levels, with some zeros
    path = write(tmp_path / "a.tif", pixels, photometric="RGB", alpha="YES")
    with caplog.at_level(logging.INFO, logger="treedet"), Raster.open(path) as raster:
        tile = raster.read(raster.grid.full_window)
    assert tile.valid.all()
    assert "tagged alpha" in caplog.text


@pytest.mark.parametrize("internal", [True, False])
def test_mask_of_the_file(tmp_path, internal):
    mask = np.zeros((64, 80), dtype=np.uint8)
    mask[10:40, 20:60] = 255
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal):
        path = write(tmp_path / "a.tif", noise(), mask=mask)
    assert (tmp_path / "a.tif.msk").exists() is not internal
    with Raster.open(path) as raster:
        tile = raster.read(Window(5, 10, 20, 30))
    assert np.array_equal(tile.valid, mask[5:25, 10:40] > 0)


def test_window_without_a_valid_pixel_is_empty(tmp_path):
    pixels = noise() // 2 + 1
    pixels[:, :, :40] = 0
    with Raster.open(write(tmp_path / "a.tif", pixels, nodata=0)) as raster:
        assert raster.read(Window(0, 0, 64, 40)).is_empty
        assert not raster.read(Window(0, 0, 64, 41)).is_empty


@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint32", "float32", "float64"])
def test_deep_rasters_get_one_stretch(tmp_path, dtype):
    levels = np.linspace(1000, 3000, 64 * 80).reshape(64, 80)
    pixels = np.stack([levels, levels / 2, levels]).astype(dtype)
    with Raster.open(write(tmp_path / "a.tif", pixels)) as raster:
        low, high = raster.facts.stretch
        left, whole = raster.read(Window(0, 0, 64, 10)), raster.read(raster.grid.full_window)
    assert (low, high) == pytest.approx(np.percentile(pixels, (1, 99)), abs=1)
    expected = np.clip((pixels.astype(float) - low) / (high - low), 0, 1) * 255
    assert np.abs(whole.pixels - expected).max() <= 0.51
    assert np.array_equal(left.pixels, whole.pixels[:, :, :10])


def test_given_stretch_is_used_also_for_bytes(tmp_path):
    pixels = np.full((3, 4, 4), 60, dtype=np.uint8)
    with Raster.open(write(tmp_path / "a.tif", pixels), stretch=(50, 70)) as raster:
        assert (raster.read(raster.grid.full_window).pixels == 128).all()
        assert raster.facts.stretch == (50, 70)
    with pytest.raises(ConfigError, match="low < high"):
        Raster.open(tmp_path / "a.tif", stretch=(70, 50))


def test_float_nan_is_invalid_and_kept_out_of_the_stretch(tmp_path):
    pixels = np.random.default_rng(0).uniform(0, 1, (3, 64, 80)).astype(np.float32)
    pixels[:, :20] = np.nan
    pixels[:, 20:30] = -9999
    pixels[0, 50, 50] = np.nan
    with Raster.open(write(tmp_path / "a.tif", pixels, nodata=-9999), gsd=0.1) as raster:
        tile = raster.read(raster.grid.full_window)
        coarse = raster.read(Window(0, 0, 32, 40), gsd=0.2)
        assert raster.facts.stretch == pytest.approx((0.01, 0.99), abs=0.02)
    assert not tile.valid[:30].any()
    assert tile.valid[30:].all()
    assert not coarse.valid[:15].any()
    assert coarse.valid[15:].all()


def test_palette_becomes_colours(tmp_path):
    indexes = np.random.default_rng(0).integers(0, 3, (1, 8, 10), dtype=np.uint8)
    colours = {0: (10, 20, 30), 1: (200, 100, 0), 2: (0, 0, 255)}
    path = tmp_path / "a.tif"
    profile = {"driver": "GTiff", "count": 1, "height": 8, "width": 10, "dtype": "uint8", "photometric": "palette"}
    with rasterio.open(path, "w", crs=UTM, transform=NORTH_UP, **profile) as out:
        out.write(indexes)
        out.write_colormap(1, colours)
    with Raster.open(path) as raster:
        assert raster.channels == 3
        tile = raster.read(raster.grid.full_window)
    assert tile.pixels[:, 0, 0].tolist() == list(colours[int(indexes[0, 0, 0])])
    assert np.array_equal(tile.pixels[2] == 255, indexes[0] == 2)


def test_bands_by_colour_interpretation_then_first_three_then_as_asked(tmp_path, caplog):
    pixels = noise(bands=5)
    c = ColorInterp
    path = write(tmp_path / "a.tif", pixels, tags=[c.gray, c.blue, c.green, c.red, c.undefined])
    with Raster.open(path) as raster:
        assert raster.facts.bands == (4, 3, 2)
        assert np.array_equal(raster.read(raster.grid.full_window).pixels, pixels[[3, 2, 1]])
    assert not caplog.records
    plain = write(tmp_path / "b.tif", pixels, photometric="minisblack")
    with caplog.at_level(logging.INFO, logger="treedet"), Raster.open(plain) as raster:
        assert raster.facts.bands == (1, 2, 3)
    assert "without colour interpretation" in caplog.text
    with Raster.open(plain, bands=[5, 1]) as raster:
        assert np.array_equal(raster.read(raster.grid.full_window).pixels, pixels[[4, 0]])
    with pytest.raises(BandMismatchError, match="bands 1 to 5"):
        Raster.open(plain, bands=[6, 1, 2])


def test_grey_raster_is_refused_and_the_remedy_works(tmp_path):
    path = write(tmp_path / "a.tif", noise(bands=1))
    with pytest.raises(BandMismatchError, match=r"bands=\(1, 1, 1\)"):
        Raster.open(path)
    with Raster.open(path, bands=(1, 1, 1)) as raster:
        assert raster.channels == 3


def test_feet_are_converted(tmp_path):
    feet = write(tmp_path / "a.tif", noise(), crs="EPSG:2263", transform=Affine(0.5, 0, 9.8e5, 0, -0.5, 2e5))
    with Raster.open(feet) as raster:
        assert raster.grid.gsd == pytest.approx(0.5 * 0.3048006, rel=1e-3)
        assert not raster.warped


def test_degrees_go_through_a_local_metric_grid(tmp_path):
    # Pixels square in degrees are twice as high as wide on the ground at 60 degrees north.
    pixels = np.full((3, 100, 200), 50, dtype=np.uint8)
    pixels[:, 40:60, 80:120] = 250
    path = write(tmp_path / "a.tif", pixels, crs="EPSG:4326", transform=Affine(2e-6, 0, 8, 0, -2e-6, 60))
    with Raster.open(path) as raster:
        grid = raster.grid
        tile = raster.read(grid.full_window)
        assert raster.warped
        assert raster.source_crs == pyproj.CRS.from_epsg(4326)
    assert grid.crs.is_projected
    assert grid.gsd_x == pytest.approx(grid.gsd_y)
    _, _, width = pyproj.Geod(ellps="WGS84").inv(8, 60, 8 + 400e-6, 60)
    assert grid.width * grid.gsd == pytest.approx(width, rel=0.01)
    box = grid.to_map(np.array([[0.0, 0.0, 1.0, 1.0]]))[0].exterior.coords[0]
    lon, lat = pyproj.Transformer.from_crs(grid.crs, 4326, always_xy=True).transform(*box)
    assert (lon, lat) == pytest.approx((8, 60), abs=2e-6)
    white = np.where(tile.valid, np.maximum(tile.pixels[0].astype(float) - 50, 0), 0)
    rows, columns = np.indices(white.shape) + 0.5
    centre = grid.transform @ (np.average(columns, weights=white), np.average(rows, weights=white))
    lon, lat = pyproj.Transformer.from_crs(grid.crs, 4326, always_xy=True).transform(*centre)
    assert (lon, lat) == pytest.approx((8 + 200e-6, 60 - 100e-6), abs=1e-7)
    assert tile.valid.mean() > 0.95


def test_rotated_raster_is_read_north_up(tmp_path):
    pixels = np.full((3, 60, 80), 50, dtype=np.uint8)
    pixels[:, 20:30, 50:60] = 250
    turned = Affine.translation(500_000, 5_500_000) @ Affine.rotation(30) @ Affine.scale(0.1, -0.1)
    with Raster.open(write(tmp_path / "a.tif", pixels, transform=turned)) as raster:
        tile = raster.read(raster.grid.full_window)
        grid = raster.grid
        assert raster.warped
        assert grid.crs == raster.source_crs
    rows, columns = np.nonzero(tile.pixels[0] > 150)
    found = grid.transform @ (columns.mean() + 0.5, rows.mean() + 0.5)
    assert found == pytest.approx(turned @ (55, 25), abs=0.02)
    assert np.count_nonzero(tile.valid) == pytest.approx(60 * 80, rel=0.02)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:4326+5773"])
def test_nodata_survives_warping(tmp_path, crs):
    pixels = np.full((3, 100, 100), 90, dtype=np.uint8)
    pixels[:, :, :50] = 255
    pixels[0, :, 75] = 255  # one band only: bright, not empty
    path = write(tmp_path / "a.tif", pixels, crs=crs, transform=Affine(1e-6, 0, 8, 0, -1e-6, 0.0001), nodata=255)
    with Raster.open(path) as raster:
        tile = raster.read(raster.grid.full_window)
        assert raster.warped
    middle = tile.valid[10:90]
    assert not middle[:, 2:48].any()
    assert middle[:, 52:98].all()
    assert (tile.pixels[1][10:90, 55:70] == 90).all()


def test_ground_control_points_place_a_raster(tmp_path, caplog):
    points = [GroundControlPoint(r, c, 8 + c * 1.5e-6, 50 - r * 1e-6) for r in (0, 50) for c in (0, 70)]
    path = tmp_path / "a.tif"
    profile = {"driver": "GTiff", "count": 3, "height": 50, "width": 70, "dtype": "uint8"}
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        out = rasterio.open(path, "w", **profile)
    with out:
        out.gcps = (points, CRS.from_epsg(4326))
        out.write(noise(50, 70))
    with caplog.at_level(logging.INFO, logger="treedet"), Raster.open(path) as raster:
        assert raster.warped
        assert raster.grid.gsd == pytest.approx(0.109, abs=0.003)
        assert raster.read(raster.grid.full_window).valid.mean() > 0.9
    assert "ground control points" in caplog.text


def test_rotated_local_crs_needs_no_transformation(tmp_path):
    local = 'LOCAL_CS["survey grid",UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
    turned = Affine.translation(1000, 2000) @ Affine.rotation(45) @ Affine.scale(0.1, -0.1)
    with Raster.open(write(tmp_path / "a.tif", noise(), crs=local, transform=turned)) as raster:
        assert raster.grid.gsd == pytest.approx(0.1)
        assert raster.read(raster.grid.full_window).valid.mean() == pytest.approx(0.5, abs=0.06)


def test_mercator_over_many_latitudes_is_warped(tmp_path):
    near, far = Affine(0.1, 0, 0, 0, -0.1, 8e6), Affine(8000, 0, 0, 0, -8000, 8e6)
    with Raster.open(write(tmp_path / "a.tif", noise(), crs="EPSG:3857", transform=near)) as raster:
        assert not raster.warped
        assert raster.grid.gsd < 0.06
    with Raster.open(write(tmp_path / "b.tif", noise(), crs="EPSG:3857", transform=far)) as raster:
        assert raster.warped


def test_without_crs_or_transform_a_gsd_is_needed(tmp_path):
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        path = write(tmp_path / "a.png", noise(), driver="PNG", crs=None, transform=None)
    with pytest.raises(UnknownGsdError, match=r"a\.png.*gsd="):
        Raster.open(path)
    with Raster.open(path, gsd=0.07) as raster:
        assert raster.grid.crs is None
        assert raster.source_crs is None
        assert raster.grid.transform.is_identity
        assert raster.grid.gsd == pytest.approx(0.07)
    no_crs = write(tmp_path / "b.tif", noise(), crs=None)
    with pytest.raises(UnknownGsdError, match="no CRS"):
        Raster.open(no_crs)


def test_given_gsd_overrides_the_file_and_says_so(tmp_path, caplog):
    path = write(tmp_path / "a.tif", noise())
    with caplog.at_level(logging.INFO, logger="treedet"), Raster.open(path, gsd=0.25) as raster:
        assert raster.grid.gsd == pytest.approx(0.25)
        assert raster.grid.transform == NORTH_UP
    assert "0.25" in caplog.text


@pytest.mark.parametrize(
    ("name", "words"),
    [("missing.tif", "no file"), ("folder", "folder"), ("empty.tif", r"0 bytes"), ("text.tif", "GeoTIFF.*PNG")],
)
def test_unreadable_paths_say_why(tmp_path, name, words):
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.tif").touch()
    (tmp_path / "text.tif").write_text("not a picture")
    with pytest.raises(UnreadableRasterError, match=words) as caught:
        Raster.open(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("profile", [{}, {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}])
def test_truncated_file_names_the_window(tmp_path, profile):
    path = tmp_path / "a.tif"
    write(path, noise(256, 256), **profile)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    words = r"a\.tif: rows \d+ to 256, columns 100 to 200"
    with Raster.open(path) as raster, pytest.raises(UnreadableRasterError, match=words):
        raster.read(Window(200, 100, 56, 100))


def test_complex_values_are_refused(tmp_path):
    with pytest.raises(UnreadableRasterError, match="complex64"):
        Raster.open(write(tmp_path / "a.tif", noise().astype(np.complex64)))


def test_clones_read_alike_and_outlive_the_original(tmp_path):
    path = write(tmp_path / "a.tif", (noise() * np.uint16(40)).astype(np.uint16))
    raster = Raster.open(path)
    clone = raster.clone()
    first = raster.read(Window(0, 0, 10, 10))
    raster.close()
    with pytest.raises(RasterError, match="closed"):
        raster.read(Window(0, 0, 10, 10))
    assert np.array_equal(clone.read(Window(0, 0, 10, 10)).pixels, first.pixels)
    clone.close()


def test_facts(tmp_path):
    striped = write(tmp_path / "a.tif", noise(64, 300), compress="deflate")
    tiled = write(tmp_path / "b.tif", noise(64, 300), tiled=True, blockxsize=16, blockysize=16)
    with Raster.open(striped) as raster:
        facts = raster.facts
        assert (facts.layout, facts.compression, facts.mask) == ("striped", "DEFLATE", "none")
        assert (facts.driver, facts.width, facts.height, facts.count) == ("GTiff", 300, 64, 3)
        assert facts.crs == "WGS 84 / UTM zone 32N"
    with Raster.open(tiled) as raster:
        assert (raster.facts.layout, raster.facts.block_shape) == ("tiled", (16, 16))
