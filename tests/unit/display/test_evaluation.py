import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from report_factories import report

from treedet.display import evaluation, evaluation_rasters, evaluation_scores
from treedet.display.evaluation import BLUE, GREEN, VERMILION

REPORT = report()
EMPTY = pd.DataFrame()


def coloured(path, colour):
    picture = imread(path)[..., :3]
    return int((np.abs(picture - to_rgb(colour)).max(axis=2) < 0.03).sum())


def sane(path):
    height, width = imread(path).shape[:2]
    return 150 < height < 3000 and 150 < width < 3000


@pytest.mark.parametrize(
    ("draw", "table", "rest"),
    [
        (evaluation.sweep, REPORT.table, {"model_gsd": 0.1}),
        (evaluation.smallest, REPORT.table, {}),
        (evaluation.heat_map, REPORT.by_size, {}),
        (evaluation_scores.score_curve, REPORT.curve, {"threshold": 0.5}),
        (evaluation_scores.precision_recall, REPORT.precision_recall, {"threshold": 0.5}),
        (evaluation_scores.reliability, REPORT.reliability, {}),
        (evaluation_scores.diameters, REPORT.by_size[:3], {}),
        (evaluation_rasters.raster_scores, REPORT.by_raster[:6], {}),
        (evaluation_rasters.counts, REPORT.by_raster[:6], {}),
    ],
)
def test_every_picture_is_drawn_of_its_table_and_of_an_empty_one(tmp_path, draw, table, rest):
    draw(tmp_path / "a.png", table, **rest)
    draw(tmp_path / "b.png", table.iloc[:0], **rest)
    assert sane(tmp_path / "a.png")
    assert sane(tmp_path / "b.png")
    assert len((tmp_path / "a.png").read_bytes()) > len((tmp_path / "b.png").read_bytes())


def test_every_mode_has_a_line_of_its_own(tmp_path):
    usual = REPORT.table[REPORT.table["mode"] == "adapt"]
    evaluation.sweep(tmp_path / "one.png", usual)
    assert coloured(tmp_path / "one.png", BLUE) > 100
    assert coloured(tmp_path / "one.png", VERMILION) == 0
    other = usual.assign(mode="band-limit", f1=0.3)
    evaluation.sweep(tmp_path / "three.png", pd.concat([REPORT.table, other]))
    assert all(coloured(tmp_path / "three.png", colour) > 100 for colour in (BLUE, VERMILION, GREEN))


def test_a_sweep_of_one_gsd_without_intervals_is_a_picture(tmp_path):
    evaluation.sweep(tmp_path / "s.png", pd.DataFrame({"gsd": [0.1], "f1": [0.5]}))
    assert coloured(tmp_path / "s.png", "#000000") > 50


def test_stems_are_swept_by_recall(tmp_path):
    rows = REPORT.table.drop(columns=["f1", "f1_low", "f1_high"])
    evaluation.sweep(tmp_path / "none.png", rows)
    evaluation.sweep(tmp_path / "recall.png", rows, score="recall")
    assert coloured(tmp_path / "none.png", BLUE) == 0
    assert coloured(tmp_path / "recall.png", BLUE) > 100


def test_cells_without_crowns_are_grey(tmp_path):
    sizes = pd.DataFrame(
        {"gsd": [0.1, 0.2] * 2, "low_m": [2, 2, 4, 4], "high_m": [4, 4, 6, 6], "truth": [9, 9, 30, 30]}
    )
    sizes["recall"] = [0.2, 0.1, 0.9, 0.8]
    evaluation.heat_map(tmp_path / "a.png", sizes)
    assert coloured(tmp_path / "a.png", "#d4d4d4") < 500
    sizes.loc[1, ["truth", "recall"]] = [0, np.nan]
    evaluation.heat_map(tmp_path / "b.png", sizes)
    assert coloured(tmp_path / "b.png", "#d4d4d4") > 2000


def test_many_rasters_are_a_distribution(tmp_path):
    many = pd.DataFrame({"raster": [f"{i}.tif" for i in range(300)], "f1": np.linspace(0, 1, 300), "truth": 5})
    evaluation_rasters.raster_scores(tmp_path / "m.png", many)
    assert sane(tmp_path / "m.png")


def test_names_are_drawn_as_they_are(tmp_path):
    odd = pd.DataFrame({"raster": ["$x", "_a", "树.tif"], "f1": [0.1, 0.2, 0.3], "truth": [1, 2, 3]})
    evaluation_rasters.raster_scores(tmp_path / "m.png", odd)
    assert sane(tmp_path / "m.png")


@pytest.mark.parametrize("metres", [np.array([0.5, 1.0, np.nan, 2.0]), np.zeros(0), np.array([1.0])])
def test_distances_of_any_number_of_stems_are_drawn(tmp_path, metres):
    evaluation_rasters.distances(tmp_path / "d.png", metres)
    assert sane(tmp_path / "d.png")


def test_a_comparison_without_intervals_is_drawn(tmp_path):
    table = pd.DataFrame({"condition": ["as it is"], "f1_difference": [0.1]})
    table = table.assign(f1_difference_low=np.nan, f1_difference_high=np.nan)
    rows = pd.DataFrame({"raster": ["x/a.tif", "x/b.tif"], "f1_a": [0.5, np.nan], "f1_b": [0.7, np.nan]})
    evaluation_rasters.differences(tmp_path / "c.png", table, rows)
    assert coloured(tmp_path / "c.png", BLUE) > 20


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["x/y/a.tif", "x/z/a.tif"], ["y/a.tif", "z/a.tif"]),
        (["xa/1.tif", "xb/1.tif"], ["xa/1.tif", "xb/1.tif"]),
        (["C:\\p\\a.tif", "C:\\p\\b.tif"], ["a.tif", "b.tif"]),
        (["a", "p/b"], ["a", "p/b"]),
        ([], []),
    ],
)
def test_names_lose_what_all_share(names, short):
    assert evaluation_rasters.short_names(names) == short
