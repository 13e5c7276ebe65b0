from dataclasses import replace

import numpy as np
import pytest
import shapely
from factories import make_raster
from matplotlib.image import imread

from treedet.core.crown_arrays import CrownArrays
from treedet.core.labels import LabelSchema
from treedet.core.palette import NO_VALUE, OTHER, class_colours
from treedet.display.look import SIDE_M, SQUARES, LookSheet
from treedet.errors import ConfigError, OutputError
from treedet.inference.watching import View
from treedet.rasters.raster import Raster

SIDE_PX = round(SIDE_M / 0.1)


def opened(folder, pixels, **profile):
    return Raster.open(make_raster(folder / "a.tif", pixels, **profile))


def crowns(boxes, status=None):
    boxes = np.asarray(boxes, dtype=float).reshape(-1, 4)
    n = len(boxes)
    return CrownArrays(
        boxes=boxes,
        scores=np.ones(n, np.float32),
        classes=np.zeros(n, np.int64),
        cut=np.zeros(n, bool),
        edge=np.zeros(n, bool),
        attributes={} if status is None else {"status": np.eye(2, dtype=np.float32)[status]},
    )


def windows_of(sheet):
    return [square.tile.window for square in sheet.squares]


def test_squares_are_spread_and_the_same_each_time(tmp_path):
    with opened(tmp_path, np.full((3, 1800, 1800), 9, np.uint8), compress="deflate") as raster:
        sheets = [LookSheet(LabelSchema()) for _ in range(2)]
        for sheet in sheets:
            sheet.begin(raster, None, raster.grid)
        other = LookSheet(LabelSchema(), seed=1)
        other.begin(raster, None, raster.grid)
    found = windows_of(sheets[0])
    assert found == windows_of(sheets[1]) != windows_of(other)
    assert 5 <= len(found) <= SQUARES
    assert all(window.height == window.width == SIDE_PX for window in found)
    boxes = [shapely.box(*window.box) for window in found]
    shared = [a.intersection(b).area for i, a in enumerate(boxes) for b in boxes[:i]]
    assert max(shared) <= 0.25 * SIDE_PX**2


def test_squares_lie_on_valid_ground_and_in_the_aoi(tmp_path):
    pixels = np.zeros((3, 1300, 1300), np.uint8)
    pixels[:, :, 700:] = 9
    with opened(tmp_path, pixels, nodata=0, compress="deflate") as raster:
        sheet = LookSheet(LabelSchema())
        sheet.begin(raster, None, raster.grid)
        assert sheet.squares
        assert all(square.tile.valid.mean() >= 0.5 for square in sheet.squares)
        aoi = shapely.box(900, 900, 1000, 1000)
        sheet.begin(raster, aoi, raster.grid)
        assert all(shapely.box(*window.box).intersects(aoi) for window in windows_of(sheet))
        assert sheet.squares


def test_crowns_are_noted_where_they_are_on_grids_of_any_gsd(tmp_path):
    with opened(tmp_path, np.full((3, 300, 300), 9, np.uint8)) as raster:
        sheet = LookSheet(LabelSchema(attributes={"status": ("alive", "dead")}))
        sheet.begin(raster, None, raster.grid)
        coarse = raster.grid.at_gsd(0.2)
        sheet.observe(crowns([[10, 20, 30, 40], [140, 140, 170, 170], [400, 400, 410, 410]], [0, 1, 1]), coarse)
        sheet.observe(crowns([], []), coarse)
    assert len(sheet.squares) == 1
    np.testing.assert_allclose(sheet.squares[0].boxes, [[20, 40, 60, 80], [280, 280, 340, 340]])
    assert sheet.squares[0].groups == ["alive", "dead"]


def probabilities(classes, count, p=0.9):
    rows = np.full((len(classes), count), (1 - p) / (count - 1), np.float32)
    rows[np.arange(len(classes)), classes] = p
    return rows


def observed(folder, schema, attributes, **options):
    found = crowns([[10 * i, 20, 10 * i + 8, 40] for i in range(len(next(iter(attributes.values()))))])
    with opened(folder, np.full((3, 400, 400), 9, np.uint8)) as raster:
        sheet = LookSheet(schema, **options)
        sheet.begin(raster, None, raster.grid)
        sheet.observe(replace(found, attributes=attributes), raster.grid)
    return sheet


TWO = LabelSchema(attributes={"vigour": ("low", "high"), "species": ("ash", "oak"), "status": ("alive", "dead")})


@pytest.mark.parametrize(
    ("named", "wanted", "entries"),
    [
        (["vigour", "species", "status"], None, ["alive: 2", "dead: 1"]),
        (["vigour", "species"], None, ["ash: 2", "oak: 1"]),
        (["vigour"], None, ["low: 2", "high: 1"]),
        (["vigour", "species", "status"], "species", ["ash: 2", "oak: 1"]),
        (["vigour", "species", "status"], "label", ["tree: 3"]),
    ],
)
def test_crowns_are_coloured_by_status_then_species_then_another_or_what_is_wanted(tmp_path, named, wanted, entries):
    schema = LabelSchema(attributes={name: TWO.attributes[name] for name in named})
    sheet = observed(tmp_path, schema, {name: probabilities([0, 1, 0], 2) for name in named}, colour_by=wanted)
    assert list(sheet.legend) == entries


