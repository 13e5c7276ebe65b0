import warnings

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from factories import UTM, disks, make_raster, paint, tiny_spec

from treedet.core.spec import ResolutionChoice
from treedet.datasets.annotated import AnnotatedRaster
from treedet.errors import ConfigError, DetectionCapWarning, OutputError
from treedet.evaluation import conditions as module
from treedet.evaluation.conditions import Condition, conditions, predict_conditions
from treedet.inference.memory import find_crowns
from treedet.models.blobs import BlobDetector
from treedet.rasters.raster import Raster

WIDTH, HEIGHT = 300, 240
SWEEP = [Condition(gsd, mode) for gsd in (0.2, 0.3, 0.37) for mode in ("adapt", "native", "band-limit")]


@pytest.fixture(scope="module")
def circles():
    return disks(np.random.default_rng(8), width=WIDTH, height=HEIGHT, count=14, radius=(10, 18), gap=12)


def outlines(circles, gsd=0.1):
    centre = np.stack([500_000 + circles[:, 0] * gsd, 5_400_000 - circles[:, 1] * gsd], axis=1)
    return gpd.GeoDataFrame(geometry=shapely.buffer(shapely.points(centre), circles[:, 2] * gsd), crs=UTM)


@pytest.fixture(scope="module")
def plot(tmp_path_factory, circles):
    folder = tmp_path_factory.mktemp("plot")
    raster = make_raster(folder / "a.tif", paint(circles, width=WIDTH, height=HEIGHT, value=255))
    return AnnotatedRaster(raster, outlines(circles))


def blobs(**changes):
    return BlobDetector(tiny_spec(**{"gsd": 0.1, **changes}))


class Counting(BlobDetector):
    """Counts the windows it is shown."""

    def __init__(self, spec):
        super().__init__(spec)
        self.shapes = []

    def detect(self, pixels, **how):
        self.shapes += [pixels.shape[1:]] * len(pixels)
        return super().detect(pixels, **how)


