import numpy as np
import pytest
import torch
from factories import tiny_spec
from torchvision.ops import batched_nms

from treedet.core.labels import LabelSchema
from treedet.core.original import OriginalSetting
from treedet.core.spec import ModelSpec
from treedet.core.suppression import MergeConfig
from treedet.errors import BandMismatchError, ConfigError, DetectionCapWarning
from treedet.models.anchors import anchor_boxes
from treedet.models.blobs import BlobDetector
from treedet.models.network import NetworkDetector
from treedet.models.original import OriginalDetector, as_original
from treedet.models.trunk import TrunkOutput

SETTING = OriginalSetting(patch_px=48, overlap_px=4, short_side_px=96, long_side_px=200)


def spec(**changes: object) -> ModelSpec:
    return tiny_spec(**{"original": SETTING, "anchor_rounding": True, **changes})


class Drawn:
    """A backend whose answers are drawn by lot, the same ones each time."""

    device, precision = "cpu", "fp32"

    def __init__(self, spec: ModelSpec, classes: int = 1) -> None:
        self.spec, self.classes = spec, classes
        self.seen: list[np.ndarray] = []

    def trunk(self, pixels: np.ndarray) -> TrunkOutput:
        self.seen.append(pixels)
        generator = torch.Generator().manual_seed(3)
        n = len(anchor_boxes(self.spec, *pixels.shape[2:]))
        logits = torch.randn(len(pixels), n, self.classes, generator=generator) - 1
        return TrunkOutput([], logits, torch.randn(len(pixels), n, 4, generator=generator) * 0.3, [])

    def attributes(self, out: object, boxes: object) -> dict[str, torch.Tensor]:
        raise AssertionError("nothing is asked about attributes")


def detect(detector: OriginalDetector, height: int = 48, width: int = 48, threshold: float = 0.3) -> object:
    pixels = np.full((1, 3, height, width), 100, np.uint8)
    return detector.detect(pixels, sides=[15], threshold=threshold, merge=MergeConfig())[0]


def test_the_network_sees_windows_enlarged_and_padded_with_the_mean() -> None:
    backend = Drawn(spec())
    detect(OriginalDetector(backend, backend.spec), 48, 30)
    (seen,) = backend.seen
    assert (seen.shape, seen.dtype) == ((1, 3, 160, 96), np.float32)
    np.testing.assert_allclose(seen[:, :, :153], 100, rtol=1e-6)
    filling = np.repeat(np.array(backend.spec.mean)[:, None] * 255, 7, axis=1)
    np.testing.assert_allclose(seen[0, :, 153:, 0], filling, rtol=1e-6)


@pytest.mark.parametrize("classes", [1, 2])
def test_boxes_of_a_window_are_those_that_suppression_by_class_leaves(classes: int) -> None:
    labels = ("tree", "bird")[:classes]
    backend = Drawn(spec(labels=LabelSchema(labels)), classes)
    found = detect(OriginalDetector(backend, backend.spec, whole_pixels=False))
    out = backend.trunk(backend.seen[0])
    scores = out.logits[0].sigmoid()
    anchor, kind = (scores > 0.3).nonzero(as_tuple=True)
    anchors = anchor_boxes(backend.spec, 96, 96)[anchor]
    size, deltas = anchors[:, 2:] - anchors[:, :2], out.deltas[0, anchor]
    centre = anchors[:, :2] + size / 2 + deltas[:, :2] * size
    half = size * deltas[:, 2:].exp() / 2
    boxes = torch.cat([centre - half, centre + half], dim=1).clamp(0, 96)
    kept = batched_nms(boxes, scores[anchor, kind], kind, 0.05)
    # Anchors beyond the window end as lines, which no table of crowns holds.
    kept = kept[(boxes[kept, 2:] > boxes[kept, :2]).all(dim=1)]
    assert len(found) == len(kept) > 5
    np.testing.assert_allclose(found.boxes, boxes[kept].numpy() / 2, atol=1e-4)
    np.testing.assert_array_equal(found.classes, kind[kept].numpy())
    assert not found.sides.any()


def test_coordinates_are_cut_down_to_whole_pixels() -> None:
    backend = Drawn(spec())
    whole = detect(OriginalDetector(backend, backend.spec))
    fractions = detect(OriginalDetector(backend, backend.spec, whole_pixels=False))
    cut = np.trunc(fractions.boxes)
    np.testing.assert_array_equal(whole.boxes, cut[(cut[:, 2:] > cut[:, :2]).all(axis=1)])


def test_candidates_are_capped_by_level_and_detections_by_window() -> None:
    few = spec(original=OriginalSetting(patch_px=48, overlap_px=4, short_side_px=96, long_side_px=200, candidates=1))
    found = detect(OriginalDetector(Drawn(few), few))
    assert len(found) <= len(few.levels)
    capped = spec(
        original=OriginalSetting(patch_px=48, overlap_px=4, short_side_px=96, long_side_px=200, max_detections=3)
    )
    with pytest.warns(DetectionCapWarning, match="DeepForest keeps 3 of a window"):
        found = detect(OriginalDetector(Drawn(capped), capped))
    assert len(found) == 3


def test_a_score_has_to_exceed_the_threshold() -> None:
    backend = Drawn(spec())
    detector = OriginalDetector(backend, backend.spec, whole_pixels=False)
    best = detect(detector).scores.max()
    assert len(detect(detector, threshold=float(best))) == 0


def test_boxes_without_an_area_are_left_out() -> None:
    backend = Drawn(spec())
    boxes = detect(OriginalDetector(backend, backend.spec), threshold=0.01).boxes
    assert np.all(boxes[:, 2:] > boxes[:, :2])


def test_other_bands_are_refused() -> None:
    detector = OriginalDetector(Drawn(spec()), spec())
    with pytest.raises(BandMismatchError, match="needs 3 bands, the windows have 4"):
        detector.detect(np.zeros((1, 4, 48, 48), np.uint8), sides=[0], threshold=0.3, merge=MergeConfig())


def test_models_of_our_own_have_no_original_setting() -> None:
    ours = tiny_spec()
    with pytest.raises(ConfigError, match="not imported"):
        OriginalDetector(Drawn(ours), ours)
    with pytest.raises(ConfigError, match="stand is none; accepted is 'treedet'"):
        as_original(NetworkDetector(Drawn(ours), ours), "stand")
    with pytest.raises(ConfigError, match="treedet import"):
        as_original(BlobDetector(), "blobs")


def test_runs_of_both_settings_are_told_apart() -> None:
    model = NetworkDetector(Drawn(spec()), spec(), digest="abc")
    identity = as_original(model, "x").identity
    assert identity == {**model.identity, "setting": "original (DeepForest)"}
