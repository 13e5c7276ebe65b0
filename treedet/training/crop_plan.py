"""Crops on either side of a split, and the canvases they are trained on."""

from __future__ import annotations

import numpy as np

from treedet.datasets.crop_canvases import CropCanvases
from treedet.datasets.crops import CropSet
from treedet.datasets.mixed import Canvases
from treedet.training.config import TrainConfig
from treedet.training.head_plan import HeadPlan


def split_crops(crops: CropSet | None, *, share: float, seed: int) -> tuple[CropSet | None, CropSet | None]:
    """Hold out a share of the places that crops come from, so that no place is on both sides.

    Args:
        crops: All crops; None for none.
        share: Share of places, 0 for none.
        seed: Seed of the draw.
    """
    if crops is None:
        return None, None
    names = np.array(crops.places)
    places = np.unique(names)
    count = round(share * len(places))
    if not count or count == len(places):
        return crops, None
    drawn = np.random.default_rng(seed).permutation(len(places))[:count]
    held = np.isin(names, places[drawn])
    return crops.take(np.flatnonzero(~held)), crops.take(np.flatnonzero(held))


def crop_canvases(crops: CropSet | None, heads: HeadPlan, config: TrainConfig, *, share: float) -> Canvases | None:
    """Return canvases to train on; None without crops."""
    if crops is None or crops.attribute not in heads.counts:
        return None
    codes = crops.codes(heads.schema, heads.renaming)
    return Canvases(CropCanvases(crops, codes, config=config.samples, seed=config.seed), share)
