from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyproj
import pytest
from affine import Affine
from factories import make_raster, tiny_spec

from treedet.core import crowns as crowns_table
from treedet.core.crown_arrays import CrownArrays
from treedet.core.grid import Grid
from treedet.core.labels import LabelSchema
from treedet.core.suppression import MergeConfig
from treedet.errors import ConfigError
from treedet.inference.options import PredictOptions
from treedet.inference.output import Filters, Ledger, native_boxes, widest_cut_m
from treedet.inference.parts import RowFacts
from treedet.rasters.raster import Raster
from treedet.rasters.tiling import TilingConfig, plan_tiles

LABELS = LabelSchema(attributes={"status": ("alive", "dead")})
GRID = Grid.build(pyproj.CRS(32632), Affine(0.1, 0, 500_000, 0, -0.1, 5_400_000), width=500, height=400, gsd=0.1)
BOXES = np.array([[10.0, 10, 30, 30], [50, 50, 60, 60], [100, 100, 180, 180], [200, 200, 240, 240]])
CROWNS = CrownArrays(
    boxes=BOXES,
    scores=np.array([0.9, 0.8, 0.4, 0.6], np.float32),
    classes=np.zeros(4, np.int64),
    cut=np.array([False, False, True, False]),
    edge=np.zeros(4, bool),
    attributes={"status": np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]], np.float32)},
)


def filters(**options):
    return Filters(PredictOptions(**options), tiny_spec(labels=LABELS))


def table():
    return crowns_table.to_table(CROWNS, GRID, LABELS, source="a.tif")


@pytest.mark.parametrize(
    ("options", "kept", "text"),
    [
        ({}, [1, 1, 1, 1], ""),
        ({"min_diameter": 2.0}, [1, 0, 1, 1], "diameter_m >= 2"),
        ({"where": "score > 0.5"}, [1, 1, 0, 1], "score > 0.5"),
        ({"where": "score > 0.5", "min_diameter": 3}, [0, 0, 0, 1], "score > 0.5 and diameter_m >= 3"),
        ({"where": "status == 'dead' and not cut"}, [0, 1, 0, 1], "status == 'dead' and not cut"),
        ({"where": "cut"}, [0, 0, 1, 0], "cut"),
        ({"where": "status_p.between(0.65, 0.85)"}, [0, 1, 0, 1], "status_p.between(0.65, 0.85)"),
    ],
)
def test_conditions_keep_what_they_say(options, kept, text):
    found = filters(**options)
    assert found.keep(table()).tolist() == [bool(value) for value in kept]
    assert found.text == text
    assert found.keep(crowns_table.empty(LABELS)).tolist() == []


@pytest.mark.parametrize(
    "where",
    ["score", "score + 1", "score = 3", "score >", "height > 2", "species == 'oak'", "True", "label < 3", "@self"],
)
def test_a_condition_that_is_not_one_is_found_before_any_work(where):
    with pytest.raises(ConfigError, match=r"condition .* true or false for each crown, with the columns crown_id"):
        filters(where=where)


def test_ids_run_on_over_parts_without_gaps():
    kept, rows = filters(where="score > 0.5").table(CROWNS, SETUP, first_id=11)
    assert rows["crown_id"].tolist() == [11, 12, 13]
    assert rows["crown_id"].dtype == "int64"
    np.testing.assert_array_equal(kept.boxes, BOXES[[0, 1, 3]])
    _, every = filters().table(CROWNS, SETUP, first_id=14)
    assert every["crown_id"].tolist() == [14, 15, 16, 17]


NO_MEMBERS = SimpleNamespace(
    paths=["a"], corners=lambda: np.zeros((1, 2)), holding=lambda points: np.zeros(len(points), np.int64)
)
SETUP = SimpleNamespace(
    job=SimpleNamespace(plan=SimpleNamespace(grid=GRID)),
    raster=SimpleNamespace(grid=GRID, native_grid=GRID, warped=False, members=NO_MEMBERS),
    crs=None,
    excluded=None,
)


def test_conditions_see_attributes_after_the_least_probability():
    _, dead = filters(where="status == 'dead'").table(CROWNS, SETUP, first_id=1)
    assert dead["status_p"].tolist() == pytest.approx([0.8, 0.7])
    _, sure = filters(where="status == 'dead'", min_p=0.75).table(CROWNS, SETUP, first_id=1)
    assert sure["status_p"].tolist() == pytest.approx([0.8])
    _, unsure = filters(where="status.isna() and status_p > 0.65", min_p=0.75).table(CROWNS, SETUP, first_id=1)
    assert unsure["status_p"].tolist() == pytest.approx([0.7])


def test_the_least_probability_drops_no_crown():
    kept, rows = filters(min_p=0.99).table(CROWNS, SETUP, first_id=1)
    assert (len(kept), len(rows), rows["status"].isna().all()) == (4, 4, True)
    assert filters(min_p=0.99).text == ""


