"""Label schema, spec, detections and the crowns table."""

import json

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import pytest
import shapely
from affine import Affine

from treedet.core import crowns
from treedet.core.crown_arrays import CrownArrays, said
from treedet.core.detections import Detections
from treedet.core.grid import Grid
from treedet.core.labels import LabelSchema
from treedet.core.spec import ModelSpec, OperatingPoint
from treedet.errors import (
    ConfigError,
    CrownsError,
    DegenerateCrownError,
    MissingColumnError,
    SpecMismatchError,
)

SCHEMA = LabelSchema(attributes={"species": ("PISY", "PIAB", "BEPE"), "status": ("alive", "dead")})
GRID = Grid.build(
    pyproj.CRS.from_epsg(32632), Affine(0.1, 0, 500_000, 0, -0.1, 5_400_000), width=1000, height=800, gsd=0.1
)


def arrays(n: int = 4, schema: LabelSchema = SCHEMA) -> CrownArrays:
    rng = np.random.default_rng(n)
    corner = rng.uniform(0, 500, (n, 2))
    return CrownArrays(
        boxes=np.concatenate([corner, corner + rng.uniform(20, 90, (n, 2))], axis=1),
        scores=rng.uniform(0.3, 1, n).astype(np.float32),
        classes=np.zeros(n, np.int64),
        cut=np.zeros(n, bool),
        edge=np.arange(n) % 2 == 0,
        attributes={k: rng.dirichlet(np.ones(len(v)), n).astype(np.float32) for k, v in schema.attributes.items()},
    )


def table(n: int = 4) -> gpd.GeoDataFrame:
    return crowns.to_table(arrays(n), GRID, SCHEMA, source="ortho.tif")


@pytest.mark.parametrize("n", [0, 1, 7])
def test_any_table_from_detections_validates(n: int) -> None:
    made = crowns.validate(table(n), SCHEMA)
    assert list(made.columns) == crowns.columns(SCHEMA)
    assert made.crs == GRID.crs
    assert made["crown_id"].tolist() == list(range(1, n + 1))


def test_an_empty_table_has_all_columns_and_types() -> None:
    nothing = crowns.empty(SCHEMA, GRID.crs)
    assert len(nothing) == 0
    assert nothing.crs == GRID.crs
    assert nothing.dtypes.astype(str).to_dict() == table(3).dtypes.astype(str).to_dict()


def test_column_names_fit_a_shapefile() -> None:
    assert max(map(len, crowns.columns(SCHEMA))) <= 10


def test_areas_are_ground_areas() -> None:
    box = CrownArrays(
        boxes=np.array([[0.0, 0.0, 50.0, 30.0]]),
        scores=np.ones(1, np.float32),
        classes=np.zeros(1, np.int64),
        cut=np.zeros(1, bool),
        edge=np.zeros(1, bool),
    )
    row = crowns.to_table(box, GRID, LabelSchema(), source="x").iloc[0]
    assert row["area_m2"] == pytest.approx(15.0)
    assert row["crown_m2"] == pytest.approx(15.0 * np.pi / 4)
    assert row["diameter_m"] == pytest.approx(4.0)


def test_the_most_probable_class_is_named_with_its_probability() -> None:
    values = arrays(5)
    made = crowns.to_table(values, GRID, SCHEMA, source="x")
    assert made["status"].tolist() == [("alive", "dead")[i] for i in values.attributes["status"].argmax(1)]
    np.testing.assert_allclose(made["status_p"], values.attributes["status"].max(1))


def test_an_attribute_below_the_least_probability_is_null_and_keeps_its_probability() -> None:
    values = arrays(9)
    made = crowns.to_table(values, GRID, SCHEMA, source="x", min_p=0.7)
    for name in SCHEMA.attributes:
        p = values.attributes[name].max(axis=1)
        assert 0 < (p < 0.7).sum() < 9
        assert made[name].isna().tolist() == (p < 0.7).tolist()
        np.testing.assert_array_equal(made[f"{name}_p"], p)
        assert list(made[name].cat.categories) == list(SCHEMA.attributes[name])
    plain = crowns.to_table(values, GRID, SCHEMA, source="x")
    assert made.drop(columns=list(SCHEMA.attributes)).equals(plain.drop(columns=list(SCHEMA.attributes)))
    crowns.validate(made, SCHEMA)


def test_a_probability_equal_to_the_least_is_enough_as_float32() -> None:
    p = np.array([[0.7, 0.3], [0.3, 0.7]], np.float32)
    assert float(p[0, 0]) < 0.7
    assert said(p, min_p=0.7).tolist() == [0, 1]
    assert said(p, min_p=0.71).tolist() == [-1, -1]


def test_probabilities_of_all_classes_go_behind_the_columns() -> None:
    values = arrays(5)
    made = crowns.with_probabilities(table(5), values, SCHEMA)
    names = ["p_PISY", "p_PIAB", "p_BEPE", "p_alive", "p_dead"]
    assert list(made.columns) == [*crowns.columns(SCHEMA), *names]
    np.testing.assert_array_equal(made[names[:3]], values.attributes["species"])
    np.testing.assert_array_equal(made[names[3:]], values.attributes["status"])
    assert {str(made[name].dtype) for name in names} == {"float32"}
    assert list(crowns.with_probabilities(table(0), arrays(0), SCHEMA).columns) == list(made.columns)


