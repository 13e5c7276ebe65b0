import threading

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from treedet.errors import ConfigError, UnreadableRasterError
from treedet.rasters.raster import Raster
from treedet.rasters.row_store import RowStore
from treedet.rasters.stream import StreamConfig, is_read_in_bands, stream_tiles
from treedet.rasters.tiling import TilingConfig, plan_tiles

TILING = TilingConfig(window_px=64, overlap_px=16, multiple=16)
LAYOUTS = {
    "striped": {"compress": "deflate"},
    "tiled": {"tiled": True, "blockxsize": 32, "blockysize": 32},
}


@pytest.fixture(params=sorted(LAYOUTS))
def raster(request, tmp_path):
    with Raster.open(write(tmp_path / "a.tif", **LAYOUTS[request.param])) as opened:
        yield opened


def write(path, **layout):
    pixels = np.random.default_rng(0).integers(1, 256, (3, 300, 420), dtype=np.uint8)
    pixels[:, 150:, :200] = 0
    shape = {"driver": "GTiff", "count": 3, "height": 300, "width": 420, "dtype": "uint8", "nodata": 0}
    place = {"crs": "EPSG:32632", "transform": Affine(0.1, 0, 5e5, 0, -0.1, 5e6)}
    with rasterio.open(path, "w", **shape, **place, **layout) as out:
        out.write(pixels)
    return path


@pytest.mark.parametrize("gsd", [0.1, 0.13, 0.2])
@pytest.mark.parametrize("config", [StreamConfig(threads=1, queue=1), StreamConfig(threads=3, queue=5)])
def test_tiles_come_in_order_and_equal_single_reads(raster, gsd, config):
    plan = plan_tiles(raster.grid.at_gsd(gsd), TILING)
    found = list(stream_tiles(raster, plan, config=config))
    expected = [(i, window) for i, row in enumerate(plan.rows) for window in row]
    assert [(i, tile.window) for i, tile in found] == expected
    empty = 0
    for _, tile in found:
        single = raster.read_on(plan.grid, tile.window)
        assert np.array_equal(tile.valid, single.valid)
        if tile.is_empty:
            empty += 1
            assert not tile.pixels.any()
            assert tile.pixels.shape == single.pixels.shape
        else:
            assert np.array_equal(tile.pixels, single.pixels)
    assert empty > 0


def test_layout_decides_how_a_raster_is_read(tmp_path):
    for name, layout in LAYOUTS.items():
        with Raster.open(write(tmp_path / f"{name}.tif", **layout)) as raster:
            assert is_read_in_bands(raster, plan_tiles(raster.grid, TILING)) is (name == "striped")
            # One window across reads each strip once anyway.
            assert not is_read_in_bands(raster, plan_tiles(raster.grid))


def test_resuming_begins_with_the_row_asked_for(raster):
    plan = plan_tiles(raster.grid, TILING)
    every = list(stream_tiles(raster, plan))
    later = list(stream_tiles(raster, plan, first_row=3))
    expected = [(i, tile) for i, tile in every if i >= 3]
    assert [(i, t.window) for i, t in later] == [(i, t.window) for i, t in expected]
    assert all(np.array_equal(a.pixels, b.pixels) for (_, a), (_, b) in zip(later, expected, strict=True))
    assert list(stream_tiles(raster, plan, first_row=len(plan.rows))) == []


def test_aoi_windows_have_real_pixels(raster):
    aoi = shapely.MultiPolygon([shapely.box(300, 5, 310, 10), shapely.box(350, 280, 360, 290)])
    plan = plan_tiles(raster.grid, TILING, aoi=aoi)
    assert () in plan.rows
    found = list(stream_tiles(raster, plan))
    assert len(found) == plan.n_windows
    for _, tile in found:
        assert np.array_equal(tile.pixels, raster.read(tile.window).pixels)


