import json

import pytest

from treedet.errors import CrownsError
from treedet.vectors.truth import read_annotations

BOX = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": ["Oak"]}


def result(value=BOX, **changes):
    return {"original_width": 200, "original_height": 100, "value": value, **changes}


def task(*results, image="/data/local-files/?d=plots/b%20c.tif", **changes):
    return {"data": {"image": image}, "annotations": [{"result": list(results)}], **changes}


def read(tmp_path, tasks):
    (tmp_path / "a.json").write_text(json.dumps(tasks))
    return read_annotations(tmp_path / "a.json")


def test_percent_become_pixels(tmp_path):
    found = read(tmp_path, [task(result()), task(image="s3://bucket/empty.png")])
    assert found.table.geometry.bounds.to_numpy().tolist() == [[20, 20, 80, 60]]
    assert found.table["label"].tolist() == ["Oak"]
    assert found.images == ("b c.tif", "empty.png")
    assert found.in_pixels


def test_turned_rectangles_and_polygons_are_their_bounds(tmp_path):
    polygon = {"points": [[10, 10], [20, 10], [15, 50]], "polygonlabels": ["Pine"]}
    found = read(tmp_path, [task(result({**BOX, "rotation": 90}), result(polygon))])
    # About its top left corner at (20, 20): 60 wide and 40 high becomes 40 wide, to the left, and 60 high.
    assert found.table.geometry.bounds.to_numpy().tolist() == [
        pytest.approx([-20, 20, 20, 80]),
        pytest.approx([20, 10, 40, 50]),
    ]
    assert found.table["label"].tolist() == ["Oak", "Pine"]


def test_the_small_export(tmp_path):
    small = {
        "image": "/data/upload/1/0123abcd-a.tif",
        "label": [{**BOX, "original_width": 200, "original_height": 100}],
    }
    found = read(tmp_path, [small])
    assert found.images == ("a.tif",)
    assert found.table.geometry.iloc[0].bounds == (20, 20, 80, 60)


def test_cancelled_and_further_annotations(tmp_path):
    versions = [
        {"was_cancelled": True, "result": [result({**BOX, "x": 1})]},
        {"result": [result()]},
        {"result": [result({**BOX, "x": 2}), result({**BOX, "x": 3})]},
    ]
    found = read(tmp_path, [task(annotations=versions)])
    assert found.table.geometry.iloc[0].bounds[0] == 20
    assert len(found.table) == 1
    assert any("more than one annotation" in notice for notice in found.notices)


def test_other_results_are_said(tmp_path):
    found = read(tmp_path, [task(result(), result({"choices": ["good"]}))])
    assert any("1 results" in notice for notice in found.notices)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([task(result(original_width=None))], "task 1, result 1.*original_width"),
        ([{"data": {"text": "x"}, "annotations": []}], "task 1 names no image"),
        ([task(result({**BOX, "x": "left"}))], "task 1, result 1.*percent"),
        ([task(result({**BOX, "width": 0}))], "task 1, result 1.*--drop"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, tasks, message):
    with pytest.raises(CrownsError, match=message):
        read(tmp_path, tasks)