def test_a_column_that_is_not_there_can_not_colour():
    with pytest.raises(
        ConfigError, match="can not be coloured by 'genus'; accepted are vigour, species, status, label"
    ):
        LookSheet(TWO, colour_by="genus")


def test_crowns_without_a_value_are_grey_with_an_entry_of_their_own(tmp_path):
    p = np.concatenate([probabilities([0, 1], 2), probabilities([1, 0], 2, p=0.6)])
    sheet = observed(tmp_path, LabelSchema(attributes={"status": ("alive", "dead")}), {"status": p}, min_p=0.7)
    assert sheet.squares[0].groups == ["alive", "dead", None, None]
    assert sheet.legend == {"alive: 1": "#56b4e9", "dead: 1": "#d55e00", "no value: 2": NO_VALUE}
    sheet.save(tmp_path / "look.png", title="a")
    grey = np.array([int(NO_VALUE[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    drawn = imread(tmp_path / "look.png")[..., :3]
    assert (np.abs(drawn - grey).max(axis=2) < 0.02).sum() > 100


def test_of_many_species_the_legend_names_the_most_frequent(tmp_path):
    names = tuple(f"SP{i:02d}" for i in range(40))
    classes = np.repeat(np.arange(40), np.arange(40))
    schema = LabelSchema(attributes={"species": names})
    sheet = observed(tmp_path, schema, {"species": probabilities(classes, 40)})
    legend = sheet.legend
    assert list(legend) == [*(f"SP{i}: {i}" for i in range(39, 28, -1)), "29 others: 406"]
    assert legend["SP39: 39"] == class_colours(names)["SP39"]
    assert list(legend.values()).count(OTHER) == 1
    sheet.save(tmp_path / "look.png", title="many")


@pytest.mark.parametrize("found", [0, 3])
def test_the_sheet_is_a_picture_with_boxes_on_it(tmp_path, found):
    with opened(tmp_path, np.full((3, 120, 150), 30, np.uint8)) as raster:
        sheet = LookSheet(LabelSchema())
        sheet.begin(raster, None, raster.grid)
        bare = tmp_path / "bare.png"
        sheet.save(bare, title="nothing")
        sheet.observe(crowns([[10 + 40 * i, 20, 40 + 40 * i, 60] for i in range(found)]), raster.grid)
    sheet.save(tmp_path / "look.png", title="nothing")
    before, after = imread(bare), imread(tmp_path / "look.png")
    assert before.ndim == 3
    changed = before.shape != after.shape or bool(np.abs(before - after).max() > 0.2)
    assert changed == (found > 0)
    assert {entry.name for entry in tmp_path.iterdir()} == {"a.tif", "bare.png", "look.png"}


def test_a_raster_without_valid_ground_gives_a_sheet_without_squares(tmp_path):
    with opened(tmp_path, np.zeros((3, 120, 150), np.uint8), nodata=0) as raster:
        sheet = LookSheet(LabelSchema())
        sheet.begin(raster, None, raster.grid)
    assert sheet.squares == []
    sheet.save(tmp_path / "look.png", title="0 crowns")
    assert (tmp_path / "look.png").exists()


def test_a_sheet_that_can_not_be_written_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match=r"can not write .*look\.png"):
        LookSheet(LabelSchema()).save(tmp_path / "nowhere" / "look.png", title="")


def test_squares_of_many_grounds_are_drawn_by_area(tmp_path):
    """Two of forty grounds hold nearly all the area, so most squares are theirs, and few others are opened."""
    opened_ones = []

    def view(number):
        folder = tmp_path / str(number)
        folder.mkdir(exist_ok=True)
        side = 1500 if number in (3, 7) else 20
        raster = opened(folder, np.full((3, side, side), 9, np.uint8), compress="deflate")
        opened_ones.append((number, raster))
        return View(raster, shapely.box(0, 0, 700, 1500) if number == 3 else None)

    m2 = np.array([700 * 1500 if i == 3 else 1500**2 if i == 7 else 400 for i in range(40)]) * 0.01
    sheets = []
    for _ in range(2):
        sheets.append(LookSheet(LabelSchema()))
        sheets[-1].begin_many(m2, view)
    sheet = sheets[0]
    grounds = [square.ground for square in sheet.squares]
    assert len(grounds) == SQUARES
    assert {3, 7} <= set(grounds)
    assert len(opened_ones) < 12
    assert all(raster._handles is None for _, raster in opened_ones)
    assert all(square.tile.window.col < 700 for square in sheet.squares if square.ground == 3)
    assert [(s.ground, s.tile.window) for s in sheets[1].squares] == [
        (s.ground, s.tile.window) for s in sheet.squares
    ]
    square = next(s for s in sheet.squares if s.ground == 7)
    window = square.tile.window
    here = [window.col + 10, window.row + 10, window.col + 30, window.row + 30]
    sheet.observe(crowns([here]), square.grid, ground=7)
    sheet.observe(crowns([here]), square.grid, ground=3)
    assert len(square.boxes) == 1
    assert square.title == "a.tif: 1 crown"
    assert replace(square, source="", boxes=[]).title == "0 crowns"
    assert replace(square, source=f"/ortho/{'a' * 40}.tif").title == f"…{'a' * 27}.tif: 1 crown"
    assert list(sheet.legend) == ["tree: 2"]
