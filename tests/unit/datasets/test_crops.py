import pickle
from collections import Counter

import cv2
import numpy as np
import pytest
from factories import make_raster

from treedet.datasets.crops import CropSet, Pictures, read_crops
from treedet.errors import ConfigError, CrownsError, UnreadableRasterError

TWO = {"Alive": ["a.png", "b.png", "c.png"], "Dead": ["d.png"]}


def write(path, *, size=(12, 9), colour=(10, 200, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.full((*size, 3), colour, np.uint8)
    assert cv2.imwrite(str(path), picture[:, :, ::-1])
    return path


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "crops"
    for name, files in TWO.items():
        for number, file in enumerate(files):
            write(root / name / file, size=(12 + number, 9))
    return root


@pytest.fixture
def notices(caplog):
    caplog.set_level("INFO", logger="treedet")
    return caplog


def read(folder, **options):
    return read_crops(folder, **{"attribute": "status", "gsd": 0.1, **options})


def test_folders_are_classes_and_pictures_crops(folder):
    crops = read(folder)
    assert (crops.attribute, crops.gsd, crops.classes) == ("status", 0.1, ("Alive", "Dead"))
    assert crops.names == ("Alive/a.png", "Alive/b.png", "Alive/c.png", "Dead/d.png")
    assert crops.values == ("Alive", "Alive", "Alive", "Dead")
    assert crops.counts == Counter(Alive=3, Dead=1)
    assert crops.pixels.sizes.tolist() == [[12, 9], [13, 9], [14, 9], [12, 9]]
    assert crops.pixels[1].shape == (13, 9, 3)
    assert crops.pixels[1].dtype == np.uint8
    assert crops.pixels[1][0, 0].tolist() == [10, 200, 30]
    assert crops.notices == ()


def test_values_map_folders_to_classes(folder):
    write(folder / "Downed" / "e.png")
    crops = read(folder, values={"alive": "alive", "Dead": "dead", "Downed": None, "Snag": "dead"})
    assert crops.counts == Counter(alive=3, dead=1)
    assert any("left out: Downed 1" in notice for notice in crops.notices)
    assert any("no folder 'Snag', which values names" in notice for notice in crops.notices)


def test_a_folder_that_values_does_not_name_is_an_error_or_left_out(folder):
    write(folder / "Snag" / "e.png")
    values = {"Alive": "alive", "Dead": "dead"}
    with pytest.raises(CrownsError, match=r"does not name the folder 'Snag' for status; accepted are 'Alive'.*null"):
        read(folder, values=values)
    crops = read(folder, values=values, drop=True)
    assert len(crops) == 4
    assert any("'Snag'" in notice for notice in crops.notices)


def test_a_folder_called_unknown_is_no_class(folder):
    write(folder / "UNKNOWN" / "e.png")
    crops = read(folder)
    assert crops.classes == ("Alive", "Dead")
    assert any("without a class are left out: UNKNOWN 1" in notice for notice in crops.notices)


def test_stray_files_are_passed_over_with_one_notice(folder, notices):
    for name in ("LICENSE", "Alive/.DS_Store", "Alive/._a.png", "Dead/Thumbs.db", "index.csv"):
        (folder / name).write_bytes(b"x")
    crops = read(folder)
    assert len(crops) == 4
    said = [record.getMessage() for record in notices.records if "no pictures" in record.getMessage()]
    assert len(said) == 1
    assert "5 files are no pictures and were passed over, first " in said[0]
    assert said[0].endswith("Alive/.DS_Store")


def test_a_folder_without_pictures_is_said(folder):
    (folder / "Burnt").mkdir()
    assert any("no picture is in 'Burnt'" in notice for notice in read(folder).notices)


def test_a_picture_in_no_folder_of_a_class_is_an_error_or_dropped(folder):
    write(folder / "loose.jpg")
    with pytest.raises(CrownsError, match=r"1 pictures are in no folder of a class, first loose.jpg; .*--drop"):
        read(folder)
    crops = read(folder, drop=True)
    assert len(crops) == 4
    assert any("first loose.jpg" in notice for notice in crops.notices)


@pytest.mark.parametrize("content", [b"", b"not a picture", "half"], ids=["empty", "text", "broken off"])
def test_a_picture_that_can_not_be_read_is_an_error_in_one_line_or_dropped(folder, content):
    if content == "half":
        noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
        content = cv2.imencode(".jpg", noise)[1].tobytes()[:2000]
    (folder / "Dead" / "bad.jpg").write_bytes(content)
    with pytest.raises(UnreadableRasterError) as error:
        read(folder)
    assert "bad.jpg" in str(error.value)
    assert "leave such out with drop=True (--drop)" in str(error.value)
    assert "\n" not in str(error.value)
    crops = read(folder, drop=True)
    assert "Dead/bad.jpg" not in crops.names
    assert len(crops.names) == len(crops.pixels) == len(crops.values) == 4
    assert any("1 pictures can not be read and were dropped, first " in notice for notice in crops.notices)


def test_one_class_only_is_an_error(folder):
    with pytest.raises(CrownsError, match=r"all 3 crops are 'alive', and a head needs two classes.*left out: Dead 1"):
        read(folder, values={"Alive": "alive", "Dead": None})


@pytest.mark.parametrize(
    ("make", "what"), [("nothing", "no picture"), ("text", "no picture"), ("loose", "1 pictures")]
)
def test_a_folder_without_crops_is_an_error(tmp_path, make, what):
    if make == "text":
        (tmp_path / "readme.txt").write_text("x")
    if make == "loose":
        write(tmp_path / "a.jpg")
    with pytest.raises(CrownsError, match=rf"holds {what}.*in a folder for each class, such as .*/alive/1.jpg"):
        read(tmp_path)


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(CrownsError, match="is no folder; crops are a folder with"):
        read(tmp_path / "none")


@pytest.mark.parametrize("gsd", [0.0, -1.0, float("nan"), float("inf")])
def test_the_gsd_must_be_positive(folder, gsd):
    with pytest.raises(ConfigError, match="gsd of crops must be a positive number"):
        read(folder, gsd=gsd)


@pytest.mark.parametrize("name", ["score", "status_p", ""])
def test_a_name_reserved_by_the_table_is_refused(folder, name):
    with pytest.raises(ConfigError, match=r"attribute name .* is not usable"):
        read(folder, attribute=name)


def test_places_come_from_names_or_the_folders_between(tmp_path):
    write(tmp_path / "Alive" / "2018_ABBY_2_554000_5062000_image_1.jpg")
    write(tmp_path / "Alive" / "site9" / "1.jpg")
    write(tmp_path / "Dead" / "2019_ABBY_2_554000_5062000_image_7.jpg")
    write(tmp_path / "Dead" / "site9" / "2.jpg")
    write(tmp_path / "Dead" / "3.jpg")
    places = dict(zip(read(tmp_path).names, read(tmp_path).places, strict=True))
    assert places == {
        "Alive/2018_ABBY_2_554000_5062000_image_1.jpg": "ABBY_554000_5062000",
        "Alive/site9/1.jpg": "site9",
        "Dead/2019_ABBY_2_554000_5062000_image_7.jpg": "ABBY_554000_5062000",
        "Dead/3.jpg": "3",
        "Dead/site9/2.jpg": "site9",
    }


def test_beyond_the_memory_allowed_pictures_are_read_anew(folder):
    whole, lazy = read(folder), read(folder, memory_mb=13 * 9 * 3 / 2**20)
    assert [one is None for one in lazy.pixels.held] == [False, True, True, True]
    for one, other in zip(whole.pixels, lazy.pixels, strict=True):
        assert np.array_equal(one, other)
    assert np.array_equal(pickle.loads(pickle.dumps(lazy)).pixels[3], whole.pixels[3])


def test_crops_may_be_geotiffs_and_are_black_where_they_have_no_data(folder):
    pixels = np.full((3, 8, 8), 50, np.uint8)
    pixels[:, :, 4:] = 255
    make_raster(folder / "Dead" / "z.tif", pixels, nodata=255)
    crops = read(folder)
    picture = crops.pixels[crops.names.index("Dead/z.tif")]
    assert picture[0, 0].tolist() == [50, 50, 50]
    assert not picture[:, 4:].any()


def test_some_of_the_crops_keep_what_belongs_to_them(folder):
    crops = read(folder).take(np.array([3, 1]))
    assert crops.names == ("Dead/d.png", "Alive/b.png")
    assert crops.values == ("Dead", "Alive")
    assert [one.shape[0] for one in crops.pixels] == [12, 13]
    assert crops.pixels.sizes[:, 0].tolist() == [12, 13]


def test_codes_follow_the_schema():
    pictures = Pictures.of([np.zeros((4, 4, 3), np.uint8)] * 3)
    crops = CropSet("x", "status", 0.1, pictures, ("Dead", "Alive", "Burnt"), ("a", "b", "c"), ("a", "b", "c"))
    classes = {"species": ("a", "b"), "status": ("alive", "dead")}
    renaming = {"status": {"Dead": "dead", "Alive": "alive", "Burnt": None}}
    assert crops.codes(classes, renaming).tolist() == [[-1, 1], [-1, 0], [-1, -1]]
    assert crops.codes({"species": ("a", "b")}, {}).tolist() == [[-1], [-1], [-1]]
