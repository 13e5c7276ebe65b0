import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pyogrio
import pytest
from report_factories import ground, report, stems

from treedet.errors import OutputError
from treedet.evaluation.report import json_able, rows_of

TABLES = ("table", "by_raster", "by_size", "by_class", "curve", "precision_recall", "reliability")
EMPTY = dict.fromkeys(TABLES, pd.DataFrame())
VOID = {"img", "br", "hr", "meta"}
PNG = b"\x89PNG"


class Page(HTMLParser):
    """Elements with their attributes, and the text; a page with elements left open fails."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self.open = [], "", []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data + " "


def saved_page(folder):
    return Page((folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("reports") / "report"
    report().save(place)
    return place


def test_the_page_needs_nothing_but_itself(folder):
    page = saved_page(folder)
    assert "script" not in {tag for tag, _ in page.elements}
    links = [attrs.get(key, "") for _, attrs in page.elements for key in ("src", "href", "srcset", "data")]
    assert all(link.startswith("data:image/png;base64,") for link in links if link)
    images = [attrs for tag, attrs in page.elements if tag == "img"]
    assert len(images) >= 9
    assert all(image["alt"] for image in images)
    assert not any(key.startswith("on") for _, attrs in page.elements for key in attrs)
    assert not re.search(r"https?://|@import|url\(", (folder / "report.html").read_text(encoding="utf-8"))


def test_the_answer_comes_first(folder):
    text = saved_page(folder).text
    order = ["Finds 70 % of the crowns", "How good is it on this imagery?", "May I trust the count?", "By resolution"]
    places = [text.index(part) for part in order]
    assert places == sorted(places)


def test_whatever_a_note_holds_is_text(folder):
    assert "band-limit is the same as <adapt> here" in saved_page(folder).text
    assert "<adapt>" not in (folder / "report.html").read_text(encoding="utf-8")


def test_every_table_is_read_back_from_its_csv(folder):
    for name, frame in report().tables.items():
        found = pd.read_csv(folder / f"{name}.csv")
        pd.testing.assert_frame_equal(found, frame, check_dtype=False)


def test_the_json_is_strict_and_holds_every_table(folder):
    def refuse(constant):
        raise AssertionError(constant)

    found = json.loads((folder / "report.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert set(found["tables"]) == set(report().tables)
    assert found["tables"]["table"][0]["map"] is None
    assert found["tables"]["by_size"][2]["high_m"] is None
    assert found["facts"]["threshold"] == 0.5


def test_pictures_lie_beside_the_page(folder):
    files = {path.name for path in (folder / "figures").iterdir()}
    assert {"sweep.png", "heat_map.png", "smallest.png", "diameters.png", "counts.png"} <= files
    assert all(path.read_bytes().startswith(PNG) for path in (folder / "figures").iterdir())


def test_the_layer_holds_what_became_of_the_crowns(folder):
    found = pyogrio.read_dataframe(folder / "outcomes.gpkg", layer="outcomes")
    assert found["outcome"].tolist() == ["hit", "confusion", "miss", "false alarm"]


def test_a_report_that_is_there_is_replaced_only_on_request(tmp_path):
    small = report(grounds=[], **EMPTY)
    small.save(tmp_path / "r")
    with pytest.raises(OutputError, match=r"exists already; .*--overwrite"):
        small.save(tmp_path / "r")
    (tmp_path / "r" / "best.png").write_bytes(b"of an older report")
    small.save(tmp_path / "r", overwrite=True)
    assert not (tmp_path / "r" / "best.png").exists()
    (tmp_path / "r" / "my notes.txt").write_text("x")
    with pytest.raises(OutputError, match=r"my notes\.txt"):
        small.save(tmp_path / "r", overwrite=True)
    assert (tmp_path / "r" / "my notes.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_a_failure_leaves_the_older_report(tmp_path, monkeypatch):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "report.html").write_text("older")
    (tmp_path / "r" / "report.json").write_text("{}")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("treedet.evaluation.report.draw_figures", full)
    with pytest.raises(OutputError, match="No space left"):
        report(grounds=[]).save(tmp_path / "r", overwrite=True)
    assert (tmp_path / "r" / "report.html").read_text() == "older"
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


@pytest.mark.parametrize(("path", "what"), [("no/r", "no folder"), ("file", "it is a file")])
def test_a_place_that_can_not_be_a_report_is_refused(tmp_path, path, what):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=what):
        report().save(tmp_path / path)


def test_rasters_in_several_crs_get_a_layer_each(tmp_path):
    grounds = [ground("a.tif"), ground("b.tif", crs=32632), ground("c.png", crs=None)]
    report(grounds=grounds, **EMPTY).save(tmp_path / "r")
    found = {path.name for path in (tmp_path / "r").glob("*.gpkg")}
    assert found == {"outcomes-32633.gpkg", "outcomes-32632.gpkg", "outcomes-pixels.gpkg"}


def test_stems_are_reported_without_what_they_can_not_tell(tmp_path):
    row = {"gsd": 0.1, "mode": "adapt", "upsampled": False, "rasters": 1, "hectares": 1.0, "points": 2.0}
    row |= {"matched": 1.0, "recall": 0.5, "micro_recall": 0.5, "precision": np.nan, "f1": np.nan}
    row |= {"predicted": np.nan, "count_bias_rel": np.nan, "distance_median_m": 1.0, "distance_p95_m": 1.0}
    report(points=pd.DataFrame([row]), grounds=[stems(complete=False)], **EMPTY).save(tmp_path / "r")
    page = saved_page(tmp_path / "r")
    assert "Finds 50 % of the trees" in page.text
    assert "1.0 m in the median" in page.text
    assert "Nothing says that the truth is complete" in page.text
    assert (tmp_path / "r" / "figures" / "distances.png").exists()


def test_a_report_without_anything_is_a_page_too(tmp_path):
    report(grounds=[], **EMPTY).save(tmp_path / "r")
    assert "Nothing was measured" in saved_page(tmp_path / "r").text


def test_rows_of_a_condition_are_found_where_gsd_is_not_known():
    frame = pd.DataFrame({"gsd": [np.nan, 0.1, np.nan], "mode": ["adapt", "adapt", "native"], "n": [1, 2, 3]})
    assert rows_of(frame, {"gsd": float("nan"), "mode": "adapt"})["n"].tolist() == [1]
    assert rows_of(frame, {"gsd": 0.1, "mode": "adapt"})["n"].tolist() == [2]
    assert rows_of(frame[["n"]], {"gsd": 0.1, "mode": "adapt"})["n"].tolist() == [1, 2, 3]


def test_everything_a_fact_may_be_goes_into_json():
    found = json_able({"a": (np.float64("inf"), np.bool_(True), pd.NA), "b": np.arange(2), 3: {"x": None}})
    assert found == {"a": [None, True, None], "b": [0, 1], "3": {"x": None}}
