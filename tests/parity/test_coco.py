"""Average precision equals that of pycocotools, detections beyond the first hundred of an image included."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from treedet.metrics.average_precision import COCO_IOUS, SIZES, CocoScores, average_precision, coco_scores
from treedet.metrics.paired import PairedCrowns

BENCHMARK = Path(__file__).resolve().parents[3] / "shared" / "data" / "neon-benchmark" / "valid"
CLASSES = ("tree", "bird", "never annotated")
NOWHERE = -1.0
"""An area outside every range: how pycocotools is told to ignore a box without making it a crowd."""


def reference(rasters: list[PairedCrowns], *, classes: int) -> np.ndarray:
    """Precision ``[T, 101, K, A]`` of pycocotools at IoU 0.4 and COCO's ten, for all sizes and each of SIZES."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth, predicted = COCO(), COCO()
        truth.dataset = dataset(rasters, "truth", classes=classes)
        predicted.dataset = dataset(rasters, "predicted", classes=classes)
        truth.createIndex()
        predicted.createIndex()
        run = COCOeval(truth, predicted, "bbox")
        run.params.iouThrs = np.array([0.4, *run.params.iouThrs])
        run.params.maxDets = [1, 10, 10**6]
        run.params.areaRng = [[0, 1e10], *([low, min(high, 1e10)] for low, high in SIZES.values())]
        run.evaluate()
        run.accumulate()
    return run.eval["precision"][..., -1]


def dataset(rasters: list[PairedCrowns], side: str, *, classes: int) -> dict:
    rows = []
    for image, raster in enumerate(rasters):
        boxes = getattr(raster, side)
        numbers = getattr(raster, f"{side}_classes")
        ignored = getattr(raster, f"{side}_ignored")
        for i, (xmin, ymin, xmax, ymax) in enumerate(boxes.tolist()):
            out = ignored is not None and ignored[i]
            rows.append(
                {
                    "id": len(rows) + 1,
                    "image_id": image,
                    "category_id": 0 if numbers is None else int(numbers[i]),
                    "bbox": [xmin, ymin, xmax - xmin, ymax - ymin],
                    "area": NOWHERE if out else (xmax - xmin) * (ymax - ymin),
                    "iscrowd": 0,
                    "score": float(raster.scores[i]) if side == "predicted" else 0.0,
                }
            )
    return {
        "images": [{"id": image} for image in range(len(rasters))],
        "categories": [{"id": index} for index in range(classes)],
        "annotations": rows,
    }


def mean(precision: np.ndarray) -> float:
    """Mean of what pycocotools does not mark as undefined."""
    defined = precision[precision > -1]
    return float(defined.mean()) if len(defined) else float("nan")


