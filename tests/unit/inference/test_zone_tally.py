"""The table of zones, against what shapely says of each zone by itself."""

import numpy as np
import pandas as pd
import pytest
import shapely

from treedet.core.scanlines import ellipses_in_boxes
from treedet.core.zones import Zones, cells
from treedet.inference import spill, zone_diameters
from treedet.inference.zone_diameters import Diameters
from treedet.inference.zone_tally import COLUMNS, ZoneCrowns, ZoneTally

SIDE = 200.0
STATUS = ("alive", "dead")


def forest(n=4000, seed=0):
    """Boxes of crowns of 2 to 12 m on 4 ha, float64 [N, 4], and what status they have."""
    rng = np.random.default_rng(seed)
    centre, size = rng.uniform(0, SIDE, (n, 2)), rng.uniform(2, 12, (n, 2))
    return np.concatenate([centre - size / 2, centre + size / 2], axis=1), rng.choice(
        [-1, 0, 1], n, p=[0.1, 0.7, 0.2]
    )


def crowns_of(boxes, status):
    return ZoneCrowns(
        centres=(boxes[:, :2] + boxes[:, 2:]) / 2,
        ellipses=ellipses_in_boxes(boxes),
        diameters=(boxes[:, 2:] - boxes[:, :2]).mean(axis=1).astype(np.float32),
        names={"status": pd.Categorical.from_codes(status, categories=list(STATUS))},
    )


def tallied(zones, boxes, status, *, parts=1, valid=None, **options):
    order = np.array_split(np.arange(len(boxes)), parts)
    with ZoneTally(zones, m2=1.0, line=0.25, **options) as tally:
        for part in order:
            tally.add(crowns_of(boxes[part], status[part]))
            if valid is not None:
                tally.add_valid(valid)
                valid = np.zeros((0, 4))
        return tally.table(), tally


def ellipses(boxes):
    t = np.linspace(0, 2 * np.pi, 128, endpoint=False)
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    return shapely.polygons(centre[:, None] + half[:, None] * np.stack([np.cos(t), np.sin(t)], -1))


def zones_of(*polygons):
    return Zones(np.array([f"z{i}" for i in range(len(polygons))], object), np.array(polygons), None, "zones")


STANDS = zones_of(
    shapely.Polygon([(10, 10), (120, 30), (90, 130), (20, 90)]),
    shapely.Point(130, 130).buffer(55).difference(shapely.Point(130, 130).buffer(15)),
    shapely.MultiPolygon([shapely.box(5, 150, 50, 195), shapely.box(150, 5, 195, 50)]),
    shapely.box(60, 60, 150, 150),
)
"""Four stands, the last of which overlaps the first two."""


@pytest.mark.parametrize("parts", [1, 7])
def test_every_figure_is_that_of_the_zone_by_itself(parts):
    boxes, status = forest()
    table, tally = tallied(STANDS, boxes, status, parts=parts)
    assert list(table.columns) == [*COLUMNS, "s_alive", "s_dead"]
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = shapely.contains_xy(STANDS.polygons[:, None], centre[:, 0], centre[:, 1])
    union = shapely.union_all(ellipses(boxes))
    hectares = shapely.area(STANDS.polygons) / 1e4
    np.testing.assert_array_equal(table["crowns"], inside.sum(axis=1))
    np.testing.assert_allclose(table["hectares"], hectares, rtol=1e-12)
    np.testing.assert_allclose(table["per_ha"], inside.sum(axis=1) / hectares)
    np.testing.assert_allclose(
        table["cover"], shapely.area(union.intersection(STANDS.polygons)) / hectares / 1e4, rtol=2e-3
    )
    diameters = (boxes[:, 2:] - boxes[:, :2]).mean(axis=1)
    for zone in range(len(STANDS)):
        mine = diameters[inside[zone]]
        row = table.iloc[zone]
        assert row["diam_mean"] == pytest.approx(mine.mean(), rel=1e-6)
        for name, share in {"diam_p10": 0.1, "diam_p50": 0.5, "diam_p90": 0.9}.items():
            assert row[name] == pytest.approx(np.quantile(mine, share), rel=0.01)
        assert row["s_dead"] == pytest.approx((status[inside[zone]] == 1).mean())
    assert tally.inside == inside.any(axis=0).sum()
    assert tally.outside == (~inside.any(axis=0)).sum()
    assert tally.several == (inside.sum(axis=0) > 1).sum()


