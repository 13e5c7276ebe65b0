"""The training benchmark runs: tiny, in this process, so that it does not rot unseen."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch

from treedet.core.spec import ModelSpec
from treedet.models.anchors import anchor_boxes
from treedet.models.trunk import Trunk

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = import_module("training_worker")
    monkeypatch.setattr(module, "keep_memory", lambda: None)  # it is for the whole process
    return module


def test_both_sides_train_the_same_network(worker: ModuleType) -> None:
    ours, theirs = Trunk(ModelSpec()), worker.retinanet(ModelSpec(), 64)
    sizes = [sum(p.numel() for p in model.parameters()) for model in (ours, theirs)]
    assert sizes[0] == sizes[1]
    maps = [torch.zeros(1, 1, 2 ** (6 - level), 2 ** (6 - level)) for level in ModelSpec().levels]
    images = type("Images", (), {"tensors": torch.zeros(1, 3, 64, 64), "image_sizes": [(64, 64)]})()
    difference = theirs.anchor_generator(images, maps)[0] - anchor_boxes(ModelSpec(), 64, 64)
    assert difference.abs().max() <= 1


@pytest.mark.parametrize("work", ["ours", "torchvision"])
def test_a_step_is_timed_at_the_size_both_pad_to(worker: ModuleType, work: str) -> None:
    how = {"precision": "32-true"} if work == "ours" else {}
    answer = worker.WORK[work](1, side=50, batch=2, **how)
    assert answer["seconds"] > 0
    assert answer["side"] == 64


def test_waiting_is_part_of_the_step(worker: ModuleType) -> None:
    answer = worker.wait(2, side=64, batch=2, workers=0, scene_px=128)
    assert 0 < answer["waited_s"] < answer["seconds"]
    assert answer["share"] == pytest.approx(answer["waited_s"] / answer["seconds"])


def test_rows_run_separately_are_merged(
    worker: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = import_module("training_speed")
    answers = {"seconds": 2.0, "side": 64, "share": 0.05, "waited_s": 0.1}
    monkeypatch.setattr(bench, "in_process", lambda *_, **__: answers)
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "stored")
    for row in bench.ROWS:
        assert bench.main(["--only", row, "--steps", "1", "--results", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "training_speed.json").read_text())["rows"]
    assert list(rows) == ["speed", "data wait"]
    assert not (tmp_path / "stored").exists(), "a reduced run leaves the stored result alone"
    printed = capsys.readouterr().out
    assert "not met" in printed, "equal speed misses the target"
    assert "<= 10 %" in printed
