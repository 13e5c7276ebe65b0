"""Workers of a Dask cluster find the same rows as one process, and their death loses nothing."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from factories import cut_up, paint, tiny_spec
from geopandas.testing import assert_geodataframe_equal

from treedet import cli
from treedet.errors import ConfigError
from treedet.inference import campaign, on_dask
from treedet.inference.detector import Detector
from treedet.inference.loading import load
from treedet.inference.options import PredictOptions
from treedet.inference.run_options import RunOptions
from treedet.models.blobs import BlobDetector
from treedet.vectors.annotations import read_crowns

pytest.importorskip("distributed", reason="dask[distributed] is not installed")

WIDTH, HEIGHT = 240, 420
CIRCLES = np.array(
    [(x, y, 8) for y in (40, 100, 140, 200, 280, 340, 395) for x in (30, 75, 120, 165, 210)], dtype=float
)
OPTIONS = PredictOptions(max_crown=2.2, stretch=(0, 255))
SCRIPT = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from factories import tiny_spec
from treedet.inference import campaign
from treedet.inference.detector import Detector
from treedet.inference.options import PredictOptions
from treedet.models.blobs import BlobDetector

class Deadly(BlobDetector):
    # Kills its worker once, at the first window.
    def detect(self, pixels, **how):
        mark = Path({mark!r})
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().detect(pixels, **how)

if __name__ == "__main__":
    campaign.UNIT_WINDOWS = 1
    options = PredictOptions(max_crown=2.2, stretch=(0, 255))
    found = Detector(Deadly(tiny_spec(window_px=64)), name="blobs").predict_many(
        {tiles!r}, {output!r}, options, workers=1
    )
    print(found.crowns)
"""


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    pixels = paint(CIRCLES, width=WIDTH, height=HEIGHT)
    cut_up(tmp_path / "tiles", pixels, columns=(0, 120, WIDTH), rows=(0, 140, 280, HEIGHT))
    return tmp_path / "tiles"


def test_workers_give_the_rows_of_one_process_even_if_one_is_killed(
    tmp_path: Path, tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "UNIT_WINDOWS", 1)
    detector = Detector(BlobDetector(tiny_spec(window_px=64)), name="blobs")
    detector.predict_many(tiles, tmp_path / "alone.gpkg", OPTIONS)
    output, mark = tmp_path / "shared.gpkg", tmp_path / "killed"
    script = tmp_path / "script.py"
    tests = str(Path(__file__).parents[1])
    script.write_text(SCRIPT.format(tests=tests, mark=str(mark), tiles=str(tiles), output=str(output)))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env=environment, timeout=200, check=False
    )
    assert done.stdout.strip() == str(len(CIRCLES)), done.stderr
    assert mark.exists(), "a worker was killed"
    assert_geodataframe_equal(read_crowns(tmp_path / "alone.gpkg"), read_crowns(output))
    assert not output.with_name("shared.gpkg.parts").exists()


def test_weights_that_no_file_holds_can_not_be_shared(tmp_path: Path, tiles: Path) -> None:
    bundled = load(device="cpu", precision="fp32")
    unsaved = Detector(bundled.model, trunk=bundled.trunk)
    with pytest.raises(ConfigError, match="workers load the model from its file: save it"):
        unsaved.predict_many(tiles, tmp_path / "crowns.gpkg", OPTIONS, workers=1, gsd=0.1)


def test_a_scheduler_that_is_not_there_is_said(tmp_path: Path, tiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_dask, "ANSWER_S", 1)
    detector = Detector(BlobDetector(tiny_spec(window_px=64)), name="blobs")
    with pytest.raises(ConfigError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        detector.predict_many(tiles, tmp_path / "crowns.gpkg", OPTIONS, scheduler="tcp://127.0.0.1:9")


@pytest.mark.parametrize("address", ["gpu01", "http://gpu01:8786"])
def test_an_address_that_is_none_is_said(tmp_path: Path, tiles: Path, address: str) -> None:
    detector = Detector(BlobDetector(tiny_spec(window_px=64)), name="blobs")
    with pytest.raises(ConfigError, match="give it as tcp://HOST:8786"):
        detector.predict_many(tiles, tmp_path / "crowns.gpkg", OPTIONS, scheduler=address)


def test_settings_of_workers_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="workers must be at least 1"):
        RunOptions(workers=0)
    with pytest.raises(ConfigError, match="exclude each other"):
        RunOptions(workers=2, scheduler="tcp://127.0.0.1:8786")
    assert cli.main(["predict", "tiles", "out.gpkg", "--workers", "2", "--part", "1/2"]) == 2
    assert "--part does a part of a run by itself" in capsys.readouterr().err
