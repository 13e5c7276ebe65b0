import numpy as np
import pandas as pd
from factories import UTM
from field_stands import EAST, NORTH, crowns_table, stand
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from treedet.datasets.field_trees import match_field
from treedet.display.field_match import ARROW, COLOURS, draw_match


def pixels(path, colour):
    return int((np.abs(imread(path)[..., :3] - to_rgb(colour)).max(axis=2) < 0.03).sum())


def matched(tmp_path, rows, boxes):
    path = tmp_path / "field.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return match_field(crowns_table(np.array(boxes, float) + np.array([EAST, NORTH] * 2), UTM), path)


def test_stems_of_every_fate_and_the_shift_are_drawn(tmp_path):
    forest = stand(plots=1)
    forest.field.to_csv(tmp_path / "field.csv", index=False)
    found = match_field(forest.crowns, tmp_path / "field.csv")
    draw_match(tmp_path / "a.png", found, title="a $stand")
    alone = matched(tmp_path, {"x": [EAST + 2], "y": [NORTH + 2]}, [[0, 0, 4, 4]])
    draw_match(tmp_path / "b.png", alone, title="b")
    # What only the legend shows of the one is on the ground of the other.
    for colour in (COLOURS["unmatched"], ARROW):
        assert pixels(tmp_path / "a.png", colour) > pixels(tmp_path / "b.png", colour) + 20
    assert pixels(tmp_path / "a.png", COLOURS["matched"]) > pixels(tmp_path / "b.png", COLOURS["matched"])


def test_of_many_plots_nine_are_drawn(tmp_path):
    side = 60 * np.arange(11)
    rows = {"plot": [f"P{i}" for i in range(11)], "x": EAST + 2 + side, "y": NORTH + 2}
    found = matched(tmp_path, rows, [[s, 0, s + 4, 4] for s in side])
    draw_match(tmp_path / "a.png", found, title="many")
    height, width = imread(tmp_path / "a.png").shape[:2]
    assert width < height < 1.1 * width


def test_a_plot_without_a_placed_stem_is_passed_over(tmp_path):
    rows = {"plot": ["A", "B"], "x": [EAST + 2, None], "y": [NORTH + 2, None]}
    draw_match(tmp_path / "a.png", matched(tmp_path, rows, [[0, 0, 4, 4]]), title="one")
    assert (tmp_path / "a.png").exists()
