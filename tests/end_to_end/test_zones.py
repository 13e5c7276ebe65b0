"""Zones of a prediction: painted disks, so that every count is known."""

import logging

import geopandas as gpd
import numpy as np
import pytest
import shapely
from factories import UTM, disks, make_raster, paint, tiny_spec
from geopandas.testing import assert_geodataframe_equal

from treedet import cli
from treedet.commands import inspect_command, predict_command
from treedet.core.labels import LabelSchema
from treedet.errors import ConfigError, CrownsError, CrsMismatchError, MissingColumnError, OutputError
from treedet.inference.detector import Detector
from treedet.inference.zone_options import ZoneOptions
from treedet.models.blobs import BlobDetector
from treedet.vectors.annotations import read_crowns

GSD = 0.2
WIDTH, HEIGHT = 430, 370
X, Y = 500_000.0, 5_400_000.0
GROUND = (GSD / 0.9996) ** 2
"""Square metres of ground below a pixel: the rasters lie on the central meridian of UTM."""


def detector(**changes):
    return Detector(BlobDetector(tiny_spec(gsd=GSD, window_px=128, **changes)))


def on_map(*points):
    """A polygon with corners in pixels."""
    return shapely.transform(shapely.Polygon(points), lambda xy: xy * [GSD, -GSD] + np.array([X, Y]))


