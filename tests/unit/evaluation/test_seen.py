from treedet.core.spec import ModelSpec
from treedet.evaluation.seen import seen_before
from treedet.rasters.fingerprint import fingerprint, known_by


def test_a_calibration_raster_is_known_again_under_another_name(tmp_path):
    first, copied, other = tmp_path / "a.tif", tmp_path / "b.tif", tmp_path / "c.tif"
    first.write_bytes(b"pixels")
    copied.write_bytes(b"pixels")
    other.write_bytes(b"others")
    spec = ModelSpec(provenance={"calibration rasters": {fingerprint(first): "a.tif"}})
    assert seen_before(spec, [str(copied), str(other)]) == {"calibrate": [str(copied)]}


def test_training_rasters_are_known_by_their_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = ModelSpec(provenance={"rasters": [str(tmp_path / "a.tif")], "validation rasters": ["b.tif"]})
    found = seen_before(spec, ["a.tif", str(tmp_path / "sub" / "a.tif"), "./b.tif"])
    assert found == {"train": ["a.tif"], "choose the epoch or the thresholds of": ["./b.tif"]}


def test_a_model_that_names_no_rasters_has_seen_none():
    assert seen_before(ModelSpec(), ["a.tif"]) == {}


def test_what_a_starting_model_has_met_is_not_forgotten(tmp_path):
    one, other = tmp_path / "a.tif", tmp_path / "b.tif"
    one.write_bytes(b"1")
    other.write_bytes(b"2")
    before = known_by([str(one)])
    assert known_by([str(other)], before) == {fingerprint(one): str(one), fingerprint(other): str(other)}
    assert known_by([str(other)], [str(one)]) == known_by([str(one), str(other)]), "as older models name them"


def test_a_raster_that_got_overviews_is_known_by_its_place(tmp_path, monkeypatch):
    one = tmp_path / "a.tif"
    one.write_bytes(b"1")
    monkeypatch.chdir(tmp_path)
    spec = ModelSpec(provenance={"rasters": known_by(["a.tif"])})
    one.write_bytes(b"1, and overviews")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert seen_before(spec, ["../a.tif", "a.tif"]) == {"train": ["../a.tif"]}
