"""The command line as a user meets it: what it prints, what it leaves behind, and one line for each mistake."""

import json
import logging
import resource
import subprocess
import sys
import warnings
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import shapely
from factories import UTM, disks, make_raster, paint, tiny_spec

from treedet import cli
from treedet.arguments import in_order
from treedet.commands import inspect_command, predict_command
from treedet.core import crowns as crowns_table
from treedet.core.labels import LabelSchema
from treedet.inference.detector import Detector
from treedet.inference.loading import bundled_model, load
from treedet.inference.parts import RunFolder
from treedet.models.blobs import BlobDetector
from treedet.vectors.annotations import read_crowns

WIDTH, HEIGHT = 300, 260
CIRCLES = disks(np.random.default_rng(0), width=WIDTH, height=HEIGHT, count=30, radius=(4, 12))
PIXELS = paint(CIRCLES, width=WIDTH, height=HEIGHT)

pytestmark = [
    pytest.mark.filterwarnings("default"),  # the command line shows warnings as lines
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
]


@pytest.fixture
def blobs(monkeypatch):
    """The blob detector in place of the bundled model, so that a run takes no time."""
    model = Detector(BlobDetector(tiny_spec(window_px=64)))
    monkeypatch.setattr(predict_command, "load_detector", lambda path, **_: model if path is None else load(path))