def box(x0, y0, x1, y1):
    return on_map((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def write(path, *polygons, crs=UTM, **columns):
    gpd.GeoDataFrame(columns, geometry=gpd.GeoSeries(list(polygons), crs=UTM).to_crs(crs), crs=crs).to_file(path)
    return str(path)


def zones_of(path):
    return gpd.read_parquet(path) if path.suffix == ".parquet" else gpd.read_file(path)


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    rng = np.random.default_rng(5)
    circles = disks(rng, width=WIDTH, height=HEIGHT, count=60, radius=(4, 16))
    path = tmp_path_factory.mktemp("zones") / "disks.tif"
    return make_raster(path, paint(circles, width=WIDTH, height=HEIGHT), gsd=GSD), circles


STANDS = [box(0, 0, 200, 370), on_map((200, 0), (430, 0), (430, 200)), box(100, 100, 300, 250)]


def counted(circles, polygons):
    xy = circles[:, :2] * [GSD, -GSD] + np.array([X, Y])
    return [int(shapely.contains_xy(polygon, xy).sum()) for polygon in polygons]


def cover(circles, polygons):
    ellipses = shapely.union_all([on_map(*shapely.Point(x, y).buffer(r, 32).exterior.coords) for x, y, r in circles])
    return [ellipses.intersection(polygon).area / polygon.area for polygon in polygons]


@pytest.mark.parametrize("crs", [UTM, "EPSG:4326", "EPSG:3035"])
def test_stands_hold_the_disks_that_are_painted_in_them(tmp_path, painted, crs, caplog):
    caplog.set_level(logging.INFO, logger="treedet")
    raster, circles = painted
    stands = write(tmp_path / "stands.gpkg", *STANDS, crs=crs, stand=["a", "b", "c"])
    summary = detector().predict_to_file(
        raster, tmp_path / "out.gpkg", zoning=ZoneOptions(zones=stands, zone_id="stand"), max_crown=8.0
    )
    table = zones_of(tmp_path / "out-zones.gpkg")
    assert table.crs.to_epsg() == 32632
    assert table["zone_id"].tolist() == ["a", "b", "c"]
    assert table["crowns"].tolist() == counted(circles, STANDS)
    np.testing.assert_allclose(table["hectares"], shapely.area(STANDS) / 0.9996**2 / 1e4, rtol=1e-4)
    np.testing.assert_allclose(table["zone_ha"], table["hectares"], rtol=1e-4)
    np.testing.assert_allclose(table["per_ha"], table["crowns"] / table["hectares"])
    np.testing.assert_allclose(table["cover"], cover(circles, STANDS), rtol=0.04)
    assert "reprojected" in caplog.text if crs != UTM else not caplog.messages
    everywhere = shapely.union_all(STANDS)
    assert summary.zones.inside == counted(circles, [everywhere])[0]
    assert summary.zones.inside + summary.zones.outside == len(circles)
    assert summary.zones.several == sum(counted(circles, STANDS)) - summary.zones.inside > 0
    assert "in more than one and counted in each" in "\n".join(summary.lines())


def test_diameters_and_shares_are_those_of_the_table_of_crowns(tmp_path, painted):
    pixels = paint(painted[1], width=WIDTH, height=HEIGHT)
    pixels[1, :, : WIDTH * 2 // 3] //= 2  # the second band says the status
    raster = make_raster(tmp_path / "a.tif", pixels, gsd=GSD)
    labels = LabelSchema(attributes={"status": ("alive", "dead")})
    stands = write(tmp_path / "stands.gpkg", *STANDS)
    detector(labels=labels).predict_to_file(raster, tmp_path / "out.gpkg", zoning=ZoneOptions(zones=stands))
    crowns = read_crowns(tmp_path / "out.gpkg")
    table = zones_of(tmp_path / "out-zones.gpkg")
    assert table["zone_id"].tolist() == [1, 2, 3]
    for row, polygon in zip(table.itertuples(), STANDS, strict=True):
        mine = crowns[crowns.centroid.within(polygon)]
        assert row.diam_mean == pytest.approx(mine["diameter_m"].mean(), rel=1e-5)
        assert row.diam_p50 == pytest.approx(mine["diameter_m"].median(), rel=0.01)
        assert row.s_dead == pytest.approx((mine["status"] == "dead").mean())
    assert "s_tree" not in table


def test_a_grid_counts_every_crown_once(tmp_path, painted):
    raster, circles = painted
    summary = detector().predict_to_file(raster, tmp_path / "out.parquet", zoning=ZoneOptions(grid=20))
    table = zones_of(tmp_path / "out-zones.parquet")
    assert table["crowns"].sum() == len(circles) == summary.crowns
    assert table["hectares"].sum() == pytest.approx(summary.hectares, rel=1e-6)
    assert (table["cover"] * table["hectares"]).sum() == pytest.approx(
        summary.canopy_cover * summary.hectares, rel=0.01
    )
    assert len(table) == 5 * 4
    assert table["zone_id"][0] == "500000_5399920"
    assert table["zone_ha"].max() == pytest.approx(0.04 / 0.9996**2)


@pytest.mark.parametrize("kind", ["alpha", "slanted"])
def test_nodata_is_no_hectare(tmp_path, painted, kind):
    _, circles = painted
    pixels = paint(circles, width=WIDTH, height=HEIGHT)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    valid = x < 250 if kind == "alpha" else x < 100 + 0.5 * y
    raster = make_raster(
        tmp_path / "a.tif",
        np.concatenate([pixels, valid[None] * np.uint8(255)]),
        gsd=GSD,
        photometric="RGB",
        alpha="YES",
    )
    polygons = [box(20, 20, 400, 330), box(300, 10, 420, 100)]
    summary = detector().predict_to_file(
        raster, tmp_path / "out.gpkg", zoning=ZoneOptions(zones=write(tmp_path / "z.gpkg", *polygons))
    )
    table = zones_of(tmp_path / "out-zones.gpkg")
    assert table["hectares"][0] == pytest.approx(valid[20:330, 20:400].sum() * GROUND / 1e4, rel=2e-3)
    assert table["hectares"][1] == 0
    assert np.isnan(table["cover"][1])
    assert np.isnan(table["per_ha"][1])
    assert summary.zones.grounded == 1


def test_an_aoi_and_zones_count_what_lies_in_both(tmp_path, painted):
    raster, circles = painted
    aoi = box(50, 50, 300, 300)
    options = {"aoi": write(tmp_path / "aoi.gpkg", aoi)}
    detector().predict_to_file(
        raster, tmp_path / "out.gpkg", zoning=ZoneOptions(zones=write(tmp_path / "z.gpkg", *STANDS)), **options
    )
    table = zones_of(tmp_path / "out-zones.gpkg")
    both = shapely.intersection(STANDS, aoi)
    assert table["crowns"].tolist() == counted(circles, both)
    np.testing.assert_allclose(table["hectares"], shapely.area(both) / 0.9996**2 / 1e4, rtol=1e-4)


def test_a_resumed_run_gives_the_same_table(tmp_path, painted, monkeypatch):
    raster, _ = painted
    zoning = ZoneOptions(zones=write(tmp_path / "z.gpkg", *STANDS))
    detector().predict_to_file(raster, tmp_path / "whole.gpkg", zoning=zoning)
    seen = []

    def stop(progress):
        seen.append(progress)
        if progress.windows > progress.total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        detector().predict_to_file(raster, tmp_path / "cut.gpkg", watch=stop)
    detector().predict_to_file(raster, tmp_path / "cut.gpkg", zoning=zoning, resume=True)
    whole, cut = (zones_of(tmp_path / f"{name}-zones.gpkg") for name in ("whole", "cut"))
    assert_geodataframe_equal(whole, cut)


def test_buildings_hold_no_crowns(tmp_path, painted):
    raster, circles = painted
    houses = [box(100, 100, 180, 160), box(250, 200, 330, 320)]
    path = write(tmp_path / "houses.gpkg", *houses, crs="EPSG:4326")
    expected = len(circles) - sum(counted(circles, houses))
    assert 0 < expected < len(circles)
    summary = detector().predict_to_file(raster, tmp_path / "out.gpkg", exclude=path)
    assert summary.crowns == expected
    assert f"not in {path}" in summary.filters
    assert len(detector().predict(raster, exclude=path)) == expected
    assert read_crowns(tmp_path / "out.gpkg")["crown_id"].tolist() == list(range(1, expected + 1))


def test_buildings_elsewhere_drop_nothing_and_that_is_said(tmp_path, painted, caplog):
    caplog.set_level(logging.INFO, logger="treedet")
    raster, circles = painted
    path = write(tmp_path / "houses.gpkg", box(10_000, 100, 10_100, 160))
    assert len(detector().predict(raster, exclude=path)) == len(circles)
    assert "no polygon lies on" in caplog.text


def test_zones_partly_off_the_raster_have_empty_rows(tmp_path, painted, caplog):
    caplog.set_level(logging.INFO, logger="treedet")
    raster, _ = painted
    stands = write(tmp_path / "z.gpkg", STANDS[0], box(1000, 0, 1100, 100))
    summary = detector().predict_to_file(raster, tmp_path / "out.gpkg", zoning=ZoneOptions(zones=stands))
    assert caplog.text.count("1 of 2 lie off the raster; their rows are empty") == 1
    assert zones_of(tmp_path / "out-zones.gpkg")["crowns"].iloc[1] == 0
    assert "(1 without imagery)" in summary.zones.line


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_pixels_without_crs_have_cells_too(tmp_path, painted):
    _, circles = painted
    raster = make_raster(tmp_path / "a.png", paint(circles, width=WIDTH, height=HEIGHT), crs=None, driver="PNG")
    detector().predict_to_file(raster, tmp_path / "out.csv", gsd=GSD, zoning=ZoneOptions(grid=20))
    text = (tmp_path / "out-zones.csv").read_text().splitlines()
    assert text[1].startswith("0_0,0.04,0.04,")
    assert len(text) == 1 + 5 * 4


def test_degrees_are_counted_in_cells_of_metres(tmp_path, painted):
    _, circles = painted
    transform = (GSD / 71_700, 0, 8.0, 0, -GSD / 111_229, 50.0)
    raster = make_raster(
        tmp_path / "a.tif", paint(circles, width=WIDTH, height=HEIGHT), crs="EPSG:4326", transform=transform
    )
    summary = detector().predict_to_file(raster, tmp_path / "out.gpkg", zoning=ZoneOptions(grid=20))
    table = zones_of(tmp_path / "out-zones.gpkg")
    assert table.crs.to_epsg() == 4326
    assert table["crowns"].sum() == summary.crowns
    np.testing.assert_allclose(table["zone_ha"], 0.04, rtol=0.01)


@pytest.mark.parametrize("partition", ["source", "cell"])
def test_a_folder_of_files_has_its_table_beside_it(tmp_path, painted, partition):
    raster, circles = painted
    detector().predict_to_file(
        raster, f"{tmp_path}/out/", partition=partition, zoning=ZoneOptions(grid=20), max_crown=8.0
    )
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out", "out-zones.parquet"]
    found = read_crowns(tmp_path / "out")
    assert sorted(found["crown_id"]) == list(range(1, len(circles) + 1))
    wanted = detector().predict(raster, max_crown=8.0)
    assert_geodataframe_equal(found.sort_values("crown_id", ignore_index=True), wanted)
    assert zones_of(tmp_path / "out-zones.parquet")["crowns"].sum() == len(circles)
    assert any(
        line.startswith("crowns") for line in inspect_command.describe(f"{tmp_path}/out", gsd=None, model=None)
    )


@pytest.mark.parametrize(
    ("zoning", "error", "says"),
    [
        ({"zones": "far.gpkg"}, CrsMismatchError, "none of 1 overlaps"),
        ({"zones": "near.gpkg", "zone_id": "STAND"}, MissingColumnError, "no column 'STAND'"),
        ({"zones": "gone.gpkg"}, CrownsError, "there is no file"),
        ({"grid": 0.01}, ConfigError, "give a larger side"),
    ],
)
def test_what_can_not_be_counted_by_is_said_before_the_run(tmp_path, painted, zoning, error, says, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("far.gpkg", box(10_000, 0, 10_100, 100))
    write("near.gpkg", *STANDS)
    with pytest.raises(error, match=says):
        detector().predict_to_file(painted[0], tmp_path / "out.gpkg", zoning=ZoneOptions(**zoning))
    assert not [entry for entry in tmp_path.iterdir() if entry.name.startswith(("out", ".out"))]


@pytest.mark.parametrize("wrong", [{"zones": "a", "grid": 5.0}, {"zone_id": "a"}, {"grid": -1.0}])
def test_options_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigError):
        ZoneOptions(**wrong)


def test_an_existing_table_is_replaced_on_request_alone(tmp_path, painted):
    (tmp_path / "out-zones.gpkg").write_text("mine")
    with pytest.raises(OutputError, match=r"out-zones.gpkg exists already"):
        detector().predict_to_file(painted[0], tmp_path / "out.gpkg", zoning=ZoneOptions(grid=20))
    assert (tmp_path / "out-zones.gpkg").read_text() == "mine"
    assert not (tmp_path / "out.gpkg").exists()
    detector().predict_to_file(painted[0], tmp_path / "out.gpkg", zoning=ZoneOptions(grid=20), overwrite=True)
    assert len(zones_of(tmp_path / "out-zones.gpkg")) == 20


@pytest.mark.filterwarnings("default")
@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_the_command_line_counts_by_zones(tmp_path, painted, monkeypatch, capsys):
    monkeypatch.setattr(predict_command, "load_detector", lambda *_, **__: detector())
    stands = write(tmp_path / "z.gpkg", *STANDS, stand=["a", "b", "c"])
    arguments = ["predict", str(painted[0]), str(tmp_path / "out.gpkg"), "--no_look", "--zones", stands]
    assert cli.main([*arguments, "--zone_id", "stand"]) == 0
    assert "crowns in 3 zones, " in capsys.readouterr().out
    assert len(zones_of(tmp_path / "out-zones.gpkg")) == 3
    assert cli.main([*arguments, "--grid", "20"]) == 2
    assert "exclude each other" in capsys.readouterr().err
