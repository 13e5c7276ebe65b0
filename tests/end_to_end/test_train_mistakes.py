"""What a user can get wrong about ``treedet train``: one line, exit code 2, and nothing left behind."""

import json
import shutil

import geopandas as gpd
import numpy as np
import pytest
import shapely
import torch
from factories import UTM, disks, make_raster, paint, tiny_spec

from treedet.cli import main
from treedet.core.spec import OperatingPoint
from treedet.models import model_file
from treedet.models.build import weights_of
from treedet.models.trunk import Trunk

SIDE = 400
CIRCLES = disks(np.random.default_rng(3), width=SIDE, height=SIDE, count=30, radius=(8, 14))
BOXES = np.concatenate([CIRCLES[:, :2] - CIRCLES[:, 2:], CIRCLES[:, :2] + CIRCLES[:, 2:]], axis=1)
N = len(BOXES)
QUICK = ["--epochs=1", "--windows_per_epoch=2", "--batch_size=2", "--workers=0", "--precision=32-true"]
QUICK += ["--samples.window_px=128"]

pytestmark = [
    pytest.mark.filterwarnings("default"),  # the command line shows warnings as lines
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A raster and a small model."""
    folder = tmp_path_factory.mktemp("start")
    make_raster(folder / "stand.tif", paint(CIRCLES, width=SIDE, height=SIDE))
    torch.manual_seed(0)
    spec = tiny_spec(operating_points={"balanced": OperatingPoint(0.3)})
    model_file.save(folder / "start.safetensors", spec, weights_of(Trunk(spec)))
    return folder


@pytest.fixture
def stand(start, tmp_path):
    """A folder with the raster in it."""
    shutil.copy(start / "stand.tif", tmp_path / "stand.tif")
    return tmp_path


@pytest.fixture
def train(start, stand, capsys):
    """Train on a file of the folder; return the exit code, what was said, and the new files."""

    def run(crowns, *arguments, raster="stand.tif", output="m.safetensors", complete=True):
        (stand / "out").mkdir(exist_ok=True)
        before = set(stand.rglob("*"))
        paths = [str(stand / raster), str(stand / crowns), str(stand / "out" / output)]
        how = ["--complete"] if complete else []
        code = main(["train", *paths, "--model", str(start / "start.safetensors"), *how, *QUICK, *arguments])
        return code, capsys.readouterr(), {path.name for path in set(stand.rglob("*")) - before}

    return run


def on_map():
    x, y = 500_000 + BOXES[:, [0, 2]] / 10, 5_400_000 - BOXES[:, [1, 3]] / 10
    return shapely.box(x[:, 0], y[:, 1], x[:, 1], y[:, 0])


def vector(path, shapes=None, crs=UTM, **columns):
    gpd.GeoDataFrame(columns, geometry=list(on_map() if shapes is None else shapes), crs=crs).to_file(path)
    return path


def without(suffix, **values):
    def make(folder):
        vector(folder / "c.shp", **values)
        (folder / "c").with_suffix(suffix).unlink()
        return "c.shp"

    return make


def layer(name="c.gpkg", *arguments, **values):
    def make(folder):
        vector(folder / name, **values)
        return (name, *arguments)

    return make


def changed(number, shape):
    shapes = on_map().tolist()
    shapes[number] = shape
    return shapes


def moved(by):
    return shapely.transform(on_map(), lambda xy: xy + by)


def text(name, content, *arguments):
    def make(folder):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
        return (name, *arguments)

    return make


def rows(last, image="stand.tif"):
    lines = [f"{image},{','.join(map(str, box))},tree" for box in BOXES.round(1)]
    return "\n".join(["image_path,xmin,ymin,xmax,ymax,label", *lines, last]) + "\n"


def coco(**annotation):
    return json.dumps(
        {
            "images": [{"id": 1, "file_name": "stand.tif", "width": SIDE, "height": SIDE}],
            "categories": [{"id": 1, "name": "tree"}],
            "annotations": [{"id": 7, "image_id": 1, "category_id": 1, **annotation}],
        }
    )


def voc(boxes, size=""):
    sides = ("xmin", "ymin", "xmax", "ymax")
    places = ["".join(f"<{s}>{v}</{s}>" for s, v in zip(sides, box, strict=True)) for box in boxes]
    objects = "".join(f"<object><name>tree</name><bndbox>{place}</bndbox></object>" for place in places)
    return f"<annotation><filename>stand.tif</filename>{size}{objects}</annotation>"


def yolo(line, names="tree\n"):
    def make(folder):
        (folder / "labels").mkdir()
        (folder / "labels/stand.txt").write_text(line)
        (folder / "labels/classes.txt").write_text(names)
        return "labels"

    return make


CENTRES = shapely.centroid(on_map())

MISTAKES = {
    "no index": (without(".shx"), ["lacks c.shx", "copy the missing file"]),
    "no CRS and elsewhere": (without(".prj", shapes=moved(9e3)), ["says no CRS", "(--crs EPSG:...)"]),
    "no columns": (lambda f: (without(".dbf", Class=["a"] * N)(f), "--columns.label=Class"), ["'Class'", ".dbf"]),
    "another zone": (layer(crs="EPSG:32633"), ["UTM zone 33N", "UTM zone 32N", "(--crs EPSG:...)"]),
    "metres called degrees": (layer(crs="EPSG:4326"), ["'WGS 84'", "(--crs EPSG:...)"]),
    "no such CRS": (layer("c.gpkg", "--crs", "EPSG:0"), ["'EPSG:0'", "EPSG:32633"]),
    "class column missing": (layer("c.gpkg", "--columns.label", "SP"), ["no column 'SP'", "(--columns.label)"]),
    "two class columns": (
        layer(Class=["a"] * N, category=["b"] * N),
        ["'Class' and 'category'", "(--columns.label Class)"],
    ),
    "some without class": (layer(label=["a", "b", None] * (N // 3)), ["have no label, rows 3, 6", "(--drop)"]),
    "points among polygons": (
        layer("c.geojson", shapes=changed(3, CENTRES[3])),
        ["mixes polygons with Point: row 4", "(--drop)"],
    ),
    "lines": (layer("c.geojson", shapes=shapely.get_exterior_ring(on_map())), ["Linestring", "polygons, or points"]),
    "points without diameter": (layer(shapes=CENTRES), ["points", "(--diameter 5)", "(--columns.diameter)"]),
    "empty layer": (layer(shapes=[]), ["holds no crown"]),
    "empty file": (text("c.csv", ""), ["c.csv is empty"]),
    "empty shapefile": (
        lambda f: [(f / n).write_bytes(b"") for n in ("c.shp", "c.shx")] and "c.shp",
        ["can not read"],
    ),
    "header alone": (text("c.csv", rows("").splitlines()[0]), ["holds no crown"]),
    "not what its suffix says": (text("c.gpkg", "hello"), ["can not read", "format its suffix says"]),
    "unknown suffix": (text("c.kmz", "hello"), ["'.kmz'", ".gpkg"]),
    "box inside out": (
        text("c.csv", rows("stand.tif,50,20,40,30,tree")),
        [f"line {N + 2}", "xmin < xmax", "(--drop)"],
    ),
    "box of NaN": (text("c.csv", rows("stand.tif,nan,20,40,30,tree")), [f"line {N + 2}", "nan", "(--drop)"]),
    "box of words": (text("c.csv", rows("stand.tif,abc,20,40,30,tree")), [f"line {N + 2}", "'abc'"]),
    "outline of NaN": (
        text("c.csv", 'wkt\n"POLYGON ((500001 5399999, 500003 5399999, nan 5399990, 500001 5399999))"\n'),
        ["1 crowns have no area or hold what is no number", "(--drop)"],
    ),
    "image absent": (text("c.csv", rows("", image="gone.tif").rstrip()), ["gone.tif", "give these rasters too"]),
    "outside": (layer(shapes=moved(9e3)), [f"none of the {N} crowns", "the raster x 500000.0 to 500040.0"]),
    "COCO run lengths": (text("c.json", coco(segmentation={"counts": "ab", "size": [4, 4]})), ["RLE", "polygons"]),
    "COCO of words": (text("c.json", coco(bbox=[1, 1, "x", 20])), ["annotation 7", "bbox of x, y, width and height"]),
    "COCO image unknown": (text("c.json", coco(bbox=[1, 1, 9, 20], image_id=2)), ["is not COCO", "id of an image"]),
    "not JSON": (text("c.json", '{"images": ['), ["is not JSON", "complete"]),
    "VOC of another size": (
        text("c.xml", voc(BOXES, "<size><width>99</width><height>99</height></size>")),
        ["99x99", f"{SIDE}x{SIDE}"],
    ),
    "VOC without size, beyond": (
        text("c.xml", voc([*BOXES, [900, 900, 930, 930]])),
        [f"1 of {N + 1} boxes lie outside their image, row {N + 1}", "(--drop)"],
    ),
    "VOC inside out": (text("c.xml", voc([[50, 2, 4, 40]])), ["object 1", "xmin < xmax", "(--drop)"]),
    "VOC broken off": (text("c.xml", "<annotation>"), ["not well-formed"]),
    "YOLO class out of range": (yolo("3 0.5 0.5 0.1 0.1\n"), ["line 1", "class 3 is out of range", "tree"]),
    "YOLO in pixels": (yolo("0 50 50 20 20\n"), ["line 1", "0 to 1"]),
    "AOI missing": (layer("c.gpkg", "--aoi", "gone.gpkg"), ["no file gone.gpkg"]),
    "band missing": (layer("c.gpkg", "--bands", "1,2,9"), ["bands 1 to 3", "(--bands)"]),
    "trained and validated on": (lambda f: (layer()(f)[0], "--validation", str(f / "stand.tif")), ["--validation"]),
    "origin of a class unknown": (
        layer("c.gpkg", "--comes_from.ash", "oak", label=["ash"] * N),
        ["(--comes_from.ash)"],
    ),
    "crowns smaller than pixels": (
        layer(shapes=shapely.buffer(CENTRES, 0.05)),
        ["0.10 m", "(--model_gsd)", "(--gsd)"],
    ),
}


def one_error(said):
    lines = said.err.splitlines()
    errors = [line for line in lines if line.startswith("treedet: error: ")]
    assert len(errors) == 1, said.err
    assert lines[-1] == errors[0]
    assert all(line.startswith("treedet: ") for line in lines), "every line is a sentence of ours"
    return errors[0]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_annotation_is_one_line(stand, train, mistake):
    make, words = MISTAKES[mistake]
    given = make(stand)
    code, said, new = train(*([given] if isinstance(given, str) else given))
    line = one_error(said)
    assert code == 2
    assert [word for word in words if word not in line] == [], line
    assert "Traceback" not in said.err
    assert new == set()
    assert said.out == "", "nothing is reported of a training that can not start"


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("m.pt", [".safetensors", "'.pt'", "m.safetensors"]),
        ("m", [".safetensors", "found none"]),
        ("no/m.safetensors", ["does not exist", "make it first"]),
        ("", [".safetensors"]),
    ],
)
def test_an_output_that_can_not_be_written_is_said_before_anything_is_read(train, output, words):
    code, said, new = train("gone.gpkg", output=output)
    line = one_error(said)
    assert (code, new) == (2, set())
    assert all(word in line for word in words), line


def test_a_folder_of_the_outputs_name_is_not_replaced(stand, train):
    (stand / "out/m.safetensors").mkdir(parents=True)
    for arguments in ([], ["--overwrite"]):
        code, said, _ = train("gone.gpkg", *arguments)
        assert code == 2
        assert "is a folder" in one_error(said)


def test_a_raster_that_is_missing_or_breaks_off(stand, train):
    vector(stand / "c.gpkg")
    code, said, new = train("c.gpkg", raster="gone.tif")
    assert (code, new) == (2, set())
    assert "gone.tif" in one_error(said)
    path = stand / "stand.tif"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    code, said, new = train("c.gpkg")
    assert (code, new) == (2, set())
    assert "copy or download it again" in one_error(said)


def test_an_image_of_the_annotation_that_a_folder_lacks(stand, train):
    (stand / "rasters").mkdir()
    shutil.move(stand / "stand.tif", stand / "rasters/stand.tif")
    (stand / "c.csv").write_text(rows("gone.tif,1,1,20,20,tree"))
    code, said, new = train("c.csv", raster="rasters")
    assert (code, new) == (2, set())
    assert "gone.tif" in one_error(said)


def test_voc_without_a_size_is_read_and_said(stand, train):
    (stand / "c.xml").write_text(voc(BOXES))
    code, said, _ = train("c.xml", "--max_crown", "0.1")
    assert code == 2, "it got as far as the crowns' sizes"
    assert "c.xml: no <size> with width and height; boxes are taken as pixels of the raster" in said.err


def test_resuming_a_finished_run_does_not_replace_its_model(stand, train):
    vector(stand / "c.gpkg")
    (stand / "out").mkdir()
    (stand / "out/m.safetensors").write_bytes(b"mine")
    code, said, new = train("c.gpkg", "--resume")
    assert (code, new) == (2, set())
    assert "(--overwrite)" in one_error(said)
    assert (stand / "out/m.safetensors").read_bytes() == b"mine"


def test_a_model_that_finds_nothing_is_not_handed_over_silently(stand, train):
    vector(stand / "c.gpkg")
    code, said, _ = train("c.gpkg", "--learning_rate", "1e-9")
    assert code == 0
    assert "warning: the model finds none of the" in said.err
    assert "--epochs" in said.err
