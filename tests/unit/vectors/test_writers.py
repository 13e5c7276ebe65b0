import json
import logging
import math
import os
import sqlite3
import subprocess
import sys
import textwrap

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pyogrio
import pyproj
import pytest
import shapely
from affine import Affine
from shapely.affinity import rotate

from treedet.core import crowns
from treedet.core.crown_arrays import CrownArrays
from treedet.core.grid import Grid
from treedet.core.labels import LabelSchema
from treedet.errors import ConfigError, CrownsError, DegenerateCrownError, MissingColumnError, OutputError
from treedet.vectors.annotations import read_crowns, read_metadata
from treedet.vectors.writers import SUFFIXES, WriteOptions, check_target, open_writer, write_crowns

SCHEMA = LabelSchema(attributes={"species": ("PISY", "PIAB", "BEPE"), "status": ("alive", "dead")})
UTM = pyproj.CRS.from_epsg(32633)
ENGINEERING = pyproj.CRS.from_wkt(
    'ENGCRS["Local survey grid",EDATUM["Unknown"],CS[Cartesian,2],'
    'AXIS["easting",east,ORDER[1]],AXIS["northing",north,ORDER[2]],LENGTHUNIT["metre",1]]'
)
SOURCE = 'flights/Kärnten 2024/östlich, "alt".tif'


def make_grid(crs=UTM, transform=None):
    if transform is None:
        transform = Affine.identity() if crs is None else Affine(0.1, 0, 500_000, 0, -0.1, 5_200_000)
    return Grid.build(crs, transform, width=2000, height=1500, gsd=0.1)


def make_table(n=7, *, grid=None, schema=SCHEMA, source=SOURCE, first_id=1):
    grid = grid or make_grid()
    rng = np.random.default_rng(n)
    low = rng.uniform(0, 1300, (n, 2))
    arrays = CrownArrays(
        boxes=np.hstack([low, low + rng.uniform(15.3, 150, (n, 2))]),
        scores=rng.uniform(0.3, 1, n).astype(np.float32),
        classes=np.zeros(n, np.int64),
        cut=np.arange(n) % 3 == 0,
        edge=np.arange(n) % 2 == 0,
        attributes={k: rng.dirichlet(np.ones(len(v)), n).astype(np.float32) for k, v in schema.attributes.items()},
    )
    return crowns.to_table(arrays, grid, schema, source=source, first_id=first_id), arrays.boxes


def write(path, table, boxes, *, crs=UTM, schema=SCHEMA, metadata=None, parts=1, **options):
    size = (2000, 1500)
    with open_writer(path, schema=schema, crs=crs, raster_size=size, options=WriteOptions(**options)) as writer:
        for rows in np.array_split(np.arange(len(table)), parts) if parts else ():
            writer.append(table.iloc[rows], boxes[rows])
        writer.finish(metadata)
    return path


def assert_same(found, expected, *, tolerance=1e-6, geometry=True):
    assert list(found.columns) == list(expected.columns)
    assert found.dtypes.astype(str).to_dict() == expected.dtypes.astype(str).to_dict()
    for name in expected.columns.drop("geometry"):
        left, right = found[name], expected[name]
        if left.dtype == np.float32:
            np.testing.assert_allclose(left, right, rtol=1e-6, atol=2e-7)
        elif str(left.dtype) == "category":
            assert list(left.cat.categories) == list(right.cat.categories)
            assert left.astype(object).tolist() == right.astype(object).tolist()
        else:
            assert left.tolist() == right.tolist()
    if geometry:
        distance = shapely.hausdorff_distance(found.geometry.to_numpy(), expected.geometry.to_numpy())
        assert len(distance) == 0 or distance.max() <= tolerance


