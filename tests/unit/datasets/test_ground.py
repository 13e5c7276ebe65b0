import pickle

import numpy as np
import pytest
import shapely
from factories import make_raster

from treedet.core.grid import Grid
from treedet.datasets.ground import Ground, ground_of
from treedet.datasets.samples import Pool
from treedet.datasets.split import Part
from treedet.rasters.decoded import DecodedRaster, ReopenedRaster
from treedet.rasters.raster import Raster

SIDE = 200


class Plot:
    """An annotated raster, as far as grounds look at one."""

    def __init__(self, path, boxes, labels, *, aoi=None, ignored=()):
        self.path = str(path)
        self.boxes = np.array(boxes, dtype=float)
        self.labels = np.array(labels, dtype=object)
        self.aoi = aoi
        self.ignored = np.array(ignored, dtype=float).reshape(-1, 4)
        self.origin = None

    def open(self):
        return Raster.open(self.path)

    @property
    def grid(self) -> Grid:
        with self.open() as raster:
            return raster.grid


def blank_ground(boxes=(), *, known=None, blank=None, side=SIDE):
    array = np.array(boxes, dtype=float).reshape(-1, 4)
    pixels = DecodedRaster.of_pixels(np.zeros((3, side, side), np.uint8), gsd=0.1)
    return Ground("g", pixels, array, np.zeros(len(array), np.int64), known=known, blank=blank)


@pytest.fixture
def path(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (3, SIDE, SIDE), dtype=np.uint8)
    return make_raster(tmp_path / "r.tif", pixels)


def test_a_part_becomes_a_ground(path):
    boxes = [[10, 10, 30, 30], [50, 50, 70, 70], [150, 150, 170, 170]]
    plot = Plot(path, boxes, ["oak", "ash", "oak"], aoi=shapely.box(0, 0, 190, 190), ignored=[[90, 90, 99, 99]])
    area, other = shapely.box(0, 0, 100, 200), shapely.box(100, 0, 200, 200)
    part = Part(plot, area, other, np.array([True, True, False]))
    ground = ground_of(part, ("ash", "oak"), finest_gsd=0.1, memory_mb=10)
    assert ground.name == str(path)
    assert ground.classes.tolist() == [1, 0, -1, -1], "the other side's crown and the ignored region are neither"
    assert ground.boxes[3].tolist() == [90, 90, 99, 99]
    assert ground.known.equals(area)
    assert ground.blank.equals(other)


def test_a_class_that_is_not_learned_is_neither_crown_nor_background(path):
    part = Part(Plot(path, [[10, 10, 30, 30]], ["oak"]), None, None, np.array([True]))
    assert ground_of(part, ("ash",), finest_gsd=0.1, memory_mb=10).classes.tolist() == [-1]


def test_pixels_stay_in_the_file_where_they_do_not_fit(path, caplog):
    caplog.set_level("INFO", logger="treedet")
    part = Part(Plot(path, [[10, 10, 30, 30]], ["tree"]), None, None, np.array([True]))
    held, read = (ground_of(part, ("tree",), finest_gsd=0.1, memory_mb=mb) for mb in (1, 0.1))
    assert isinstance(held.pixels, DecodedRaster)
    assert isinstance(read.pixels, ReopenedRaster)
    assert "read from the file" in caplog.text
    window = held.pixels.grid.full_window
    a, b = (g.pixels.read_on(g.pixels.grid, window).pixels for g in (held, read))
    assert np.array_equal(a, b)


def test_hectares_are_what_is_known_and_shown():
    assert blank_ground().hectares == pytest.approx(0.04)
    known, blank = shapely.box(0, 0, 100, 300), shapely.box(0, 0, 100, 100)
    assert blank_ground(known=known, blank=blank).hectares == pytest.approx(0.01)


def test_places_lie_evenly_where_ground_is_known_and_shown():
    # A long strip aslant and a far corner: bounding boxes are nearly empty.
    known = shapely.MultiPolygon(
        [shapely.Polygon([(0, 0), (4, 0), (150, 146), (146, 146)]), shapely.box(180, 0, 200, 20)]
    )
    blank = shapely.box(0, 0, 50, 50)
    ground = blank_ground(known=known, blank=blank)
    points = ground.places(np.random.default_rng(0), 400)
    shown = known.difference(blank)
    assert shapely.contains_xy(shown.buffer(1e-9), points).all()
    corner = (points[:, 0] > 170).mean()
    assert corner == pytest.approx(400 / shown.area, abs=0.08)


def test_crowns_of_the_other_side_are_not_targets():
    blank = shapely.box(100, 0, 200, 200)
    ground = blank_ground([[10, 10, 30, 30], [85, 10, 105, 30], [95, 50, 115, 70]], blank=blank)
    assert ground.roles.tolist() == [0, 0, -1]
    assert ground.targets.tolist() == [0, 1]


def test_small_grounds_are_drawn_too():
    pool = Pool([blank_ground(side=1000), blank_ground(side=10)])
    small = pool.chances[1]
    assert pool.chances.sum() == pytest.approx(1)
    assert 0.02 < small < 0.2, "a ten-thousandth of the ground, but not never"


def test_a_ground_travels_to_a_worker():
    ground = blank_ground([[10, 10, 30, 30]], known=shapely.box(0, 0, 100, 100))
    assert ground.near(np.array([[0.0, 0, 15, 15]])).shape == (2, 1)
    again = pickle.loads(pickle.dumps(ground))
    assert again.near(np.array([[0.0, 0, 15, 15]])).tolist() == [[0], [0]]
