"""What ``treedet evaluate`` asks for and says, with a model that finds painted disks."""

import geopandas as gpd
import numpy as np
import pytest
from factories import UTM, make_raster, paint, tiny_spec

from treedet.commands import evaluate_command
from treedet.core.labels import LabelSchema
from treedet.errors import CrownsError
from treedet.evaluation.config import EvaluateConfig, TruthReading
from treedet.inference.detector import Detector
from treedet.models.blobs import BlobDetector
from treedet.rasters.raster import Raster

CIRCLES = np.array([[40, 40, 12], [100, 40, 12], [40, 100, 12.0]])


@pytest.fixture
def files(tmp_path, monkeypatch):
    spec = tiny_spec(labels=LabelSchema(attributes={"status": ("alive", "dead")}))
    monkeypatch.setattr(evaluate_command, "load", lambda *_, **__: Detector(BlobDetector(spec), name="blobs"))
    path = make_raster(tmp_path / "stand.tif", paint(CIRCLES, width=150, height=150))
    boxes = np.concatenate([CIRCLES[:, :2] - 12, CIRCLES[:, :2] + 12], axis=1)
    with Raster.open(path) as raster:
        shapes = raster.native_grid.to_map(boxes)
    table = gpd.GeoDataFrame(
        {"status": ["dead", "dead", "alive"], "COND": ["Snag", "dead", "alive"]}, geometry=shapes, crs=UTM
    )
    table.to_file(tmp_path / "truth.gpkg")
    return str(path), str(tmp_path / "truth.gpkg"), str(tmp_path / "report")


def run(files, **columns):
    reading = TruthReading(columns=columns)
    return evaluate_command.run(
        *files, reading, EvaluateConfig(), predictions=None, model=None, device="cpu", overwrite=False
    )


def test_an_attribute_has_a_line(files, capsys):
    run(files)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("status ")]
    assert lines == [
        "status      accuracy 0.667 on 3 matched crowns (always dead: 0.667); on all macro F1 0.400, alive recall "
        "0.000, alive precision not defined"
    ]


def test_a_value_that_the_model_can_not_say_stops_where_its_column_was_named(files):
    with pytest.raises(
        CrownsError, match=r"status: the truth has 'Snag', which the model can not say; it says alive"
    ):
        run(files, status="COND")