@pytest.mark.parametrize("crs", [UTM, None], ids=["utm", "pixels"])
@pytest.mark.parametrize("parts", [0, 1, 3])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip(tmp_path, suffix, parts, crs):
    if suffix == ".geojson" and crs is None:
        pytest.skip("GeoJSON without a CRS is refused, see test_geojson_needs_longitude_and_latitude")
    grid = make_grid(crs)
    table, boxes = make_table(7 if parts else 0, grid=grid)
    folder = tmp_path / "Größe mit Leerzeichen"
    folder.mkdir()
    path = write(folder / f"kronen ä{suffix}", table, boxes, crs=crs, parts=parts, metadata={"model": "tännchen"})
    found = read_crowns(path, grid=grid)
    assert_same(found, table, tolerance=2e-4 if suffix in (".geojson", ".csv", ".json") else 1e-9)
    assert found.crs == crs
    assert read_metadata(path)["model"] == "tännchen"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_part_without_rows_is_an_empty_file(tmp_path, suffix):
    table, boxes = make_table(0)
    found = read_crowns(write(tmp_path / f"none{suffix}", table, boxes, parts=1, metadata={"a": 1}))
    assert_same(found, table, geometry=False)


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb"])
def test_types_as_gdal_sees_them(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", *make_table())
    info = pyogrio.read_info(path, layer=0)
    types = dict(zip(info["fields"], info["dtypes"], strict=True))
    assert types["crown_id"] == "int64"
    assert types["score"] == types["species_p"] == types["area_m2"] == "float32"
    assert types["cut"] == types["edge"] == "bool"
    assert types["label"] == types["source"] == "object"
    assert info["geometry_type"] == "Polygon"


def test_shapefile_keeps_all_names_and_writes_truth_as_numbers(tmp_path):
    table, boxes = make_table()
    path = write(tmp_path / "a.shp", table, boxes)
    info = pyogrio.read_info(path)
    assert list(info["fields"]) == list(table.columns.drop("geometry"))
    types = dict(zip(info["fields"], info["dtypes"], strict=True))
    assert types["cut"].startswith("int")
    assert types["edge"].startswith("int")
    assert info["encoding"] == "UTF-8"


@pytest.mark.parametrize("suffix", [s for s in SUFFIXES if s not in (".csv", ".json")])
def test_geopandas_reads_it_without_being_told_anything(tmp_path, suffix, recwarn):
    path = write(tmp_path / f"a{suffix}", *make_table())
    found = gpd.read_parquet(path) if suffix == ".parquet" else gpd.read_file(path, layer=0)
    assert len(found) == 7
    assert found.crs == (pyproj.CRS(4326) if suffix == ".geojson" else UTM)


@pytest.mark.parametrize("suffix", [".gpkg", ".shp", ".fgb", ".parquet"])
@pytest.mark.parametrize(
    "crs",
    [pyproj.CRS(4326), pyproj.CRS(2263), pyproj.CRS("EPSG:32633+5773"), ENGINEERING, pyproj.CRS(5348)],
    ids=["degrees", "feet", "compound", "engineering", "northing-first"],
)
def test_unusual_crs_is_kept(tmp_path, suffix, crs):
    table, boxes = make_table(3)
    table = table.set_crs(crs, allow_override=True)
    path = write(tmp_path / f"a{suffix}", table, boxes, crs=crs)
    found = read_crowns(path)
    assert found.crs.equals(crs, ignore_axis_order=True)
    np.testing.assert_allclose(found.total_bounds, table.total_bounds, atol=1e-6)


def test_a_geopackage_shows_crowns_first_and_holds_its_metadata(tmp_path):
    path = write(tmp_path / "a.gpkg", *make_table(), metadata={"threshold": 0.3})
    assert pyogrio.list_layers(path)[0].tolist() == ["crowns", "Polygon"]
    assert read_metadata(path)["threshold"] == 0.3
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.gpkg"]


def test_geoparquet_says_what_the_standard_asks_for(tmp_path):
    table, boxes = make_table()
    path = write(tmp_path / "a.parquet", table, boxes, parts=2)
    geo = json.loads(pq.read_metadata(path).metadata[b"geo"])
    column = geo["columns"][geo["primary_column"]]
    assert column["encoding"] == "WKB"
    assert column["geometry_types"] == ["Polygon"]
    assert column["bbox"] == pytest.approx(table.total_bounds.tolist())
    assert pyproj.CRS.from_json_dict(column["crs"]) == UTM
    assert pq.read_metadata(path).num_row_groups == 1


def test_geoparquet_without_crs_does_not_claim_degrees(tmp_path):
    path = write(tmp_path / "a.parquet", *make_table(grid=make_grid(None)), crs=None)
    assert gpd.read_parquet(path).crs is None


def test_geojson_follows_rfc_7946(tmp_path):
    table, boxes = make_table()
    data = json.loads(write(tmp_path / "a.geojson", table, boxes, parts=2).read_text())
    assert "crs" not in data
    rings = [shapely.LinearRing(f["geometry"]["coordinates"][0]) for f in data["features"]]
    assert all(ring.is_ccw for ring in rings)
    expected = table.to_crs(4326).total_bounds
    np.testing.assert_allclose(shapely.total_bounds(rings), expected, atol=1e-9)
    assert data["features"][0]["properties"]["source"] == SOURCE
    assert data["features"][0]["properties"]["cut"] is True


def test_geojson_turns_holes_and_parts_the_right_way(tmp_path):
    table, boxes = make_table(2)
    ring, hole = shapely.box(0, 0, 9, 9, ccw=False), shapely.box(3, 3, 6, 6, ccw=True)
    holed = shapely.Polygon(ring.exterior.coords, [hole.exterior.coords])
    table = table.set_geometry(
        [holed, shapely.MultiPolygon([holed, shapely.box(20, 20, 30, 30, ccw=False)])], crs=UTM
    )
    data = json.loads(write(tmp_path / "a.geojson", table, boxes).read_text())
    single, multi = (f["geometry"]["coordinates"] for f in data["features"])
    for exterior, *holes in [single, *multi]:
        assert shapely.LinearRing(exterior).is_ccw
        assert not any(shapely.LinearRing(h).is_ccw for h in holes)


@pytest.mark.parametrize("crs", [None, ENGINEERING], ids=["none", "engineering"])
def test_geojson_needs_longitude_and_latitude(tmp_path, crs):
    with pytest.raises(OutputError, match=r"longitude and latitude.*\.gpkg"):
        open_writer(tmp_path / "a.geojson", schema=SCHEMA, crs=crs, raster_size=(1, 1))
    assert list(tmp_path.iterdir()) == []


def test_coco_is_in_pixels_with_ids_from_one(tmp_path):
    table, boxes = make_table()
    data = json.loads(write(tmp_path / "a.json", table, boxes, parts=3).read_text())
    assert data["images"] == [{"id": 1, "file_name": SOURCE, "width": 2000, "height": 1500}]
    assert [(c["id"], c["name"]) for c in data["categories"]] == [(1, "tree")]
    assert [a["id"] for a in data["annotations"]] == list(range(1, 8))
    found = np.array([a["bbox"] for a in data["annotations"]])
    np.testing.assert_allclose(found[:, :2] + found[:, 2:], boxes[:, 2:], atol=2e-4)
    np.testing.assert_allclose([a["area"] for a in data["annotations"]], found[:, 2] * found[:, 3], rtol=1e-4)
    ring = np.array(data["annotations"][2]["segmentation"][0]).reshape(-1, 2)
    np.testing.assert_allclose([*ring.min(0), *ring.max(0)], boxes[2], atol=1e-3)


def test_coco_without_crowns_still_knows_its_image(tmp_path):
    table, boxes = make_table(0)
    data = json.loads(write(tmp_path / "a.json", table, boxes, metadata={"source": "a.tif"}).read_text())
    assert data["images"] == [{"id": 1, "file_name": "a.tif", "width": 2000, "height": 1500}]
    assert data["annotations"] == []


def test_csv_columns_in_order(tmp_path):
    table, boxes = make_table()
    rows = pd.read_csv(write(tmp_path / "a.csv", table, boxes, parts=2))
    names = list(rows.columns)
    assert names[:7] == ["image_path", "xmin", "ymin", "xmax", "ymax", "label", "score"]
    assert names[-4:] == ["x", "y", "lon", "lat"]
    assert set(table.columns) - {"geometry", "source"} < set(names)
    np.testing.assert_allclose(rows[["xmin", "ymin", "xmax", "ymax"]], boxes, atol=1e-4)
    np.testing.assert_allclose(rows["x"], table.geometry.centroid.x, atol=1e-4)
    lonlat = table.geometry.centroid.to_crs(4326)
    np.testing.assert_allclose(rows["lat"], lonlat.y, atol=1e-8)
    assert rows["image_path"].tolist() == [SOURCE] * 7


def test_csv_without_crs_leaves_degrees_empty(tmp_path):
    grid = make_grid(None)
    rows = pd.read_csv(write(tmp_path / "a.csv", *make_table(grid=grid), crs=None))
    assert rows["lon"].isna().all()
    assert rows["x"].between(0, 2000).all()


def test_csv_wkt_on_request(tmp_path):
    table, boxes = make_table()
    rows = pd.read_csv(write(tmp_path / "a.csv", table, boxes, wkt=True))
    distance = shapely.hausdorff_distance(shapely.from_wkt(rows["wkt"]), table.geometry.to_numpy())
    assert distance.max() < 1e-3
    assert "wkt" not in read_crowns(tmp_path / "a.csv").columns


def test_no_crs_is_said(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="treedet"):
        write(tmp_path / "a.gpkg", *make_table(grid=make_grid(None)), crs=None)
    assert "no CRS" in caplog.text


@pytest.mark.parametrize("suffix", [".gpkg", ".csv"])
def test_sidecar_only_where_the_format_holds_no_metadata(tmp_path, suffix):
    write(tmp_path / f"a{suffix}", *make_table(), metadata={"a": 1})
    assert (tmp_path / f"a{suffix}.meta.json").exists() == (suffix == ".csv")


@pytest.mark.parametrize(
    "transform", [Affine(0.1, 0, 5e5, 0, -0.1, 5e6), Affine.rotation(30) @ Affine.scale(0.2, 0.1)]
)
def test_ellipses_touch_the_middle_of_each_side(tmp_path, transform):
    grid = make_grid(UTM, transform)
    table, boxes = make_table(grid=grid)
    found = read_crowns(write(tmp_path / "a.gpkg", table, boxes, shape="ellipse"))
    inscribed = 32 / 2 * math.sin(2 * math.pi / 32) / 4
    np.testing.assert_allclose(found.area, table.area * inscribed, rtol=1e-9)
    x, y = (boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 1]
    top = shapely.points(*(transform @ (x, y)))
    assert shapely.distance(found.geometry.to_numpy(), top).max() < 1e-6
    assert shapely.covers(table.buffer(1e-6).to_numpy(), found.geometry.to_numpy()).all()


def test_ellipse_of_an_outline_takes_its_bounds(tmp_path):
    table, boxes = make_table(1)
    outline = rotate(shapely.Point(10, 10).buffer(4), 7)
    found = read_crowns(write(tmp_path / "a.gpkg", table.set_geometry([outline], crs=UTM), boxes, shape="ellipse"))
    np.testing.assert_allclose(found.total_bounds, outline.bounds, atol=1e-9)


@pytest.mark.parametrize("suffix", [".gpkg", ".shp", ".parquet", ".geojson"])
def test_points_are_centres(tmp_path, suffix):
    table, boxes = make_table()
    found = read_crowns(write(tmp_path / f"a{suffix}", table, boxes, shape="point"), grid=make_grid())
    assert set(found.geom_type) == {"Point"}
    assert found.distance(table.centroid).max() < 1e-3


def test_unknown_shape_is_refused():
    with pytest.raises(ConfigError, match="box, ellipse, point"):
        WriteOptions(shape="circle")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, suffix):
    table, boxes = make_table()
    path = write(tmp_path / f"a{suffix}", table, boxes)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    options = WriteOptions(overwrite=True)

    def interrupted():
        with open_writer(path, schema=SCHEMA, crs=UTM, raster_size=(1, 1), options=options) as writer:
            writer.append(table.iloc[:2], boxes[:2])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_overwrite_only_on_request(tmp_path, suffix):
    table, boxes = make_table()
    path = write(tmp_path / f"a{suffix}", table, boxes)
    with pytest.raises(OutputError, match="overwrite"):
        open_writer(path, schema=SCHEMA, crs=UTM, raster_size=(1, 1))
    write(path, table.iloc[:2], boxes[:2], overwrite=True)
    assert len(read_crowns(path)) == 2


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path):
    table, boxes = make_table()
    with open_writer(tmp_path / "a.gpkg", schema=SCHEMA, crs=UTM, raster_size=(1, 1)) as writer:
        writer.append(table, boxes)
        (tmp_path / "a.gpkg").write_text("mine")
        with pytest.raises(OutputError, match="exists already"):
            writer.finish()
    assert [p.name for p in tmp_path.iterdir()] == ["a.gpkg"]
    assert (tmp_path / "a.gpkg").read_text() == "mine"


