import json
from pathlib import Path

import pytest
import torch
from factories import tiny_spec
from safetensors.torch import save_file

from treedet.core.labels import LabelSchema
from treedet.core.spec import OperatingPoint, ResolutionChoice
from treedet.errors import ModelFileError, OutputError, SpecMismatchError, UnknownFormatError
from treedet.models import model_file
from treedet.models.backends.eager import EagerBackend
from treedet.models.build import build, weights_of
from treedet.models.trunk import Trunk


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    spec = tiny_spec(
        labels=LabelSchema(attributes={"status": ("alive", "dead")}),
        operating_points={"balanced": OperatingPoint(0.4, 0.7, 0.6, 0.65)},
    )
    model_file.save(path, spec, weights_of(Trunk(spec)))
    return path


def test_the_spec_comes_back_as_it_was(saved: Path) -> None:
    spec, tensors = model_file.load(saved)
    assert spec == model_file.read_spec(saved)
    assert spec.labels.attributes == {"status": ("alive", "dead")}
    assert spec.operating_points["balanced"] == OperatingPoint(0.4, 0.7, 0.6, 0.65)
    assert tensors["backbone.body.conv1.weight"].dtype == torch.float16
    assert tensors["backbone.body.bn1.running_var"].dtype == torch.float32


def test_how_coarse_imagery_is_read_comes_back_and_files_without_it_keep_loading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices = (ResolutionChoice(0.2, "adapt", 0.61, 0.5), ResolutionChoice(0.5, "native", 0.3, 0.4))
    spec = tiny_spec(resolutions=choices)
    model_file.save(tmp_path / "a.safetensors", spec, weights_of(Trunk(spec)))
    assert model_file.read_spec(tmp_path / "a.safetensors").resolutions == choices

    plain = {name: value for name, value in spec.to_dict().items() if name != "resolutions"}
    monkeypatch.setattr(type(spec), "to_dict", lambda _: plain)
    model_file.save(tmp_path / "before.safetensors", spec, weights_of(Trunk(spec)))
    before = model_file.read_spec(tmp_path / "before.safetensors")
    assert (before.resolutions, before.mode_at(0.5)) == ((), "adapt")


def test_saved_and_loaded_gives_the_same_outputs(tmp_path: Path, saved: Path) -> None:
    spec, tensors = model_file.load(saved)
    first = build(spec, tensors)
    model_file.save(tmp_path / "again.safetensors", spec, weights_of(first))
    second = build(*model_file.load(tmp_path / "again.safetensors"))
    pixels = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8).numpy()
    a = EagerBackend(first, device="cpu", precision="fp32").trunk(pixels)
    b = EagerBackend(second, device="cpu", precision="fp32").trunk(pixels)
    assert torch.equal(a.logits, b.logits)
    assert torch.equal(a.deltas, b.deltas)


def test_nothing_is_overwritten_unasked(tmp_path: Path, saved: Path) -> None:
    spec, tensors = model_file.load(saved)
    target = tmp_path / "there.safetensors"
    target.write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        model_file.save(target, spec, tensors)
    assert target.read_text() == "mine"
    with pytest.raises(OutputError, match="folder"):
        model_file.save(tmp_path / "no" / "x.safetensors", spec, tensors)
    assert [p.name for p in tmp_path.iterdir()] == ["there.safetensors"]


def test_missing_foreign_and_damaged_files_are_told_apart(tmp_path: Path, saved: Path) -> None:
    with pytest.raises(ModelFileError, match="does not exist"):
        model_file.load(tmp_path / "nothing.safetensors")
    foreign = tmp_path / "foreign.safetensors"
    save_file({"x": torch.zeros(2)}, foreign)
    with pytest.raises(UnknownFormatError, match="does not name the format"):
        model_file.load(foreign)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(saved.read_bytes()[:-1000])
    with pytest.raises(UnknownFormatError, match="damaged"):
        model_file.load(cut)
    text = tmp_path / "text.safetensors"
    text.write_text("not a model")
    with pytest.raises(UnknownFormatError):
        model_file.load(text)


@pytest.mark.parametrize(
    ("metadata", "error", "message"),
    [
        ({"format": model_file.FORMAT, "format_version": "99", "spec": "{}"}, UnknownFormatError, "newer treedet"),
        ({"format": model_file.FORMAT, "format_version": "1", "spec": "{"}, SpecMismatchError, "damaged"),
        ({"format": model_file.FORMAT, "format_version": "1"}, SpecMismatchError, "damaged"),
        (
            {"format": model_file.FORMAT, "format_version": "1", "spec": json.dumps({"wings": 2})},
            SpecMismatchError,
            "wings",
        ),
    ],
)
def test_headers_that_can_not_be_used(
    tmp_path: Path, metadata: dict[str, str], error: type[Exception], message: str
) -> None:
    path = tmp_path / "odd.safetensors"
    save_file({"x": torch.zeros(2)}, path, metadata=metadata)
    with pytest.raises(error, match=message):
        model_file.load(path)
