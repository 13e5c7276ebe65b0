import math

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.image import imread

from treedet.display.curves import PANELS, curves

FULL = [
    {
        "epoch": epoch,
        "loss": 2.0 / (epoch + 1),
        "loss_class": 1.2 / (epoch + 1),
        "loss_box": 0.8 / (epoch + 1),
        "val_f1": 0.5,
        "val_precision": 0.6,
        "val_recall": 0.4,
        "learning_rate": 1e-3,
    }
    for epoch in range(4)
]


@pytest.fixture
def drawn(monkeypatch):
    """Lines drawn, as (label, xs, ys), and the labels of legends."""
    lines, marks = {}, []
    plot, axvline = Axes.plot, Axes.axvline

    def recorded(self, x, y, **kwargs):
        lines[kwargs["label"]] = (list(x), list(y))
        return plot(self, x, y, **kwargs)

    def marked(self, x, **kwargs):
        marks.append((x, kwargs["label"]))
        return axvline(self, x, **kwargs)

    monkeypatch.setattr(Axes, "plot", recorded)
    monkeypatch.setattr(Axes, "axvline", marked)
    return lines, marks


def test_all_curves_are_drawn_and_the_best_epoch_is_marked(tmp_path, drawn):
    lines, marks = drawn
    curves(tmp_path / "c.png", FULL, best_epoch=2)
    assert set(lines) == {line.label for panel in PANELS.values() for line in panel}
    assert lines["box"] == ([0, 1, 2, 3], [row["loss_box"] for row in FULL])
    assert [x for x, _ in marks] == [2, 2, 2]
    assert [label for _, label in marks if "F1" in label] == ["best epoch (2, F1 0.500)"]
    height, width = imread(tmp_path / "c.png").shape[:2]
    assert 800 < width < 1400
    assert 800 < height < 1400


def test_missing_columns_and_epochs_without_a_score_are_passed_over(tmp_path, drawn):
    lines, _ = drawn
    history = [
        {"epoch": 1, "loss": 1.0},
        {"epoch": 2, "loss": math.nan, "val_f1": 0.3, "lr": 0.1},
        {"epoch": 3, "loss": math.inf, "val_f1": math.nan, "lr": 0.2},
        {"epoch": 4, "loss": 0.5, "val_f1": 0.4},
    ]
    curves(tmp_path / "c.png", history, best_epoch=None)
    assert lines == {"total": ([1, 4], [1.0, 0.5]), "F1": ([2, 4], [0.3, 0.4]), "learning rate": ([2, 3], [0.1, 0.2])}


@pytest.mark.parametrize(
    "history",
    [
        [],
        [{}],
        [{"epoch": math.nan, "loss": 1.0}],
        [{"loss": math.nan}],
        [{"loss": 0.0, "val_f1": 0.0}],
        [{"epoch": 5, "loss": 1.0}],
        [{"val_threshold": 0.3}],
        [{"loss": None, "val_f1": 0.1}],
    ],
    ids=["nothing", "empty-row", "epoch-nan", "nan", "zeros", "one", "other-columns", "none"],
)
def test_no_history_breaks_the_picture(tmp_path, history):
    curves(tmp_path / "c.png", history, best_epoch=99)
    picture = imread(tmp_path / "c.png")
    assert picture.shape[1] > 800
    assert np.ptp(picture[..., 0]) > 0.5, "something is written on it"


def test_a_long_history_has_no_markers(tmp_path, monkeypatch):
    markers = []
    plot = Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda self, *a, **k: markers.append(k["marker"]) or plot(self, *a, **k))
    curves(tmp_path / "c.png", [{"loss": 1.0}] * 3, best_epoch=None)
    curves(tmp_path / "c.png", [{"loss": 1.0}] * 300, best_epoch=None)
    assert markers == ["o", ""]


def test_lines_of_a_panel_differ_without_colour():
    for lines in PANELS.values():
        assert len({line.dashes for line in lines}) == len({line.colour for line in lines}) == len(lines)