def test_stale_companions_go_with_the_old_output(tmp_path):
    for name in ("a.qix", "a.shp", "a.sbn", "a.gpkg-wal", "a.qml", "a.shp.meta.json"):
        (tmp_path / name).write_bytes(b"old")
    write(tmp_path / "a.shp", *make_table(), overwrite=True)
    write(tmp_path / "a.gpkg", *make_table())
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {"a.shp", "a.shx", "a.dbf", "a.prj", "a.cpg", "a.gpkg", "a.qml"}


def test_upper_case_suffix(tmp_path):
    path = write(tmp_path / "A.GPKG", *make_table())
    assert len(read_crowns(path)) == 7


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.tif", r"\.gpkg.*\.parquet"),
        ("a", r"accepted are \.gpkg"),
        ("no folder/a.gpkg", "there is no folder"),
        ("folder.gpkg", "is a folder"),
        ("there.gpkg", "exists already"),
    ],
)
def test_bad_targets_are_refused_before_any_work(tmp_path, name, message):
    (tmp_path / "there.gpkg").touch()
    (tmp_path / "folder.gpkg").mkdir()
    with pytest.raises(OutputError, match=message):
        check_target(tmp_path / name, overwrite=False)


def test_long_attributes_are_refused_by_shapefiles_alone(tmp_path):
    schema = LabelSchema(attributes={"condition": ("good", "bad")})
    check_target(tmp_path / "a.gpkg", overwrite=False, schema=schema)
    with pytest.raises(OutputError, match=r"condition_p.*\.gpkg"):
        check_target(tmp_path / "a.shp", overwrite=False, schema=schema)
    longest = LabelSchema(attributes={"conditio": ("good", "bad")})
    table, boxes = make_table(schema=longest)
    path = write(tmp_path / "a.shp", table, boxes, schema=longest)
    assert "conditio_p" in pyogrio.read_info(path)["fields"]


