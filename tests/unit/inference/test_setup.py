import json
import warnings

import geopandas as gpd
import numpy as np
import pytest
import shapely
from factories import UTM, make_raster, tiny_spec

from treedet.errors import BandMismatchError, ConfigError, CrsMismatchError, GsdWarning
from treedet.inference.options import PredictOptions
from treedet.inference.setup import prepare, tiling
from treedet.models.blobs import BlobDetector


@pytest.fixture
def path(tmp_path):
    return make_raster(tmp_path / "a.tif", np.zeros((3, 300, 400), np.uint8))


def prepared(path, spec=None, **options):
    with prepare(str(path), BlobDetector(spec or tiny_spec()), PredictOptions(**options)) as setup:
        return setup


@pytest.mark.parametrize("crown", [None, 1.0, 5.0, 12.0, 40.0])
def test_windows_suit_the_widest_crown(crown):
    spec = tiny_spec()
    found = tiling(spec, crown)
    widest_px = (crown or spec.crown_range_m[1]) / spec.gsd
    assert found.overlap_px >= widest_px + 2 * spec.cut_margin_px
    assert found.window_px >= max(spec.window_px, 3 * found.overlap_px)
    assert found.window_px % spec.stride == 0


def test_the_plan_lies_at_the_models_gsd(path):
    setup = prepared(path, tiny_spec(gsd=0.2))
    grid = setup.job.plan.grid
    assert (grid.width, grid.height) == (200, 150)
    assert setup.overlap_m == pytest.approx(setup.job.plan.overlap_px * 0.2, rel=0.01)
    assert setup.crs.to_epsg() == 32632


@pytest.mark.parametrize(("gsd", "warns"), [(0.019, True), (0.0199, False), (0.3, False), (0.31, True), (3.0, True)])
def test_a_gsd_outside_the_models_range_is_warned_of(path, gsd, warns):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        prepared(path, gsd=gsd)
    assert [issubclass(w.category, GsdWarning) for w in caught] == [True] * warns
    if warns:
        assert f"{gsd:g} m" in str(caught[0].message)
        assert "0.02 to 0.3 m" in str(caught[0].message)


def test_bands_must_be_as_many_as_the_model_sees(path):
    with pytest.raises(BandMismatchError, match="needs 3 bands, 2 were chosen"):
        prepared(path, bands=(1, 2))


@pytest.mark.parametrize("threshold", ["best", 1.01, -0.1])
def test_a_threshold_is_checked_before_the_raster_is_opened(threshold):
    with pytest.raises(ConfigError, match="score threshold"):
        prepared("nowhere.tif", score_threshold=threshold)


def aoi_file(folder, shape, crs=UTM):
    gpd.GeoDataFrame(geometry=[shape], crs=crs).to_file(folder / "aoi.gpkg")
    return str(folder / "aoi.gpkg")


def test_an_aoi_comes_in_pixels_of_the_model_grid_and_ends_with_the_raster(path, tmp_path):
    shape = shapely.box(500_010, 5_399_900, 500_030, 5_399_990)
    setup = prepared(path, tiny_spec(gsd=0.2), aoi=aoi_file(tmp_path, shape))
    assert setup.job.aoi.bounds == pytest.approx((50, 50, 150, 150), abs=0.1)


def test_an_aoi_elsewhere_or_at_the_border_only_is_refused(path, tmp_path):
    for shape in (shapely.box(0, 0, 9, 9), shapely.box(499_990, 5_399_980, 500_000, 5_399_990)):
        with pytest.raises(CrsMismatchError, match="does not overlap"):
            prepared(path, aoi=aoi_file(tmp_path, shape))


def test_the_fingerprint_is_json_and_holds_what_the_result_depends_on(path, tmp_path):
    shape = shapely.box(500_010, 5_399_970, 500_030, 5_399_990)
    base = prepared(path).fingerprint
    assert json.loads(json.dumps(base)) is not None
    changed = {
        "AOI": {"aoi": aoi_file(tmp_path, shape)},
        "score threshold": {"score_threshold": 0.4},
        "bands": {"bands": (3, 2, 1)},
        "stretch": {"stretch": (0.0, 200.0)},
        "GSD": {"gsd": 0.11},
        "windows": {"max_crown": 9.0},
        "coarse imagery": {"gsd": 0.3, "coarse": "native"},
    }
    for field, options in changed.items():
        other = prepared(path, **options).fingerprint
        assert other[field] != base[field]
    same = prepared(path, batch_size=3, readers=4, where="score > 0.5").fingerprint
    assert same == base
