import numpy as np
import pytest
from affine import Affine
from factories import make_raster, tiny_spec

from treedet.commands import inspect_command
from treedet.core.crown_arrays import CrownArrays
from treedet.core.crowns import to_table
from treedet.core.grid import Grid
from treedet.core.labels import LabelSchema
from treedet.core.spec import HeadFacts, ResolutionChoice
from treedet.inference.detector import Detector
from treedet.models import model_file
from treedet.models.blobs import BlobDetector
from treedet.models.build import weights_of
from treedet.models.trunk import Trunk
from treedet.vectors.writers import write_crowns

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


def test_a_model_tells_its_labels_with_training_crowns_and_temperature(tmp_path):
    labels = LabelSchema(
        ("tree", "bush"),
        {"status": ("alive", "dead"), "species": ("ACRU", "PIST", "other"), "vigour": ("low", "high")},
    )
    heads = {
        "status": HeadFacts({"alive": 4213, "dead": 812}, temperature=1.318),
        "species": HeadFacts({"ACRU": 31, "PIST": 15}),
    }
    spec = tiny_spec(labels=labels, heads=heads)
    path = tmp_path / "named.safetensors"
    model_file.save(path, spec, weights_of(Trunk(spec)))
    lines = inspect_command.describe(str(path), gsd=None, model=None)
    assert [line for line in lines if line.startswith(("classes", "attribute"))] == [
        "classes    tree, bush",
        "attribute  status: alive 4,213, dead 812 training crowns; temperature 1.32",
        "attribute  species: ACRU 31, PIST 15, other training crowns",
        "attribute  vigour: low, high",
    ]


def test_crowns_are_counted_by_label_and_value(tmp_path):
    names = tuple(f"SP{i:02d}" for i in range(12))
    schema = LabelSchema(("tree", "bush"), {"species": names, "status": ("alive", "dead")})
    codes = np.repeat(np.arange(12), np.arange(12))
    n = len(codes)
    low = np.arange(n)[:, None] * [10.0, 0]
    arrays = CrownArrays(
        boxes=np.hstack([low, low + 9]),
        scores=np.ones(n, np.float32),
        classes=(np.arange(n) >= 60).astype(np.int64),
        cut=np.zeros(n, bool),
        edge=np.zeros(n, bool),
        attributes={"species": np.eye(12, dtype=np.float32)[codes], "status": np.full((n, 2), 0.5, np.float32)},
    )
    grid = Grid.build(None, Affine.identity(), width=1000, height=50, gsd=0.1)
    table = to_table(arrays, grid, schema, source="a.tif", min_p=0.7)
    table.loc[table["species"] == "SP11", "species"] = None
    write_crowns(table, tmp_path / "a.gpkg")
    lines = inspect_command.describe(str(tmp_path / "a.gpkg"), gsd=None, model=None)
    assert lines[-3:] == [
        "label      tree 60, bush 6",
        "species    SP10 10, SP09 9, SP08 8, SP07 7, SP06 6, SP05 5, SP04 4, SP03 3, 2 more, no value 11",
        "status     no value 66",
    ]
