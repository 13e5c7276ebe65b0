import numpy as np
import pytest
from factories import make_raster, tiny_spec

from treedet.commands import inspect_command
from treedet.core.spec import ResolutionChoice
from treedet.inference.detector import Detector
from treedet.models import model_file
from treedet.models.blobs import BlobDetector
from treedet.models.build import weights_of
from treedet.models.trunk import Trunk

CHOICES = (ResolutionChoice(0.2, "adapt", 0.61, 0.52), ResolutionChoice(0.5, "native", 0.31, 0.33))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("inspect") / "tiny.safetensors"
    spec = tiny_spec(gsd=0.1, resolutions=CHOICES)
    model_file.save(path, spec, weights_of(Trunk(spec)))
    return path


def test_a_model_tells_how_it_reads_coarse_imagery(model):
    lines = [line for line in inspect_command.describe(str(model), gsd=None, model=None) if line.startswith("coarse")]
    assert lines == [
        "coarse     imagery of about 0.2 m is read resampled to 0.1 m (adapt): F1 0.610 resampled, 0.520 as it is, "
        "on validation",
        "coarse     imagery of about 0.5 m is read as it is (native): F1 0.310 resampled, 0.330 as it is, "
        "on validation",
    ]


@pytest.mark.parametrize(("gsd", "seen"), [(0.05, "0.1 m"), (0.2, "0.1 m"), (0.5, "0.5 m")])
@pytest.mark.filterwarnings("ignore::treedet.errors.GsdWarning")
def test_the_time_of_a_raster_is_that_of_what_the_model_will_see(tmp_path, model, monkeypatch, gsd, seen):
    spec = model_file.read_spec(model)
    monkeypatch.setattr(inspect_command, "load", lambda *_, **__: Detector(BlobDetector(spec)))
    raster = make_raster(tmp_path / "a.tif", np.zeros((3, 200, 200), np.uint8), gsd=gsd)
    lines = inspect_command.describe(str(raster), gsd=None, model=str(model))
    (time,) = [line for line in lines if line.startswith("time")]
    assert time.endswith(f"px at {seen}")
