"""The benchmarks run: small, in this process and without DeepForest, so that they do not rot unseen."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from factories import tiny_spec

from treedet.inference import loading
from treedet.models import model_file
from treedet.models.build import weights_of
from treedet.models.trunk import Trunk

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture
def main_job(on_path: None) -> ModuleType:
    return import_module("main_job")


def test_rows_run_separately_are_merged_into_the_stored_result(main_job, tmp_path, capsys):
    assert main_job.main(["--only", "merging", "--size", "64", "--results", str(tmp_path)]) == 0
    first = json.loads((tmp_path / "main_job.json").read_text())["rows"]
    assert main_job.main(["--only", "writers", "--size", "64", "--results", str(tmp_path)]) == 0
    both = json.loads((tmp_path / "main_job.json").read_text())["rows"]
    assert list(both) == ["merging", "writers"]
    assert both["merging"] == first["merging"]
    assert {"date", "commit", "machine", "versions", "size", "load_before", "figures"} <= set(both["writers"])
    page = (tmp_path / "main_job.md").read_text()
    assert "1,000 crowns to .gpkg" in page
    assert "<= 5 s | met" in page
    assert "1,000 crowns to .gpkg" in capsys.readouterr().out


def test_a_reduced_run_leaves_the_stored_result_alone(main_job, monkeypatch, tmp_path):
    monkeypatch.setattr(main_job, "RESULTS", tmp_path)
    monkeypatch.setattr(main_job, "ROWS", {"merging": lambda bench: [main_job.Figure("nothing", 1.0)]})
    main_job.main(["--only", "merging", "--size", "64"])
    assert not list(tmp_path.iterdir())
    main_job.main(["--only", "merging"])
    assert (tmp_path / "main_job.json").exists()


@pytest.mark.parametrize(
    "arguments", [["--only", "speed,haste"], ["--size", "1500"], ["--size", "101"], ["--size", "10"]]
)
def test_wrong_arguments_are_refused(main_job, arguments, capsys):
    with pytest.raises(SystemExit):
        main_job.main(arguments)
    assert arguments[1].rpartition(",")[2] in capsys.readouterr().err


@pytest.mark.parametrize(("value", "met"), [(0.9, "not met"), (1.0, "met"), (2.0, "met"), (2.1, "not met")])
def test_a_figure_says_whether_its_target_is_met(on_path, value, met):
    figure = import_module("figures").Figure
    assert figure("ratio", value, at_least=1, at_most=2).met == met
    assert figure("ratio", value).met == ""
    assert figure("count", value, at_least=1, at_most=1).target == "= 1"


@pytest.mark.parametrize("layout", ["TILED_DEFLATE", "STRIPED_DEFLATE"])
def test_the_memory_row_finds_every_painted_disk(on_path, tmp_path, layout):
    imagery = import_module("imagery")
    processes = import_module("processes")

    raster = tmp_path / "disks.tif"
    painted = imagery.write_disks(raster, width=1200, height=800, tile=400, options=getattr(imagery, layout))
    # In a process of its own, as the row does it: here earlier tests have taken the memory already.
    found = processes.in_process("memory", raster=str(raster), output=str(tmp_path / "disks.gpkg"))
    assert painted == found["crowns"] == 24
    assert found["above_mib"] > 0


def test_a_raster_that_would_cut_disks_is_refused(on_path, tmp_path):
    imagery = import_module("imagery")

    with pytest.raises(ValueError, match="no multiple of 400"):
        imagery.write_disks(tmp_path / "disks.tif", width=1000, height=800, tile=400, options=imagery.TILED_DEFLATE)


def test_the_network_reads_what_reading_alone_reads(on_path, tmp_path, monkeypatch):
    imagery = import_module("imagery")
    worker = import_module("worker")

    spec, model = tiny_spec(), tmp_path / "tiny.safetensors"
    torch.manual_seed(0)
    model_file.save(model, spec, weights_of(Trunk(spec)))
    for module in (worker, loading):
        monkeypatch.setattr(module, "bundled_model", lambda: model)
    monkeypatch.setattr(worker, "keep_memory", lambda: None)  # it is for the whole process
    raster = str(imagery.write_forest(tmp_path / "wood.tif", 300, 0.1, imagery.STRIPED_LZW))
    alone = worker.read(raster)
    assert alone["windows"] == worker.network(raster)["windows"] == 4
    found = worker.predict(raster, str(tmp_path / "wood.gpkg"), precision="fp32")
    assert found["windows"] == 4
    assert 0 < found["network_s"] < found["wall_s"]
    assert found["precision"] == "fp32"


@pytest.mark.parametrize("joined", [False, True])
def test_many_small_files_are_measured(on_path, tmp_path, joined):
    import_module("campaigns").write_files(tmp_path / "tiles", 6, joined=joined)
    found = import_module("campaigns_worker").run_files(str(tmp_path))
    assert found["files"] == 6
    assert (found["grounds"] < 6) == joined
    assert found["crowns"] > 50
    assert found["overhead_ms"] > 0


def test_a_twin_is_a_further_crown_on_a_rendered_one(on_path: None) -> None:
    figures_on = import_module("rendered_retinanet").figures_on
    scene = SimpleNamespace(boxes=np.array([[0.0, 0, 40, 40], [60, 0, 100, 40], [200, 0, 240, 40]]))
    whole, half, apart, other = [1.0, 0, 41, 40], [0.0, 0, 22, 40], [140.0, 0, 150, 40], [60.0, 0, 100, 40]
    found = figures_on(scene, np.array([whole, half, apart, other]))
    assert found == {"rendered": 3, "crown_recall": 0.6667, "crown_precision": 0.5, "twins": 1}
    assert figures_on(scene, np.zeros((0, 4)))["twins"] == 0
