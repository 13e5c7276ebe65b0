import multiprocessing
import pickle

import numpy as np
import pytest
from factories import make_raster

from treedet.core.grid import Window
from treedet.errors import ConfigError
from treedet.rasters.decoded import DecodedRaster, ReopenedRaster
from treedet.rasters.raster import Raster


@pytest.fixture
def raster(tmp_path):
    pixels = np.random.default_rng(0).integers(1, 256, (3, 180, 240), dtype=np.uint8)
    pixels[:, 40:90, 100:170] = 0
    with Raster.open(make_raster(tmp_path / "r.tif", pixels, gsd=0.05, nodata=0)) as opened:
        yield opened


@pytest.mark.parametrize("gsd", [0.03, 0.05, 0.0667, 0.1, 0.13])
def test_pixels_and_nodata_equal_those_read_from_the_file(raster, gsd):
    decoded = DecodedRaster.of(raster, finest_gsd=0.05)
    model = raster.grid.at_gsd(gsd)
    assert decoded.grid.at_gsd(gsd) == model
    window = Window(model.height // 5, model.width // 4, model.height // 2, model.width // 2)
    wanted, found = raster.read_on(model, window), decoded.read_on(model, window)
    assert np.abs(wanted.pixels.astype(int) - found.pixels).max() <= 1
    assert np.array_equal(wanted.valid, found.valid)
    assert not wanted.valid.all()


def test_fine_rasters_are_held_coarser_and_never_too_coarse(raster):
    fine = DecodedRaster.of(raster, finest_gsd=0.05)
    coarse = DecodedRaster.of(raster, finest_gsd=0.12)
    assert coarse.pixels.shape == (3, 90, 120), "twice the raster's GSD; three times would be coarser than wanted"
    assert coarse.nbytes < fine.nbytes / 3
    assert coarse.grid == raster.grid
    model = raster.grid.at_gsd(0.2)
    wanted, found = (s.read_on(model, model.full_window) for s in (raster, coarse))
    assert np.abs(wanted.pixels.astype(int) - found.pixels).max() <= 1


def test_a_raster_without_nodata_holds_no_mask(tmp_path):
    path = make_raster(tmp_path / "r.tif", np.full((3, 20, 30), 9, np.uint8))
    with Raster.open(path) as raster:
        decoded = DecodedRaster.of(raster, finest_gsd=0.1)
    assert decoded.valid is None
    assert decoded.nbytes == 3 * 20 * 30
    assert decoded.read_on(decoded.grid, Window(2, 3, 4, 5)).valid.shape == (4, 5)


def test_what_is_shared_can_not_be_written():
    decoded = DecodedRaster.of_pixels(np.zeros((3, 10, 10), np.uint8), gsd=0.1)
    with pytest.raises(ValueError, match="read-only"):
        decoded.read_on(decoded.grid, decoded.grid.full_window).pixels[:] = 1
    with pytest.raises(ConfigError, match="not inside"):
        decoded.read_on(decoded.grid, Window(0, 5, 10, 10))


def test_decoded_pixels_survive_pickling(raster):
    decoded = DecodedRaster.of(raster, finest_gsd=0.05)
    again = pickle.loads(pickle.dumps(decoded))
    assert np.array_equal(again.pixels, decoded.pixels)
    assert np.array_equal(again.valid, decoded.valid)


def _read(source, window, queue):
    queue.put(source.read_on(source.grid, window).pixels)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_file_is_opened_anew_in_each_process(raster):
    source, window = ReopenedRaster(raster), Window(10, 20, 30, 40)
    here = source.read_on(source.grid, window).pixels  # handles are open in this process
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_read, args=(source, window, queue))
    process.start()
    assert np.array_equal(queue.get(timeout=60), here)
    process.join(60)
    assert process.exitcode == 0
    # What a spawned process receives is what is pickled.
    again = pickle.loads(pickle.dumps(source))
    assert np.array_equal(again.read_on(again.grid, window).pixels, here)
    assert again._own[1] is not source._own[1]