def test_probabilities_are_columns_and_may_be_asked_for():
    sieve = filters(probabilities=True, where="p_dead > 0.65")
    assert sieve.probabilities == ("p_alive", "p_dead")
    _, rows = sieve.table(CROWNS, SETUP, first_id=1)
    np.testing.assert_allclose(rows[["p_alive", "p_dead"]], [[0.2, 0.8], [0.3, 0.7]])


@pytest.mark.parametrize("options", [{"min_p": 0.5}, {"probabilities": True}])
def test_asking_for_attributes_of_a_model_without_any_is_said(caplog, options):
    with caplog.at_level("INFO", logger="treedet"):
        Filters(PredictOptions(**options), tiny_spec())
    assert "the model names no attribute" in caplog.text


def test_the_ledger_counts_what_is_kept_and_doubts_what_was_found():
    plan = plan_tiles(GRID, TilingConfig(window_px=256, overlap_px=64))
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 300, (60, 2))
    dead = np.arange(60) < 40
    found = CrownArrays(
        boxes=np.hstack([low, low + 20]),
        scores=np.ones(60, np.float32),
        classes=np.zeros(60, np.int64),
        cut=np.zeros(60, bool),
        edge=np.zeros(60, bool),
        attributes={"status": np.stack([~dead, dead], axis=1).astype(np.float32)},
    )

    def summed(parts):
        ledger = Ledger(plan, LABELS)
        for part, kept in parts:
            ledger.add(part, kept, RowFacts(windows=1, valid_px=100_000.0))
        raster = SimpleNamespace(
            path="a", facts=SimpleNamespace(gsd=0.1, gsd_reason="", bands=(1, 2, 3), bands_reason=""), stretch=None
        )
        job = SimpleNamespace(plan=plan, merge=MergeConfig(), threshold=0.3)
        identity = {"model": "blobs", "device": "cpu", "precision": "exact"}
        setup = SimpleNamespace(
            job=job, raster=raster, crs=None, identity=identity, mode="adapt", options=PredictOptions(), seen_gsd=0.1
        )
        return ledger.summary(setup, name="m", output="", filters="", extra_s=0.0)

    # Asked for the living alone, most of what was found is still dead.
    summary = summed([(found, found.take(~dead))])
    assert [(row.name, row.crowns) for row in summary.classes["status"]] == [("alive", 20), ("dead", 0), (None, 0)]
    assert len(summary.cautions) == 1
    # Asked for the dead alone, nothing is wrong where few are dead.
    few = found.take(~dead | (np.arange(60) < 35))
    mostly = CrownArrays.concat([few, found.take(~dead), found.take(~dead)], {"status": 2})
    assert summed([(mostly, mostly.take(mostly.attributes["status"][:, 1] == 1))]).cautions == ()


def setup_of(raster, gsd):
    grid = raster.grid.at_gsd(gsd)
    return SimpleNamespace(job=SimpleNamespace(plan=SimpleNamespace(grid=grid)), raster=raster, crs=raster.source_crs)


@pytest.mark.parametrize("gsd", [0.1, 0.2, 0.05])
def test_native_boxes_are_pixels_of_the_file(tmp_path, gsd):
    path = make_raster(tmp_path / "a.tif", np.zeros((3, 400, 500), np.uint8))
    with Raster.open(path) as raster:
        found = native_boxes(BOXES * 0.1 / gsd, setup_of(raster, gsd))
    np.testing.assert_allclose(found, BOXES, atol=1e-6)


def test_native_boxes_of_a_warped_raster_go_back_through_the_map(tmp_path):
    degrees = Affine(0.1 / 71_696, 0, 8, 0, -0.1 / 111_229, 50)
    path = make_raster(tmp_path / "a.tif", np.zeros((3, 400, 500), np.uint8), crs="EPSG:4326", transform=degrees)
    with Raster.open(path) as raster:
        assert raster.warped
        setup = setup_of(raster, 0.1)
        grid = setup.job.plan.grid
        found = native_boxes(BOXES, setup)
        shift = (grid.width - 500) / 2, (grid.height - 400) / 2
    # The local grid is all but parallel to the file's; its border may lie a pixel further out.
    np.testing.assert_allclose(found, BOXES - [*shift, *shift], atol=1.5)


def test_only_pieces_as_wide_as_the_overlap_call_for_a_wider_one() -> None:
    grid = Grid.build(None, Affine.identity(), width=600, height=600, gsd=0.1)
    plan = plan_tiles(grid, TilingConfig(window_px=256, overlap_px=64))
    boxes = np.array([[0.0, 0, 30, 30], [100, 100, 162, 120], [300, 300, 420, 420]])
    crowns = CrownArrays(
        boxes=boxes,
        scores=np.ones(3, np.float32),
        classes=np.zeros(3, np.int64),
        cut=np.array([True, False, False]),
        edge=np.zeros(3, bool),
    )
    assert widest_cut_m(crowns, plan) == 0.0
    assert widest_cut_m(replace(crowns, cut=np.array([True, True, False])), plan) == pytest.approx(6.2)
    assert widest_cut_m(replace(crowns, cut=np.ones(3, bool)), plan) == pytest.approx(12.0)
