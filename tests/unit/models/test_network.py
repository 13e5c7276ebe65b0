import warnings

import numpy as np
import pytest
import torch
from factories import tiny_spec

from treedet.core.boxes import RIGHT
from treedet.core.original import OriginalSetting
from treedet.core.spec import ModelSpec
from treedet.core.suppression import MergeConfig
from treedet.errors import BandMismatchError, DetectionCapWarning
from treedet.models.anchors import anchor_boxes
from treedet.models.backends.eager import EagerBackend
from treedet.models.decode import WindowShape, detections_of
from treedet.models.network import NetworkDetector, pad
from treedet.models.trunk import Trunk, TrunkOutput


class Scripted:
    """A backend that says what it is told to."""

    device, precision = "cpu", "fp32"

    def __init__(self, spec: ModelSpec, hits: dict[int, float], deltas: dict[int, list[float]] | None = None) -> None:
        self.spec, self.hits, self.moved = spec, hits, deltas or {}
        self.shape: tuple[int, ...] = ()

    def trunk(self, pixels: np.ndarray) -> object:
        self.shape = pixels.shape
        n = len(anchor_boxes(self.spec, *pixels.shape[2:]))
        logits = torch.full((len(pixels), n, 1), -9.0)
        deltas = torch.zeros(len(pixels), n, 4)
        for index, logit in self.hits.items():
            logits[:, index] = logit
        for index, values in self.moved.items():
            deltas[:, index] = torch.tensor(values)
        return TrunkOutput([], logits, deltas, [])

    def attributes(self, pyramid: object, boxes: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        return [{} for _ in boxes]


def detect(backend: Scripted, height: int, width: int, *, sides: int = 0, threshold: float = 0.5) -> object:
    detector = NetworkDetector(backend, backend.spec)  # type: ignore[arg-type]
    pixels = np.zeros((1, 3, height, width), np.uint8)
    return detector.detect(pixels, sides=[sides], threshold=threshold, merge=MergeConfig())[0]


def test_a_hit_becomes_the_anchors_box_clipped_to_the_window() -> None:
    spec = tiny_spec()
    found = detect(Scripted(spec, {0: 2.0}), 64, 64)
    anchor = anchor_boxes(spec, 64, 64)[0].clamp(0, 64)
    np.testing.assert_allclose(found.boxes[0], anchor, atol=1e-4)
    assert found.scores[0] == pytest.approx(1 / (1 + np.exp(-2.0)))


def test_odd_windows_are_padded_and_boxes_stay_on_the_imagery() -> None:
    spec = tiny_spec()
    backend = Scripted(spec, {0: 2.0}, {0: [0.0, 0.0, 3.0, 3.0]})
    found = detect(backend, 50, 70)
    assert backend.shape == (1, 3, 64, 80)
    assert found.boxes[:, 2].max() <= 70
    assert found.boxes[:, 3].max() <= 50


def test_the_network_never_resizes() -> None:
    backend = Scripted(tiny_spec(), {})
    detect(backend, 400, 400)
    assert backend.shape[2:] == (400, 400)


def test_boxes_at_an_open_side_are_cut_and_at_the_rasters_edge_are_not() -> None:
    spec = tiny_spec()
    anchors = anchor_boxes(spec, 64, 64)
    rightmost = int((anchors[:, 2] + anchors[:, 1].abs() * 1e-3).argmax())
    assert detect(Scripted(spec, {rightmost: 2.0}), 64, 64, sides=RIGHT).sides.tolist() == [RIGHT]
    assert detect(Scripted(spec, {rightmost: 2.0}), 64, 64, sides=0).sides.tolist() == [0]


def test_thresholds_of_zero_and_one_are_possible() -> None:
    assert len(detect(Scripted(tiny_spec(), {0: 2.0}), 64, 64, threshold=1.0)) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DetectionCapWarning)
        assert len(detect(Scripted(tiny_spec(), {0: 2.0}), 64, 64, threshold=0.0)) > 0


def test_temperature_softens_scores() -> None:
    found = detect(Scripted(tiny_spec(temperature=2.0), {0: 2.0}), 64, 64)
    assert found.scores[0] == pytest.approx(1 / (1 + np.exp(-1.0)))


def test_caps_warn_and_keep_the_best() -> None:
    spec = tiny_spec(max_detections=3)
    anchors = anchor_boxes(spec, 64, 64)
    n = len(anchors)
    logits = torch.linspace(0.1, 5.0, n)[:, None]
    shape = WindowShape(64, 64, 0)
    with pytest.warns(DetectionCapWarning) as caught:
        found = detections_of(
            logits, torch.zeros(n, 4), anchors, shape, spec=spec, threshold=0.5, merge=MergeConfig(iou_threshold=0.9)
        )
    assert len(found) == 3
    assert found.scores.max() == pytest.approx(1 / (1 + np.exp(-5.0)))
    assert "candidates" in str(caught[0].message)


def test_the_cap_grows_with_the_window() -> None:
    spec = tiny_spec(max_detections=2)
    anchors = anchor_boxes(spec, 1600, 800)
    # Coarse-level anchors far from each other, more of them than two.
    hits = {int(i): 3.0 for i in np.linspace(0, len(anchors) - 1, 12, dtype=int)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(detect(Scripted(spec, hits), 1600, 800)) > 4


def test_a_window_with_other_bands_is_refused() -> None:
    detector = NetworkDetector(EagerBackend(Trunk(tiny_spec()), device="cpu"), tiny_spec())
    with pytest.raises(BandMismatchError, match="3 bands"):
        detector.detect(np.zeros((1, 4, 64, 64), np.uint8), sides=[0], threshold=0.5, merge=MergeConfig())


def test_pad_leaves_whole_multiples_alone() -> None:
    pixels = np.ones((1, 3, 64, 96), np.uint8)
    assert pad(pixels, 32) is pixels
    assert pad(pixels[:, :, :50], 32).shape == (1, 3, 64, 96)


def test_padding_has_the_colour_the_weights_know_it_by() -> None:
    seen = []

    class Watched(Scripted):
        def trunk(self, pixels: np.ndarray) -> object:
            seen.append(pixels)
            return super().trunk(pixels)

    for original in (None, OriginalSetting()):
        detect(Watched(tiny_spec(original=original, mean=(0.2, 0.4, 0.6)), {}), 50, 64)
    assert seen[0][0, :, 50:, 0].tolist() == [[0] * 14] * 3
    assert seen[1][0, :, 50:, 0].tolist() == [[51] * 14, [102] * 14, [153] * 14]
    assert not seen[1][:, :, :50].any()