def test_damaged_window_is_raised_in_the_caller(tmp_path):
    for name, layout in LAYOUTS.items():
        path = write(tmp_path / f"{name}.tif", **layout)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
        with Raster.open(path) as raster:
            tiles = stream_tiles(raster, plan_tiles(raster.grid, TILING))
            read = []
            with pytest.raises(UnreadableRasterError, match=rf"{name}\.tif: rows \d+ to \d+, columns"):
                read.extend(row for row, _ in tiles)
            assert read[-1] >= 1  # what comes before the damage is delivered
        assert not reader_threads()


def test_abandoned_stream_ends_its_threads(raster):
    tiles = stream_tiles(raster, plan_tiles(raster.grid, TILING), config=StreamConfig(threads=2, queue=2))
    next(tiles)
    assert reader_threads()
    tiles.close()
    assert not reader_threads()


def test_no_more_tiles_than_the_queue_are_read_ahead(raster, monkeypatch):
    started = []
    original = Raster.read_on

    def counted(self, grid, window):
        started.append(window)
        return original(self, grid, window)

    monkeypatch.setattr(Raster, "read_on", counted)
    plan = plan_tiles(raster.grid, TILING)
    if is_read_in_bands(raster, plan):
        pytest.skip("bands of rows are not windows")
    tiles = stream_tiles(raster, plan, config=StreamConfig(threads=2, queue=3))
    for taken in range(1, 6):
        next(tiles)
        threading.Event().wait(0.02)
        assert len(started) <= taken + 3
    tiles.close()


def test_striped_rows_are_read_once(tmp_path, monkeypatch):
    rows = []
    original = Raster.read_on

    def counted(self, grid, window):
        rows.extend(range(window.row, window.bottom))
        return original(self, grid, window)

    with Raster.open(write(tmp_path / "a.tif")) as raster:
        plan = plan_tiles(raster.grid, TILING)
        monkeypatch.setattr(Raster, "read_on", counted)
        assert len(list(stream_tiles(raster, plan))) == plan.n_windows
    assert rows == list(range(300))


@pytest.mark.parametrize("memory_bytes", [0, 10**6])
def test_row_store_gives_back_what_was_written(memory_bytes):
    rows = np.random.default_rng(0).integers(0, 256, (2, 50, 11), dtype=np.uint8)
    with RowStore(2, 11, 12, memory_bytes=memory_bytes) as store:
        for first in range(0, 50, 5):
            store.write(first, rows[:, first : first + 5])
            top = max(0, first + 5 - 12)
            got = store.read(top, 3, first + 5 - top, 6)
            assert np.array_equal(got, rows[:, top : first + 5, 3:9])


def test_wide_rows_go_through_a_file_with_equal_tiles(tmp_path, monkeypatch):
    with Raster.open(write(tmp_path / "a.tif")) as raster:
        plan = plan_tiles(raster.grid, TILING)
        in_memory = [tile for _, tile in stream_tiles(raster, plan)]
        monkeypatch.setattr(RowStore.__init__, "__kwdefaults__", {"memory_bytes": 0})
        in_file = [tile for _, tile in stream_tiles(raster, plan)]
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(in_memory, in_file, strict=True))


@pytest.mark.parametrize("values", [{"threads": 0}, {"queue": 0}])
def test_senseless_settings_are_refused(values):
    with pytest.raises(ConfigError):
        StreamConfig(**values)


def reader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("treedet-reader")]


def test_a_single_window_is_read_without_a_thread(tmp_path):
    with Raster.open(write(tmp_path / "a.tif")) as raster:
        plan = plan_tiles(raster.grid, TilingConfig(window_px=1024, overlap_px=64))
        assert plan.n_windows == 1
        tiles = stream_tiles(raster, plan)
        row, tile = next(tiles)
        assert not reader_threads()
        assert (row, tile.pixels.shape[1:]) == (0, (raster.grid.height, raster.grid.width))
        np.testing.assert_array_equal(tile.pixels, raster.read_on(raster.grid, tile.window).pixels)
        assert list(tiles) == []
