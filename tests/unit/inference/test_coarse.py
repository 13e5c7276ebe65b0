"""Imagery coarser than the model's GSD is read in the way that was better on validation, and that is said."""

import logging

import numpy as np
import pytest
from factories import disks, make_raster, paint, tiny_spec

from treedet.core.spec import ResolutionChoice
from treedet.errors import ConfigError, ResumeMismatchError
from treedet.inference.detector import Detector
from treedet.inference.memory import find_crowns
from treedet.inference.options import PredictOptions
from treedet.inference.parts import RunFolder
from treedet.inference.setup import prepare
from treedet.models.blobs import BlobDetector
from treedet.rasters.raster import Raster

GSD = 0.3
CHOICES = (ResolutionChoice(0.2, "adapt", 0.61, 0.52), ResolutionChoice(0.32, "native", 0.41, 0.47))


@pytest.fixture(scope="module")
def circles():
    return disks(np.random.default_rng(4), width=300, height=200, count=20, radius=(4, 8))


@pytest.fixture
def path(tmp_path, circles):
    """Disks at 0.3 m per pixel, for a model that sees 0.1 m."""
    return make_raster(tmp_path / "a.tif", paint(circles, width=300, height=200), gsd=GSD)


def blobs(choices=CHOICES, gsd=0.1):
    return BlobDetector(tiny_spec(gsd=gsd, resolutions=choices))


def setup_of(path, model=None, **options):
    with prepare(str(path), model or blobs(), PredictOptions(**options)) as setup:
        return setup


@pytest.mark.parametrize(
    ("coarse", "choices", "width"),
    [
        ("auto", (), 900),
        ("auto", CHOICES, 300),
        ("auto", CHOICES[:1], 900),
        ("adapt", CHOICES, 900),
        ("native", (), 300),
        ("native", CHOICES[:1], 300),
    ],
)
def test_the_grid_follows_the_request_and_then_the_stored_choice(path, coarse, choices, width):
    setup = setup_of(path, blobs(choices), coarse=coarse)
    mode = "native" if width == 300 else "adapt"
    assert (setup.job.plan.grid.width, setup.mode) == (width, mode)
    assert setup.fingerprint["coarse imagery"] == mode
    # As many pixels as the model needs for its widest crown, whatever a pixel is on the ground.
    assert setup.job.plan.overlap_px == tiny_spec().overlap_px()


@pytest.mark.parametrize("gsd", [0.03, 0.1, 0.1015])
@pytest.mark.parametrize("coarse", ["auto", "native"])
def test_imagery_that_is_not_coarser_is_always_adapted(path, gsd, coarse, caplog):
    caplog.set_level(logging.INFO, logger="treedet")
    model = blobs((ResolutionChoice(0.1, "native", 0.1, 0.9),))
    setup = setup_of(path, model, gsd=gsd, coarse=coarse)
    assert setup.mode == "adapt"
    assert setup.job.plan.grid.gsd == pytest.approx(0.1, rel=0.02)
    assert ("coarse=native changes nothing" in caplog.text) == (coarse == "native")


@pytest.mark.parametrize(
    ("choices", "how"), [(CHOICES, "as it is (native)"), (CHOICES[:1], "resampled to the model's 0.1 m (adapt)")]
)
def test_following_a_choice_is_said_with_both_scores(path, caplog, choices, how):
    caplog.set_level(logging.INFO, logger="treedet")
    setup_of(path, blobs(choices))
    (said,) = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    for part in ("0.3 m", how, f"{choices[-1].adapt_f1:.3f}", f"{choices[-1].native_f1:.3f}", "--coarse"):
        assert part in said


@pytest.mark.parametrize(("coarse", "choices"), [("native", CHOICES), ("adapt", CHOICES), ("auto", ())])
def test_nothing_is_said_where_nothing_was_chosen(path, caplog, coarse, choices):
    caplog.set_level(logging.INFO, logger="treedet")
    setup_of(path, blobs(choices), coarse=coarse)
    assert caplog.text == ""


def places(crowns):
    return crowns.boxes[np.lexsort(crowns.boxes.T)]


def test_crowns_lie_where_they_are_in_either_way(path, circles):
    model = blobs(gsd=0.13)
    with Raster.open(path) as raster:
        native = find_crowns(raster, model, coarse="native")
        adapt = find_crowns(raster, model, coarse="adapt")
        followed = find_crowns(raster, model)
    assert len(native) == len(adapt) == len(circles)
    np.testing.assert_array_equal(places(followed), places(native))
    np.testing.assert_array_equal(native.boxes, np.round(native.boxes))  # blobs of the file's own pixels
    assert np.abs(np.sort(adapt.boxes, axis=0) - np.sort(native.boxes, axis=0)).max() <= 1.0
    assert np.abs(adapt.boxes - np.round(adapt.boxes)).max() > 0.1  # seen on a finer grid


def test_a_run_to_a_file_follows_it_and_says_so(path, tmp_path, circles):
    summary = Detector(blobs()).predict_to_file(path, tmp_path / "a.gpkg")
    assert summary.crowns == len(circles)
    assert (summary.mode, summary.model_gsd) == ("native", pytest.approx(GSD, rel=1e-3))
    assert "as it is (native)" in "\n".join(summary.lines())
    other = Detector(blobs()).predict_to_file(path, tmp_path / "b.gpkg", coarse="adapt")
    assert (other.crowns, other.mode, other.model_gsd) == (len(circles), "adapt", pytest.approx(0.1, rel=1e-3))
    assert other.hectares == pytest.approx(summary.hectares, rel=1e-6)


def test_resume_refuses_the_other_way(path, tmp_path):
    with prepare(str(path), blobs(), PredictOptions()) as setup:
        RunFolder(tmp_path / "a.gpkg").start(setup.fingerprint, resume=False)
    with pytest.raises(ResumeMismatchError, match="coarse imagery was 'native', is now 'adapt'"):
        Detector(blobs()).predict_to_file(path, tmp_path / "a.gpkg", resume=True, coarse="adapt")
    # Asked for or chosen, it is the same run.
    summary = Detector(blobs()).predict_to_file(path, tmp_path / "a.gpkg", resume=True, coarse="native")
    assert summary.mode == "native"


def test_other_words_are_refused():
    with pytest.raises(ConfigError, match="coarse 'band-limit' is unknown; accepted are auto, adapt, native"):
        PredictOptions(coarse="band-limit")
