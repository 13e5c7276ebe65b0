"""Damaged, missing and vanishing files, killed runs and unreliable servers: nothing lost, nothing twice."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from factories import cut_up, make_raster, paint, tiny_spec, write_vrt
from geopandas.testing import assert_geodataframe_equal

from treedet import cli
from treedet.commands import predict_command
from treedet.errors import OutputError, ResumeMismatchError, UnreadableRasterError
from treedet.inference import campaign, folder
from treedet.inference.campaign_folder import CampaignFolder
from treedet.inference.detector import Detector
from treedet.inference.options import PredictOptions
from treedet.models.blobs import BlobDetector
from treedet.rasters.listing import list_rasters
from treedet.rasters.survey import survey
from treedet.vectors.annotations import read_crowns

HERE = Path(__file__).resolve().parent
OPTIONS = {"max_crown": 2.2}
WIDTH, HEIGHT = 240, 420
COLUMNS, ROWS = (0, 120, WIDTH), (0, 140, 280, HEIGHT)
CIRCLES = np.array(
    [(x, y, 8) for y in (40, 100, 140, 200, 280, 340, 395) for x in (30, 75, 120, 165, 210)], dtype=float
)
PIXELS = paint(CIRCLES, width=WIDTH, height=HEIGHT)


def detector():
    return Detector(BlobDetector(tiny_spec(window_px=64)))


@pytest.fixture(autouse=True)
def small_units(monkeypatch):
    """Several units for each of the small grounds of the tests."""
    monkeypatch.setattr(campaign, "UNIT_WINDOWS", 1)


@pytest.fixture
def tiles(tmp_path):
    places = cut_up(tmp_path / "tiles", PIXELS, columns=COLUMNS, rows=ROWS, tiled=True, blockxsize=16, blockysize=16)
    return [Path(path) for path in places]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The rows of an undisturbed run."""
    folder = tmp_path_factory.mktemp("whole")
    cut_up(folder / "tiles", PIXELS, columns=COLUMNS, rows=ROWS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(campaign, "UNIT_WINDOWS", 1)
        summary = detector().predict_many(folder / "tiles", folder / "out.gpkg", **OPTIONS)
    assert summary.crowns == len(CIRCLES)
    return read_crowns(folder / "out.gpkg")


def predict(tmp_path, **changes):
    return detector().predict_many(tmp_path / "tiles", tmp_path / "out.gpkg", **OPTIONS, **changes)


def listed(path):
    with path.open(newline="", encoding="utf-8") as file:
        return {row["path"]: row["reason"] for row in csv.DictReader(file)}


def assert_same(tmp_path, whole):
    found = read_crowns(tmp_path / "out.gpkg")
    found["source"] = [Path(path).name for path in found["source"]]
    assert_geodataframe_equal(found, whole.assign(source=[Path(path).name for path in whole["source"]]))


def damage(path, how):
    data = path.read_bytes()
    if how == "cut short":
        path.write_bytes(data[: len(data) // 2])
    elif how == "no raster":
        path.write_bytes(b"not a picture at all" * 100)
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
    return data


@pytest.mark.parametrize("how", ["cut short", "no raster", "empty"])
def test_a_damaged_tile_is_listed_and_taken_up_once_it_is_whole(tmp_path, tiles, whole, how, monkeypatch):
    data = damage(tiles[2], how)
    summary = predict(tmp_path)
    assert list(summary.failures) == [str(tiles[2])]
    assert 0 < summary.crowns < len(CIRCLES)
    assert listed(tmp_path / "out-failures.csv") == summary.failures
    assert any(line.startswith("failed     1 rasters") for line in summary.lines())
    assert CampaignFolder(tmp_path / "out.gpkg").exists

    tiles[2].write_bytes(data)
    done = []
    work_off = folder.work_off
    monkeypatch.setattr(folder, "work_off", lambda unit, *a, **k: done.append(unit) or work_off(unit, *a, **k))
    assert predict(tmp_path, resume=True).failures == {}
    assert_same(tmp_path, whole)
    every = len(detector_units(tmp_path))
    assert 0 < len(done) < every
    assert not (tmp_path / "out-failures.csv").exists()
    assert not CampaignFolder(tmp_path / "out.gpkg").path.exists()


@pytest.mark.parametrize(
    ("output", "changes", "where"),
    [
        ("crowns", {"partition": "source"}, "crowns-failures.csv"),
        ("out.csv", {"per_raster": True}, "out/failures.csv"),
    ],
)
def test_failures_beside_folders_are_taken_up_too(tmp_path, tiles, output, changes, where):
    data = damage(tiles[2], "cut short")
    summary = detector().predict_many(tmp_path / "tiles", tmp_path / output, **OPTIONS, **changes)
    assert listed(tmp_path / where) == summary.failures
    assert f"listed     {tmp_path / where};" in summary.lines()[-1]
    tiles[2].write_bytes(data)
    again = detector().predict_many(tmp_path / "tiles", tmp_path / output, **OPTIONS, **changes, resume=True)
    assert (again.failures, again.crowns) == ({}, len(CIRCLES))
    assert not (tmp_path / where).exists()


def detector_units(tmp_path):
    surveyed = survey(list_rasters(tmp_path / "tiles"))
    return campaign.plan_campaign(surveyed, detector().model, PredictOptions(**OPTIONS)).units


def test_a_tile_that_vanishes_midway(tmp_path, tiles, whole):
    kept = {}

    def watch(progress):
        if progress.windows > progress.total / 3 and not kept:
            kept[tiles[5]] = damage(tiles[5], "gone")

    summary = predict(tmp_path, watch=watch)
    assert list(summary.failures) == [str(tiles[5])]
    assert "there is no file" in summary.failures[str(tiles[5])]
    tiles[5].write_bytes(kept[tiles[5]])
    assert predict(tmp_path, resume=True).failures == {}
    assert_same(tmp_path, whole)


def test_a_path_in_a_list_that_leads_nowhere(tmp_path, tiles, whole):
    (tmp_path / "list.txt").write_text("\n".join([*map(str, tiles), "tiles/none.tif"]))
    summary = detector().predict_many(tmp_path / "list.txt", tmp_path / "out.gpkg", **OPTIONS)
    assert list(summary.failures) == [str(tmp_path / "tiles/none.tif")]
    assert_same(tmp_path, whole)


def test_nothing_readable_is_an_error(tmp_path, tiles):
    for tile in tiles:
        damage(tile, "no raster")
    with pytest.raises(UnreadableRasterError, match="none of 6 rasters can be used; the first: "):
        predict(tmp_path)
    assert not (tmp_path / "out.gpkg.parts").exists()


class StoppedError(Exception):
    pass


def interrupt(tmp_path, *, after):
    def watch(progress):
        if progress.windows >= after:
            raise StoppedError

    with pytest.raises(StoppedError):
        predict(tmp_path, watch=watch)


def test_an_interrupted_run_is_taken_up_with_the_same_settings_only(tmp_path, tiles, whole):
    interrupt(tmp_path, after=8)
    assert not (tmp_path / "out.gpkg").exists()
    with pytest.raises(OutputError, match=r"out\.gpkg\.parts is left .*--resume"):
        predict(tmp_path)
    with pytest.raises(ResumeMismatchError, match=r"score threshold was 0\.3, is now 0\.6"):
        predict(tmp_path, resume=True, score_threshold=0.6)
    seen = []
    predict(tmp_path, resume=True, watch=seen.append)
    assert seen[0].windows > 4
    assert seen[-1].windows == seen[-1].total
    assert_same(tmp_path, whole)


def test_a_tile_that_is_added_is_taken_up(tmp_path, tiles, whole):
    data = damage(tiles[3], "gone")
    interrupt(tmp_path, after=8)
    tiles[3].write_bytes(data)
    predict(tmp_path, resume=True)
    assert_same(tmp_path, whole)


def test_killed_runs_go_on_to_the_same_rows(tmp_path, tiles, whole):
    output = tmp_path / "out.gpkg"
    job = {"raster": str(tmp_path / "tiles"), "output": str(output), "options": OPTIONS, "many": True}
    ends = [{"windows": 7}, {"windows": 3}]
    done = subprocess.run(
        [sys.executable, str(HERE / "killed_runs.py")],
        input="".join(json.dumps({**job, **end}) + "\n" for end in ends),
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE.parents[1])]),
            "OMP_NUM_THREADS": "1",
        },
        text=True,
        capture_output=True,
        check=True,
    )
    assert done.stdout.split() == 2 * [str(-signal.SIGKILL)], done.stderr
    assert not output.exists()
    assert CampaignFolder(output).finished(troubled=False)
    predict(tmp_path, resume=True)
    assert_same(tmp_path, whole)