def test_long_source_loses_its_beginning_in_a_shapefile(tmp_path, caplog):
    source = "ä" * 200 + "/plot.tif"
    with caplog.at_level(logging.INFO, logger="treedet"):
        path = write(tmp_path / "a.shp", *make_table(source=source), parts=2)
    found = read_crowns(path)["source"].iloc[0]
    assert found.endswith("ä/plot.tif")
    assert len(found.encode()) in (253, 254)
    assert caplog.text.count("lose their beginning") == 1


def test_further_columns_are_kept(tmp_path):
    table, boxes = make_table()
    table = table.assign(p_PISY=np.linspace(0, 1, 7).astype(np.float32), note="größer")
    for suffix in SUFFIXES:
        found = read_crowns(write(tmp_path / f"a{suffix}", table, boxes, parts=2))
        np.testing.assert_allclose(found["p_PISY"], table["p_PISY"], atol=1e-6)
        assert found["note"].tolist() == ["größer"] * 7


def test_parts_must_agree(tmp_path):
    table, boxes = make_table()
    with open_writer(tmp_path / "a.gpkg", schema=SCHEMA, crs=UTM, raster_size=(1, 1)) as writer:
        writer.append(table, boxes)
        with pytest.raises(CrownsError, match="same columns"):
            writer.append(table.assign(more=1), boxes)
        with pytest.raises(MissingColumnError, match="score"):
            writer.append(table.drop(columns="score"), boxes)
        with pytest.raises(CrownsError, match="boxes_px"):
            writer.append(table, boxes[:2])
        with pytest.raises(CrownsError, match="WGS 84"):
            writer.append(table.to_crs(4326), boxes)
        with pytest.raises(DegenerateCrownError, match="row 3"):
            writer.append(table.set_geometry(table.geometry.where(table.index != 3, None)), boxes)


