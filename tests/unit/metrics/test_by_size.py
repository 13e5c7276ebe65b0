import numpy as np
import pytest
from scipy.stats import binomtest

from treedet.errors import ConfigError
from treedet.metrics.by_size import DIAMETERS_M, by_diameter, smallest_found, wilson
from treedet.metrics.paired import PairedCrowns


def squares(sides: list[float] | np.ndarray) -> np.ndarray:
    """Boxes in a row, far from each other."""
    sides = np.asarray(sides, float)
    left = np.arange(len(sides)) * 100.0
    return np.stack([left, np.zeros(len(sides)), left + sides, sides], axis=1)


def paired(truth: np.ndarray, predicted: np.ndarray, **flags: np.ndarray) -> PairedCrowns:
    return PairedCrowns(truth, predicted, np.ones(len(predicted), np.float32), **flags)


def test_recall_goes_by_the_annotated_and_precision_by_the_predicted_diameter() -> None:
    truth = squares([3.9, 5])
    predicted = np.concatenate([truth[:1] * [1, 1, 1, 1.1], [[500.0, 0, 503, 3]]])  # 4.1 m wide, IoU 0.9
    table = by_diameter([paired(truth, predicted)], edges=(2, 4, 6))
    assert table[["truth", "hits"]].to_numpy().tolist() == [[1, 1], [1, 0]]
    assert table[["predicted", "correct"]].to_numpy().tolist() == [[1, 0], [1, 1]]
    assert table["recall"].tolist() == [1.0, 0.0]
    assert table["precision"].tolist() == [0.0, 1.0]


def test_a_diameter_on_an_edge_belongs_to_the_class_above() -> None:
    table = by_diameter([paired(squares([2, 4, 6]), squares([]))], edges=(2, 4, 6))
    assert table["truth"].tolist() == [1, 1]


def test_the_default_classes_hold_every_crown_and_rasters_are_pooled() -> None:
    rng = np.random.default_rng(1)
    rasters = [paired(squares(rng.uniform(0.2, 40, 50)), squares(rng.uniform(0.2, 40, 70))) for _ in range(3)]
    table = by_diameter(rasters)
    counts = [raster.counted() for raster in rasters]
    assert len(table) == len(DIAMETERS_M) - 1
    assert table["truth"].sum() == 150
    assert table["predicted"].sum() == 210
    assert table["hits"].sum() == table["correct"].sum() == sum(c.matched for c in counts) > 0


def test_ignored_crowns_are_counted_on_neither_side() -> None:
    boxes = squares([5, 5, 5])
    raster = paired(
        boxes[:2], boxes, truth_ignored=np.array([False, True]), predicted_ignored=np.array([1, 0, 1], bool)
    )
    table = by_diameter([raster], edges=(0, 10))
    # The first is found by an ignored prediction, the second is ignored with what found it, the third hits nothing.
    assert table[["truth", "hits", "predicted", "correct"]].to_numpy().tolist() == [[1, 1, 1, 1]]


def test_a_class_without_crowns_has_no_share() -> None:
    table = by_diameter([], edges=(0, 2, 4))
    assert table[["truth", "predicted"]].to_numpy().sum() == 0
    assert table[["recall", "recall_low", "precision", "precision_high"]].isna().all().all()


@pytest.mark.parametrize("edges", [(2,), (2, 2), (4, 2)])
def test_edges_that_do_not_rise_are_refused(edges: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="that rise"):
        by_diameter([], edges=edges)


@pytest.mark.parametrize(("hits", "total"), [(0, 5), (5, 5), (3, 17), (900, 1000)])
def test_the_interval_of_a_share_is_wilsons(hits: int, total: int) -> None:
    expected = binomtest(hits, total).proportion_ci(method="wilson")
    low, high = wilson(np.array([hits]), np.array([total]))
    assert [low[0], high[0]] == pytest.approx([expected.low, expected.high], abs=1e-12)


def test_the_smallest_crowns_found_lie_where_recall_begins_to_hold() -> None:
    sides = np.linspace(1, 11, 401)
    crowns = squares(sides)
    assert smallest_found([paired(crowns, crowns[sides >= 6])]) == pytest.approx(6)
    assert smallest_found([paired(crowns, crowns)]) == pytest.approx(1)
    parts = [paired(crowns[i::2], crowns[i::2][sides[i::2] >= 6]) for i in (0, 1)]
    assert smallest_found(parts) == pytest.approx(6)


def test_neither_luck_with_small_crowns_nor_misfortune_with_wide_ones_moves_the_figure() -> None:
    sides = np.linspace(1, 11, 401)
    crowns = squares(sides)
    found = (sides >= 6) & ~((sides > 9) & (sides < 9.5)) | ((sides > 2) & (sides < 2.5))
    assert smallest_found([paired(crowns, crowns[found])]) == pytest.approx(6)
    assert smallest_found([paired(crowns, crowns[found])], recall=0.0) == pytest.approx(1)


def risen(values: np.ndarray) -> np.ndarray:
    """Isotonic regression by pooling neighbours that fall, one by one."""
    blocks: list[list[float]] = []
    for value in values.tolist():
        blocks.append([value])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    return np.concatenate([np.full(len(block), np.mean(block)) for block in blocks])


@pytest.mark.parametrize("recall", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("seed", range(5))
def test_the_figure_is_where_isotonic_regression_reaches_the_recall(seed: int, recall: float) -> None:
    rng = np.random.default_rng(seed)
    sides = np.sort(rng.uniform(1, 11, 300))
    found = rng.random(300) < sides / 11
    crowns = squares(sides)
    recall += 1 / 1024  # no block of 300 crowns has exactly this mean
    reached = sides[risen(found.astype(float)) >= recall][0]
    assert smallest_found([paired(crowns, crowns[found])], recall=recall) == pytest.approx(reached)


def test_crowns_of_one_diameter_stand_or_fall_together() -> None:
    sides = np.repeat([3.0, 5.0], 30)
    crowns = squares(sides)
    number = np.arange(60) % 30
    # 14 of 30, then 16 of 30: whichever of them are found, the narrow ones are mostly missed.
    for found in (number < np.where(sides == 3, 14, 16), number >= np.where(sides == 3, 16, 14)):
        assert smallest_found([paired(crowns, crowns[found])]) == 5.0


@pytest.mark.parametrize("count", [0, 19])
def test_too_few_crowns_tell_nothing(count: int) -> None:
    crowns = squares(np.full(count, 5.0))
    assert np.isnan(smallest_found([paired(crowns, crowns)]))


def test_nothing_is_named_where_the_widest_crowns_are_missed_or_found_by_luck() -> None:
    sides = np.linspace(1, 11, 100)
    crowns = squares(sides)
    assert np.isnan(smallest_found([paired(crowns, crowns[:0])]))
    assert np.isnan(smallest_found([paired(crowns, crowns[:40])]))
    assert np.isnan(smallest_found([paired(crowns, crowns[-9:])]))
    assert smallest_found([paired(crowns, crowns[-10:])]) == pytest.approx(sides[-10])