def test_parts_and_a_full_memory_change_nothing(monkeypatch):
    boxes, status = forest()
    whole, _ = tallied(STANDS, boxes, status)
    monkeypatch.setattr(spill, "HELD_ROWS", 50)
    monkeypatch.setattr(zone_diameters, "HELD", 50)
    parts, _ = tallied(STANDS, boxes, status, parts=40)
    pd.testing.assert_frame_equal(parts, whole, rtol=1e-12)


def test_nodata_and_the_area_looked_at_are_taken_off():
    boxes, status = forest(600)
    valid = np.array([[0.0, 0, 100, 200], [100, 0, 200, 120]])
    area = shapely.box(0, 30, 200, 200)
    table, _ = tallied(STANDS, boxes, status, valid=valid, area=area)
    ground = shapely.intersection(shapely.union_all(shapely.box(*valid.T)), area)
    seen = shapely.intersection(STANDS.polygons, ground)
    np.testing.assert_allclose(table["hectares"], shapely.area(seen) / 1e4, rtol=2e-3)
    np.testing.assert_allclose(table["zone_ha"], shapely.area(STANDS.polygons) / 1e4)
    under = shapely.intersection(seen, shapely.union_all(ellipses(boxes)))
    np.testing.assert_allclose(table["cover"], shapely.area(under) / shapely.area(seen), rtol=5e-3)


def test_nothing_is_measured_where_nothing_can_be():
    boxes, status = forest(600)
    boxes = boxes[(boxes[:, 0] > 60) & (boxes[:, 2] < 140)]
    status = status[: len(boxes)]
    whole, _ = tallied(STANDS, boxes, status)
    extent = (60.0, -10.0, 140.0, 210.0)
    near, _ = tallied(STANDS, boxes, status, extent=extent)
    pd.testing.assert_frame_equal(near, whole, rtol=2e-3)
    valid = np.array([[60.0, 0, 140, 200]])
    whole, _ = tallied(STANDS, boxes, status, valid=valid)
    near, _ = tallied(STANDS, boxes, status, valid=valid, extent=extent)
    pd.testing.assert_frame_equal(near, whole, rtol=2e-3)
    assert (near["hectares"] < near["zone_ha"]).any()


def test_a_grid_sums_up_to_the_whole():
    boxes, status = forest()
    grid = cells((0, 0, SIDE, SIDE), 20, crs=None, unit_m=1.0)
    table, tally = tallied(grid, boxes, status)
    assert table["crowns"].sum() == len(boxes)
    assert (tally.several, tally.outside) == (0, 0)
    whole, _ = tallied(zones_of(shapely.box(0, 0, SIDE, SIDE)), boxes, status)
    assert (table["cover"] * table["hectares"]).sum() == pytest.approx(
        whole["cover"][0] * whole["hectares"][0], rel=1e-9
    )


def test_a_zone_that_nothing_is_known_of_has_no_figures():
    boxes, status = forest(50)
    table, _ = tallied(
        zones_of(shapely.box(900, 900, 950, 950), shapely.box(0, 0, 200, 200)),
        boxes,
        status,
        valid=np.array([[0.0, 0, 200, 200]]),
        classes={"status": STATUS, "species": ("PISY",)},
    )
    off = table.iloc[0]
    assert (off["crowns"], off["hectares"], off["zone_ha"]) == (0, 0, 0.25)
    assert off.drop(["zone_id", "crowns", "hectares", "zone_ha"]).isna().all()
    assert table["s_PISY"][1] == 0


def test_no_crowns_at_all():
    table, tally = tallied(STANDS, np.zeros((0, 4)), np.zeros(0, int))
    assert table["crowns"].sum() == tally.outside == 0
    assert (table["cover"] == 0).all()


def test_a_class_that_two_columns_have_is_told_apart():
    none = np.zeros((0, 4))
    table, _ = tallied(
        STANDS,
        none,
        np.zeros(0, int),
        classes={"label": ("tree",), "species": ("oak", "other"), "status": ("alive", "Other")},
    )
    assert [c for c in table.columns if c.startswith("s_")] == [
        "s_oak",
        "s_species_other",
        "s_alive",
        "s_status_Other",
    ]


def test_quantiles_are_exact_where_crowns_are_few():
    diameters = Diameters(3)
    mine = np.array([3.0, 4.5, 4.5, 8.0, 11.0])
    diameters.add(np.full(5, 1), mine)
    found = diameters.quantiles([0.0, 0.1, 0.5, 0.9, 1.0])
    np.testing.assert_allclose(found[1], np.quantile(mine, [0.0, 0.1, 0.5, 0.9, 1.0]))
    assert np.isnan(found[[0, 2]]).all()
