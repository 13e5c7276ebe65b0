from __future__ import annotations

import numpy as np
import pytest

from treedet.core.spec import ModelSpec
from treedet.errors import ConfigError
from treedet.training.fit_spec import CrownFacts, anchor_reach, fit_spec

START = ModelSpec()


def facts(diameters: object, *gsds: float, **classes: int) -> CrownFacts:
    sizes = np.asarray(diameters, float)
    return CrownFacts(sizes, np.stack([sizes, sizes], axis=1), gsds, classes or {"tree": len(sizes)})


def anchors_px(spec: ModelSpec) -> np.ndarray:
    return np.array(spec.anchor_sizes_m) / spec.gsd


def test_a_forest_like_the_starting_models_changes_neither_gsd_nor_anchors() -> None:
    spec, lines = fit_spec(START, facts(np.linspace(3, 9, 50), 0.1))
    assert spec.gsd == START.gsd
    assert spec.anchor_sizes_m == START.anchor_sizes_m
    assert spec.gsd_range == START.gsd_range
    assert lines[0] == "GSD 0.1 m, the starting model's: the median crown of 6.0 m is 60 px"
    assert not any("warning" in line for line in lines)


@pytest.mark.parametrize("median", [10.0, 13.0, 18.0])
def test_a_pasture_of_wide_crowns_on_coarse_imagery_is_seen_as_it_is(median: float) -> None:
    diameters = np.concatenate([np.linspace(median - 5, median + 5, 99), [31.0]])
    spec, lines = fit_spec(START, facts(diameters, 0.25, 0.25))
    assert spec.gsd == 0.25
    np.testing.assert_allclose(anchors_px(spec), anchors_px(START))
    assert spec.crown_range_m[1] == pytest.approx(1.25 * 31, rel=0.01)
    # The overlap follows the widest crown.
    assert spec.overlap_px() >= 31 * 1.25 / 0.25 - 1
    assert spec.gsd_range == (0.05, 0.4)
    assert lines[0].startswith("GSD 0.25 m, the raster's own")
    assert "31.0 m" in " ".join(lines)


def test_a_finer_raster_with_middling_crowns_keeps_the_starting_models_gsd() -> None:
    assert fit_spec(START, facts([4.0] * 9, 0.025))[0].gsd == 0.1


def test_satellite_imagery_is_never_enlarged() -> None:
    spec, _ = fit_spec(START, facts([8.0] * 9, 0.6))
    assert spec.gsd == 0.6
    assert spec.gsd_range[0] <= 0.6 <= spec.gsd_range[1]


@pytest.mark.parametrize(
    ("diameter", "raster", "gsd"),
    [
        (1.0, 0.005, 0.021),  # 10 px at 10 cm; rounded to two digits
        (1.0, 0.018, 0.018),  # within a quarter of the raster's own
        (1.0, 0.05, 0.05),  # the wanted 2.1 cm would be finer than the raster
        (20.0, 0.02, 0.42),  # 200 px at 10 cm
        (6.0, 0.125000001, 0.1),  # a GSD computed from a transform
        (60.0, 0.5, 1.2),  # 120 px on imagery coarser than the start
    ],
)
def test_the_gsd_follows_crowns_and_rasters(diameter: float, raster: float, gsd: float) -> None:
    assert fit_spec(START, facts([diameter] * 5, raster))[0].gsd == pytest.approx(gsd, abs=1e-12)


def test_what_the_user_tells_is_taken() -> None:
    spec, lines = fit_spec(START, facts([4.0, 5.0, 12.0], 0.05), gsd=0.2, max_crown=10.0, classes=("oak", "tree"))
    assert (spec.gsd, spec.crown_range_m[1], spec.labels.classes) == (0.2, 10.0, ("oak", "tree"))
    assert spec.gsd_range[0] <= 0.05, "training imagery is within the range"
    text = "\n".join(lines)
    assert "as told" in lines[0]
    assert "1 of 3 training crowns are wider" in text
    assert "oak (0), tree (3)" in text


def test_classes_come_from_the_crowns_known_ones_first() -> None:
    spec, _ = fit_spec(START, facts([5.0], 0.1, bird=3, tree=9, ant=1))
    assert spec.labels.classes == ("tree", "ant", "bird")


def test_anchors_that_miss_the_crowns_are_said_with_the_gsd_that_cures_it() -> None:
    spec, lines = fit_spec(START, facts([0.6] * 20, 0.1), gsd=0.1)
    assert anchor_reach(spec, np.full((1, 2), 0.6))[0] < 0.5
    (warning,) = [line for line in lines if line.startswith("warning")]
    assert "reach only 0% of crowns" in warning
    cure = float(warning.partition("; ")[2].split()[0])
    cured, _ = fit_spec(START, facts([0.6] * 20, 0.1), gsd=cure)
    assert anchor_reach(cured, np.full((1, 2), 0.6))[0] >= 0.5
    assert "finer than the rasters" in warning


def test_no_gsd_cures_crowns_of_hopeless_shape() -> None:
    long = CrownFacts(np.full(9, 4.0), np.tile([20.0, 1.0], (9, 1)), (0.1,))
    (warning,) = [line for line in fit_spec(START, long)[1] if line.startswith("warning")]
    assert "no other GSD" in warning


def test_reach_knows_ratios() -> None:
    tall = ModelSpec(anchor_sizes_m=((2.0,), (4.0,), (8.0,), (16.0,)), anchor_ratios=(4.0,))
    # Height over width of 4: half as wide and twice as high as the square.
    assert anchor_reach(tall, np.array([[2.0, 8.0], [8.0, 2.0]])) == pytest.approx([1.0, 1 / 7])


@pytest.mark.parametrize("how", [{"gsd": 0.0}, {"gsd": float("nan")}, {"max_crown": -1.0}, {"max_crown": 0.5}])
def test_senseless_wishes_are_refused(how: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(how))} "):
        fit_spec(START, facts([4.0] * 5, 0.1), **how)


@pytest.mark.parametrize("diameters", [[], [np.nan, 2.0], [0.0, 2.0]])
def test_facts_without_usable_crowns_are_refused(diameters: list[float]) -> None:
    with pytest.raises(ConfigError):
        facts(diameters, 0.1)


def test_small_crowns_on_rasters_of_the_starting_models_gsd_leave_it_as_it_is() -> None:
    spec, lines = fit_spec(START, facts([1.7] * 9, 0.10004))
    assert spec.gsd == START.gsd
    assert spec.anchor_sizes_m == START.anchor_sizes_m
    assert lines[0] == "GSD 0.1 m, the starting model's: the median crown of 1.7 m is 17 px, and no raster is finer"
