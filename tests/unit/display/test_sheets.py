import numpy as np
import pytest
import shapely
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from treedet.core.grid import Window
from treedet.core.palette import class_colours
from treedet.display import figures
from treedet.display.sheets import (
    FOUND,
    IGNORED_COLOUR,
    MADE_UP,
    MISSED,
    RIGHT,
    HitSquare,
    Outcome,
    choose_squares,
    hits_sheet,
    windows_sheet,
)
from treedet.errors import OutputError

PAINT = np.array([60, 20, 90], np.uint8)
"""A colour that no grey of the letters meets, so that panels are found by it."""
GROUND = np.tile(PAINT[:, None, None], (1, 64, 64))


def boxes(*rows):
    return np.array(rows, dtype=float).reshape(-1, 4)


def shown(path, colour, *, ground_only=True):
    """Pixels of a colour in the panels; the legend and what is written lie outside."""
    picture = imread(path)[..., :3]
    if ground_only:
        inside = (np.abs(picture - PAINT / 255).max(axis=2) < 0.02).nonzero()
        picture = picture[inside[0].min() : inside[0].max() + 1, inside[1].min() : inside[1].max() + 1]
    return int((np.abs(picture - to_rgb(colour)).max(axis=2) < 0.03).sum())


def window(rows, classes, pixels=GROUND):
    return pixels, boxes(*rows), np.array(classes, dtype=np.int64)


def square(truth=(), truth_hit=(), predicted=(), predicted_hit=(), **values):
    return HitSquare(
        pixels=GROUND,
        gsd=0.1,
        truth=boxes(*truth),
        predicted=boxes(*predicted),
        truth_hit=np.array(truth_hit, dtype=bool),
        predicted_hit=np.array(predicted_hit, dtype=bool),
        name="plot",
        **values,
    )


def test_each_class_and_what_is_ignored_have_a_colour_of_their_own(tmp_path):
    names = ("tree", "bird")
    windows = [window([[5, 5, 25, 25], [35, 5, 55, 25]], [0, -1])]
    windows_sheet(tmp_path / "w.png", windows, names, gsd=0.1, title="windows")
    colours = class_colours(names)
    assert shown(tmp_path / "w.png", colours["tree"]) > 50
    assert shown(tmp_path / "w.png", IGNORED_COLOUR) > 20
    assert shown(tmp_path / "w.png", colours["bird"]) == 0
    assert shown(tmp_path / "w.png", colours["bird"], ground_only=False) > 0, "the legend names all classes"


def test_unknown_ground_is_darker(tmp_path):
    known = np.ones((64, 64), bool)
    windows_sheet(tmp_path / "a.png", [window([], [])], ("tree",), gsd=0.1, title="", known=[known])
    known[:, 32:] = False
    windows_sheet(tmp_path / "b.png", [window([], [])], ("tree",), gsd=0.1, title="", known=[known])
    before, after = imread(tmp_path / "a.png"), imread(tmp_path / "b.png")
    darker = (before - after).max(axis=2) > 0.05
    across = darker.nonzero()[1]
    assert 0.2 < darker.mean() < 0.6
    assert across.min() > 0.45 * before.shape[1], "the known half stays as it is"


def test_no_more_than_sixteen_windows_are_drawn(tmp_path, monkeypatch):
    counts = []
    panels = figures.panels
    monkeypatch.setattr(
        "treedet.display.sheets.panels", lambda n, **rest: counts.append(n) or panels(min(n, 1), **rest)
    )
    with pytest.raises(ValueError, match="zip"):
        windows_sheet(tmp_path / "w.png", [window([], [])] * 20, ("tree",), gsd=0.1, title="")
    assert counts == [16]


@pytest.mark.parametrize("bands", [1, 4])
def test_pixels_of_any_number_of_bands_are_drawn(tmp_path, bands):
    pixels = np.full((bands, 32, 48), 40, np.uint8)
    windows_sheet(tmp_path / "w.png", [window([[1, 1, 30, 30]], [0], pixels)], ("tree",), gsd=0.1, title="")
    assert shown(tmp_path / "w.png", class_colours(["tree"])["tree"], ground_only=False) > 500


def test_names_that_matplotlib_reads_as_formulas_or_hides_are_written_as_they_are(tmp_path):
    windows_sheet(tmp_path / "w.png", [window([], [])], ("_a", "$x", "树"), gsd=0.1, title="$\\frac{")
    assert shown(tmp_path / "w.png", class_colours(("_a", "$x", "树"))["_a"], ground_only=False) > 0


