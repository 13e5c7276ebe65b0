import math

import numpy as np
import pytest
import shapely
from affine import Affine
from factories import disks, make_raster, paint, tiny_spec

from treedet.core.grid import Grid, Window
from treedet.core.suppression import MergeConfig
from treedet.errors import RasterError
from treedet.inference import pipeline
from treedet.inference.candidates import Candidates
from treedet.inference.pipeline import Job, on_valid_ground, run
from treedet.models.blobs import BlobDetector
from treedet.rasters.raster import Raster, Tile
from treedet.rasters.tiling import TilingConfig, plan_tiles

WIDTH, HEIGHT = 260, 300
PIXELS = paint(
    disks(np.random.default_rng(2), width=WIDTH, height=HEIGHT, count=30, radius=(4, 11)), width=WIDTH, height=HEIGHT
)
TILING = TilingConfig(window_px=64, overlap_px=30, multiple=16)


class Notes:
    """A sink that takes notes."""

    def __init__(self):
        self.rows, self.closed, self.open, self.facts = [], [], [], []

    def finish_row(self, row, closed, open_, facts):
        self.rows.append(row)
        self.closed.append(closed)
        self.open.append(open_)
        self.facts.append(facts)

    @property
    def boxes(self):
        return np.concatenate([part.boxes for part in self.closed])

    @property
    def total(self):
        return sum(self.facts[1:], self.facts[0])


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return make_raster(tmp_path_factory.mktemp("pipeline") / "a.tif", PIXELS)


def work(path, *, aoi=None, batch_size=1, detector=None, **how):
    notes = Notes()
    with Raster.open(path) as raster:
        plan = plan_tiles(raster.grid, TILING, aoi=aoi)
        job = Job(plan=plan, threshold=0.3, merge=MergeConfig(), aoi=aoi, batch_size=batch_size)
        run(raster, detector or BlobDetector(tiny_spec()), job, notes, **how)
    return notes, plan


def test_each_row_reaches_the_sink_once_in_order(path):
    notes, plan = work(path)
    assert notes.rows == list(range(len(plan.rows)))
    assert len(notes.open[-1]) == 0
    assert notes.total.windows == plan.n_windows
    assert len(notes.boxes) == 30


def test_a_run_taken_up_after_any_row_gives_the_same(path):
    whole, plan = work(path)
    for first in range(1, len(plan.rows)):
        rest, _ = work(path, first_row=first, open_=whole.open[first - 1])
        assert rest.rows == whole.rows[first:]
        for one, two in zip(rest.closed, whole.closed[first:], strict=True):
            np.testing.assert_array_equal(one.boxes, two.boxes)
            np.testing.assert_array_equal(one.scores, two.scores)
        assert rest.total.valid_px + sum(f.valid_px for f in whole.facts[:first]) == whole.total.valid_px


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_progress_counts_windows_up_to_all_of_them(path, batch_size):
    seen = []
    _, plan = work(path, batch_size=batch_size, watch=seen.append)
    windows = [progress.windows for progress in seen]
    assert windows == sorted(set(windows))
    assert windows[-1] == plan.n_windows == seen[-1].total
    assert max(len(row) for row in plan.rows) >= np.diff([0, *windows]).max()


def test_the_detector_sees_no_empty_window(tmp_path):
    pixels = PIXELS.copy()
    pixels[:, 100:] = 0
    pixels[:, :100] = np.maximum(pixels[:, :100], 1)
    path = make_raster(tmp_path / "half.tif", pixels, nodata=0)
    seen = []

    class Watched(BlobDetector):
        def detect(self, pixels, **how):
            seen.append(len(pixels))
            return super().detect(pixels, **how)

    notes, plan = work(path, detector=Watched(tiny_spec()))
    assert sum(seen) == notes.total.windows - notes.total.skipped
    assert notes.total.skipped > plan.n_windows / 3
    assert notes.total.valid_px == 100 * WIDTH


