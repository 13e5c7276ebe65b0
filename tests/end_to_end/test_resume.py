"""Runs that are killed and taken up again give the rows of an uninterrupted run."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from factories import disks, make_raster, paint, tiny_spec
from geopandas.testing import assert_geodataframe_equal

from treedet.errors import OutputError, RasterError, ResumeMismatchError
from treedet.inference.detector import Detector
from treedet.inference.parts import RunFolder
from treedet.models.blobs import BlobDetector
from treedet.vectors.annotations import read_crowns

HERE = Path(__file__).resolve().parent
OPTIONS = {"max_crown": 1.5}
KILLED = -signal.SIGKILL


def detector():
    return Detector(BlobDetector(tiny_spec(window_px=64)))


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    """A raster of some 10 rows of windows, with disks on either side of the widest crown expected."""
    rng = np.random.default_rng(11)
    circles = disks(rng, width=200, height=450, count=40, radius=(4, 14))
    folder = tmp_path_factory.mktemp("resume")
    return make_raster(folder / "disks.tif", paint(circles, width=200, height=450))


@pytest.fixture(scope="module")
def whole(painted):
    """The rows of an uninterrupted run, and its summary."""
    output = painted.with_name("whole.gpkg")
    summary = detector().predict_to_file(painted, output, **OPTIONS)
    assert summary.crowns == 40
    return read_crowns(output), summary


@pytest.fixture(scope="module")
def killed(painted, tmp_path_factory):
    """Outputs of runs that were killed: while detecting, once or more, from outside, and while writing."""
    folder = tmp_path_factory.mktemp("killed")
    rng = np.random.default_rng(3)
    how = {f"after windows {i}": [{"windows": int(n)}] for i, n in enumerate(rng.integers(1, 40, 4))}
    how["again and again"] = [{"windows": int(n)} for n in rng.integers(4, 15, 3)]
    how |= {f"from outside {i}": [{"seconds": float(s)}] for i, s in enumerate(rng.uniform(0.02, 0.5, 3))}
    how["while writing"] = [{"writing": True}]
    jobs = [
        {"raster": str(painted), "output": str(folder / f"{name}.gpkg"), "options": OPTIONS, **deadly}
        for name, series in how.items()
        for deadly in series
    ]
    paths = os.pathsep.join([str(HERE.parent), str(HERE.parents[1])])
    done = subprocess.run(
        [sys.executable, str(HERE / "killed_runs.py")],
        input="".join(json.dumps(job) + "\n" for job in jobs),
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        text=True,
        capture_output=True,
        check=True,
    )
    ends = [int(code) for code in done.stdout.split()]
    assert len(ends) == len(jobs)
    assert all(end in (0, KILLED) for end in ends), done.stderr
    # A signal from outside may come too late; those from inside never do.
    assert all(end == KILLED for end, job in zip(ends, jobs, strict=True) if "seconds" not in job)
    outputs = [folder / f"{name}.gpkg" for name in how]
    return [output for output in outputs if not output.exists()], outputs


def test_killed_runs_leave_no_output_and_go_on_to_the_same_rows(killed, painted, whole):
    interrupted, outputs = killed
    rows, summary = whole
    assert len(interrupted) >= len(outputs) - 3
    for output in interrupted:
        resumed = detector().predict_to_file(painted, output, resume=True, **OPTIONS)
        assert_geodataframe_equal(read_crowns(output), rows)
        for name in ("crowns", "hectares", "canopy_cover", "windows", "skipped", "cut"):
            assert getattr(resumed, name) == getattr(summary, name), name
        assert not output.with_name(output.name + ".parts").exists()


def test_what_was_done_is_not_done_again(painted, tmp_path):
    output = tmp_path / "out.gpkg"
    interrupt(painted, output, after=30)
    before = RunFolder(output).done
    assert before > 3
    seen = []
    detector().predict_to_file(painted, output, resume=True, watch=seen.append, **OPTIONS)
    assert seen[0].windows > before
    assert seen[-1].windows == seen[-1].total
    assert len(seen) < seen[-1].total - 15


class StoppedError(Exception):
    pass


def interrupt(raster, output, *, after):
    """Leave a run folder behind, as a kill does, without a process of its own."""

    def watch(progress):
        if progress.windows >= after:
            raise StoppedError

    with pytest.raises(StoppedError):
        detector().predict_to_file(raster, output, watch=watch, **OPTIONS)
    assert not output.exists()


@pytest.fixture
def left(painted, tmp_path):
    """A raster of its own and the output of an interrupted run on it."""
    raster = tmp_path / "disks.tif"
    raster.write_bytes(painted.read_bytes())
    interrupt(raster, tmp_path / "out.gpkg", after=25)
    return raster, tmp_path / "out.gpkg"


def test_a_folder_left_over_is_not_silently_taken_or_lost(left):
    raster, output = left
    with pytest.raises(OutputError, match=r"out\.gpkg\.parts is left .*resume=True \(--resume\), or delete it"):
        detector().predict_to_file(raster, output, **OPTIONS)
    assert RunFolder(output).done > 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score_threshold": 0.5}, "score threshold was 0.3, is now 0.5"),
        ({"max_crown": 1.8}, "windows was .* is now"),
        ({"bands": (3, 2, 1)}, r"bands was \[1, 2, 3\], is now \[3, 2, 1\]"),
        ({"gsd": 0.1001}, "GSD was .* is now 0.1001"),
        ({"stretch": (0, 250)}, r"stretch was None, is now \[0(\.0)?, 250(\.0)?\]"),
    ],
)
def test_a_changed_setting_is_named_with_both_values(left, changes, message):
    raster, output = left
    with pytest.raises(ResumeMismatchError, match=message):
        detector().predict_to_file(raster, output, resume=True, **{**OPTIONS, **changes})
    assert RunFolder(output).done > 2


def test_another_model_is_not_gone_on_with(left):
    raster, output = left

    class Other(BlobDetector):
        @property
        def identity(self):
            return {**super().identity, "model": "others"}

    with pytest.raises(ResumeMismatchError, match="model was 'blobs', is now 'others'"):
        Detector(Other(tiny_spec(window_px=64))).predict_to_file(raster, output, resume=True, **OPTIONS)


def test_a_raster_that_changed_is_not_gone_on_with(left):
    raster, output = left
    with raster.open("ab") as file:
        file.write(b"\0" * 10)
    with pytest.raises(ResumeMismatchError, match=r"source size was \d+, is now \d+"):
        detector().predict_to_file(raster, output, resume=True, **OPTIONS)


def test_filters_and_threads_may_change(left):
    raster, output = left
    detector().predict_to_file(
        raster, output, resume=True, where="diameter_m > 2", batch_size=3, readers=1, **OPTIONS
    )
    table = read_crowns(output)
    assert 0 < len(table) < 40
    assert (table["diameter_m"] > 2).all()


def test_resume_without_a_folder_starts_afresh(painted, whole, tmp_path):
    detector().predict_to_file(painted, tmp_path / "out.gpkg", resume=True, **OPTIONS)
    assert_geodataframe_equal(read_crowns(tmp_path / "out.gpkg"), whole[0])


def test_a_damaged_part_is_named(left):
    raster, output = left
    part = next(iter(sorted(RunFolder(output).path.glob("part-*"))))
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(OutputError, match=r"part-000000\.npz is damaged .*start anew"):
        detector().predict_to_file(raster, output, resume=True, **OPTIONS)
    assert not output.exists()


def test_an_error_before_the_first_row_leaves_nothing(tmp_path):
    raster = make_raster(
        tmp_path / "short.tif", np.full((3, 400, 400), 9, np.uint8), tiled=True, blockxsize=64, blockysize=64
    )
    raster.write_bytes(raster.read_bytes()[:5000])
    with pytest.raises(RasterError, match=r"rows 0 to .*may be incomplete"):
        detector().predict_to_file(raster, tmp_path / "out.gpkg", **OPTIONS)
    assert [entry.name for entry in tmp_path.iterdir()] == ["short.tif"]