@pytest.fixture
def server(tmp_path):
    """Address of a server on loopback that serves the tiles, and fails as its paths say."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "flaky_server.py"), str(tmp_path / "tiles")], stdout=subprocess.PIPE, text=True
    )
    yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_server_that_is_busy_at_first(tmp_path, tiles, whole, server):
    kinds = ["3-503", "0-503", "1-reset", "0-503", "1-429", "0-503"]
    paths = [f"{server}/{kind}/{tile.name}" for kind, tile in zip(kinds, tiles, strict=True)]
    summary = detector().predict_many(paths, tmp_path / "out.gpkg", **OPTIONS)
    assert summary.failures == {}
    assert summary.crowns == len(CIRCLES)
    found = read_crowns(tmp_path / "out.gpkg")
    assert set(found["source"]) == set(paths)
    assert np.allclose(np.sort(found.geometry.area), np.sort(whole.geometry.area))


def test_a_server_without_the_file_is_not_waited_for(tmp_path, tiles, server):
    paths = [f"{server}/0-503/{tiles[0].name}", f"{server}/9-404/{tiles[1].name}"]
    summary = detector().predict_many(paths, tmp_path / "out.gpkg", **OPTIONS)
    assert list(summary.failures) == [paths[1]]
    assert "404" in summary.failures[paths[1]]


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
@pytest.mark.filterwarnings("default")
def test_the_command_line_lists_failures_and_exits_with_3(tmp_path, tiles, monkeypatch, capsys):
    monkeypatch.setattr(predict_command, "load_detector", lambda *_, **__: detector())
    make_raster(tmp_path / "tiles" / "grey.tif", PIXELS[:1])
    arguments = ["predict", str(tmp_path / "tiles"), str(tmp_path / "out.gpkg"), "--max_crown", "2.2"]
    assert cli.main(arguments) == 3
    out, err = capsys.readouterr()
    assert out.startswith(f"{len(CIRCLES)} crowns on ")
    assert "failed     1 rasters could not be read" in out
    assert "grey.tif has 1 band" in out
    assert f"listed     {tmp_path / 'out-failures.csv'}" in out
    assert "6 rasters are 1 piece of ground" in err
    assert (tmp_path / "out-look.png").exists()
    (tmp_path / "tiles" / "grey.tif").unlink()
    assert cli.main([*arguments, "--resume"]) == 0


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
@pytest.mark.filterwarnings("default")
def test_a_mosaic_with_a_damaged_file_is_the_files_it_names(tmp_path, tiles, whole, monkeypatch, capsys):
    monkeypatch.setattr(predict_command, "load_detector", lambda *_, **__: detector())
    mosaic = write_vrt(tmp_path / "mosaic.vrt", tiles)
    data = damage(tiles[2], "cut short")
    arguments = ["predict", str(mosaic), str(tmp_path / "out.gpkg"), "--max_crown", "2.2"]
    assert cli.main(arguments) == 3
    out, err = capsys.readouterr()
    (failed,) = listed(tmp_path / "out-failures.csv")
    assert Path(failed).resolve() == tiles[2]
    assert "it is read as the 6 files in it" in err
    assert "failed     1 rasters" in out
    tiles[2].write_bytes(data)
    assert cli.main([*arguments, "--resume"]) == 0
    assert_same(tmp_path, whole)
