import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine
from factories import make_raster
from rasterio.errors import NotGeoreferencedWarning

from treedet.core.grid import Window
from treedet.errors import ConfigError, OutputError
from treedet.rasters import coarsen as module
from treedet.rasters.coarsen import coarsen
from treedet.rasters.raster import Raster


def noise(height, width, bands=3):
    return np.random.default_rng(height).integers(0, 256, (bands, height, width), dtype=np.uint8)


def written(source, target, **options):
    with Raster.open(source) as raster:
        return coarsen(raster, target, **options)


def test_the_file_is_what_the_reader_gives_at_that_gsd(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SIDE_PX", 64)
    source = make_raster(tmp_path / "a.tif", noise(430, 610), tiled=True, blockxsize=128, blockysize=128)
    written(source, tmp_path / "b.tif", gsd=0.23)
    with Raster.open(source) as raster, Raster.open(tmp_path / "b.tif") as coarse:
        wanted = raster.grid.at_gsd(0.23)
        tile = raster.read(wanted.full_window, gsd=0.23)
        assert (coarse.grid.width, coarse.grid.height) == (wanted.width, wanted.height) == (265, 187)
        assert coarse.grid.transform.almost_equals(wanted.transform)
        assert coarse.source_crs == raster.source_crs
        np.testing.assert_array_equal(coarse.read(coarse.grid.full_window).pixels, tile.pixels)
        assert coarse.facts.mask == "none"
        assert coarse.facts.bands_reason == "by colour interpretation"


@pytest.mark.parametrize("layout", [{}, {"tiled": True, "blockxsize": 64, "blockysize": 64}])
def test_pixels_are_means_of_the_ground_below(tmp_path, monkeypatch, layout):
    monkeypatch.setattr(module, "SIDE_PX", 32)
    pixels = noise(300, 400)
    written(make_raster(tmp_path / "a.tif", pixels, **layout), tmp_path / "b.tif", gsd=0.5)
    with rasterio.open(tmp_path / "b.tif") as coarse:
        found = coarse.read()
        assert coarse.bounds == pytest.approx((500_000, 5_399_970, 500_040, 5_400_000))
    means = pixels.reshape(3, 60, 5, 80, 5).mean(axis=(2, 4))
    np.testing.assert_allclose(found, means, atol=0.5)
    assert found.mean() == pytest.approx(pixels.mean(), abs=0.1)


def test_nodata_becomes_a_mask_inside_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SIDE_PX", 32)
    pixels = np.maximum(noise(120, 160), 1)
    pixels[:, :, :80] = 0
    pixels[:, :4, 80:84] = 0  # all but half of one coarse pixel
    source = make_raster(tmp_path / "a.tif", pixels, nodata=0)
    written(source, tmp_path / "b.tif", gsd=0.5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "b.tif"]
    with Raster.open(tmp_path / "b.tif") as coarse:
        assert coarse.facts.mask == "mask of the file"
        valid = coarse.read(coarse.grid.full_window).valid
    assert not valid[:, :16].any()
    assert valid[1:, 16:].all()
    assert valid[0].tolist() == [False] * 17 + [True] * 15


def test_all_of_it_nodata_still_gives_a_file(tmp_path):
    source = make_raster(tmp_path / "a.tif", np.zeros((3, 40, 40), np.uint8), nodata=0)
    written(source, tmp_path / "b.tif", gsd=0.2)
    with Raster.open(tmp_path / "b.tif") as coarse:
        assert not coarse.read(coarse.grid.full_window).valid.any()


def test_sixteen_bits_are_written_as_they_are_seen(tmp_path):
    source = make_raster(tmp_path / "a.tif", noise(64, 64).astype(np.uint16) * 13)
    with Raster.open(source, stretch=(0, 3315)) as raster:
        coarsen(raster, tmp_path / "b.tif", gsd=0.2)
        wanted = raster.read(raster.grid.at_gsd(0.2).full_window, gsd=0.2).pixels
    with Raster.open(tmp_path / "b.tif") as coarse:
        assert coarse.stretch is None
        np.testing.assert_array_equal(coarse.read(coarse.grid.full_window).pixels, wanted)


def test_a_warped_raster_is_written_on_its_metric_grid_with_the_ground_beyond_masked(tmp_path):
    turned = Affine.translation(500_000, 5_400_000) @ Affine.rotation(30) @ Affine.scale(0.1, -0.1)
    source = make_raster(tmp_path / "a.tif", noise(200, 200), transform=turned)
    written(source, tmp_path / "b.tif", gsd=0.2)
    with Raster.open(source) as raster, Raster.open(tmp_path / "b.tif") as coarse:
        assert raster.warped
        assert not coarse.warped
        assert coarse.source_crs == pyproj.CRS(32632)
        tile = coarse.read(coarse.grid.full_window)
        np.testing.assert_array_equal(tile.valid, raster.read(coarse.grid.full_window, gsd=0.2).valid)
    assert not tile.valid[0, 0]
    assert 0.4 < tile.valid.mean() < 0.9


def test_without_a_place_on_the_map_the_gsd_has_to_be_told_again(tmp_path):
    with pytest.warns(NotGeoreferencedWarning):
        source = make_raster(tmp_path / "a.tif", noise(90, 120), crs=None)
    with Raster.open(source, gsd=0.1) as raster:
        coarsen(raster, tmp_path / "b.tif", gsd=0.3)
    with Raster.open(tmp_path / "b.tif", gsd=0.3) as coarse:
        assert (coarse.grid.width, coarse.grid.height, coarse.grid.crs) == (40, 30, None)


@pytest.mark.parametrize("gsd", [0.05, 0.097, 0.0, -1.0, float("nan")])
def test_finer_than_the_raster_is_refused(tmp_path, gsd):
    source = make_raster(tmp_path / "a.tif", noise(40, 40))
    with pytest.raises(ConfigError, match=r"0\.1 m per pixel.*finer.*upsample=True"):
        written(source, tmp_path / "b.tif", gsd=gsd)
    assert not (tmp_path / "b.tif").exists()


def test_finer_is_written_when_asked_for(tmp_path):
    source = make_raster(tmp_path / "a.tif", noise(40, 40))
    written(source, tmp_path / "b.tif", gsd=0.05, upsample=True)
    with Raster.open(source) as raster, Raster.open(tmp_path / "b.tif") as fine:
        assert (fine.grid.width, fine.grid.height) == (80, 80)
        seen = raster.read(Window(0, 0, 80, 80), gsd=0.05)
        np.testing.assert_array_equal(fine.read(fine.grid.full_window).pixels, seen.pixels)


def test_an_existing_file_stays_unless_asked(tmp_path):
    source = make_raster(tmp_path / "a.tif", noise(40, 40))
    (tmp_path / "b.tif").write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists"):
        written(source, tmp_path / "b.tif", gsd=0.2)
    assert (tmp_path / "b.tif").read_bytes() == b"mine"
    assert written(source, str(tmp_path / "b.tif"), gsd=0.2, overwrite=True) == tmp_path / "b.tif"
    with Raster.open(tmp_path / "b.tif") as coarse:
        assert coarse.grid.width == 20


def test_progress_counts_every_window(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SIDE_PX", 16)
    seen = []
    source = make_raster(tmp_path / "a.tif", noise(60, 100))
    written(source, tmp_path / "b.tif", gsd=0.2, watch=lambda done, total: seen.append((done, total)))
    assert seen == [(number, 8) for number in range(1, 9)]
