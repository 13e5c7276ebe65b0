"""What a model's heads say about crowns that are given, rather than found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from treedet.core.grid import Window
from treedet.core.spec import ModelSpec
from treedet.inference.setup import tiling
from treedet.rasters.raster import Raster
from treedet.rasters.tiling import TilePlan, plan_tiles

Probabilities = Mapping[str, npt.NDArray[np.float32]]


class Describer(Protocol):
    """Says something about boxes in windows, as :class:`treedet.models.network.NetworkDetector` does."""

    @property
    def spec(self) -> ModelSpec:
        """What the model can say."""

    def say(self, pixels: npt.NDArray[np.uint8], boxes: Sequence[npt.NDArray[np.float64]]) -> Sequence[Probabilities]:
        """Return float32 ``[N_b, K]`` by attribute for each window ``[C, H, W]`` of a batch and its boxes."""


def describe_boxes(
    raster: Raster, model: Describer, boxes: npt.NDArray[np.float64]
) -> dict[str, npt.NDArray[np.float32]]:
    """Return what a model says about boxes on a raster, one window of pixels at a time.

    Each box is seen in the window that shows most of its surroundings.

    Args:
        raster: The raster, open.
        model: Its heads are asked.
        boxes: Float64 ``[N, 4]`` in pixels of ``raster.grid``.

    Returns:
        Probabilities float32 ``[N, K]`` by attribute.
    """
    spec = model.spec
    grid = raster.grid.at_gsd(spec.gsd)
    scaled = np.asarray(boxes, np.float64).reshape(-1, 4) * (
        np.array([grid.width / raster.grid.width, grid.height / raster.grid.height] * 2)
    )
    said = {name: np.zeros((len(scaled), len(k)), np.float32) for name, k in spec.labels.attributes.items()}
    if not len(scaled) or not said:
        return said
    plan = plan_tiles(grid, tiling(spec, None))
    row, column = _nearest_window(scaled, plan)
    number = row * len(plan.lefts) + column
    order = np.argsort(number, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(number[order])) + 1):
        window = Window(plan.tops[row[group[0]]], plan.lefts[column[group[0]]], plan.height, plan.width)
        tile = raster.read_on(grid, window)
        corner = np.array([window.col, window.row] * 2, np.float64)
        answer = model.say(tile.pixels[None], [scaled[group] - corner])[0]
        for name, values in answer.items():
            said[name][group] = values
    return said


def _nearest_window(
    boxes: npt.NDArray[np.float64], plan: TilePlan
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return row and column of the window whose centre is nearest to each box's, int64 ``[N]`` each."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    found = [
        np.abs(centre[:, axis, None] - (np.array(starts) + side / 2)).argmin(axis=1)
        for axis, starts, side in ((1, plan.tops, plan.height), (0, plan.lefts, plan.width))
    ]
    return found[0], found[1]
