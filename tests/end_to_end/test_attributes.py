"""Attributes through all that a prediction gives: table, files, conditions, summary, warning, pictures, style."""

import json
import sqlite3
import warnings
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pyogrio
import pytest
from factories import make_raster, tiny_spec

from treedet import cli
from treedet.commands import predict_command
from treedet.core import crowns as crowns_table
from treedet.core.labels import LabelSchema
from treedet.errors import ConfigError, DeadShareWarning, OutputError
from treedet.inference.detector import Detector
from treedet.models.blobs import BlobDetector
from treedet.rasters.raster import Raster
from treedet.vectors.annotations import read_crowns, read_metadata
from treedet.vectors.writers import SUFFIXES

SPECIES = ("ACRU", "PIST", "QURU", "007")
LABELS = LabelSchema(attributes={"species": SPECIES, "status": ("alive", "dead")})
SURE, UNSURE = 250, 150
"""Brightness of blobs: all that is said of them has the probability of their score, 0.98 or 0.59."""


class Hesitant(BlobDetector):
    """Is as sure of the attributes of a blob as it is of the blob."""

    def _blobs(self, window, sides):
        found = super()._blobs(window, sides)
        sure = found.scores[:, None]
        return replace(
            found,
            attributes={
                name: np.where(said == 1, sure, (1 - sure) / (said.shape[1] - 1)).astype(np.float32)
                for name, said in found.attributes.items()
            },
        )


def detector(labels=LABELS):
    return Detector(Hesitant(tiny_spec(window_px=128, labels=labels)))


