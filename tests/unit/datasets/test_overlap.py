"""Ground that several annotated rasters show belongs to one side only."""

from types import SimpleNamespace

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine
from factories import UTM, make_raster

from treedet.core.grid import Grid
from treedet.datasets.annotated import AnnotatedRaster
from treedet.datasets.overlap import apart, overlapping, split_ground
from treedet.datasets.split import Split, split_blocks, whole

SIDE = 800
SHAPES = [shapely.box(x, y, x + 4, y + 4) for x in range(500_003, 500_078, 6) for y in range(5_399_925, 5_399_996, 6)]


def plot(folder, name, *, x=0.0, gsd=0.1, crs=UTM):
    """A flight of one stand of 80 m, moved by some metres."""
    transform = Affine(gsd, 0, 500_000 + x, 0, -gsd, 5_400_000)
    side = round(SIDE * 0.1 / gsd)
    path = make_raster(folder / name, np.full((3, side, side), 90, np.uint8), transform=transform, gsd=gsd)
    table = gpd.GeoDataFrame({"label": ["tree"] * len(SHAPES)}, geometry=SHAPES, crs=UTM)
    within = table.geometry.centroid.x.between(500_000 + x, 500_080 + x)
    return AnnotatedRaster(path, table[within].to_crs(crs))


def centres(part):
    """Centres of the crowns of a part, on the map."""
    boxes = part.plot.boxes[part.mine]
    return np.array([(p.centroid.x, p.centroid.y) for p in part.plot.grid.to_map(boxes)]).reshape(-1, 2)


def corners(parts):
    return {tuple(place) for part in parts for place in centres(part).round(1).tolist()}


@pytest.mark.parametrize("x", [0.0, 30.0, 60.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_what_one_flight_holds_out_no_other_trains_on(tmp_path, x, seed):
    plots = [plot(tmp_path, "2022.tif"), plot(tmp_path, "2023.tif"), plot(tmp_path, "2024.tif", x=x, gsd=0.2)]
    assert {(0, 1), (0, 2), (1, 2)} <= set(zip(*(index.tolist() for index in overlapping(plots)), strict=True))
    leaking = split_blocks(plots, share=0.2, seed=seed)
    assert corners(leaking.train) & corners(leaking.validation), "else nothing is tested"
    split = split_ground(plots, share=0.2, seed=seed)
    assert not corners(split.train) & corners(split.validation)
    trained, held = (sum(int(part.mine.sum()) for part in parts) for parts in (split.train, split.validation))
    assert 0.1 < held / (trained + held) < 0.4
    assert trained + held > 0.8 * sum(len(plot) for plot in plots)
    for part in split.train:
        if part.area is not None:
            assert shapely.area(shapely.intersection(part.area, part.blank)) == pytest.approx(0, abs=1)


def test_a_raster_on_both_sides_is_trained_on_nowhere(tmp_path):
    one, other = plot(tmp_path, "a.tif"), plot(tmp_path, "b.tif", x=200.0)
    again = plot(tmp_path, "a.tif")
    split = apart(Split(whole([one, other]), whole([again])))
    assert [part.plot for part in split.train] == [other]


def test_a_small_plot_is_taken_out_of_a_wide_mosaic(tmp_path):
    wide = Grid.build(pyproj.CRS(UTM), Affine(1, 0, 499_000, 0, -1, 5_401_000), width=3000, height=3000, gsd=1.0)
    mosaic = SimpleNamespace(grid=wide, boxes=np.array([[1010.0, 1010, 1014, 1014], [10, 10, 14, 14]]), aoi=None)
    small = plot(tmp_path, "small.tif")
    (part,) = apart(Split(whole([mosaic]), whole([small]))).train
    assert part.mine.tolist() == [False, True]
    assert shapely.area(part.area) == pytest.approx(3000**2 - 80**2)


def test_ground_apart_is_left_as_it_is(tmp_path):
    split = split_blocks([plot(tmp_path, "a.tif"), plot(tmp_path, "b.tif", x=80.0)], share=0.3)
    assert apart(split) is split


def test_local_coordinates_are_compared_among_themselves(tmp_path):
    local = pyproj.CRS('LOCAL_CS["survey grid",UNIT["metre",1]]')
    grid = Grid.build(local, Affine(0.1, 0, 0, 0, -0.1, 0), width=800, height=800, gsd=0.1)
    here, again = (SimpleNamespace(grid=grid, boxes=np.zeros((0, 4)), aoi=None) for _ in range(2))
    there = plot(tmp_path, "a.tif")
    pairs = set(zip(*(index.tolist() for index in overlapping([here, there, again])), strict=True))
    assert pairs == {(0, 0), (1, 1), (2, 2), (0, 2), (2, 0)}
