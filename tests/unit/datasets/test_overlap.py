"""Ground that several annotated rasters show belongs to one side only."""

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from factories import UTM, make_raster

from treedet.datasets.annotated import AnnotatedRaster
from treedet.datasets.overlap import apart, overlapping
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


@pytest.mark.parametrize("x", [0.0, 30.0])
def test_what_one_flight_holds_out_no_other_trains_on(tmp_path, x):
    plots = [plot(tmp_path, "2023.tif"), plot(tmp_path, "2024.tif", x=x, gsd=0.2)]
    assert sorted(zip(*(i.tolist() for i in overlapping(plots)), strict=True)) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    before = split_blocks(plots, share=0.2, seed=1)
    split = apart(before)
    assert split.validation == before.validation
    held = np.concatenate([centres(part) for part in split.validation]).round(1)
    trained = np.concatenate([centres(part) for part in split.train]).round(1)
    leaking = np.concatenate([centres(part) for part in before.train]).round(1)
    assert {*map(tuple, held)} & {*map(tuple, leaking)}, "else nothing is tested"
    assert not {*map(tuple, held)} & {*map(tuple, trained)}
    for part in split.train:
        assert part.area is not None
        assert shapely.area(shapely.intersection(part.area, part.blank)) == pytest.approx(0, abs=1)


def test_a_raster_on_both_sides_is_trained_on_nowhere(tmp_path):
    one, other = plot(tmp_path, "a.tif"), plot(tmp_path, "b.tif", x=200.0)
    again = plot(tmp_path, "a.tif")
    split = apart(Split(whole([one, other]), whole([again])))
    assert [part.plot for part in split.train] == [other]


def test_ground_apart_is_left_as_it_is(tmp_path):
    split = split_blocks([plot(tmp_path, "a.tif"), plot(tmp_path, "b.tif", x=80.0)], share=0.3)
    assert apart(split) is split