def painted(path, *, dead_of_ten, blobs=100):
    """Write squares in rows of ten: the last of each row are dead, every third is unsure."""
    pixels = np.zeros((3, 20 * blobs // 10, 200), np.uint8)
    for i in range(blobs):
        row, col = divmod(i, 10)
        place = slice(20 * row + 4, 20 * row + 16), slice(20 * col + 4, 20 * col + 16)
        pixels[0][place] = UNSURE if i % 3 == 0 else SURE
        pixels[1][place] = 200 if col >= 10 - dead_of_ten else 30
    return make_raster(path, pixels)


@pytest.fixture(scope="module")
def forest(tmp_path_factory):
    """A hundred crowns, twenty of them dead."""
    return painted(tmp_path_factory.mktemp("forest") / "forest.tif", dead_of_ten=2)


@pytest.fixture(scope="module")
def burn(tmp_path_factory):
    """A hundred crowns, seventy of them dead."""
    return painted(tmp_path_factory.mktemp("burn") / "burn.tif", dead_of_ten=7)


@pytest.fixture
def blobs(monkeypatch):
    model = detector()
    monkeypatch.setattr(predict_command, "load_detector", lambda *_, **__: model)


def plain(table):
    return table.drop(columns=["geometry", "source"])


def same(found, expected):
    assert list(found.columns) == list(expected.columns)
    assert found.dtypes.astype(str).to_dict() == expected.dtypes.astype(str).to_dict()
    for name in expected.columns:
        if expected[name].dtype.name.startswith("float"):
            np.testing.assert_allclose(found[name], expected[name], atol=1e-5)
        else:
            assert found[name].isna().tolist() == expected[name].isna().tolist()
            assert found[name].dropna().tolist() == expected[name].dropna().tolist()


def test_the_least_probability_empties_attributes_and_changes_no_crown(forest):
    every, sure = detector().predict(forest), detector().predict(forest, min_p=0.7)
    assert len(every) == 100
    assert every["status"].value_counts().to_dict() == {"alive": 80, "dead": 20}
    for name in LABELS.attributes:
        unsure = every[f"{name}_p"] < 0.7
        assert unsure.sum() == 34
        assert sure[name].isna().tolist() == unsure.tolist()
        assert sure[name].dropna().tolist() == every[name][~unsure].tolist()
    others = [name for name in every.columns if name not in LABELS.attributes]
    assert sure[others].equals(every[others])
    crowns_table.validate(sure, LABELS)


@pytest.mark.parametrize("min_p", [0.7, 0.99])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_holds_attributes_and_where_there_are_none(tmp_path, forest, suffix, min_p):
    output = tmp_path / f"out{suffix}"
    options = {"min_p": min_p, "where": "status.isna() or status == 'alive'"}
    detector().predict_to_file(forest, output, **options)
    expected = detector().predict(forest, **options)
    assert 0 < expected["status"].isna().sum() < 100 if min_p == 0.7 else expected["status"].isna().all()
    with Raster.open(forest) as raster:
        found = read_crowns(output, grid=raster.native_grid)
    same(plain(found), plain(expected))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_without_crowns_has_the_columns_of_attributes(tmp_path, forest, suffix):
    output = tmp_path / f"none{suffix}"
    summary = detector().predict_to_file(forest, output, where="score > 0.99")
    assert summary.crowns == 0
    found = read_crowns(output)
    assert found.dtypes.astype(str).to_dict() == crowns_table.empty(LABELS).dtypes.astype(str).to_dict()
    assert list(found["species"].cat.categories) == list(SPECIES)


@pytest.mark.parametrize(
    ("where", "count"),
    [
        ("status == 'dead'", 13),
        ("status != 'dead'", 53),
        ("status_p > 0.8 and status == 'dead'", 13),
        ("species in ['QURU', 'ACRU']", 53),
        ("species not in ['QURU', 'ACRU']", 13),
        ("status.isna()", 34),
    ],
)
def test_conditions_on_attributes_after_the_least_probability(forest, where, count):
    assert len(detector().predict(forest, where=where, min_p=0.7)) == count


def test_a_misspelt_name_is_refused_before_any_work(tmp_path):
    with pytest.raises(ConfigError, match="status is never 'Dead'; accepted are 'alive', 'dead'"):
        detector().predict(tmp_path / "not even there.tif", where="status == 'Dead'")


def test_a_run_is_taken_up_with_another_least_probability(tmp_path, forest):
    class StoppedError(Exception):
        pass

    def stop(progress):
        if progress.windows >= 4:
            raise StoppedError

    output = tmp_path / "out.gpkg"
    with pytest.raises(StoppedError):
        detector().predict_to_file(forest, output, watch=stop, max_crown=1.5)
    assert output.with_name("out.gpkg.parts").exists()
    detector().predict_to_file(forest, output, resume=True, max_crown=1.5, min_p=0.7, probabilities=True)
    expected = detector().predict(forest, max_crown=1.5, min_p=0.7, probabilities=True)
    assert expected["status"].isna().sum() == 34
    same(plain(read_crowns(output)), plain(expected))


PROBABILITIES = ["p_ACRU", "p_PIST", "p_QURU", "p_007", "p_alive", "p_dead"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_probabilities_of_every_class_on_request(tmp_path, forest, suffix):
    output, names = tmp_path / f"out{suffix}", PROBABILITIES
    detector().predict_to_file(forest, output, probabilities=True)
    found = read_crowns(output)
    assert list(found.columns)[-6:] == names
    np.testing.assert_allclose(found[names[:4]].sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found[["p_alive", "p_dead"]].max(axis=1), found["status_p"], atol=1e-6)
    assert not {"p_ACRU", "p_dead"} & set(detector().predict(forest).columns)


@pytest.mark.parametrize("suffix", [s for s in SUFFIXES if s not in (".geojson", ".json")])
def test_a_file_without_crowns_has_the_columns_of_probabilities(tmp_path, forest, suffix):
    output = tmp_path / f"none{suffix}"
    detector().predict_to_file(forest, output, probabilities=True, where="score > 0.99")
    found = read_crowns(output)
    assert (len(found), list(found.columns)[-6:]) == (0, PROBABILITIES)


def test_probabilities_whose_names_a_shapefile_would_cut_are_refused_before_any_work(tmp_path, forest):
    labels = LabelSchema(attributes={"species": ("Pinus sylvestris", "Picea abies")})
    with pytest.raises(OutputError, match=r"found p_Pinus sylvestris, p_Picea abies; write a GeoPackage \(\.gpkg\)"):
        detector(labels).predict_to_file(forest, tmp_path / "out.shp", probabilities=True)
    assert not list(tmp_path.iterdir())
    detector(labels).predict_to_file(forest, tmp_path / "out.gpkg", probabilities=True)
    assert "p_Pinus sylvestris" in pyogrio.read_info(tmp_path / "out.gpkg", layer="crowns")["fields"]


def test_the_summary_counts_by_class_and_is_kept_in_the_output(tmp_path, forest):
    output = tmp_path / "out.gpkg"
    summary = detector().predict_to_file(forest, output, min_p=0.7)
    table = read_crowns(output)
    rows = {row.name: row for row in summary.classes["status"]}
    assert {name: row.crowns for name, row in rows.items()} == {"alive": 53, "dead": 13, None: 34}
    dead = table[table["status"] == "dead"]
    assert rows["dead"].crown_m2 == pytest.approx(dead["crown_m2"].sum(), rel=1e-5)
    assert rows["dead"].share == pytest.approx(0.13)
    assert rows["dead"].per_hectare == pytest.approx(13 / summary.hectares)
    stored = read_metadata(output)
    assert [(row["name"], row["crowns"]) for row in stored["classes"]["status"]] == [
        ("alive", 53),
        ("dead", 13),
        (None, 34),
    ]
    assert (stored["min_p"], stored["cautions"]) == (0.7, [])


def dead_warnings(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call()
    return result, [str(w.message) for w in caught if issubclass(w.category, DeadShareWarning)]


@pytest.mark.parametrize("where", [None, "status == 'alive'", "score > 0.99"])
def test_more_dead_than_plausible_is_warned_of_once(tmp_path, burn, where):
    _, (said,) = dead_warnings(lambda: detector().predict(burn, where=where))
    assert said.startswith("70% of 100 crowns with a status are said to be dead")
    output = tmp_path / "out.gpkg"
    summary, again = dead_warnings(lambda: detector().predict_to_file(burn, output, where=where))
    assert again == [said]
    assert summary.cautions == (said,)
    assert read_metadata(output)["cautions"] == [said]


def test_who_asks_for_the_dead_alone_is_not_warned(tmp_path, forest):
    table, said = dead_warnings(lambda: detector().predict(forest, where="status == 'dead'"))
    assert (len(table), said) == (20, [])
    summary, said = dead_warnings(
        lambda: detector().predict_to_file(forest, tmp_path / "out.gpkg", where="status == 'dead'")
    )
    assert (summary.crowns, summary.cautions, said) == (20, (), [])


def test_a_colour_that_is_not_there_is_refused_before_any_work(tmp_path):
    with pytest.raises(ConfigError, match="coloured by 'genus'; accepted are species, status, label"):
        detector().predict_to_file(tmp_path / "no.tif", tmp_path / "out.gpkg", colour_by="genus")


# ---- the command line


def run(capsys, *arguments):
    code = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err.splitlines()


@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("blobs")
def test_predict_prints_tables_and_inspect_counts(forest, tmp_path, capsys):
    output = tmp_path / "out.gpkg"
    code, out, err = run(capsys, "predict", forest, output, "--min_p", "0.7", "--probabilities")
    assert (code, err) == (0, [])
    assert "attributes left empty below a probability of 0.7" in out
    start = next(i for i, line in enumerate(out) if line.startswith("status "))
    assert [line.split()[:3] for line in out[start : start + 4]] == [
        ["status", "crowns", "share"],
        ["alive", "53", "53.0%"],
        ["dead", "13", "13.0%"],
        ["no", "value", "34"],
    ]
    code, out, err = run(capsys, "inspect", output)
    assert (code, err) == (0, [])
    assert out[-3:] == [
        "label      tree 100",
        "species    ACRU 53, 007 13, no value 34",
        "status     alive 53, dead 13, no value 34",
    ]


@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("blobs")
def test_colours_are_chosen_for_the_sheet_and_the_style_together(forest, tmp_path, capsys, monkeypatch):
    legends = []
    save = predict_command.LookSheet.save
    monkeypatch.setattr(
        predict_command.LookSheet, "save", lambda sheet, *a, **k: (legends.append(sheet.legend), save(sheet, *a, **k))
    )
    for name, more in {"usual": [], "wanted": ["--colour_by", "species"]}.items():
        assert run(capsys, "predict", forest, tmp_path / f"{name}.gpkg", *more)[0] == 0
    assert [list(legend) for legend in legends] == [
        ["alive: 80", "dead: 20"],
        ["ACRU: 80", "PIST: 0", "QURU: 0", "007: 20"],
    ]
    styled = []
    for name in ("usual", "wanted"):
        with sqlite3.connect(tmp_path / f"{name}.gpkg") as connection:
            [(qml,)] = connection.execute("SELECT styleQML FROM layer_styles").fetchall()
        styled.append(ET.fromstring(qml).find("renderer-v2").get("attr"))
    assert styled == ["status", "species"]


@pytest.mark.usefixtures("blobs")
@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--min_p", "1.7"], "min_p must be a probability from 0 to 1, found 1.7"),
        (["--where", "species == 'quru'"], "species is never 'quru'; accepted are 'ACRU', 'PIST', 'QURU', '007'"),
        (["--colour_by", "genus"], "crowns can not be coloured by 'genus'; accepted are species, status, label"),
    ],
)
def test_mistakes_are_one_line(forest, tmp_path, capsys, more, says):
    code, out, err = run(capsys, "predict", forest, tmp_path / "out.gpkg", *more)
    assert (code, out, len(err)) == (2, [], 1)
    assert says in err[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("blobs")
def test_the_warning_is_one_line_on_the_terminal(burn, tmp_path, capsys):
    code, _, err = run(capsys, "predict", burn, tmp_path / "out.csv", "--no_look")
    assert (code, len(err)) == (0, 1)
    assert err[0].startswith("treedet: warning: 70% of 100 crowns with a status are said to be dead")
    assert json.loads((tmp_path / "out.csv.meta.json").read_text())["cautions"]
