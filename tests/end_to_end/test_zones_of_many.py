"""Zones of a run over many files: the table is that of one file with all of them."""

import logging
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from affine import Affine
from factories import UTM, cut_up, disks, make_raster, paint, tiny_spec
from rasterio.warp import Resampling, calculate_default_transform, reproject

from treedet import cli
from treedet.commands import predict_command
from treedet.core.zones import cells
from treedet.errors import ConfigError, CrsMismatchError
from treedet.inference.campaign_parts import merge_parts, predict_part
from treedet.inference.campaign_run import Run
from treedet.inference.detector import Detector
from treedet.inference.options import PredictOptions
from treedet.inference.run_options import Part, RunOptions
from treedet.inference.zone_options import ZoneOptions
from treedet.models.blobs import BlobDetector
from treedet.vectors.annotations import read_crowns

GSD = 0.2
WIDTH, HEIGHT = 430, 370
X, Y = 500_000.0, 5_400_000.0
CIRCLES = disks(np.random.default_rng(5), width=WIDTH, height=HEIGHT, count=60, radius=(4, 16))
PIXELS = np.concatenate([paint(CIRCLES, width=WIDTH, height=HEIGHT), np.full((1, HEIGHT, WIDTH), 255, np.uint8)])
PIXELS[:, 100:140, 50:300] = 0
RGBA = {"photometric": "RGB", "alpha": "yes"}
COLUMNS, ROWS = (0, 140, 290, WIDTH), (0, 121, 250, HEIGHT)
OPTIONS = PredictOptions(max_crown=8.0)


def model():
    return BlobDetector(tiny_spec(gsd=GSD, window_px=128))


def detector():
    return Detector(model(), name="blobs")


def box(x0, y0, x1, y1):
    return shapely.box(X + x0 * GSD, Y - y1 * GSD, X + x1 * GSD, Y - y0 * GSD)


@pytest.fixture
def stands(tmp_path):
    polygons = [box(0, 0, 200, 370), box(150, 50, 600, 200), box(2000, 0, 2100, 100), box(300, 300, 301, 370)]
    frame = gpd.GeoDataFrame({"stand": list("abcd")}, geometry=polygons, crs=UTM)
    frame.to_file(tmp_path / "stands.gpkg")
    return ZoneOptions(zones=str(tmp_path / "stands.gpkg"), zone_id="stand")


@pytest.fixture
def tiles(tmp_path):
    return cut_up(tmp_path / "tiles", PIXELS, columns=COLUMNS, rows=ROWS, gsd=GSD, margin=20, **RGBA)


@pytest.fixture
def alone(tmp_path):
    """Makes the table of one file with everything."""
    whole = make_raster(tmp_path / "whole.tif", PIXELS, gsd=GSD, **RGBA)

    def table(zoning, **options):
        detector().predict_to_file(whole, tmp_path / "whole.gpkg", OPTIONS, zoning=zoning, overwrite=True, **options)
        return gpd.read_file(tmp_path / "whole-zones.gpkg")

    return table


def assert_same(found, expected, *, rtol=2e-5):
    assert list(found.columns) == list(expected.columns)
    for name in found.columns.drop("geometry"):
        if found[name].dtype.kind == "f":
            np.testing.assert_allclose(found[name], expected[name], rtol=rtol, atol=1e-9, err_msg=name)
        else:
            assert found[name].tolist() == expected[name].tolist(), name
    assert found.crs == expected.crs
    assert shapely.equals_exact(found.geometry.to_numpy(), expected.geometry.to_numpy(), 1e-6).all()


@pytest.mark.parametrize("kind", ["stands", "grid"])
def test_the_table_is_that_of_one_file(tmp_path, tiles, alone, stands, kind):
    zoning = stands if kind == "stands" else ZoneOptions(grid=20)
    expected = alone(zoning)
    summary = detector().predict_many(tmp_path / "tiles", tmp_path / "out.gpkg", OPTIONS, zoning=zoning)
    found = gpd.read_file(tmp_path / "out-zones.gpkg")
    # Lines that ground is measured along lie elsewhere than on pixels of one raster.
    assert_same(
        found.drop(columns=["hectares", "per_ha", "cover"]),
        expected[found.columns.drop(["hectares", "per_ha", "cover"])],
    )
    np.testing.assert_allclose(found["hectares"], expected["hectares"], rtol=0.02, atol=2e-5)
    np.testing.assert_allclose(found["cover"], expected["cover"], rtol=0.1, atol=0.02)
    assert found["hectares"].sum() == pytest.approx(expected["hectares"].sum(), rel=2e-3)
    assert summary.zones.inside + summary.zones.outside == summary.crowns > 50
    assert f"zones      {summary.zones.line}" in summary.lines()


