"""The network of imported weights says what torchvision's RetinaNet says, box for box."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from factories import make_raster
from retinanets import busy_retinanet, noise_window
from scipy.optimize import linear_sum_assignment
from torchvision.models.detection import retinanet_resnet50_fpn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import nms

from treedet.compat.deepforest import Imported, import_deepforest
from treedet.core.suppression import MergeConfig
from treedet.inference.loading import load
from treedet.models.anchors import anchor_boxes
from treedet.models.backends.eager import EagerBackend
from treedet.models.build import build
from treedet.models.original import OriginalDetector, enlarge

CLASSES = {"Tree": 0, "Bird": 1}


@dataclass
class Both:
    """A RetinaNet of torchvision and the same weights as a model of ours."""

    theirs: torch.nn.Module
    ours: OriginalDetector
    imported: Imported


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    theirs = busy_retinanet(noise_window(), classes=len(CLASSES))
    path = tmp_path_factory.mktemp("weights") / "weights.ckpt"
    torch.save({"state_dict": {f"model.{k}": v for k, v in theirs.state_dict().items()}, "label_dict": CLASSES}, path)
    imported = import_deepforest(path)
    backend = EagerBackend(build(imported.spec, imported.tensors), device="cpu", precision=imported.spec.precision)
    return Both(theirs, OriginalDetector(backend, imported.spec, whole_pixels=False), imported)


def said_by(theirs: torch.nn.Module, pixels: np.ndarray) -> dict[str, np.ndarray]:
    with torch.inference_mode():
        said = theirs([torch.from_numpy(pixels).float() / 255])[0]
    return {name: values.numpy() for name, values in said.items()}


@pytest.mark.parametrize("side", [(400, 400), (400, 330)], ids=["full window", "narrow raster"])
def test_boxes_scores_and_classes_are_theirs(both: Both, side: tuple[int, int]) -> None:
    pixels = np.ascontiguousarray(noise_window()[:, : side[0], : side[1]])
    theirs = said_by(both.theirs, pixels)
    # Boxes of anchors on padding end without an area; a table of crowns holds none.
    solid = (theirs["boxes"][:, 2:] > theirs["boxes"][:, :2]).all(axis=1)
    theirs = {name: values[solid] for name, values in theirs.items()}
    (ours,) = both.ours.detect(pixels[None], sides=[0], threshold=0.1, merge=MergeConfig())
    assert 50 <= len(theirs["boxes"]) <= 300
    assert len(ours) == len(theirs["boxes"])
    # Boxes of nearly equal scores may change places.
    apart = np.abs(ours.boxes[:, None] - theirs["boxes"][None]).max(axis=2)
    i, j = linear_sum_assignment(apart)
    assert apart[i, j].max() < 0.01
    assert np.abs(ours.scores[i] - theirs["scores"][j]).max() < 1e-4
    np.testing.assert_array_equal(ours.classes[i], theirs["labels"][j])


def test_from_weights_to_crowns_on_the_map(both: Both, tmp_path: Path) -> None:
    pixels = noise_window()
    raster = make_raster(tmp_path / "stand.tif", pixels)
    both.imported.save(tmp_path / "imported.safetensors")
    detector = load(tmp_path / "imported.safetensors", device="cpu")
    assert detector.model.identity["precision"] == "fp32"
    crowns = detector.predict(raster, setting="original")
    theirs = said_by(both.theirs, pixels)
    whole = np.trunc(theirs["boxes"])
    kept = nms(torch.from_numpy(whole), torch.from_numpy(theirs["scores"]), 0.15).numpy()
    bounds = (crowns.bounds.to_numpy() - np.array([500_000, 5_400_000] * 2)) / 0.1
    ours = np.column_stack([bounds[:, 0], -bounds[:, 3], bounds[:, 2], -bounds[:, 1]])
    assert len(ours) == len(kept)
    apart = np.abs(ours[:, None] - whole[kept][None]).max(axis=2)
    i, j = linear_sum_assignment(apart)
    assert apart[i, j].max() <= 1 + 1e-6
    assert set(crowns["label"]) == set(CLASSES)


def test_they_are_the_weights_that_torchvision_builds(both: Both) -> None:
    built = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=len(CLASSES)).state_dict()
    named = {name: value.shape for name, value in built.items() if not name.endswith("num_batches_tracked")}
    assert {name: value.shape for name, value in both.theirs.state_dict().items()} == named


def test_anchors_lie_where_torchvision_puts_them(both: Both) -> None:
    for height, width in ((800, 800), (800, 992)):
        levels = [torch.zeros(1, 1, -(-height // s), -(-width // s)) for s in (8, 16, 32, 64, 128)]
        pixels = ImageList(torch.zeros(1, 3, height, width), [(height, width)])
        theirs = both.theirs.anchor_generator(pixels, levels)[0]
        assert torch.equal(anchor_boxes(both.ours.spec, height, width, spread=True), theirs)
    # In windows that are a multiple of every stride there is no difference.
    whole = anchor_boxes(both.ours.spec, 1024, 1024)
    assert torch.equal(whole, anchor_boxes(both.ours.spec, 1024, 1024, spread=True))


@pytest.mark.parametrize("side", [(400, 400), (400, 330), (120, 400)])
def test_windows_are_enlarged_as_torchvision_does(both: Both, side: tuple[int, int]) -> None:
    pixels = np.ascontiguousarray(noise_window()[:, : side[0], : side[1]])
    images, _ = both.theirs.transform([torch.from_numpy(pixels).float() / 255])
    height, width = images.image_sizes[0]
    setting = both.ours.spec.original
    assert setting is not None
    ours = enlarge(pixels[None], setting)
    assert tuple(ours.shape[2:]) == (height, width)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (both.ours.spec.mean, both.ours.spec.std))
    torch.testing.assert_close((ours[0] / 255 - mean) / std, images.tensors[0, :, :height, :width], atol=1e-5, rtol=0)
