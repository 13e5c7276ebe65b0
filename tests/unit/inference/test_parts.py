import json

import numpy as np
import pytest

from treedet.core.crown_arrays import CrownArrays
from treedet.errors import OutputError, ResumeMismatchError
from treedet.inference.candidates import Candidates
from treedet.inference.parts import RowFacts, RunFolder

FACTS = RowFacts(windows=4, skipped=1, valid_px=1234.5, seconds=2.0, network_s=1.5)
RUN = {"source": "a.tif", "score threshold": 0.3, "bands": (1, 2, 3), "AOI": None}


def crowns(n, rng):
    corner = rng.uniform(0, 500, (n, 2))
    return CrownArrays(
        boxes=np.concatenate([corner, corner + rng.uniform(3, 40, (n, 2))], axis=1),
        scores=rng.random(n).astype(np.float32),
        classes=rng.integers(0, 3, n),
        cut=rng.random(n) < 0.5,
        edge=rng.random(n) < 0.5,
        attributes={"status": rng.random((n, 2)).astype(np.float32)},
    )


def candidates(n, rng):
    made = crowns(n, rng)
    return Candidates(
        boxes=made.boxes,
        scores=made.scores,
        classes=made.classes,
        sides=rng.integers(0, 16, n).astype(np.uint8),
        windows=made.boxes,
        order=np.arange(n, dtype=np.int64) + (7 << 32),
        edge=made.edge,
        attributes=made.attributes,
    )


def assert_same(a, b):
    assert type(a) is type(b)
    for name, value in vars(a).items():
        other = getattr(b, name)
        pairs = [(value[k], other[k]) for k in value | other] if name == "attributes" else [(value, other)]
        for one, two in pairs:
            assert one.dtype == two.dtype, name
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("n", [0, 1, 50])
def test_parts_and_seams_come_back_bit_for_bit(tmp_path, n):
    rng = np.random.default_rng(n)
    folder = RunFolder(tmp_path / "out.gpkg")
    assert folder.start(RUN, resume=False) == 0
    rows = [(crowns(n, rng), candidates(n, rng)) for _ in range(3)]
    for row, (closed, open_) in enumerate(rows):
        folder.finish_row(row, closed, open_, FACTS)
    again = RunFolder(tmp_path / "out.gpkg")
    assert again.start(RUN, resume=True) == 3
    assert_same(again.open_detections(2), rows[2][1])
    for (found, facts), (closed, _) in zip(again.parts(), rows, strict=True):
        assert_same(found, closed)
        assert facts == FACTS


def test_only_the_last_seam_is_kept_and_no_temporary(tmp_path):
    rng = np.random.default_rng(0)
    folder = RunFolder(tmp_path / "out.gpkg")
    folder.start(RUN, resume=False)
    for row in range(4):
        folder.finish_row(row, crowns(2, rng), candidates(2, rng), FACTS)
    names = sorted(entry.name for entry in folder.path.iterdir())
    assert names == [*(f"part-{row:06d}.npz" for row in range(4)), "run.json", "seam-000003.npz"]
    folder.remove()
    assert not list(tmp_path.iterdir())


def test_a_row_without_its_part_is_not_done(tmp_path):
    rng = np.random.default_rng(0)
    folder = RunFolder(tmp_path / "out.gpkg")
    folder.start(RUN, resume=False)
    for row in range(2):
        folder.finish_row(row, crowns(2, rng), candidates(2, rng), FACTS)
    (folder.path / "part-000001.npz").unlink()
    (folder.path / "part-000003.npz").write_bytes(b"of an older run")
    assert folder.done == 1


def test_a_folder_without_run_json_and_rows_is_begun_anew(tmp_path):
    # A kill can fall between making the folder and writing what it belongs to.
    (tmp_path / "out.gpkg.parts").mkdir()
    with pytest.raises(OutputError, match="left from an interrupted run"):
        RunFolder(tmp_path / "out.gpkg").start(RUN, resume=False)
    assert RunFolder(tmp_path / "out.gpkg").start(RUN, resume=True) == 0
    assert json.loads((tmp_path / "out.gpkg.parts" / "run.json").read_text())["bands"] == [1, 2, 3]


@pytest.mark.parametrize("content", [None, "", "{"])
def test_rows_without_a_readable_run_json_are_refused(tmp_path, content):
    rng = np.random.default_rng(0)
    folder = RunFolder(tmp_path / "out.gpkg")
    folder.start(RUN, resume=False)
    folder.finish_row(0, crowns(1, rng), candidates(1, rng), FACTS)
    (folder.path / "run.json").unlink()
    if content is not None:
        (folder.path / "run.json").write_text(content)
    with pytest.raises(ResumeMismatchError, match=r"no readable run\.json; delete the folder"):
        RunFolder(tmp_path / "out.gpkg").start(RUN, resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score threshold": 0.4}, "score threshold was 0.3, is now 0.4"),
        ({"AOI": "abc"}, "AOI was None, is now 'abc'"),
        ({"stretch": [0, 1]}, r"stretch was None, is now \[0, 1\]"),
    ],
)
def test_a_difference_is_named_with_both_values(tmp_path, changes, message):
    RunFolder(tmp_path / "out.gpkg").start(RUN, resume=False)
    with pytest.raises(ResumeMismatchError, match=message):
        RunFolder(tmp_path / "out.gpkg").start({**RUN, **changes}, resume=True)


class BrokenError(Exception):
    pass


def break_off(folder, *, resume, row):
    rng = np.random.default_rng(0)
    with folder:
        folder.start(RUN, resume=resume)
        if row is not None:
            folder.finish_row(row, crowns(1, rng), candidates(1, rng), FACTS)
        raise BrokenError


def fail_in(folder, *, resume, row=None):
    with pytest.raises(BrokenError):
        break_off(folder, resume=resume, row=row)


def test_an_error_leaves_the_folder_only_if_there_is_a_row_to_go_on_from(tmp_path):
    output = tmp_path / "out.gpkg"
    fail_in(RunFolder(output), resume=False)
    assert not list(tmp_path.iterdir())
    fail_in(RunFolder(output), resume=False, row=0)
    assert RunFolder(output).done == 1
    fail_in(RunFolder(output), resume=True, row=1)
    assert RunFolder(output).done == 2


def test_the_folder_of_another_run_is_never_removed(tmp_path):
    output = tmp_path / "out.gpkg"
    RunFolder(output).start(RUN, resume=False)
    with pytest.raises(OutputError), RunFolder(output) as folder:
        folder.start(RUN, resume=False)
    with pytest.raises(ResumeMismatchError), RunFolder(output) as folder:
        folder.start({}, resume=True)
    assert folder.path.exists()


def test_facts_add_up():
    assert FACTS + RowFacts() == FACTS
    assert (FACTS + FACTS).valid_px == 2469.0
