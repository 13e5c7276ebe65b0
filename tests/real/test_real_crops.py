"""A real folder of crown crops, read and laid out. Readers take it; what trains bundled models must refuse it."""

from pathlib import Path

import numpy as np
import pytest

from treedet.datasets.crop_canvases import canvases
from treedet.datasets.crops import read_crops
from treedet.datasets.sources import refuse_evaluation_only
from treedet.errors import ConfigError

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "alive-dead-crops" / "test"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="shared/data is not beside the checkout")


def test_every_crop_is_laid_out_once():
    crops = read_crops(FOLDER, attribute="status", gsd=0.1, values={"Alive": "alive", "Dead": "dead"})
    assert crops.counts == {"alive": 536, "dead": 99}
    assert crops.notices == ()
    assert "ABBY_554000_5062000" in crops.places
    numbers, sizes = [], np.zeros((len(crops), 2))
    for pixels, boxes, shown in canvases(crops, gsd=0.1, side_px=384):
        assert pixels.shape == (3, 384, 384)
        numbers += shown.tolist()
        sizes[shown] = boxes[:, [3, 2]] - boxes[:, [1, 0]]
    assert sorted(numbers) == list(range(635))
    assert np.array_equal(sizes, crops.pixels.sizes)


def test_it_is_never_trained_on():
    with pytest.raises(ConfigError, match="for evaluation only"):
        refuse_evaluation_only(str(FOLDER / "Alive"))