@pytest.mark.parametrize(
    "attributes",
    [{"species": ("ash", "other"), "genus": ("oak", "other")}, {"a": ("Ash", "ash")}, {"p_ash": ("ash", "oak")}],
)
def test_probabilities_that_would_share_a_column_are_refused(attributes: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(ConfigError, match=r"found 'p_\w+' twice; leave probabilities .* out, or rename a class"):
        crowns.probability_columns(LabelSchema(attributes=attributes))


def test_a_table_in_another_crs_keeps_ground_values() -> None:
    mercator = pyproj.CRS.from_epsg(3395)
    moved = crowns.to_table(arrays(3), GRID, SCHEMA, source="x", crs=mercator)
    assert moved.crs == mercator
    np.testing.assert_allclose(moved["area_m2"], table(3)["area_m2"])
    assert (moved.geometry.area > 1.5 * moved["area_m2"]).all(), "Mercator enlarges at this latitude"


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda t: t.drop(columns="score"), MissingColumnError, "'score'"),
        (
            lambda t: t.assign(score=t["score"].where(t.index != 2, np.nan).astype("float32")),
            DegenerateCrownError,
            "row 2",
        ),
        (lambda t: t.assign(score=(t["score"] + 1).astype("float32")), DegenerateCrownError, "0 to 1"),
        (lambda t: t.assign(crown_id=np.int64(1)), CrownsError, "unique"),
        (lambda t: t.assign(area_m2=t["area_m2"].astype("float64")), CrownsError, "float32"),
        (lambda t: t.assign(status=pd.Categorical(["alive", "gone", "dead", "dead"])), CrownsError, "'gone'"),
        (lambda t: t.set_geometry([shapely.Point(0, 0)] * 4, crs=t.crs), DegenerateCrownError, "polygon with area"),
    ],
)
def test_validate_names_column_row_and_value(spoil: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        crowns.validate(spoil(table(4)), SCHEMA)  # type: ignore[operator]


def test_concat_of_nothing_is_empty_with_attributes() -> None:
    nothing = CrownArrays.concat([], {"status": 2})
    assert len(nothing) == 0
    assert nothing.attributes["status"].shape == (0, 2)
    both = CrownArrays.concat([arrays(2), arrays(3)], {k: len(v) for k, v in SCHEMA.attributes.items()})
    assert len(both) == 5


@pytest.mark.parametrize("name", ["score", "geometry", "kind_p", "two words", ""])
def test_attribute_names_that_would_collide_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="not usable"):
        LabelSchema(attributes={name: ("a", "b")})


def test_names_must_differ() -> None:
    with pytest.raises(ConfigError, match="different"):
        LabelSchema(classes=("tree", "tree"))
    with pytest.raises(ConfigError, match="at least 2"):
        LabelSchema(attributes={"status": ("alive",)})


def test_a_spec_survives_json() -> None:
    spec = ModelSpec(labels=SCHEMA, operating_points={"balanced": OperatingPoint(0.4, 0.7, 0.6, 0.65)})
    assert ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_a_spec_of_a_later_version_is_told() -> None:
    with pytest.raises(SpecMismatchError, match="newer treedet"):
        ModelSpec.from_dict({**ModelSpec().to_dict(), "wings": 2})


@pytest.mark.parametrize("wanted", ["nonsense", 1.5, -0.1, "nan"])
def test_thresholds_that_make_no_sense_list_the_operating_points(wanted: object) -> None:
    with pytest.raises(ConfigError, match="balanced"):
        ModelSpec().threshold(wanted)  # type: ignore[arg-type]


def test_a_threshold_may_come_as_text() -> None:
    assert ModelSpec().threshold("0.35") == 0.35


def test_the_overlap_is_wider_than_the_widest_crown() -> None:
    spec = ModelSpec()
    assert spec.overlap_px() * spec.gsd > spec.crown_range_m[1]
    with pytest.raises(ConfigError, match="widest crown"):
        spec.overlap_px(float("nan"))


def test_specs_check_themselves() -> None:
    with pytest.raises(ConfigError, match="each pyramid level"):
        ModelSpec(levels=(2, 3))
    with pytest.raises(ConfigError, match="positive"):
        ModelSpec(gsd=0.0)
    with pytest.raises(ConfigError, match="mean and std"):
        ModelSpec(bands=4)
    with pytest.raises(ConfigError, match="balanced"):
        ModelSpec(operating_points={"count": OperatingPoint(0.3)})


def test_detections_are_checked_when_built() -> None:
    good = Detections.empty({"status": 2})
    assert len(good) == 0
    boxes = np.zeros((2, 4), np.float32)
    ones, zeros, sides = np.ones(2, np.float32), np.zeros(2, np.int64), np.zeros(2, np.uint8)
    with pytest.raises(ConfigError, match=r"arrays \[N\]"):
        Detections(boxes, ones[:1], zeros, sides)
    with pytest.raises(ConfigError, match="finite"):
        Detections(boxes * np.nan, ones, zeros, sides)
    with pytest.raises(ConfigError, match="'status'"):
        Detections(boxes, ones, zeros, sides, {"status": np.zeros((1, 2), np.float32)})
    cut = Detections(boxes, ones, zeros, np.array([0, 4], np.uint8))
    assert cut.cut.tolist() == [False, True]
    assert len(cut.take(cut.cut)) == 1
