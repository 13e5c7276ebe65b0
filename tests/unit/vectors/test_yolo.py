import pytest

from treedet.errors import CrownsError
from treedet.vectors.truth import read_annotations
from treedet.vectors.yolo import load_yolo


def folder(at, text, **files):
    (at / "a.txt").write_text(text)
    for name, content in files.items():
        (at / name.replace("_", ".")).write_text(content)
    return at


@pytest.mark.parametrize(
    "names", ["names: [tree, bird]", "names:\n  - tree\n  - bird\n", "names:\n  0: tree\n  1: bird\nnc: 2\n"]
)
def test_names_as_yaml_spells_them(tmp_path, names):
    found = load_yolo(folder(tmp_path, "1 0.5 0.5 0.2 0.4\n0 0.5 0.5 0.2 0.4\n", data_yaml=names))
    assert found.boxes["label"].tolist() == ["bird", "tree"]
    assert found.corners[0].tolist() == pytest.approx([0.4, 0.3, 0.6, 0.7])


def test_names_in_a_list_polygons_confidences_and_empty_images(tmp_path):
    text = "0 0.1 0.1 0.5 0.2 0.3 0.8\n\n0 0.5 0.5 0.2 0.4 0.9\n"
    at = folder(tmp_path, text, classes_txt="oak\n", b_txt="", train_txt="a.png\n")
    (tmp_path / "a.PNG").touch()
    found = load_yolo(at)
    assert found.images == ("a.PNG", "b")
    assert found.corners.tolist() == [[0.1, 0.1, 0.5, 0.8], pytest.approx([0.4, 0.3, 0.6, 0.7])]
    assert found.boxes["label"].tolist() == ["oak", "oak"]


def test_one_file_finds_the_names_above_it(tmp_path):
    (tmp_path / "labels").mkdir()
    folder(tmp_path / "labels", "0 0.5 0.5 0.2 0.4\n")
    (tmp_path / "data.yaml").write_text("names: [oak]\n")
    found = read_annotations(tmp_path / "labels" / "a.txt")
    assert found.table["label"].tolist() == ["oak"]
    assert found.images == ("a",)
    assert found.normalised


def test_without_names_one_class_is_a_tree_and_two_are_refused(tmp_path):
    found = load_yolo(folder(tmp_path, "0 0.5 0.5 0.2 0.4\n"))
    assert found.boxes["label"].tolist() == ["tree"]
    assert "no data.yaml" in found.notices[0]
    with pytest.raises(CrownsError, match=r"\[0, 3\].*data\.yaml"):
        load_yolo(folder(tmp_path, "0 0.5 0.5 0.2 0.4\n3 0.5 0.5 0.2 0.4\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 0.5 0.5 0.2 0.4\n2 0.5 0.5 0.2 0.4\n", r"line 2: class 2 is out of range.*0 to 1"),
        ("-1 0.5 0.5 0.2 0.4\n", "class -1 is out of range"),
        ("0 0.5 0.5\n", "line 1.*no box"),
        ("tree 0.5 0.5 0.2 0.4\n", "line 1.*no box"),
        ("0 50 50 20 40\n", "line 1.*fractions"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, text, message):
    with pytest.raises(CrownsError, match=message):
        load_yolo(folder(tmp_path, text, data_yaml="names: [tree, bird]"))


@pytest.mark.parametrize("names", ["names: 3", "names: {1: a}", "names: []", "names: [\n"])
def test_names_that_are_none(tmp_path, names):
    with pytest.raises(CrownsError, match=r"data\.yaml"):
        load_yolo(folder(tmp_path, "0 0.5 0.5 0.2 0.4\n", data_yaml=names))


def test_a_folder_of_two_formats_is_refused(tmp_path):
    with pytest.raises(CrownsError, match=r"1 \.xml and 1 \.txt"):
        read_annotations(folder(tmp_path, "0 0.5 0.5 0.2 0.4\n", b_xml="<annotation/>"))
