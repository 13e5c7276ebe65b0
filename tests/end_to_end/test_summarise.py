"""Crowns of a file counted by zones: the same figures as during the run, from every format."""

import logging

import geopandas as gpd
import numpy as np
import pytest
import shapely
from factories import UTM, disks, make_raster, paint, tiny_spec

import treedet
from treedet import cli
from treedet.core import crowns as crowns_table
from treedet.errors import ConfigError, CrownsError, CrsMismatchError
from treedet.inference.detector import Detector
from treedet.inference.summarise import summarise
from treedet.inference.zone_options import ZoneOptions
from treedet.models.blobs import BlobDetector
from treedet.vectors import crown_chunks
from treedet.vectors.annotations import read_crowns
from treedet.vectors.writers import write_crowns

GSD = 0.2
WIDTH, HEIGHT = 430, 370
X, Y = 500_000.0, 5_400_000.0


def on_map(*points):
    return shapely.transform(shapely.Polygon(points), lambda xy: xy * [GSD, -GSD] + np.array([X, Y]))


STANDS = [
    on_map((0, 0), (200, 0), (200, 370), (0, 370)),
    on_map((200, 0), (430, 0), (430, 200)),
    on_map((100, 100), (300, 100), (300, 250), (100, 250)),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with a raster whose right part is nodata, stands, crowns, and the table of the run."""
    folder = tmp_path_factory.mktemp("summarise")
    circles = disks(np.random.default_rng(5), width=WIDTH, height=HEIGHT, count=60, radius=(4, 16))
    pixels = np.maximum(paint(circles, width=WIDTH, height=HEIGHT), 1)
    pixels[:, :, 350:] = 0
    make_raster(folder / "a.tif", pixels, gsd=GSD, nodata=0)
    gpd.GeoDataFrame({"stand": ["a", "b", "c"]}, geometry=STANDS, crs=UTM).to_crs(4326).to_file(folder / "z.gpkg")
    Detector(BlobDetector(tiny_spec(gsd=GSD, window_px=128))).predict_to_file(
        folder / "a.tif", folder / "out.gpkg", zoning=by_stand(folder)
    )
    return folder


def by_stand(folder):
    return ZoneOptions(zones=str(folder / "z.gpkg"), zone_id="stand")


def assert_close(found, wanted, *, but=(), rtol=0.01):
    for name in [name for name in wanted.columns if name not in ("geometry", "zone_id", *but)]:
        np.testing.assert_allclose(found[name].astype(float), wanted[name].astype(float), rtol=rtol, err_msg=name)
    assert found["zone_id"].tolist() == wanted["zone_id"].tolist()


def test_with_the_raster_the_table_is_that_of_the_run(run, monkeypatch):
    monkeypatch.setattr(crown_chunks, "CHUNK_ROWS", 7)
    wanted = gpd.read_file(run / "out-zones.gpkg")
    found = summarise(run / "out.gpkg", by_stand(run), raster=run / "a.tif")
    assert_close(found.table, wanted, rtol=2e-3)
    assert wanted["hectares"][1] < 0.8 * wanted["zone_ha"][1]
    assert found.table.crs.to_epsg() == 32632


@pytest.mark.parametrize("suffix", [".parquet", ".geojson", ".fgb", ".shp", ".csv"])
@pytest.mark.parametrize("shape", ["box", "ellipse", "point"])
def test_every_format_and_shape_gives_the_same_figures(run, tmp_path, suffix, shape):
    wanted = summarise(run / "out.gpkg", by_stand(run))
    path = tmp_path / f"out{suffix}"
    write_crowns(read_crowns(run / "out.gpkg"), path, shape=shape, metadata={"run": "this"})
    found = summarise(path, by_stand(run))
    # A box in degrees is no rectangle in UTM, and a point knows the area of its crown, not its sides.
    assert_close(found.table, wanted.table, rtol=0.02)
    assert found.facts == wanted.facts


def test_without_a_raster_all_ground_counts_and_that_is_said(run, caplog):
    caplog.set_level(logging.INFO, logger="treedet")
    found = summarise(run / "out.gpkg", by_stand(run)).table
    np.testing.assert_allclose(found["hectares"], shapely.area(STANDS) / 0.9996**2 / 1e4, rtol=1e-6)
    assert "give raster= (--raster) to leave nodata out" in caplog.text


def test_cells_over_the_crowns(run):
    crowns = read_crowns(run / "out.gpkg")
    found = summarise(run / "out.gpkg", ZoneOptions(grid=10))
    assert found.table["crowns"].sum() == len(crowns)
    assert found.facts.several == 0
    on_raster = summarise(run / "out.gpkg", ZoneOptions(grid=10), raster=run / "a.tif")
    assert on_raster.table["crowns"].sum() == len(crowns)
    assert on_raster.table["hectares"].sum() == pytest.approx(350 * 370 * (GSD / 0.9996) ** 2 / 1e4, rel=1e-3)


def test_cells_in_degrees_are_squares_of_metres(run, tmp_path):
    write_crowns(read_crowns(run / "out.gpkg"), tmp_path / "a.geojson")
    found = summarise(tmp_path / "a.geojson", ZoneOptions(grid=10)).table
    assert found.crs.to_epsg() == 4326
    np.testing.assert_allclose(found["zone_ha"], 0.01 / 0.9996**2, rtol=1e-4)


def test_buildings_are_left_out(run, tmp_path):
    house = gpd.GeoDataFrame(geometry=[STANDS[2]], crs=UTM).to_crs(3035)
    house.to_file(tmp_path / "houses.gpkg")
    found = summarise(run / "out.gpkg", by_stand(run), exclude=str(tmp_path / "houses.gpkg")).table
    assert found["crowns"][2] == 0
    assert found["crowns"][0] > 0


def test_polygons_of_another_tool_are_counted(run, tmp_path):
    crowns = read_crowns(run / "out.gpkg")[["geometry"]]
    crowns.to_file(tmp_path / "theirs.gpkg")
    wanted = summarise(run / "out.gpkg", by_stand(run)).table
    assert_close(summarise(tmp_path / "theirs.gpkg", by_stand(run)).table, wanted, rtol=1e-3)


def test_crowns_in_pixels_need_the_size_of_a_pixel(run, tmp_path):
    crowns = read_crowns(run / "out.gpkg").set_crs(None, allow_override=True)
    write_crowns(crowns, tmp_path / "a.gpkg")
    with pytest.raises(ConfigError, match=r"has no CRS and does not tell the size of a pixel.*--gsd"):
        summarise(tmp_path / "a.gpkg", ZoneOptions(grid=10))
    found = summarise(tmp_path / "a.gpkg", ZoneOptions(grid=10), gsd=1.0)
    assert found.table["crowns"].sum() == len(crowns)


def test_zones_elsewhere_are_an_error(run, tmp_path):
    far = gpd.GeoDataFrame(geometry=[shapely.box(X + 9000, Y, X + 9100, Y + 100)], crs=UTM)
    far.to_file(tmp_path / "far.gpkg")
    for options in ({}, {"raster": run / "a.tif"}):
        with pytest.raises(CrsMismatchError, match="none of 1 "):
            summarise(run / "out.gpkg", ZoneOptions(zones=str(tmp_path / "far.gpkg")), **options)


def test_no_crowns_need_a_raster(run, tmp_path):
    write_crowns(crowns_table.empty(crs=gpd.GeoSeries([], crs=UTM).crs), tmp_path / "none.gpkg")
    with pytest.raises(CrownsError, match="holds no crown"):
        summarise(tmp_path / "none.gpkg", by_stand(run))
    found = summarise(tmp_path / "none.gpkg", by_stand(run), raster=run / "a.tif").table
    assert found["crowns"].tolist() == [0, 0, 0]
    assert (found["cover"] == 0).all()


def test_nothing_to_count_by_is_an_error(run):
    with pytest.raises(ConfigError, match="nothing to count by"):
        treedet.summarise(run / "out.gpkg", treedet.ZoneOptions())


@pytest.mark.filterwarnings("default")
def test_the_command(run, tmp_path, capsys):
    output = tmp_path / "table.gpkg"
    arguments = ["summarise", str(run / "out.gpkg"), str(output), "--zones", str(run / "z.gpkg")]
    assert cli.main([*arguments, "--zone_id", "stand", "--raster", str(run / "a.tif")]) == 0
    out, _ = capsys.readouterr()
    assert "crowns in 3 zones, " in out
    assert out.rstrip().endswith("table.gpkg")
    assert gpd.read_file(output)["crowns"].tolist() == gpd.read_file(run / "out-zones.gpkg")["crowns"].tolist()
    assert cli.main(arguments) == 2
    assert "exists already" in capsys.readouterr().err
    assert cli.main(["summarise", str(run / "out.gpkg"), str(run / "z.gpkg"), *arguments[3:], "--overwrite"]) == 2
    assert "is read and would be replaced" in capsys.readouterr().err


def test_a_crown_drawn_by_hand_has_the_diameter_of_its_outline(run, tmp_path):
    """A GIS leaves columns of a new row empty."""
    crowns = read_crowns(run / "out.gpkg")
    crowns.loc[3, "diameter_m"] = np.nan
    crowns.to_file(tmp_path / "edited.gpkg")
    whole = summarise(run / "out.gpkg", by_stand(run), raster=run / "a.tif")
    edited = summarise(tmp_path / "edited.gpkg", by_stand(run), raster=run / "a.tif")
    assert_close(edited.table, whole.table)