def test_missing_attributes_stay_missing(tmp_path):
    table, boxes = make_table()
    table.loc[2, "species"] = None
    table.loc[2, "species_p"] = np.nan
    for suffix in SUFFIXES:
        found = read_crowns(write(tmp_path / f"a{suffix}", table, boxes))
        assert found["species"].isna().tolist() == (table.index == 2).tolist()
        assert found["species_p"].isna().tolist() == (table.index == 2).tolist()


def unsure_table(schema, *, min_p):
    """A table in which attributes below min_p are null while their probabilities stay."""
    table, boxes = make_table(schema=schema)
    for name in schema.attributes:
        table[name] = table[name].where(table[f"{name}_p"] >= min_p)
    return table, boxes


@pytest.mark.parametrize("min_p", [0.7, 1.0], ids=["some", "all"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_attributes_are_null_where_their_probability_is_kept(tmp_path, suffix, min_p):
    table, boxes = unsure_table(SCHEMA, min_p=min_p)
    missing = table["status"].isna()
    assert missing.all() if min_p == 1 else 0 < missing.sum() < len(table)
    assert table["status_p"].notna().all()
    found = read_crowns(write(tmp_path / f"a{suffix}", table, boxes, parts=3, metadata={"a": 1}), grid=make_grid())
    assert_same(found.assign(source=table["source"]), table, tolerance=1e-3)


CODES = LabelSchema(attributes={"species": ("007", "131", "316"), "odd": ("NA", "TRUE", "None")})


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_codes_of_digits_and_names_that_look_like_nothing_stay_names(tmp_path, suffix):
    table, boxes = unsure_table(CODES, min_p=0.5)
    assert table["species"].isna().any()
    path = write(tmp_path / f"a{suffix}", table, boxes, schema=CODES, metadata={"a": 1})
    assert_same(read_crowns(path, grid=make_grid()).assign(source=table["source"]), table, tolerance=1e-3)


def test_codes_of_digits_stay_names_beside_wkt_and_without_metadata(tmp_path):
    table, boxes = unsure_table(CODES, min_p=0.5)
    write_crowns(table, tmp_path / "map.csv", metadata={"a": 1})
    assert_same(read_crowns(tmp_path / "map.csv"), table, tolerance=1e-3)
    path = write(tmp_path / "a.csv", table, boxes, schema=CODES)
    assert read_crowns(path)["species"].dropna().isin(["7", "131", "316"]).all()


def test_outlines_of_several_parts(tmp_path):
    table, boxes = make_table(2)
    parts = shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(3, 3, 4, 4)])
    table = table.set_geometry([parts, shapely.box(0, 0, 5, 5)], crs=UTM)
    for suffix in (".gpkg", ".shp", ".fgb", ".parquet"):
        found = read_crowns(write(tmp_path / f"a{suffix}", table, boxes))
        assert found.area.tolist() == [2, 25]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_write_crowns_in_one_call(tmp_path, suffix):
    grid = make_grid()
    table, _ = make_table(grid=grid)
    path = tmp_path / f"a{suffix}"
    write_crowns(table, path, metadata={"by": "hand"}, grid_of=lambda source: grid)
    assert_same(read_crowns(path, grid=grid), table, tolerance=2e-3)
    with pytest.raises(OutputError, match="exists"):
        write_crowns(table, path, grid_of=lambda source: grid)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_write_crowns_takes_an_empty_table(tmp_path, suffix):
    write_crowns(crowns.empty(SCHEMA, UTM), tmp_path / f"a{suffix}", metadata={"a": 1}, grid_of=lambda s: make_grid())
    assert_same(read_crowns(tmp_path / f"a{suffix}"), crowns.empty(SCHEMA, UTM), geometry=False)


