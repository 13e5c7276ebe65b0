from __future__ import annotations

import numpy as np
import pytest
from factories import make_raster, tiny_spec

from treedet.core.labels import LabelSchema
from treedet.inference.describe import describe_boxes
from treedet.rasters.raster import Raster

SPEC = tiny_spec(gsd=0.1, labels=LabelSchema(attributes={"kind": ("a", "b")}))


class Brightness:
    """Says of each box how bright it is on average: proves which pixels a box was seen on."""

    spec = SPEC

    def __init__(self):
        self.windows = 0

    def say(self, pixels, boxes):
        self.windows += len(pixels)
        answers = []
        for window, inside in zip(pixels, boxes, strict=True):
            bright = [window[0, int(y0) : int(y1), int(x0) : int(x1)].mean() / 255 for x0, y0, x1, y1 in inside]
            answers.append({"kind": np.array([[v, 1 - v] for v in bright], np.float32).reshape(-1, 2)})
        return answers


@pytest.mark.parametrize("gsd", [0.1, 0.05])
def test_each_box_is_seen_where_it_lies(tmp_path, gsd):
    rng = np.random.default_rng(0)
    pixels = np.zeros((3, 900, 1100), np.uint8)
    corners = rng.integers(0, [1060, 860], (60, 2)) // 40 * 40
    corners = np.unique(corners, axis=0)
    values = rng.integers(20, 250, len(corners))
    for (x, y), value in zip(corners, values, strict=True):
        pixels[:, y : y + 40, x : x + 40] = value
    boxes = np.concatenate([corners, corners + 40], axis=1).astype(float)
    model = Brightness()
    with Raster.open(str(make_raster(tmp_path / "r.tif", pixels, gsd=gsd))) as raster:
        found = describe_boxes(raster, model, boxes)["kind"]
    np.testing.assert_allclose(found[:, 0], values / 255, atol=0.004)
    assert 1 < model.windows < len(boxes)


def test_no_boxes_give_empty_answers(tmp_path):
    with Raster.open(str(make_raster(tmp_path / "r.tif", np.zeros((3, 50, 50), np.uint8)))) as raster:
        assert describe_boxes(raster, Brightness(), np.zeros((0, 4)))["kind"].shape == (0, 2)
