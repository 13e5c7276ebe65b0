"""The original setting from raster to table, with the other tool's own way of putting windows together beside it."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from factories import make_raster, tiny_spec
from torchvision.ops import nms

from treedet.core.original import OriginalSetting
from treedet.core.spec import OperatingPoint
from treedet.core.suppression import MergeConfig
from treedet.errors import ConfigError
from treedet.inference.detector import Detector
from treedet.inference.options import PredictOptions
from treedet.inference.setup import prepare
from treedet.models.backends.eager import EagerBackend
from treedet.models.build import build, weights_of
from treedet.models.network import NetworkDetector
from treedet.models.original import as_original
from treedet.models.trunk import Trunk

SETTING = OriginalSetting(patch_px=64, overlap_px=13, short_side_px=128, long_side_px=300)
THRESHOLD = 0.5


@pytest.fixture(scope="module")
def detector() -> Detector:
    torch.manual_seed(1)
    spec = tiny_spec(
        original=SETTING,
        anchor_rounding=True,
        gsd=0.05,
        gsd_range=(0.02, 0.2),
        anchor_sizes_m=((0.8, 1.6), (1.6, 2.4)),
        operating_points={"balanced": OperatingPoint(THRESHOLD)},
        precision="fp32",
    )
    trunk = Trunk(spec)
    # Spread out, so that windows find some boxes and not others.
    trunk.head.classification_head.cls_logits.weight.data *= 12
    trunk.head.classification_head.cls_logits.bias.data += 4.5
    trunk = build(spec, weights_of(trunk))
    backend = EagerBackend(trunk, device="cpu", precision="fp32")
    return Detector(NetworkDetector(backend, spec, digest="d"), name="imported", trunk=trunk)


@pytest.fixture(scope="module")
def raster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pixels = np.random.default_rng(0).integers(1, 256, (3, 150, 200), dtype=np.uint8)
    return make_raster(tmp_path_factory.mktemp("raster") / "noise.tif", pixels)


def starts(size: int) -> list[int]:
    """Where windows begin: one step after the other, and one that ends at the edge."""
    regular = list(range(0, size - 64 + 1, 64 - 13))
    return regular if regular[-1] == size - 64 else [*regular, size - 64]


def peer_crowns(raster: Path, detector: Detector) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and scores as DeepForest's predict_tile puts its windows together."""
    model = as_original(detector.model, "imported")
    with rasterio.open(raster) as dataset:
        pixels = dataset.read()
    boxes, scores = [], []
    for left in starts(200):
        for top in starts(150):
            window = np.ascontiguousarray(pixels[None, :, top : top + 64, left : left + 64])
            (found,) = model.detect(window, sides=[0], threshold=THRESHOLD, merge=MergeConfig())
            boxes.append(found.boxes + np.array([left, top, left, top], np.float32))
            scores.append(found.scores)
    every, certain = np.concatenate(boxes), np.concatenate(scores)
    kept = nms(torch.from_numpy(every), torch.from_numpy(certain), 0.15).numpy()
    assert 50 < len(kept) < len(every)
    return every[kept], certain[kept]


def rows(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    table = np.column_stack([boxes, scores])
    return table[np.lexsort(table.T[::-1])]


def test_crowns_are_those_of_the_other_tool(raster: Path, detector: Detector) -> None:
    theirs = rows(*peer_crowns(raster, detector))
    table = detector.predict(raster, setting="original")
    bounds = table.bounds.to_numpy()
    boxes = np.column_stack(
        [
            (bounds[:, 0] - 500_000) / 0.1,
            (5_400_000 - bounds[:, 3]) / 0.1,
            (bounds[:, 2] - 500_000) / 0.1,
            (5_400_000 - bounds[:, 1]) / 0.1,
        ]
    )
    ours = rows(boxes.round(3), table["score"].to_numpy())
    assert len(ours) == len(theirs)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    assert not table["cut"].any()


def test_the_summary_says_whose_windows_they_are(raster: Path, detector: Detector, tmp_path: Path) -> None:
    summary = detector.predict_to_file(raster, tmp_path / "a.gpkg", setting="original")
    assert summary.setting == "original (DeepForest)"
    assert (summary.window_px, summary.overlap_px, summary.windows) == ((64, 64), 13, 12)
    assert summary.model_gsd == pytest.approx(0.05, rel=1e-3)
    assert any("setting    original (DeepForest)" in line for line in summary.lines())
    usual = detector.predict_to_file(raster, tmp_path / "b.gpkg")
    assert usual.setting == "treedet"
    assert not any(line.startswith("setting") for line in usual.lines())


def test_an_interrupted_run_does_not_go_on_in_the_other_setting(raster: Path, detector: Detector) -> None:
    options = PredictOptions(setting="original")
    with prepare(str(raster), as_original(detector.model, "x"), options) as setup:
        original = setup.fingerprint
    with prepare(str(raster), detector.model, PredictOptions()) as setup:
        assert setup.fingerprint != original


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"setting": "theirs"}, "accepted are treedet, original"),
        ({"setting": "original", "max_crown": 20.0}, "max_crown=20.0 decides what setting 'original' takes"),
        ({"setting": "original", "coarse": "adapt"}, "coarse=adapt decides"),
    ],
)
def test_options_that_contradict_the_setting_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PredictOptions(**options)  # type: ignore[arg-type]


def test_a_model_that_was_not_imported_says_so(raster: Path) -> None:
    spec = tiny_spec()
    ours = Detector(NetworkDetector(EagerBackend(Trunk(spec), device="cpu"), spec), name="stand.safetensors")
    with pytest.raises(ConfigError, match=r"stand\.safetensors is none"):
        ours.predict(raster, setting="original")


def test_many_rasters_are_run_in_the_original_setting_too(detector: Detector, raster: Path, tmp_path: Path) -> None:
    alone = detector.predict_to_file(raster, tmp_path / "alone.gpkg", setting="original")
    summary = detector.predict_many([raster], tmp_path / "many.gpkg", setting="original")
    assert summary.crowns == alone.crowns > 50
    assert summary.model_gsd == alone.model_gsd
    assert (summary.setting, summary.iou_threshold) == (alone.setting, SETTING.iou_between)
    assert summary.overlap_m == pytest.approx(13 * alone.gsd)
    assert any("whole pixels" in line for line in summary.lines())