@pytest.fixture(scope="module")
def bundled():
    """The bundled model, loaded once."""
    if not bundled_model().exists():
        pytest.skip("the bundled model is not there")
    return load(device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def raster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    return make_raster(folder / "ok.tif", PIXELS, tiled=True, blockxsize=64, blockysize=64)


def run(capsys, *arguments):
    """Exit code, standard output and the lines of standard error."""
    try:
        code = cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err.splitlines()


def assert_refused(capsys, *arguments, says):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert len(err) == 1, err
    assert err[0].startswith("treedet: error: ")
    for part in says:
        assert part in err[0]


def write_aoi(path, *, crs=UTM, corner=(500_005, 5_399_980), side=15.0):
    x, y = corner
    shape = gpd.GeoSeries([shapely.box(x, y, x + side, y + side)], crs=UTM)
    gpd.GeoDataFrame(geometry=shape.to_crs(crs)).to_file(path)
    return path


# ---- predict


STATUS = LabelSchema(attributes={"status": ("alive", "dead")})
"""What the bundled model says."""


def test_predict_on_the_sample_with_the_bundled_model(sample, tmp_path, capsys, monkeypatch, bundled):
    monkeypatch.setattr(predict_command, "load_detector", lambda *_, **__: bundled)
    output = tmp_path / "crowns.gpkg"
    code, out, err = run(capsys, "predict", sample / "sample.tif", output)
    assert (code, err) == (0, [])
    lines = out.splitlines()
    table = read_crowns(output)
    assert lines[0].startswith(f"{len(table):,} crowns on 0.80 ha: ")
    assert [line.split()[0] for line in lines[1:]] == [
        *("GSD", "bands", "model", "windows", "time"),
        *("status", "alive", "dead"),
        *("written", "look"),
    ]
    assert "crowns.safetensors" in lines[3]
    picture = tmp_path / "crowns-look.png"
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert {entry.name for entry in tmp_path.iterdir()} == {"crowns.gpkg", "crowns-look.png"}

    info = pyogrio.read_info(output, layer="crowns")
    assert info["crs"] == "EPSG:32632"
    assert [name for name in info["fields"] if name != "fid"] == crowns_table.columns(STATUS)[1:]
    facts = json.loads(info["layer_metadata"]["treedet_run"])
    assert facts["crowns"]
    assert facts["model_gsd"] == pytest.approx(0.1, rel=0.01)
    crowns_table.validate(table, STATUS)


@pytest.mark.usefixtures("blobs")
def test_predict_counts_what_is_painted(raster, tmp_path, capsys):
    code, out, err = run(capsys, "predict", raster, tmp_path / "out.shp", "--no_look")
    assert (code, err) == (0, [])
    assert out.startswith("30 crowns on 0.08 ha")
    assert not (tmp_path / "out-look.png").exists()
    assert len(gpd.read_file(tmp_path / "out.shp")) == 30


@pytest.mark.usefixtures("blobs")
def test_names_with_spaces_and_umlauts(tmp_path, capsys):
    folder = tmp_path / "Wald östlich, 3 größte Bäume"
    folder.mkdir()
    raster = make_raster(folder / "Bäume im Süden.tif", PIXELS)
    aoi = write_aoi(folder / "Fläche 1.gpkg", side=30)
    for suffix in ("gpkg", "shp", "geojson", "csv"):
        code, _, err = run(capsys, "predict", raster, folder / f"Krönen ü.{suffix}", "--aoi", aoi, "--overwrite")
        assert code == 0, err
        table = read_crowns(folder / f"Krönen ü.{suffix}")
        assert 0 < len(table) <= 30
        assert set(table["source"]) == {str(raster)}


@pytest.mark.usefixtures("blobs")
def test_an_aoi_in_another_crs_is_brought_over_and_that_is_said(raster, tmp_path, capsys):
    here = write_aoi(tmp_path / "utm.gpkg")
    there = write_aoi(tmp_path / "lonlat.geojson", crs=4326)
    assert run(capsys, "predict", raster, tmp_path / "a.gpkg", "--aoi", here, "--no_look")[0] == 0
    code, _, err = run(capsys, "predict", raster, tmp_path / "b.gpkg", "--aoi", there, "--no_look")
    assert code == 0
    assert "reprojected from 'WGS 84' to 'WGS 84 / UTM zone 32N'" in err[0]
    a, b = read_crowns(tmp_path / "a.gpkg"), read_crowns(tmp_path / "b.gpkg")
    assert 0 < len(a) < 30
    assert a.geometry.geom_equals(b.geometry).all()


@pytest.mark.usefixtures("blobs")
def test_a_gsd_far_from_the_models_is_warned_of_with_both_numbers(raster, tmp_path, capsys):
    code, _, err = run(capsys, "predict", raster, tmp_path / "out.gpkg", "--gsd", "0.012", "--no_look")
    assert code == 0
    assert len(err) == 2
    assert "0.012 m per pixel is used as given; the file says 0.1 m" in err[0]
    assert err[1].startswith("treedet: warning: the raster's GSD is 0.012 m, the model is trained for 0.02 to 0.3 m")


@pytest.mark.usefixtures("blobs")
def test_pixels_without_a_place_need_a_gsd(tmp_path, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raster = make_raster(tmp_path / "photo.tif", PIXELS, crs=None)
    assert_refused(capsys, "predict", raster, tmp_path / "out.gpkg", says=["no CRS", "--gsd 0.1"])
    code, _, err = run(capsys, "predict", raster, tmp_path / "out.gpkg", "--gsd", "0.1", "--no_look")
    assert code == 0
    assert "coordinates are pixels" in err[0]
    assert len(read_crowns(tmp_path / "out.gpkg")) == 30


# ---- options


def test_a_call_leaves_logging_and_warnings_as_they_were(tmp_path, capsys):
    log = logging.getLogger("treedet")
    before = log.handlers[:], log.propagate, log.level, warnings.showwarning
    run(capsys, "inspect", tmp_path / "no.tif")
    assert (log.handlers, log.propagate, log.level, warnings.showwarning) == before


@pytest.mark.usefixtures("blobs")
@pytest.mark.parametrize("place", ["first", "last", "equals"])
def test_the_command_line_wins_over_the_config_file(raster, tmp_path, capsys, place):
    config = tmp_path / "c.yaml"
    config.write_text("score_threshold: 0.9\nmin_diameter: 1.5\nno_look: true\n")
    files, threshold = [raster, tmp_path / "out.gpkg"], ["--score_threshold", "0.2"]
    arguments = {
        "first": ["--config", config, *files, *threshold],
        "last": [*threshold, *files, "--config", config],
        "equals": [*files, *threshold, f"--config={config}"],
    }[place]
    code, out, _ = run(capsys, "predict", *arguments)
    assert code == 0
    assert "score at least 0.2" in out
    assert "kept       diameter_m >= 1.5" in out
    assert not (tmp_path / "out-look.png").exists()


def test_print_config_is_a_config_file(raster, tmp_path, capsys):
    code, out, _ = run(capsys, "predict", raster, "out.gpkg", "--bands", "3,2,1", "--overwrite", "--print_config")
    assert code == 0
    assert "overwrite: true" in out
    config = tmp_path / "c.yaml"
    config.write_text(out)
    parsed = cli.build_parser().parse_args(in_order(["predict", "other.tif", "o.gpkg", "--config", str(config)]))
    assert (parsed.predict.raster, parsed.predict.overwrite) == ("other.tif", True)
    assert list(parsed.predict.bands) == [3, 2, 1]


@pytest.mark.usefixtures("blobs")
def test_bare_flags(raster, tmp_path, capsys):
    output = tmp_path / "out.gpkg"
    output.write_text("mine")
    assert run(capsys, "predict", "--overwrite", raster, "--no_look", output, "--resume")[0] == 0
    assert len(read_crowns(output)) == 30


def test_help_loads_no_torch():
    script = (
        "import sys\nfrom treedet.cli import main\n"
        "from treedet.cli import COMMANDS\n"
        "for words in (['--help'], *([name, '--help'] for name in COMMANDS)):\n"
        "    try: main(words)\n"
        "    except SystemExit as stop: assert stop.code == 0\n"
        "print(sorted({'torch', 'rasterio', 'geopandas', 'matplotlib', 'lightning'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for option in ("--model", "--gsd", "--aoi", "--score_threshold", "--max_crown", "--where", "--resume"):
        assert option in done.stdout


# ---- mistakes


@pytest.fixture
def untouched(tmp_path):
    """After a mistake there is nothing that was not there before."""
    yield
    left = {entry.name for entry in tmp_path.iterdir()}
    assert not [name for name in left if name.startswith((".", "out"))]


@pytest.mark.usefixtures("blobs", "untouched")
class TestRasters:
    def test_missing(self, tmp_path, capsys):
        assert_refused(
            capsys, "predict", tmp_path / "no.tif", tmp_path / "out.gpkg", says=["there is no file", "no.tif"]
        )

    @pytest.mark.parametrize(("name", "content"), [("a.tif", b"hello"), ("a.xyz", bytes(range(200)))])
    def test_not_a_raster(self, tmp_path, capsys, name, content):
        (tmp_path / name).write_bytes(content)
        says = [name, "can not be opened as a raster", "GeoTIFF"]
        assert_refused(capsys, "predict", tmp_path / name, tmp_path / "out.gpkg", says=says)

    def test_empty(self, tmp_path, capsys):
        (tmp_path / "zero.tif").touch()
        assert_refused(capsys, "predict", tmp_path / "zero.tif", tmp_path / "out.gpkg", says=["0 bytes"])

    def test_folder_without_rasters(self, tmp_path, capsys):
        assert_refused(capsys, "predict", tmp_path, tmp_path / "out.gpkg", says=["names no raster"])

    @pytest.mark.parametrize("more", [[], ["--no_look"]])
    def test_truncated_names_the_window(self, raster, tmp_path, capsys, more):
        short = tmp_path / "short.tif"
        short.write_bytes(raster.read_bytes()[:60_000])
        says = ["short.tif", "rows 0 to", "columns 0 to", "may be incomplete"]
        assert_refused(capsys, "predict", short, tmp_path / "out.gpkg", *more, says=says)

    def test_one_band(self, tmp_path, capsys):
        grey = make_raster(tmp_path / "grey.tif", PIXELS[:1])
        assert_refused(capsys, "predict", grey, tmp_path / "out.gpkg", says=["1 band", "bands=(1, 1, 1)"])


@pytest.mark.usefixtures("blobs", "untouched")
class TestAreas:
    def test_elsewhere(self, raster, tmp_path, capsys):
        far = write_aoi(tmp_path / "far.gpkg", corner=(600_000, 5_300_000))
        says = ["far.gpkg does not overlap", "ok.tif", "CRS"]
        assert_refused(capsys, "predict", raster, tmp_path / "out.gpkg", "--aoi", far, says=says)

    def test_missing(self, raster, tmp_path, capsys):
        says = ["there is no file", "none.shp"]
        assert_refused(capsys, "predict", raster, tmp_path / "out.gpkg", "--aoi", tmp_path / "none.shp", says=says)


@pytest.mark.usefixtures("untouched")
class TestModels:
    def refused(self, capsys, raster, tmp_path, model, says):
        assert_refused(capsys, "predict", raster, tmp_path / "out.gpkg", "--model", model, says=says)

    def test_missing(self, raster, tmp_path, capsys):
        self.refused(capsys, raster, tmp_path, tmp_path / "no.safetensors", ["no.safetensors does not exist"])

    @pytest.mark.parametrize("content", [b"PK\x03\x04" + b"0" * 200, b"", b"hello, world, I am no model"])
    def test_of_another_format(self, raster, tmp_path, capsys, content):
        (tmp_path / "model.pt").write_bytes(content)
        self.refused(capsys, raster, tmp_path, tmp_path / "model.pt", ["is no treedet model file", ".safetensors"])

    @pytest.mark.usefixtures("bundled")
    def test_truncated(self, raster, tmp_path, capsys):
        with bundled_model().open("rb") as file:
            (tmp_path / "m.safetensors").write_bytes(file.read(1_000_000))
        self.refused(capsys, raster, tmp_path, tmp_path / "m.safetensors", ["is damaged"])

    @pytest.mark.usefixtures("bundled")
    def test_damaged(self, raster, tmp_path, capsys):
        content = bytearray(bundled_model().read_bytes())
        at = content.index(b"fpn_channels")
        content[at : at + 3] = b"xyz"
        (tmp_path / "m.safetensors").write_bytes(content)
        self.refused(capsys, raster, tmp_path, tmp_path / "m.safetensors", ["xyz_channels"])

    @pytest.mark.usefixtures("bundled")
    def test_unknown_device(self, raster, tmp_path, capsys):
        says = ["device 'tpu' is not available here; found cpu"]
        assert_refused(capsys, "predict", raster, tmp_path / "out.gpkg", "--device", "tpu", says=says)


@pytest.mark.usefixtures("blobs")
class TestOutputs:
    def test_exists(self, raster, tmp_path, capsys):
        (tmp_path / "out.gpkg").write_text("mine")
        assert_refused(capsys, "predict", raster, tmp_path / "out.gpkg", says=["exists already", "--overwrite"])
        assert (tmp_path / "out.gpkg").read_text() == "mine"

    def test_look_sheet_exists(self, raster, tmp_path, capsys):
        (tmp_path / "out-look.png").write_text("mine")
        assert_refused(capsys, "predict", raster, tmp_path / "out.gpkg", says=["out-look.png exists already"])
        assert (tmp_path / "out-look.png").read_text() == "mine"

    @pytest.mark.usefixtures("untouched")
    @pytest.mark.parametrize("name", ["out.xls", "out"])
    def test_unknown_suffix(self, raster, tmp_path, capsys, name):
        assert_refused(capsys, "predict", raster, tmp_path / name, says=["names no format", ".gpkg, .shp"])

    @pytest.mark.usefixtures("untouched")
    def test_missing_folder(self, raster, tmp_path, capsys):
        says = ["there is no folder", "make it first"]
        assert_refused(capsys, "predict", raster, tmp_path / "new" / "out.gpkg", says=says)

    @pytest.mark.parametrize(
        ("suffix", "room"),
        [*((suffix, 14_000) for suffix in ("gpkg", "shp", "geojson", "fgb", "csv")), ("parquet", 5_000)],
    )
    def test_full_disk(self, tmp_path, capsys, suffix, room):
        circles = disks(np.random.default_rng(1), width=400, height=400, count=250, radius=(3, 4))
        raster = make_raster(tmp_path / "many.tif", paint(circles, width=400, height=400), compress="deflate")
        output = tmp_path / f"out.{suffix}"
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        try:
            code, out, err = run(capsys, "predict", raster, output, "--no_look")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert (code, out) == (2, ""), (err, output.exists())
        assert len(err) == 1
        assert output.name in err[0]
        left = {entry.name for entry in tmp_path.iterdir()}
        assert left <= {"many.tif", f"{output.name}.parts"}
        # With room again the run goes on from where it was.
        more = ["--resume"] if len(left) == 2 else []
        assert run(capsys, "predict", raster, output, "--no_look", *more)[0] == 0
        assert len(read_crowns(output)) > 200

    def test_resumed_with_other_settings(self, raster, tmp_path, capsys, monkeypatch):
        output = tmp_path / "out.gpkg"

        def fails(*_, **__):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("treedet.inference.to_file.open_writer", fails)
            code, _, err = run(capsys, "predict", raster, output, "--no_look")
        assert code == 130
        assert "--resume" in err[-1]
        assert RunFolder(output).done > 1
        says = ["is left from an interrupted run", "--resume", "delete it"]
        assert_refused(capsys, "predict", raster, output, "--no_look", says=says)
        changed = ["--resume", "--score_threshold", "0.55"]
        says = ["score threshold was 0.3, is now 0.55"]
        assert_refused(capsys, "predict", raster, output, "--no_look", *changed, says=says)
        assert run(capsys, "predict", raster, output, "--no_look", "--resume")[0] == 0
        assert {entry.name for entry in tmp_path.iterdir()} == {"out.gpkg"}


@pytest.mark.usefixtures("blobs", "untouched")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--where", "score >"], ["condition 'score >'", "diameter_m"]),
        (["--where", "heigth > 3"], ["'heigth' is not defined", "diameter_m"]),
        (["--where", "score + 1"], ["true or false", "diameter_m"]),
        (["--where", "score = 3"], ["true or false", "diameter_m"]),
        (["--where", "__import__('os').getcwd()"], ["can not be used"]),
        (["--score_threshold", "best"], ["'best'", "balanced"]),
        (["--score_threshold", "1.5"], ["1.5", "from 0 to 1"]),
        (["--hue", "red"], ["--hue", "treedet predict --help"]),
        (["--bands", "1,2,9"], ["bands [1, 2, 9]", "bands 1 to 3"]),
        (["--bands", "red"], ["--bands can not be ['red']", "whole numbers such as 3,2,1"]),
        (["--bands", "1,2"], ["needs 3 bands, 2 were chosen"]),
        (["--stretch", "200,0"], ["low < high"]),
        (["--stretch", "5"], ["--stretch can not be [5]", "two numbers"]),
        (["--gsd", "wide"], ["--gsd can not be wide; accepted is a number"]),
        (["--gsd", "-1"], ["gsd must be a positive number"]),
        (["--max_crown", "0"], ["max_crown must be a positive number"]),
        (["--precision", "fp8"], ["--precision can not be fp8; accepted is auto, fp32, bf16"]),
        (["--shape", "circle"], ["--shape can not be circle; accepted is box, ellipse, point"]),
        (["--readers", "0"], ["readers must be at least 1"]),
        (["--config", "none.yaml"], ["none.yaml"]),
    ],
    ids=lambda value: " ".join(value)[:30],
)
def test_options_that_make_no_sense(raster, tmp_path, capsys, arguments, says):
    assert_refused(capsys, "predict", raster, tmp_path / "out.gpkg", *arguments, says=says)


@pytest.mark.parametrize("text", ["scor: 0.9\n", "score: [0.9\n"])
def test_config_files_that_make_no_sense(raster, tmp_path, capsys, text):
    (tmp_path / "c.yaml").write_text(text)
    assert_refused(capsys, "predict", raster, tmp_path / "o.gpkg", "--config", tmp_path / "c.yaml", says=["treedet"])


@pytest.mark.parametrize("arguments", [[], ["preddict"], ["predict"], ["inspect"], ["predict", "a.tif"]])
def test_commands_that_are_not_whole(capsys, arguments):
    assert_refused(capsys, *arguments, says=["--help"])


# ---- inspect


def test_inspect_a_raster(sample, capsys, monkeypatch, bundled):
    monkeypatch.setattr(inspect_command, "load", lambda *_, **__: bundled)
    code, out, err = run(capsys, "inspect", sample / "sample.tif")
    assert (code, err) == (0, [])
    for part in ("1,000 x 800 px", "3 bands of uint8", "UTM zone 32N", "GSD        0.1 m", "valid      100%"):
        assert part in out
    assert out.splitlines()[-1] == f"next       treedet predict {sample / 'sample.tif'} crowns.gpkg"


@pytest.mark.usefixtures("bundled")
def test_inspect_a_model(capsys):
    code, out, err = run(capsys, "inspect", bundled_model())
    assert (code, err) == (0, [])
    for part in ("network    RetinaNet", "sees       3 bands at 0.1 m", "threshold  balanced = "):
        assert part in out
    assert "nan" not in out.lower().split()


@pytest.mark.usefixtures("blobs")
def test_inspect_crowns(raster, tmp_path, capsys):
    run(capsys, "predict", raster, tmp_path / "a.gpkg", "--no_look")
    code, out, err = run(capsys, "inspect", tmp_path / "a.gpkg")
    assert (code, err) == (0, [])
    assert out.splitlines()[0] == f"crowns     {tmp_path / 'a.gpkg'}: 30"
    assert "UTM zone 32N" in out
    assert "diameter_m" in out


@pytest.mark.parametrize("name", ["no.tif", "no.gpkg", "no.safetensors"])
def test_inspect_what_is_not_there(tmp_path, capsys, name):
    assert_refused(capsys, "inspect", tmp_path / name, says=[name])


def test_python_m_treedet():
    done = subprocess.run([sys.executable, "-m", "treedet", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("treedet ")
    assert Path(cli.__file__).exists()