def in_order(boxes):
    """Sort boxes by centre, in cells coarser than what resolution may shift it by."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    return boxes[np.lexsort(np.round(centre / 16).T)]


def matched(found, wanted):
    """Return the largest distance of any box side, with the boxes paired by their centres."""
    assert len(found) == len(wanted)
    centres = [(boxes[:, None, :2] + boxes[:, None, 2:]) / 2 for boxes in (found, wanted)]
    nearest = np.linalg.norm(centres[0] - centres[1].swapaxes(0, 1), axis=2).argmin(axis=1)
    assert len(set(nearest.tolist())) == len(found)
    return float(np.abs(found - wanted[nearest]).max())


@pytest.mark.parametrize("model_gsd", [0.05, 0.1, 0.15])
def test_every_crown_stays_in_its_place_within_a_pixel_of_the_imagery(plot, tmp_path, model_gsd):
    for condition, found in predict_conditions(blobs(gsd=model_gsd), plot, SWEEP, scratch=tmp_path):
        coarsest = max(condition.gsd, model_gsd)
        assert matched(found.boxes, plot.boxes) <= 1.01 * coarsest / 0.1, condition
    assert not list(tmp_path.iterdir())


def test_only_the_coarse_file_is_seen(plot, tmp_path):
    def shapes(condition, model_gsd):
        model = Counting(tiny_spec(gsd=model_gsd, window_px=1024))
        list(predict_conditions(model, plot, [condition], scratch=tmp_path))
        return model.shapes

    assert shapes(Condition(0.3, "native"), 0.1) == [(3, 80, 100)]
    assert shapes(Condition(0.3, "adapt"), 0.1) == [(3, 240, 300)]
    assert shapes(Condition(0.3, "native"), 0.2) == [(3, 80, 100)]
    assert shapes(Condition(0.3, "band-limit"), 0.05) == [(3, 480, 600)]
    # As a tool that knows no GSD: finer imagery is not brought to the model's either.
    assert shapes(Condition(None, "native"), 0.2) == [(3, 240, 300)]


def test_detail_below_the_pixel_is_gone_in_every_mode(tmp_path):
    # Single bright pixels are blobs for one who sees 0.1 m; at 0.2 m their mean is too dark for the blob detector.
    pixels = np.zeros((3, 80, 80), np.uint8)
    pixels[:, 20:60, 20:60] = 180 * (np.indices((40, 40)).sum(axis=0) % 2)
    pixels[:, 30:40, 30:40] = 250
    plot = AnnotatedRaster(make_raster(tmp_path / "a.tif", pixels), outlines(np.array([[35.0, 35, 5]])))
    sweep = [Condition(None, "adapt"), *(Condition(0.2, mode) for mode in module.MODES)]
    model = blobs(gsd=0.05)
    found = dict(predict_conditions(model, plot, sweep, scratch=tmp_path))
    assert len(found[sweep[0]]) > 1
    for condition in sweep[1:]:
        assert len(found[condition]) == 1
        assert np.abs(found[condition].boxes[0] - [30, 30, 40, 40]).max() <= 2


def test_native_equals_what_predict_does_with_the_coarse_file(plot, tmp_path):
    model = blobs()
    with plot.open() as raster:
        path = module.coarsen(raster, tmp_path / "coarse.tif", gsd=0.3)
    (tmp_path / "scratch").mkdir()
    sweep = [Condition(0.3, "native"), Condition(0.3, "adapt")]
    for condition, found in predict_conditions(model, plot, sweep, scratch=tmp_path / "scratch"):
        with Raster.open(path) as coarse:
            wanted = find_crowns(coarse, model, threshold=0.05, coarse=condition.mode).scaled(coarse.grid, plot.grid)
        np.testing.assert_allclose(in_order(found.boxes), in_order(wanted.boxes), atol=1e-9)


def test_what_is_the_same_is_computed_once_and_said(plot, tmp_path, monkeypatch):
    files = []
    write = module.coarsen
    monkeypatch.setattr(
        module, "coarsen", lambda raster, path, **how: files.append(how) or write(raster, path, **how)
    )
    model = Counting(tiny_spec(gsd=0.1, window_px=1024))
    sweep = [Condition(gsd, mode) for gsd in (None, 0.1, 0.101, 0.2) for mode in module.MODES]
    found = list(predict_conditions(model, plot, sweep, scratch=tmp_path))
    assert [condition for condition, _ in found] == sweep
    assert [how["gsd"] for how in files] == [0.2]
    assert len(model.shapes) == 3  # as it is, and two ways to see 0.2 m
    notes = {(c.gsd, c.mode): c.note for c, _ in found}
    assert notes[None, "adapt"] == notes[0.2, "adapt"] == notes[0.2, "native"] == ""
    assert notes[0.1, "adapt"] == "the raster itself has 0.1 m per pixel, so it is taken as it is"
    assert (
        notes[0.1, "native"] == "the imagery has the pixel size of the model (0.1 m), so native is the same as adapt"
    )
    assert notes[0.2, "band-limit"].startswith("the raster has the pixel size of the model (0.1 m)")
    crowns = {(c.gsd, c.mode): crowns for c, crowns in found}
    assert crowns[0.2, "band-limit"] is crowns[0.2, "adapt"]
    assert crowns[0.1, "native"] is crowns[None, "adapt"]


def test_the_raster_as_it_is_has_no_detail_to_take_from_it(plot, tmp_path):
    both = [Condition(None, "band-limit"), Condition(None, "adapt")]
    (first, a), (_, b) = predict_conditions(blobs(gsd=0.2), plot, both, scratch=tmp_path)
    assert first.note == "the raster is as it is, so band-limit is the same as adapt"
    assert a is b


def test_conditions_of_one_gsd_share_a_file_wherever_they_stand(plot, tmp_path):
    mixed = [Condition(0.2, "adapt"), Condition(0.3, "adapt"), Condition(0.2, "native")]
    order = [condition for condition, _ in predict_conditions(blobs(), plot, mixed, scratch=tmp_path)]
    assert order == [mixed[0], mixed[2], mixed[1]]


def test_crowns_at_the_border_of_the_aoi_are_seen_and_those_far_off_are_not(tmp_path, circles):
    raster = make_raster(tmp_path / "a.tif", paint(circles, width=WIDTH, height=HEIGHT, value=255))
    aoi = shapely.box(500_000, 5_399_976, 500_008, 5_400_000)
    gpd.GeoDataFrame(geometry=[aoi], crs=UTM).to_file(tmp_path / "aoi.gpkg")
    plot = AnnotatedRaster(raster, outlines(circles), aoi=tmp_path / "aoi.gpkg")
    widest = 5.0
    centre_m = (plot.boxes[:, 0] + plot.boxes[:, 2]) / 2 * 0.1
    near, inside = plot.boxes[centre_m < 8 + widest], plot.boxes[centre_m < 8]
    assert len(inside) < len(near) < len(plot.boxes)
    model = blobs(crown_range_m=(1.0, widest))
    (tmp_path / "scratch").mkdir()
    for condition, found in predict_conditions(model, plot, SWEEP, scratch=tmp_path / "scratch"):
        assert matched(found.boxes, near) <= 1.01 * condition.gsd / 0.1, condition


def test_nodata_stays_nodata_at_every_resolution(tmp_path):
    pixels = np.zeros((3, 120, 120), np.uint8)
    pixels[:, 20:40, 20:40] = 200
    pixels[:, :, 60:] = 255  # as bright as a crown, were it not for the mask
    plot = AnnotatedRaster(make_raster(tmp_path / "a.tif", pixels, nodata=255), outlines(np.array([[30.0, 30, 10]])))
    (tmp_path / "scratch").mkdir()
    for condition, found in predict_conditions(blobs(gsd=0.05), plot, SWEEP, scratch=tmp_path / "scratch"):
        assert matched(found.boxes, plot.boxes) <= 1.01 * condition.gsd / 0.1, condition


@pytest.mark.parametrize("rotation", [0, 20])
@pytest.mark.parametrize("gsd", [None, 0.2])
def test_a_warped_raster_or_another_gsd_than_the_files_makes_no_difference(tmp_path, circles, rotation, gsd):
    turned = Affine.translation(500_000, 5_400_000) @ Affine.rotation(-rotation) @ Affine.scale(0.1, -0.1)
    pixels = paint(circles, width=WIDTH, height=HEIGHT, value=255)
    raster = make_raster(tmp_path / "a.tif", pixels, transform=turned)
    plot = AnnotatedRaster(raster, gpd.GeoDataFrame(geometry=centres(turned, circles), crs=UTM), gsd=gsd)
    (tmp_path / "scratch").mkdir()
    model = blobs(gsd=plot.grid.gsd)
    sweep = [Condition(3 * plot.grid.gsd, mode) for mode in ("adapt", "native")]
    for condition, found in predict_conditions(model, plot, sweep, scratch=tmp_path / "scratch"):
        assert matched(found.boxes, plot.boxes) <= 4.5, condition


def centres(transform, circles):
    t = transform
    x, y = circles[:, 0], circles[:, 1]
    points = shapely.points(t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f)
    return shapely.buffer(points, circles[:, 2] * 0.1)


def test_finer_than_the_raster_is_refused_at_once_unless_asked_for(plot, tmp_path):
    fine = [Condition(0.2, "adapt"), Condition(0.05, "adapt"), Condition(0.05, "native")]
    with pytest.raises(ConfigError, match=r"0\.1 m per pixel, 0\.05 m would be finer.*--upsample"):
        predict_conditions(blobs(), plot, fine, scratch=tmp_path)
    for condition, found in predict_conditions(blobs(), plot, fine, scratch=tmp_path, upsample=True):
        assert matched(found.boxes, plot.boxes) <= 2.0, condition


def test_two_percent_finer_is_the_raster_itself(plot, tmp_path):
    ((condition, found),) = predict_conditions(blobs(), plot, [Condition(0.0985, "adapt")], scratch=tmp_path)
    assert "taken as it is" in condition.note
    np.testing.assert_allclose(in_order(found.boxes), in_order(np.round(found.boxes)))


class Capped(BlobDetector):
    """Warns as a network does whose cap on candidates is reached."""

    def detect(self, pixels, **how):
        warnings.warn("the cap", DetectionCapWarning, stacklevel=2)
        return super().detect(pixels, **how)


def test_what_a_sweep_is_bound_to_do_is_not_warned_of_and_filters_are_left_alone(plot, tmp_path):
    before = list(warnings.filters)
    model = Capped(tiny_spec(gsd=0.1, gsd_range=(0.09, 0.11)))
    for _ in predict_conditions(model, plot, [Condition(0.3, "native")], scratch=tmp_path):
        assert warnings.filters == before


def test_a_stored_choice_does_not_bend_a_sweep(plot, tmp_path):
    choice = ResolutionChoice(0.3, "native", 0.1, 0.9)
    model = Counting(tiny_spec(gsd=0.1, window_px=1024, resolutions=(choice,)))
    list(predict_conditions(model, plot, [Condition(0.3, "adapt")], scratch=tmp_path))
    assert model.shapes == [(3, 240, 300)]


def test_an_abandoned_sweep_leaves_nothing_behind(plot, tmp_path):
    sweep = predict_conditions(blobs(), plot, SWEEP, scratch=tmp_path)
    next(sweep)
    assert list(tmp_path.iterdir())
    sweep.close()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_named(plot, tmp_path):
    with pytest.raises(OutputError, match="nowhere"):
        predict_conditions(blobs(), plot, SWEEP, scratch=tmp_path / "nowhere")


def test_conditions_come_from_fine_to_coarse_without_doubles():
    made = conditions([0.3, 0.2, 0.3], ["native", "adapt", "native"], model_gsd=0.2)
    assert [(c.gsd, c.mode) for c in made] == [(0.2, "native"), (0.2, "adapt"), (0.3, "native"), (0.3, "adapt")]
    assert [bool(c.note) for c in made] == [True, False, False, False]
    assert made[0] == Condition(0.2, "native")
    assert {made[0]: 1}[Condition(0.2, "native")] == 1
    assert conditions([], ["adapt"], model_gsd=0.1) == ()


@pytest.mark.parametrize(("gsd", "mode"), [(0.0, "adapt"), (float("nan"), "adapt"), (0.1, "auto")])
def test_conditions_that_make_no_sense_are_refused(gsd, mode):
    with pytest.raises(ConfigError, match="gsds must be positive" if mode == "adapt" else "modes can not be 'auto'"):
        Condition(gsd, mode)
