"""Files as DeepForest writes them, and files that can not be used: one clear line for each."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from retinanets import hollow_tensors as tensors
from safetensors.torch import save_file
from torch import Tensor

from treedet.compat.deepforest import import_deepforest
from treedet.compat.options import ImportOptions
from treedet.compat.retinanet_tensors import PREFIX
from treedet.compat.weight_files import read_weights
from treedet.core.original import OriginalSetting
from treedet.errors import (
    ConfigError,
    ModelFileError,
    NothingTransferredError,
    OutputError,
    SpecMismatchError,
    TreedetError,
    UnknownFormatError,
)
from treedet.models import model_file

Tensors = dict[str, Tensor]
NUMBERS = 32_254_189
"""In a RetinaNet with one class, as torchvision counts them."""


def older(name: str) -> str:
    """The name that a tensor had before torchvision 0.13."""
    name = re.sub(r"(fpn\.(?:inner|layer)_blocks\.\d)\.0\.", r"\1.", name)
    return re.sub(r"(_head\.conv)\.(\d)\.0\.", lambda m: f"{m[1]}.{2 * int(m[2])}.", name)


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def lightning(path: Path, state: Tensors, **more: object) -> Path:
    return saved(path, {"epoch": 3, "state_dict": {PREFIX + k: v for k, v in state.items()}, **more})


def hub(folder: Path, state: Tensors, **config: object) -> Path:
    folder.mkdir()
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_hub_folder(tmp_path: Path) -> None:
    folder = hub(tmp_path / "hub", tensors(), num_classes=1, nms_thresh=0.1, score_thresh=0.3, label_dict={"Tree": 0})
    found = import_deepforest(folder)
    assert (len(found.report.taken), found.report.numbers) == (301, NUMBERS)
    assert not found.report.renamed
    assert not found.report.left_out
    spec = found.spec
    assert (spec.backbone, spec.levels, spec.anchors_per_location) == ("resnet50", (3, 4, 5, 6, 7), 9)
    assert spec.gsd == pytest.approx(0.05)
    assert spec.labels.classes == ("Tree",)
    assert (spec.threshold(), spec.iou_threshold) == (0.3, 0.1)
    assert spec.precision == "fp32"
    assert spec.original == OriginalSetting(iou_within=0.1)
    assert "hub folder" in spec.provenance["start"]


def test_a_folder_of_the_hubs_cache(tmp_path: Path) -> None:
    (tmp_path / "models--a--b" / "snapshots").mkdir(parents=True)
    hub(tmp_path / "models--a--b" / "snapshots" / "0a1b", {"x": torch.zeros(1)})
    assert read_weights(tmp_path / "models--a--b").path.parent.name == "0a1b"
    hub(tmp_path / "models--a--b" / "snapshots" / "2c3d", {"x": torch.zeros(1)})
    with pytest.raises(ModelFileError, match="2 revisions; give one"):
        read_weights(tmp_path / "models--a--b")


def test_a_lightning_checkpoint_with_what_stands_beside_the_network(tmp_path: Path) -> None:
    state = {PREFIX + older(name): value for name, value in tensors(2).items()}
    state |= {PREFIX + "backbone.body.bn1.num_batches_tracked": torch.tensor(7), "iou_metric.total": torch.zeros(3)}
    config = {"score_thresh": 0.2, "nms_thresh": 0.05, "patch_size": 300, "patch_overlap": 0.25}
    path = saved(
        tmp_path / "a.ckpt",
        {
            "state_dict": state,
            "label_dict": {"Dead": 1, "Alive": 0},
            "numeric_to_label_dict": {0: "Alive", 1: "Dead"},
            "hyper_parameters": {"config": config},
        },
    )
    found = import_deepforest(path)
    assert found.spec.labels.classes == ("Alive", "Dead")
    assert found.spec.threshold() == 0.2
    assert found.spec.original == OriginalSetting(patch_px=300, overlap_px=75)
    assert found.spec.gsd == pytest.approx(0.1 * 300 / 800)
    report = found.report
    assert len(report.taken) + len(report.left_out) == len(state)
    assert len(report.renamed) == 28
    assert report.renamed[PREFIX + "head.regression_head.conv.6.bias"] == "head.regression_head.conv.3.0.bias"
    assert report.left_out == {
        PREFIX + "backbone.body.bn1.num_batches_tracked": "counter of training steps",
        "iou_metric.total": "beside the network",
    }
    text = "\n".join(report.lines())
    assert "301 of 303 taken" in text
    assert "28 had names of an older torchvision" in text
    assert "left out   1: beside the network, such as iou_metric.total" in text


@pytest.mark.parametrize("prefix", ["", PREFIX])
def test_a_file_of_tensors_with_old_or_new_names(tmp_path: Path, prefix: str) -> None:
    new = import_deepforest(saved(tmp_path / "new.pt", {prefix + k: v for k, v in tensors().items()}))
    old = import_deepforest(saved(tmp_path / "old.pt", {prefix + older(k): v for k, v in tensors().items()}))
    assert set(new.tensors) == set(old.tensors)
    assert (len(new.report.renamed), len(old.report.renamed)) == (0, 28)
    assert new.spec.labels.classes == ("Tree",)
    assert "names no class" in new.notes[0]
    assert (new.spec.threshold(), new.spec.original) == (0.1, OriginalSetting())


def test_before_version_2_the_threshold_stood_elsewhere(tmp_path: Path) -> None:
    config = {"config": {"retinanet": {"score_thresh": 0.4}, "nms_thresh": 0.05}}
    path = lightning(tmp_path / "a.ckpt", tensors(), hyper_parameters=config)
    assert import_deepforest(path).spec.threshold() == 0.4


def test_options_say_what_the_file_does_not(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", tensors(2))
    options = ImportOptions(labels=("Tree", "Bird"), gsd=0.025, patch_size=1000, score_threshold=0.5)
    spec = import_deepforest(path, options).spec
    assert spec.labels.classes == ("Tree", "Bird")
    assert spec.gsd == pytest.approx(0.025 / 0.8)
    assert spec.threshold() == 0.5
    assert spec.original == OriginalSetting(patch_px=1000, overlap_px=50)


def test_what_is_written_is_loaded_with_every_bit(tmp_path: Path) -> None:
    state = tensors()
    state["head.regression_head.bbox_reg.bias"] = torch.rand(36, generator=torch.Generator().manual_seed(0))
    state["backbone.fpn.extra_blocks.p6.bias"] = torch.rand(256, generator=torch.Generator().manual_seed(0)) / 3
    imported = import_deepforest(saved(tmp_path / "a.pt", state))
    imported.save(tmp_path / "out.safetensors")
    spec, written = model_file.load(tmp_path / "out.safetensors")
    assert (spec.original, spec.anchor_sizes_m) == (imported.spec.original, imported.spec.anchor_sizes_m)
    assert set(written) == set(state)
    for name, value in state.items():
        assert torch.equal(written[name], value), name
    with pytest.raises(OutputError, match="exists"):
        imported.save(tmp_path / "out.safetensors")


class Restored:
    """Something that only running its code would restore."""


Change = Callable[[Tensors], object]


def without(name: str) -> Change:
    return lambda state: {k: v for k, v in state.items() if k != name}


def reshaped(name: str, *shape: int) -> Change:
    return lambda state: {**state, name: torch.zeros(1).expand(shape)}


CLASS_WEIGHT = "head.classification_head.cls_logits.weight"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (without("backbone.fpn.extra_blocks.p6.bias"), SpecMismatchError, "lacks backbone.fpn.extra_blocks.p6.bias"),
        (
            lambda state: {k: v for k, v in state.items() if "layer3" not in k},
            SpecMismatchError,
            r"of 301 tensors needed it lacks backbone.body.layer3.+ and \d+ more",
        ),
        (
            lambda state: {**state, "head.mask.weight": torch.zeros(1)},
            SpecMismatchError,
            "has beside them head.mask.weight",
        ),
        (
            reshaped("backbone.body.conv1.weight", 64, 4, 7, 7),
            SpecMismatchError,
            r"backbone.body.conv1.weight is \[64, 4, 7, 7\], needed \[64, 3, 7, 7\]",
        ),
        (
            reshaped(CLASS_WEIGHT, 10, 256, 3, 3),
            SpecMismatchError,
            "other anchors: .+ 9 boxes .+ 10 scores",
        ),
        (
            reshaped("head.regression_head.bbox_reg.weight", 12, 256, 3, 3),
            SpecMismatchError,
            "gives 3 boxes at each place",
        ),
        (
            lambda state: {**state, "backbone.body.conv1.weight": torch.tensor(torch.nan).expand(64, 3, 7, 7)},
            SpecMismatchError,
            "values that are no numbers",
        ),
        (
            lambda state: {**state, "backbone.fpn.inner_blocks.0.weight": torch.zeros(1)},
            SpecMismatchError,
            "holds backbone.fpn.inner_blocks.0.0.weight twice",
        ),
        (
            lambda state: {"conv1.weight": state["backbone.body.conv1.weight"], "fc.weight": torch.zeros(2, 512)},
            NothingTransferredError,
            "looks like a crop model",
        ),
        (
            lambda state: {"rpn.head.weight": torch.zeros(1), "backbone.body.conv1.weight": torch.zeros(1)},
            NothingTransferredError,
            "looks like a Faster R-CNN",
        ),
        (
            lambda state: {"encoder.weight": torch.zeros(1)},
            NothingTransferredError,
            "is no RetinaNet: it has no backbone.body.conv1.weight; found encoder.weight",
        ),
        (lambda state: {}, NothingTransferredError, "found no tensors"),
        (lambda state: [1, 2], UnknownFormatError, "holds a list, no weights by name"),
        (
            lambda state: {"state_dict": state, "hyper_parameters": Restored()},
            UnknownFormatError,
            r"holds more than weights and plain values \(.*Restored\).+save_pretrained\('folder'\)",
        ),
    ],
)
def test_weights_that_can_not_be_used(
    tmp_path: Path, change: Change, error: type[TreedetError], message: str
) -> None:
    path = saved(tmp_path / "odd.pt", change(tensors()))
    with pytest.raises(error, match=message) as caught:
        import_deepforest(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("classes", "more", "labels", "error", "message"),
    [
        (
            2,
            {"label_dict": {"Tree": 0}},
            None,
            SpecMismatchError,
            r"names 1 classes \(Tree\), .+ scores 2",
        ),
        (2, {"label_dict": {"Tree": 0, "Bird": 2}}, None, ConfigError, "0, 1, 2 and so on, found Tree: 0, Bird: 2"),
        (1, {"label_dict": {"Tree": "0"}}, None, ConfigError, "numbers its classes 0, 1, 2"),
        (1, {"label_dict": ["Tree"]}, None, UnknownFormatError, "should give a number to each class"),
        (3, {}, None, ConfigError, "has 3 classes and no names for them; .+--labels name0,name1,name2"),
        (2, {}, ("Tree",), ConfigError, r"1 classes are named \(Tree\), .+ has 2; name each"),
        (
            1,
            {"hyper_parameters": {"config": {"num_classes": 2}}},
            None,
            SpecMismatchError,
            "num_classes 2, .+scores 1",
        ),
        (1, {"hyper_parameters": {"config": {"patch_size": "big"}}}, None, SpecMismatchError, "say patch_size 'big'"),
        (1, {"hyper_parameters": {"config": {"nms_thresh": 5}}}, None, SpecMismatchError, "say nms_thresh 5"),
    ],
)
def test_classes_and_settings_that_disagree(
    tmp_path: Path,
    classes: int,
    more: dict[str, object],
    labels: tuple[str, ...] | None,
    error: type[TreedetError],
    message: str,
) -> None:
    path = lightning(tmp_path / "a.ckpt", tensors(classes), **more)
    with pytest.raises(error, match=message):
        import_deepforest(path, ImportOptions(labels=labels))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="does not exist; give a hub folder"):
        read_weights(tmp_path / "nothing.pt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelFileError, match=r"holds no model\.safetensors; found nothing"):
        read_weights(tmp_path / "empty")
    for name in ("text.pt", "text.ckpt", "text.safetensors"):
        (tmp_path / name).write_text("not weights")
        with pytest.raises(UnknownFormatError, match="is damaged or no"):
            read_weights(tmp_path / name)
    (tmp_path / "weights.h5").write_bytes(b"x")
    with pytest.raises(UnknownFormatError, match=r"suffix '\.h5' names no file of weights"):
        read_weights(tmp_path / "weights.h5")
    cut = saved(tmp_path / "cut.pt", {"x": torch.zeros(1000)})
    cut.write_bytes(cut.read_bytes()[:-200])
    with pytest.raises(UnknownFormatError, match="is damaged"):
        read_weights(cut)


@pytest.mark.parametrize(("text", "message"), [("{", "is no JSON"), ("[1]", "holds no settings but a list")])
def test_a_config_that_is_none(tmp_path: Path, text: str, message: str) -> None:
    folder = hub(tmp_path / "hub", {"x": torch.zeros(1)})
    (folder / "config.json").write_text(text)
    with pytest.raises(UnknownFormatError, match=message):
        read_weights(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"labels": ("Tree", "Tree")}, "Tree"),
        ({"gsd": 0.0}, "gsd must be a positive number"),
        ({"patch_size": 8}, "patch_size must be at least 32"),
        ({"score_threshold": 2.0}, "score_threshold must be from 0 to 1"),
    ],
)
def test_options_that_make_no_sense(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ImportOptions(**values)  # type: ignore[arg-type]