def test_hits_misses_and_false_alarms_differ_in_colour(tmp_path):
    truth, predicted = [[4, 4, 20, 20], [30, 4, 50, 20]], [[5, 6, 22, 23], [30, 34, 50, 54]]
    hits_sheet(tmp_path / "h.png", [square(truth, [1, 0], predicted, [1, 0])], title="validation")
    for colour in (FOUND, MISSED, RIGHT, MADE_UP):
        assert shown(tmp_path / "h.png", colour) > 20
    hits_sheet(tmp_path / "h.png", [square(truth, [1, 1], predicted, [1, 1])], title="validation")
    assert shown(tmp_path / "h.png", FOUND) > 20
    assert shown(tmp_path / "h.png", MISSED) == shown(tmp_path / "h.png", MADE_UP) == 0


def test_what_was_missed_is_drawn_over_what_was_found(tmp_path):
    same = [[10, 10, 50, 50]]
    hits_sheet(tmp_path / "h.png", [square(same * 2, [1, 0], same, [1])], title="")
    assert shown(tmp_path / "h.png", MISSED) > 200
    assert shown(tmp_path / "h.png", RIGHT) == 0


def test_sheets_without_anything_are_pictures_too(tmp_path):
    windows_sheet(tmp_path / "w.png", [], ("tree",), gsd=0.1, title="windows")
    hits_sheet(tmp_path / "h.png", [], title="squares")
    hits_sheet(tmp_path / "one.png", [square()], title="one")
    for name in ("w.png", "h.png", "one.png"):
        height, width = imread(tmp_path / name).shape[:2]
        assert 200 < height < 1000
        assert 200 < width < 1000


def test_an_existing_sheet_is_replaced_at_once_or_left_as_it_is(tmp_path, monkeypatch):
    path = tmp_path / "h.png"
    path.write_bytes(b"before")

    def broken(figure, target, **_):
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.savefig", broken)
        with pytest.raises(OutputError, match=r"can not write .*h\.png: No space left"):
            hits_sheet(path, [square()], title="")
    assert path.read_bytes() == b"before"
    hits_sheet(path, [square()], title="")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [entry.name for entry in tmp_path.iterdir()] == ["h.png"]


def outcome(truth, truth_hit, predicted=(), predicted_hit=(), *, width=1000, height=800, gsd=0.1):
    return Outcome(
        "plot",
        width,
        height,
        gsd,
        boxes(*truth),
        boxes(*predicted),
        np.array(truth_hit, dtype=bool),
        np.array(predicted_hit, dtype=bool),
    )


def around(*centres):
    return [[x - 5, y - 5, x + 5, y + 5] for x, y in centres]


def test_squares_with_most_mistakes_come_first():
    calm = outcome(around((100, 100), (500, 100)), [1, 1])
    bad = outcome(around((900, 700), (910, 710), (50, 50)), [0, 0, 1], around((890, 650), (500, 500)), [0, 0])
    chosen = choose_squares([calm, bad], count=4, side_m=40.0)
    assert chosen[0] == (1, Window(400, 600, 400, 400)), "two missed and one made up"
    position, window = chosen[1]
    assert position == 1
    assert shapely.box(*window.box).covers(shapely.Point(500, 500))
    assert len(chosen) == len(set(chosen)) == 4
    assert {position for position, _ in chosen[2:]} <= {0, 1}


def test_the_draw_depends_on_the_seed_and_never_shows_bare_ground():
    rng = np.random.default_rng(3)
    centres = rng.uniform(0, 2000, (40, 2))
    image = outcome(around(*centres), np.ones(40), width=4000, height=4000)
    draws = [choose_squares([image], count=5, seed=seed) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    for _, window in draws[0]:
        here = shapely.box(*window.box)
        assert any(here.covers(shapely.Point(x, y)) for x, y in centres)


def test_every_crown_lies_in_the_square_it_is_counted_in():
    rng = np.random.default_rng(5)
    for x, y in rng.uniform([0, 0], [1730, 1110], (60, 2)):
        image = outcome(around((x, y)), [0], width=1730, height=1110)
        ((_, window),) = choose_squares([image], side_m=40.0)
        assert shapely.box(*window.box).covers(shapely.Point(x, y))
        assert window.right <= 1730
        assert window.bottom <= 1110


def test_there_are_no_squares_without_crowns_or_images():
    assert choose_squares([]) == []
    assert choose_squares([outcome([], [])]) == []


def test_an_image_smaller_than_a_square_is_taken_whole():
    chosen = choose_squares([outcome(around((10, 10)), [1], width=60, height=30)])
    assert chosen == [(0, Window(0, 0, 30, 60))]


def test_boxes_are_scaled_to_the_pixels_of_the_square():
    image = outcome(around((110, 210), (700, 700)), [0, 1], around((112, 212), (310, 300)), [1, 0])
    found = image.square(Window(200, 100, 200, 200), np.zeros((3, 100, 100), np.uint8))
    np.testing.assert_allclose(found.truth, [[2.5, 2.5, 7.5, 7.5]])
    np.testing.assert_allclose(found.predicted, [[3.5, 3.5, 8.5, 8.5]])
    assert found.gsd == pytest.approx(0.2)
    assert found.counts == (0, 1, 1, 0)
