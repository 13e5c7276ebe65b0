import json

import numpy as np
import pandas as pd
import pytest
from report_factories import report

from treedet.errors import ConfigError, OutputError, TreedetWarning
from treedet.evaluation.compare import compare

BEFORE = {"x/a.tif": (10, 10, 5), "x/b.tif": (20, 10, 10), "x/c.tif": (0, 2, 0), "x/only.tif": (5, 5, 5)}
AFTER = {"x/a.tif": (10, 10, 8), "x/b.tif": (20, 20, 10), "x/c.tif": (0, 0, 0)}
EMPTY = {name: pd.DataFrame() for name in ("by_size", "by_class", "curve", "precision_recall", "reliability")}


def stored(tmp_path, name, counts, **values):
    """A folder with the tables of a report; pictures are not needed."""
    (tmp_path / name).mkdir()
    found = report(counts, title=name, grounds=[], **{**EMPTY, **values}).to_dict()
    (tmp_path / name / "report.json").write_text(json.dumps(found))
    return tmp_path / name


@pytest.fixture
def both(tmp_path):
    return stored(tmp_path, "before", BEFORE), stored(tmp_path, "after", AFTER)


def macro_f1(counts, names):
    recall = np.mean([counts[n][2] / counts[n][0] for n in names if counts[n][0]])
    precision = np.mean([counts[n][2] / counts[n][1] for n in names if counts[n][1]])
    return 2 * recall * precision / (recall + precision)


def test_the_difference_is_that_of_the_rasters_both_have(both):
    found = compare(*both)
    names = ["x/a.tif", "x/b.tif", "x/c.tif"]
    row = found.table.iloc[0]
    assert row["condition"] == "as it is"
    assert row["rasters"] == 3
    assert row["f1_difference"] == pytest.approx(macro_f1(AFTER, names) - macro_f1(BEFORE, names))
    assert row["recall_difference"] == pytest.approx((0.8 + 0.5) / 2 - (0.5 + 0.5) / 2)
    assert row["f1_difference_low"] <= row["f1_difference"] <= row["f1_difference_high"]
    assert row["f1_a"] == pytest.approx(2 * 20 / (35 + 27)), "that of the report, all its rasters"
    assert any("1 rasters are in the first report only" in note for note in found.notes)


def test_the_rasters_that_changed_most_come_first(both):
    found = compare(*both).by_raster
    assert found["raster"].tolist() == ["x/a.tif", "x/b.tif", "x/c.tif"]
    np.testing.assert_allclose(found["change"][:2], [0.8 - 0.5, 0.5 - 2 / 3])
    assert np.isnan(found.set_index("raster").loc["x/c.tif", "change"])


def test_the_other_way_round_is_the_negative(both):
    a, b = compare(*both).table, compare(*reversed(both)).table
    np.testing.assert_allclose(a["f1_difference"], -b["f1_difference"])
    np.testing.assert_allclose(a["f1_difference_low"], -b["f1_difference_high"])


def test_conditions_meet_by_gsd_and_mode_and_the_first_by_its_place(tmp_path):
    a = stored(tmp_path, "a", AFTER, gsds=(0.1, 0.2, 0.3))
    b = stored(tmp_path, "b", AFTER, gsds=(float("nan"), 0.3), modes=("native",))
    assert compare(a, b).table["condition"].tolist() == ["as it is", "0.3 m, native"]


def test_rasters_in_another_folder_meet_by_their_file_name(tmp_path):
    elsewhere = {name.replace("x/", "/data/y/"): counts for name, counts in AFTER.items()}
    found = compare(stored(tmp_path, "a", AFTER), stored(tmp_path, "b", elsewhere))
    assert found.table["rasters"].iloc[0] == 3
    assert found.table["f1_difference"].iloc[0] == 0


def test_other_truth_is_a_warning(tmp_path):
    other = {**AFTER, "x/a.tif": (12, 10, 8)}
    with pytest.warns(TreedetWarning, match=r"1 of 3 rasters .*x/a\.tif: 10 and 12"):
        found = compare(stored(tmp_path, "a", AFTER), stored(tmp_path, "b", other))
    assert any("12" in note for note in found.notes)


def test_another_overlap_is_a_warning(tmp_path):
    a, b = (stored(tmp_path, f"r{iou}", AFTER, facts={"settings": {"iou_threshold": iou}}) for iou in (0.4, 0.5))
    with pytest.warns(TreedetWarning, match=r"0\.4 and 0\.5"):
        compare(a, b)


def test_reports_without_a_common_raster_can_not_be_compared(tmp_path):
    other = {"z.tif": (1, 1, 1)}
    with pytest.raises(ConfigError, match=r"share no raster: .*x/a\.tif.*z\.tif"):
        compare(stored(tmp_path, "a", AFTER), stored(tmp_path, "b", other))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (None, "holds no report"),
        ("{", "holds no report"),
        ('{"a": 1}', "is not a report"),
        ('{"format": "treedet report", "version": 99}', "version 99"),
        ('{"format": "treedet report", "version": 1, "title": "", "facts": {}, "tables": {}}', "no counts by raster"),
    ],
)
def test_a_folder_without_a_report_is_refused(tmp_path, both, text, what):
    (tmp_path / "other").mkdir()
    if text is not None:
        (tmp_path / "other" / "report.json").write_text(text)
    with pytest.raises(ConfigError, match=what):
        compare(both[0], tmp_path / "other")


def test_lines_for_the_terminal(both):
    lines = compare(*both).lines()
    assert lines[:2] == ["first       before", "second      after"]
    assert "3 shared rasters" in lines[2]
    assert "changed most: a.tif 0.50 to 0.80" in lines[-2]


def test_a_comparison_is_a_page_a_picture_and_two_tables(tmp_path, both):
    found = compare(*both)
    found.save(tmp_path / "c")
    assert {path.name for path in (tmp_path / "c").iterdir()} == {
        "compare.html",
        "compare.csv",
        "rasters.csv",
        "compare.png",
    }
    text = (tmp_path / "c" / "compare.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in text
    assert "<script" not in text
    assert "http" not in text
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "c" / "compare.csv"), found.table, check_dtype=False)
    with pytest.raises(OutputError, match="exists already"):
        found.save(tmp_path / "c")
    found.save(tmp_path / "c", overwrite=True)


@pytest.mark.parametrize("part", ["title", "facts", "tables"])
def test_a_report_that_lacks_a_part_is_named(both, part):
    path = both[0] / "report.json"
    found = json.loads(path.read_text())
    del found[part]
    path.write_text(json.dumps(found))
    with pytest.raises(ConfigError, match=f"lacks '{part}'"):
        compare(*both)


def test_rasters_without_crowns_tell_neither_report_is_better(tmp_path):
    one = stored(tmp_path, "one", {"a.tif": (0, 3, 0), "b.tif": (4, 4, 4)})
    found = compare(one, stored(tmp_path, "two", {"a.tif": (0, 1, 0), "c.tif": (4, 4, 4)}))
    assert "not defined: no crowns are annotated" in found.lines()[2]
    found.save(tmp_path / "page")
    assert "neither report is better" in (tmp_path / "page" / "compare.html").read_text()