def check(found: CocoScores, precision: np.ndarray) -> None:
    def equal(value: float) -> object:
        return pytest.approx(value, abs=1e-9, nan_ok=True)

    assert found.map == equal(mean(precision[1:, :, :, 0]))
    assert list(found.ap) == [0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    for row, value in enumerate(found.ap.values()):
        assert value == equal(mean(precision[row, :, :, 0])), row
    for column, value in enumerate(found.by_size.values(), start=1):
        assert value == equal(mean(precision[1:, :, :, column])), column
    for index in range(precision.shape[2]):
        row = found.by_class.iloc[index]
        assert row["map"] == equal(mean(precision[1:, :, index, 0]))
        assert row["ap40"] == equal(mean(precision[0, :, index, 0]))
        assert row["ap50"] == equal(mean(precision[1, :, index, 0]))
        assert row["ap75"] == equal(mean(precision[6, :, index, 0]))


def random_raster(rng: np.random.Generator, *, truth: int, predicted: int, extent: float) -> PairedCrowns:
    """Crowded boxes on a half-metre grid, so that equal IoUs and IoUs at a threshold are common; scores with ties."""

    def boxes(count: int) -> np.ndarray:
        corner = rng.integers(0, int(2 * extent), (count, 2)) / 2
        return np.concatenate([corner, corner + rng.integers(2, 28, (count, 2)) / 2], axis=1)

    mine = boxes(truth)
    theirs = boxes(predicted)
    if truth:
        near = rng.random(predicted) < 0.7
        moved = mine[rng.integers(0, truth, predicted)] + rng.integers(-3, 4, (predicted, 4)) / 2
        near &= (moved[:, 2:] > moved[:, :2]).all(axis=1)
        theirs[near] = moved[near]
    return PairedCrowns(
        mine,
        theirs,
        (rng.integers(1, 20, predicted) / 20).astype(np.float32),
        rng.integers(0, 2, truth),
        rng.integers(0, 3, predicted),
    )


def ignoring(raster: PairedCrowns, rng: np.random.Generator) -> PairedCrowns:
    return PairedCrowns(
        raster.truth,
        raster.predicted,
        raster.scores,
        raster.truth_classes,
        raster.predicted_classes,
        rng.random(len(raster.truth)) < 0.3,
        rng.random(len(raster.predicted)) < 0.3,
    )


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_random_rasters_with_classes_ties_and_empty_ones(seed: int, ignored: bool) -> None:
    rng = np.random.default_rng(seed)
    sizes = [(25, 40), (0, 12), (9, 0), (0, 0), (40, 30), (1, 3)]
    rasters = [random_raster(rng, truth=n, predicted=m, extent=25) for n, m in sizes]
    if ignored:
        rasters = [ignoring(raster, rng) for raster in rasters]
    found, precision = coco_scores(rasters, classes=CLASSES), reference(rasters, classes=3)
    assert 0 < found.map < 1
    assert np.isnan(found.by_class["map"].iloc[2])
    check(found, precision)


def test_more_than_a_hundred_detections_on_a_raster() -> None:
    rng = np.random.default_rng(7)
    rasters = [
        random_raster(rng, truth=250, predicted=400, extent=90),
        random_raster(rng, truth=150, predicted=210, extent=60),
    ]
    check(coco_scores(rasters, classes=CLASSES), reference(rasters, classes=3))


@pytest.mark.parametrize(("truth", "predicted"), [(0, 0), (5, 0), (0, 5)])
def test_nothing_annotated_or_nothing_predicted(truth: int, predicted: int) -> None:
    rasters = [random_raster(np.random.default_rng(3), truth=truth, predicted=predicted, extent=20)]
    found = coco_scores(rasters, classes=CLASSES)
    check(found, reference(rasters, classes=3))
    assert np.isnan(found.map) if not truth else found.map == 0.0


def test_of_equal_overlaps_the_later_crown_is_taken() -> None:
    truth = np.array([[0.0, 0, 10, 10], [2, 0, 12, 10]])
    # The first overlaps both crowns alike; the second would need the crown that the first takes.
    predicted = np.array([[1.0, 0, 11, 10], [2, 0, 12, 10]])
    rasters = [PairedCrowns(truth, predicted, np.array([0.9, 0.8], np.float32))]
    found = coco_scores(rasters)
    assert found.ap[0.75] == pytest.approx(51 / 101)
    check(found, reference(rasters, classes=1))


def test_one_class_at_one_threshold_and_size() -> None:
    rng = np.random.default_rng(11)
    rasters = [random_raster(rng, truth=60, predicted=90, extent=40) for _ in range(3)]
    alike = [PairedCrowns(raster.truth, raster.predicted, raster.scores) for raster in rasters]
    precision = reference(alike, classes=1)
    for row, iou in enumerate([0.4, *COCO_IOUS]):
        assert average_precision(rasters, iou_threshold=iou) == pytest.approx(mean(precision[row, ..., 0]), abs=1e-9)
        for column, size in enumerate(SIZES.values(), start=1):
            found = average_precision(rasters, iou_threshold=iou, size=size)
            assert found == pytest.approx(mean(precision[row, ..., column]), abs=1e-9)


@pytest.mark.skipif(not BENCHMARK.is_dir(), reason="shared/data is not beside the checkout")
def test_annotated_plots_with_jittered_predictions() -> None:
    rng = np.random.default_rng(0)
    table = pd.read_csv(BENCHMARK / "annotations.csv")
    rasters = []
    for _, rows in table.groupby("image_path"):
        truth = rows[["xmin", "ymin", "xmax", "ymax"]].to_numpy(float) * 0.1
        copies = np.repeat(truth, 2, axis=0)[rng.random(2 * len(truth)) < 0.7]
        moved = copies + rng.normal(0, 0.12, copies.shape) * np.tile(copies[:, 2:] - copies[:, :2], 2)
        moved = moved[(moved[:, 2:] > moved[:, :2]).all(axis=1)]
        rasters.append(PairedCrowns(truth, moved, rng.random(len(moved)).astype(np.float32)))
    found = coco_scores(rasters)
    assert found.by_class["truth"].tolist() == [len(table)]
    assert 0.1 < found.map < found.ap[0.5] < 1
    check(found, reference(rasters, classes=1))
