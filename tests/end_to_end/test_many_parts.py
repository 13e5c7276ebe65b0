"""Parts of a run, worked off anywhere and in any order, are merged to the rows of one process."""

import json
from pathlib import Path

import numpy as np
import pytest
from factories import cut_up, paint, tiny_spec
from geopandas.testing import assert_geodataframe_equal

from treedet import cli
from treedet.commands import predict_command
from treedet.errors import ConfigError, OutputError
from treedet.inference import campaign
from treedet.inference.campaign_folder import CampaignFolder
from treedet.inference.campaign_parts import merge_parts, predict_part
from treedet.inference.campaign_run import Run
from treedet.inference.detector import Detector
from treedet.inference.options import PredictOptions
from treedet.inference.run_options import Part, RunOptions
from treedet.models.blobs import BlobDetector
from treedet.vectors.annotations import read_crowns

WIDTH, HEIGHT = 240, 420
CIRCLES = np.array(
    [(x, y, 8) for y in (40, 100, 140, 200, 280, 340, 395) for x in (30, 75, 120, 165, 210)], dtype=float
)
OPTIONS = PredictOptions(max_crown=2.2, where="score > 0.2", stretch=(0, 255))


def model():
    return BlobDetector(tiny_spec(window_px=64))


@pytest.fixture(autouse=True)
def small_units(monkeypatch):
    """Several units for the small ground of the tests."""
    monkeypatch.setattr(campaign, "UNIT_WINDOWS", 1)


@pytest.fixture
def tiles(tmp_path):
    pixels = paint(CIRCLES, width=WIDTH, height=HEIGHT)
    return [Path(p) for p in cut_up(tmp_path / "tiles", pixels, columns=(0, 120, WIDTH), rows=(0, 140, 280, HEIGHT))]


def part_of(tmp_path, number, of, **how):
    run = Run(model(), "blobs", str(tmp_path / "tiles"), tmp_path / "out.gpkg", OPTIONS, RunOptions(**how))
    return predict_part(run, tmp_path / "tiles", Part(number, of))


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
@pytest.mark.parametrize("per_raster", [False, True])
def test_parts_are_merged_to_the_rows_of_one_process(tmp_path, tiles, order, per_raster):
    name = "alone" if per_raster else "alone.gpkg"
    alone = Detector(model(), name="blobs").predict_many(
        tmp_path / "tiles", tmp_path / name, OPTIONS, per_raster=per_raster
    )
    units = [part_of(tmp_path, number, 3, per_raster=per_raster).units for number in order]
    assert min(units) > 0
    target = tmp_path / ("merged" if per_raster else "merged.gpkg")
    summary = merge_parts(tmp_path / "out.gpkg.parts", target)
    assert (summary.crowns, summary.hectares, summary.windows) == (alone.crowns, alone.hectares, alone.windows)
    pairs = [(tmp_path / name, target)]
    if per_raster:
        pairs = [(path, target / path.name) for path in sorted((tmp_path / name).iterdir())]
        assert len(pairs) == len(tiles)
    for one, other in pairs:
        assert_geodataframe_equal(read_crowns(one), read_crowns(other))
    assert not (tmp_path / "out.gpkg.parts").exists()


def test_a_part_that_is_missing_is_told_and_can_be_done_later(tmp_path, tiles):
    for number in (1, 3):
        part_of(tmp_path, number, 3)
    with pytest.raises(OutputError, match=r"units of .* are not done, the first is unit \d+: run the parts"):
        merge_parts(tmp_path / "out.gpkg.parts", tmp_path / "out.gpkg")
    part_of(tmp_path, 2, 3)
    assert merge_parts(tmp_path / "out.gpkg.parts", tmp_path / "out.gpkg").crowns == len(CIRCLES)


def test_one_process_takes_up_what_parts_left(tmp_path, tiles):
    part_of(tmp_path, 2, 2)
    done = len(CampaignFolder(tmp_path / "out.gpkg").finished(troubled=False))
    assert done > 0
    summary = Detector(model(), name="blobs").predict_many(
        tmp_path / "tiles", tmp_path / "out.gpkg", OPTIONS, resume=True
    )
    assert summary.crowns == len(CIRCLES)


def test_what_a_part_could_not_read_is_in_the_merge(tmp_path, tiles):
    data = tiles[2].read_bytes()
    tiles[2].write_bytes(data[: len(data) // 2])
    parts = [part_of(tmp_path, number, 2) for number in (1, 2)]
    assert {path for part in parts for path in part.failures} == {str(tiles[2])}
    summary = merge_parts(tmp_path / "out.gpkg.parts", tmp_path / "out.gpkg")
    assert list(summary.failures) == [str(tiles[2])]
    assert (tmp_path / "out-failures.csv").exists()


def test_a_folder_that_is_no_run(tmp_path):
    (tmp_path / "some").mkdir()
    with pytest.raises(ConfigError, match="is no run folder of parts"):
        merge_parts(tmp_path / "some", tmp_path / "out.gpkg")


@pytest.mark.parametrize("text", ["3", "a/b", "0/4", "5/4"])
def test_a_part_that_is_none(text):
    with pytest.raises(ConfigError, match="part"):
        Part.parse(text)


def test_parts_cover_all_units_once():
    for of in (1, 3, 7):
        for units in (0, 1, 6, 20):
            found = [unit for number in range(1, of + 1) for unit in range(units)[Part(number, of).share(units)]]
            assert found == list(range(units))


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
@pytest.mark.filterwarnings("default")
def test_a_job_array_on_the_command_line(tmp_path, tiles, monkeypatch, capsys):
    monkeypatch.setattr(predict_command, "load_detector", lambda *_, **__: Detector(model(), name="blobs"))
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "0")
    arguments = ["predict", str(tmp_path / "tiles"), str(tmp_path / "out.gpkg"), "--max_crown", "2.2"]
    for task in ("0", "1"):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", task)
        assert cli.main(arguments) == 0
        out, err = capsys.readouterr()
        assert out.startswith(f"part {int(task) + 1}/2: ")
        assert "as the SLURM job array says" in err
    assert f"treedet merge {tmp_path / 'out.gpkg.parts'} {tmp_path / 'out.gpkg'}" in out
    assert json.loads((tmp_path / "out.gpkg.parts" / "campaign.json").read_text())["per_raster"] is False
    assert cli.main(["merge", str(tmp_path / "out.gpkg.parts"), str(tmp_path / "out.gpkg")]) == 0
    assert capsys.readouterr()[0].startswith(f"{len(CIRCLES)} crowns on ")