def test_crowns_on_a_map_without_their_raster(tmp_path):
    table, _ = make_table()
    write_crowns(table, tmp_path / "a.csv", metadata={"a": 1})
    header = (tmp_path / "a.csv").read_text().splitlines()[0]
    assert "xmin" not in header
    assert "wkt" in header
    found = read_crowns(tmp_path / "a.csv")
    assert found.crs == UTM
    assert_same(found, table, tolerance=1e-3)
    with pytest.raises(OutputError, match="grid_of"):
        write_crowns(table, tmp_path / "a.json")
    assert not (tmp_path / "a.json").exists()


def test_crowns_in_pixels_need_no_raster(tmp_path):
    table, boxes = make_table(grid=make_grid(None))
    write_crowns(table, tmp_path / "a.json")
    found = [a["bbox"][:2] for a in json.loads((tmp_path / "a.json").read_text())["annotations"]]
    np.testing.assert_allclose(found, boxes[:, :2], atol=1e-4)


def test_crowns_of_two_rasters(tmp_path):
    grids = {"a/1.tif": make_grid(), "b/1.tif": make_grid(UTM, Affine(0.2, 0, 500_000, 0, -0.2, 5_200_000))}
    table = pd.concat([make_table(3, grid=grid, source=name)[0] for name, grid in grids.items()], ignore_index=True)
    write_crowns(table, tmp_path / "a.json", grid_of=grids.__getitem__)
    data = json.loads((tmp_path / "a.json").read_text())
    assert {i["id"]: i["file_name"] for i in data["images"]} == {1: "a/1.tif", 2: "b/1.tif"}
    assert [a["image_id"] for a in data["annotations"]] == [1, 1, 1, 2, 2, 2]
    first, second = (np.array(data["annotations"][i]["bbox"]) for i in (0, 3))
    np.testing.assert_allclose(first, second, atol=1e-3)


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
@pytest.mark.parametrize(
    ("suffix", "when"),
    [*((s, "append") for s in (".gpkg", ".parquet", ".geojson", ".csv", ".json"))]
    + [(s, "finish") for s in (".gpkg", ".shp", ".fgb")],
)
def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path, suffix, when):
    code = f"""
    import resource, signal, sys
    import numpy as np, pyproj, shapely, geopandas as gpd
    from treedet.core import crowns
    from treedet.errors import OutputError
    from treedet.core.labels import LabelSchema
    from treedet.vectors.writers import open_writer
    n = 3000
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 1e5, (n, 2))
    boxes = np.hstack([low, low + 7.123])
    table = gpd.GeoDataFrame(
        dict(crown_id=np.arange(n), label="tree", score=rng.random(n), area_m2=rng.random(n), crown_m2=rng.random(n),
             diameter_m=rng.random(n), cut=False, edge=False, source="a.tif"),
        geometry=shapely.box(*boxes.T), crs=32633)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    def fill(now):
        if now == {when!r}:
            resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
    try:
        with open_writer({str(tmp_path / ("a" + suffix))!r}, schema=LabelSchema(), crs=table.crs,
                         raster_size=(9, 9)) as writer:
            fill("append")
            writer.append(table, boxes)
            fill("finish")
            writer.finish(dict(a=1))
    except OutputError as error:
        print("OutputError", error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.stdout.startswith("OutputError"), done.stderr
    assert f"a{suffix}" in done.stdout
    assert list(tmp_path.iterdir()) == []