def test_an_aoi_bounds_the_hectares(tmp_path, tiles, alone):
    gpd.GeoDataFrame(geometry=[box(20, 20, 180, 300)], crs=UTM).to_file(tmp_path / "aoi.gpkg")
    zoning, aoi = ZoneOptions(grid=10), {"aoi": str(tmp_path / "aoi.gpkg")}
    expected = alone(zoning, **aoi)
    detector().predict_many(tmp_path / "tiles", tmp_path / "out.gpkg", OPTIONS, zoning=zoning, **aoi)
    found = gpd.read_file(tmp_path / "out-zones.gpkg")
    assert found["zone_id"].tolist() == expected["zone_id"].tolist()
    assert found["crowns"].tolist() == expected["crowns"].tolist()
    assert found["hectares"].sum() == pytest.approx(expected["hectares"].sum(), rel=5e-3)


def test_ground_of_two_rasters_on_other_pixel_grids_counts_once(tmp_path):
    folder = tmp_path / "tiles"
    folder.mkdir()
    for name, shift in (("a", 0.0), ("b", 0.07)):
        corner = Affine(GSD, 0, X + shift, 0, -GSD, Y)
        make_raster(folder / f"{name}.tif", PIXELS[:3], gsd=GSD, transform=corner)
    summary = detector().predict_many(folder, tmp_path / "out.gpkg", OPTIONS, zoning=ZoneOptions(grid=20))
    assert summary.grounds == 2
    found = gpd.read_file(tmp_path / "out-zones.gpkg")
    once = WIDTH * HEIGHT * (GSD / 0.9996) ** 2 / 1e4
    assert found["hectares"].sum() == pytest.approx(once * (1 + 0.07 / (WIDTH * GSD)), rel=1e-3)
    assert found["zone_id"].is_unique


def test_rasters_of_several_crs_meet_on_one_map(tmp_path, stands):
    folder = tmp_path / "tiles"
    cut_up(folder, PIXELS[:3], columns=(0, 140, 290), rows=(0, HEIGHT), gsd=GSD)
    right = make_raster(
        tmp_path / "right.tif", PIXELS[:3, :, 290:], gsd=GSD, transform=Affine(GSD, 0, X + 58, 0, -GSD, Y)
    )
    with rasterio.open(right) as source:
        transform, width, height = calculate_default_transform(UTM, "EPSG:32633", WIDTH - 290, HEIGHT, *source.bounds)
        moved = np.zeros((4, height, width), np.uint8)
        pixels = np.concatenate([source.read(), np.full((1, HEIGHT, WIDTH - 290), 255, np.uint8)])
        reproject(
            pixels, moved, src_crs=UTM, src_transform=source.transform, dst_crs="EPSG:32633", dst_transform=transform,
            resampling=Resampling.nearest,
        )  # fmt: skip
    make_raster(folder / "right.tif", moved, crs="EPSG:32633", transform=transform, gsd=GSD, **RGBA)
    summary = detector().predict_many(folder, tmp_path / "out.gpkg", OPTIONS, zoning=stands)
    assert summary.grounds == 2
    found = gpd.read_file(tmp_path / "out-zones.gpkg").set_index("zone_id")
    assert found.crs == UTM
    ground = (GSD / 0.9996) ** 2 / 1e4
    assert found["hectares"].tolist() == pytest.approx(
        [200 * 370 * ground, 280 * 150 * ground, 0, 70 * ground], rel=0.01
    )
    centres = read_crowns(tmp_path / "out.gpkg").geometry.centroid
    assert found["crowns"].tolist() == [int(centres.within(polygon).sum()) for polygon in found.geometry]
    assert found["crowns"].sum() > 40


