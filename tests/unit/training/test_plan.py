import geopandas as gpd
import numpy as np
import pytest
import torch
from factories import UTM, make_raster, tiny_spec

from treedet.core.spec import OperatingPoint, ResolutionChoice
from treedet.datasets.annotated import AnnotatedRaster
from treedet.datasets.sample_config import SampleConfig
from treedet.errors import ConfigError
from treedet.inference.detector import Detector
from treedet.metrics.calibration import with_temperature
from treedet.models.backends.eager import EagerBackend
from treedet.models.network import NetworkDetector
from treedet.models.trunk import Trunk
from treedet.rasters.raster import Raster
from treedet.training.config import TrainConfig
from treedet.training.plan import make_plan
from treedet.training.recipe import Recipe
from treedet.vectors.truth import TruthOptions

# A plan without validation and of few crowns warns; that is tested elsewhere.
pytestmark = pytest.mark.filterwarnings("ignore::treedet.errors.TreedetWarning")

SIDE = 400
CROWNS = np.array([(x, y, x + 30, y + 30) for y in range(20, SIDE - 40, 60) for x in range(20, SIDE - 40, 60)], float)


@pytest.fixture
def stand(tmp_path):
    path = make_raster(tmp_path / "stand.tif", np.full((3, SIDE, SIDE), 90, np.uint8))
    with Raster.open(path) as raster:
        return path, gpd.GeoDataFrame(geometry=raster.native_grid.to_map(CROWNS), crs=UTM)


@pytest.fixture
def calibrated():
    torch.manual_seed(0)
    spec = tiny_spec(
        temperature=0.5,
        operating_points={"balanced": OperatingPoint(0.2)},
        resolutions=(ResolutionChoice(0.3, "native", 0.4, 0.5),),
    )
    trunk = Trunk(spec)
    return Detector(NetworkDetector(EagerBackend(trunk, device="cpu"), spec), name="calibrated", trunk=trunk)


def plan(detector, plot, **settings):
    config = TrainConfig(samples=SampleConfig(window_px=128, **settings))
    recipe = Recipe(annotation="complete", validation_share=0)
    return make_plan(detector, [plot], validation=None, config=config, recipe=recipe)


def test_new_weights_keep_the_detections_of_the_old_threshold_and_none_of_their_calibration(stand, calibrated):
    spec = plan(calibrated, AnnotatedRaster(*stand)).spec
    assert spec.temperature == 1
    assert spec.resolutions == ()
    # The same logit is the threshold: what scored 0.2 once divided by 0.5 scores more without.
    assert with_temperature(np.array([spec.threshold()]), 0.5)[0] == pytest.approx(0.2)


def test_resolutions_trained_for_widen_the_range_of_the_model(stand, calibrated):
    assert plan(calibrated, AnnotatedRaster(*stand)).spec.gsd_range[1] < 0.8
    assert plan(calibrated, AnnotatedRaster(*stand), resolutions=(0.1, 0.8)).spec.gsd_range[1] == 0.8


def test_stems_are_refused_with_what_they_need(stand, calibrated):
    path, table = stand
    stems = AnnotatedRaster(path, table.set_geometry(table.geometry.centroid), truth=TruthOptions(points=True))
    with pytest.raises(ConfigError, match="--diameter 5"):
        plan(calibrated, stems)