@pytest.mark.parametrize("seed", range(4))
def test_valid_ground_is_counted_once(tmp_path, seed):
    rng = np.random.default_rng(seed)
    valid = np.repeat(np.repeat(rng.random((HEIGHT // 20, WIDTH // 20)) < 0.6, 20, axis=0), 20, axis=1)
    path = make_raster(tmp_path / "a.tif", np.where(valid, np.maximum(PIXELS, 1), 0).astype(np.uint8), nodata=0)
    assert work(path)[0].total.valid_px == valid.sum()
    aoi = shapely.Polygon([(20, 10), (250, 60), (200, 290), (90, 150)]).difference(shapely.box(120, 80, 160, 120))
    y, x = np.nonzero(np.repeat(np.repeat(valid, 4, axis=0), 4, axis=1))
    expected = np.count_nonzero(shapely.contains_xy(aoi, (x + 0.5) / 4, (y + 0.5) / 4)) / 16
    assert work(path, aoi=aoi)[0].total.valid_px == pytest.approx(expected, rel=0.002)


def test_an_error_of_the_reader_reaches_the_caller(tmp_path, path):
    short = tmp_path / "short.tif"
    short.write_bytes(path.read_bytes()[:90_000])
    with pytest.raises(RasterError, match=r"rows \d+ to \d+"):
        work(short)


GRID = Grid.build(None, Affine.identity(), width=200, height=100, gsd=0.1)


def at(*boxes):
    n = len(boxes)
    return Candidates(
        boxes=np.array(boxes, float),
        scores=np.ones(n, np.float32),
        classes=np.zeros(n, np.int64),
        sides=np.zeros(n, np.uint8),
        windows=np.tile([50.0, 20, 114, 84], (n, 1)),
        order=np.arange(n),
        edge=np.zeros(n, bool),
    )


def tile_with(valid):
    return Tile(Window(20, 50, 64, 64), np.zeros((3, 64, 64), np.uint8), valid)


def test_the_border_of_the_grid_is_an_edge():
    boxes = [(0.5, 30, 20, 50), (60, 30, 80, 50), (180, 30, 199.5, 50), (60, 0, 80, 20), (60, 80, 80, 99.2)]
    found = on_valid_ground(at(*boxes), tile_with(np.ones((64, 64), bool)), GRID)
    assert found.edge.tolist() == [True, False, True, True, True]


def test_nodata_is_an_edge_and_holds_no_centre():
    valid = np.ones((64, 64), bool)
    valid[:, 32:] = False  # from x = 82 of the grid
    boxes = [(60, 30, 70, 40), (70, 30, 81.5, 40), (70, 30, 90, 40), (75, 30, 95, 40), (90, 30, 100, 40)]
    found = on_valid_ground(at(*boxes), tile_with(valid), GRID)
    np.testing.assert_array_equal(found.boxes, np.array(boxes[:3], float))
    assert found.edge.tolist() == [False, True, True]


def test_a_single_invalid_pixel_inside_a_crown_makes_it_an_edge():
    valid = np.ones((64, 64), bool)
    valid[15, 15] = False  # x = 65, y = 35 of the grid
    found = on_valid_ground(at((60, 30, 80, 50), (70, 40, 80, 50)), tile_with(valid), GRID)
    assert found.edge.tolist() == [True, False]


def test_every_pixel_belongs_to_the_core_of_one_window():
    plan = plan_tiles(GRID, TilingConfig(window_px=64, overlap_px=20, multiple=16))
    count = np.zeros((GRID.height, GRID.width), int)
    for row in plan.rows:
        for window in row:
            core = pipeline._core(window, plan)
            assert core.bottom <= window.bottom
            assert core.right <= window.right
            count[core.row : core.bottom, core.col : core.right] += 1
    assert (count == 1).all()
    assert math.isclose(count.sum(), GRID.width * GRID.height)