def test_parts_are_merged_with_their_zones(tmp_path, tiles, stands):
    detector().predict_many(tmp_path / "tiles", tmp_path / "one.gpkg", OPTIONS, zoning=stands)
    for number in (2, 1):
        run = Run(model(), "blobs", "tiles", tmp_path / "out.gpkg", OPTIONS, RunOptions(), zoning=stands)
        predict_part(run, tmp_path / "tiles", Part(number, 2))
    assert not (tmp_path / "out-zones.gpkg").exists()
    summary = merge_parts(tmp_path / "out.gpkg.parts", tmp_path / "out.gpkg")
    assert summary.zones is not None
    assert_same(gpd.read_file(tmp_path / "out-zones.gpkg"), gpd.read_file(tmp_path / "one-zones.gpkg"))


@pytest.mark.parametrize("name", ["each", "each.csv"])
def test_files_of_each_raster_have_one_table_of_zones(tmp_path, tiles, stands, name):
    detector().predict_many(tmp_path / "tiles", tmp_path / "one.csv", OPTIONS, zoning=stands)
    detector().predict_many(tmp_path / "tiles", tmp_path / name, OPTIONS, zoning=stands, per_raster=True)
    suffix = Path(name).suffix or ".gpkg"
    path = tmp_path / f"each-zones{suffix}"
    found = pd.read_csv(path) if suffix == ".csv" else gpd.read_file(path)
    pd.testing.assert_series_equal(
        found["crowns"], pd.read_csv(tmp_path / "one-zones.csv")["crowns"], check_dtype=False
    )


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
@pytest.mark.filterwarnings("default")
def test_the_table_is_whole_once_a_damaged_file_is_mended(tmp_path, tiles, stands, monkeypatch, capsys):
    monkeypatch.setattr(predict_command, "load_detector", lambda *_, **__: detector())
    damaged = Path(next(iter(tiles)))
    data = damaged.read_bytes()
    damaged.write_bytes(b"nothing")
    arguments = ["predict", str(tmp_path / "tiles"), str(tmp_path / "out.gpkg"), "--max_crown", "8", "--no_look"]
    arguments += ["--zones", stands.zones, "--zone_id", "stand"]
    assert cli.main(arguments) == 3
    before = gpd.read_file(tmp_path / "out-zones.gpkg")
    assert "in 4 zones (1 without imagery)" in capsys.readouterr().out
    damaged.write_bytes(data)
    assert cli.main([*arguments, "--resume"]) == 0
    after = gpd.read_file(tmp_path / "out-zones.gpkg")
    detector().predict_many(tmp_path / "tiles", tmp_path / "one.gpkg", OPTIONS, zoning=stands)
    assert_same(after, gpd.read_file(tmp_path / "one-zones.gpkg"))
    assert before["hectares"][0] < after["hectares"][0]
    assert before["crowns"][0] < after["crowns"][0]


def test_what_can_not_be_counted_by_is_said_before_the_work(tmp_path, tiles, stands, caplog):
    def predict(zoning, folder="tiles", **options):
        def never(_):
            raise AssertionError

        return detector().predict_many(
            tmp_path / folder, tmp_path / "out.gpkg", OPTIONS, zoning=zoning, watch=never, **options
        )

    far = gpd.GeoDataFrame(geometry=[box(90_000, 0, 90_100, 50)], crs=UTM)
    far.to_file(tmp_path / "far.gpkg")
    with pytest.raises(CrsMismatchError, match="none of 1 lies on the rasters"):
        predict(ZoneOptions(zones=str(tmp_path / "far.gpkg")))
    (tmp_path / "photos").mkdir()
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        make_raster(tmp_path / "photos" / "a.tif", PIXELS[:3], crs=None)
    with pytest.raises(ConfigError, match=r"many rasters are laid on the map, and .*a\.tif has no CRS"):
        predict(stands, "photos", gsd=GSD)
    assert not (tmp_path / "out.gpkg.parts").exists()
    caplog.set_level(logging.INFO, logger="treedet")
    detector().predict_many(tmp_path / "tiles", tmp_path / "out.gpkg", OPTIONS, zoning=stands)
    assert "1 of 4 lie off the rasters; their rows are empty" in caplog.text


def test_cells_are_laid_out_where_rasters_are_alone():
    boxes = np.array([[0.0, 0, 30, 10], [20, 0, 50, 10], [1e7, 1e7, 1e7 + 10, 1e7 + 10]])
    found = cells(boxes, 10, crs=None, unit_m=1.0)
    assert found.ids.tolist() == ["0_0", "10_0", "20_0", "30_0", "40_0", "10000000_10000000"]
