import numpy as np
import pytest
from report_factories import PREDICTED, TRUTH, UTM, ground, stems

from treedet.evaluation.outcomes import by_crs, fates, outcome_table


def table(**changes):
    return outcome_table(ground(**changes), threshold=0.5, iou_threshold=0.4)


def test_every_crown_that_counts_is_in_the_table_once():
    found = table()
    assert found["outcome"].tolist() == ["hit", "confusion", "miss", "false alarm"]
    assert found.crs == UTM
    assert found["raster"].tolist() == ["plot_1.tif"] * 4


def test_the_geometry_is_the_prediction_except_for_what_was_missed():
    bounds = table().geometry.bounds.to_numpy()
    np.testing.assert_array_equal(bounds, [PREDICTED[0], PREDICTED[1], TRUTH[2], PREDICTED[2]])


def test_labels_scores_and_distances_belong_to_their_crowns():
    found = table()
    assert found["label"].fillna("nothing").tolist() == ["oak", "oak", "nothing", "pine"]
    assert found["truth_label"].fillna("nothing").tolist() == ["oak", "pine", "oak", "nothing"]
    np.testing.assert_allclose(found["score"], [0.9, 0.8, np.nan, 0.7], rtol=1e-6)
    np.testing.assert_allclose(found["iou"], [0.8, 1.0, np.nan, np.nan])
    np.testing.assert_allclose(found["distance_m"], [0.5, 0.0, np.nan, np.nan])


def test_a_lower_threshold_turns_the_miss_into_a_hit():
    found = outcome_table(ground(), threshold=0.1, iou_threshold=0.4)
    assert sorted(found["outcome"]) == ["confusion", "false alarm", "hit", "hit"]


def test_outcomes_agree_with_what_is_counted():
    rng = np.random.default_rng(4)
    truth, predicted = (np.repeat(rng.uniform(0, 60, (3, 2)), 1, axis=0) for _ in range(2))
    plot = ground(
        truth=np.concatenate([truth, truth + 6], 1).tolist(),
        predicted=np.concatenate([predicted, predicted + 6], 1).tolist() + TRUTH[:1],
    )
    found = outcome_table(plot, threshold=0.0, iou_threshold=0.1)["outcome"].value_counts()
    count = plot.paired.counted(iou_threshold=0.1)
    assert found.get("hit", 0) + found.get("confusion", 0) == count.matched
    assert found.get("miss", 0) == count.truth - count.matched
    assert found.get("false alarm", 0) == count.predicted - count.matched


@pytest.mark.parametrize(("complete", "outcomes"), [(True, ["hit", "miss", "false alarm"]), (False, ["hit", "miss"])])
def test_a_crown_without_a_stem_is_false_only_where_stems_are_complete(complete, outcomes):
    found = outcome_table(stems(complete=complete), threshold=0.5, iou_threshold=0.4)
    assert found["outcome"].tolist() == outcomes
    assert found.geometry.geom_type.tolist()[:2] == ["Polygon", "Point"]
    assert found["distance_m"].iloc[0] == pytest.approx(1.0)
    assert np.isnan(found["iou"].iloc[0])


def test_ground_without_crowns_gives_an_empty_table():
    empty = ground(truth=[], predicted=[])
    assert len(outcome_table(empty, threshold=0.5, iou_threshold=0.4)) == 0
    assert np.isnan(fates(empty, threshold=0.5, iou_threshold=0.4).f1)
    assert fates(ground(), threshold=0.5, iou_threshold=0.4).f1 == pytest.approx(4 / 6)


def test_tables_are_put_together_by_crs():
    parts = [table(), table(crs=32632), table(crs=None), table(), table(crs="+proj=tmerc +lat_0=51 +lon_0=7.1")]
    merged = by_crs(parts)
    assert {name: len(part) for name, part in merged.items()} == {"32633": 8, "32632": 4, "pixels": 4, "local": 4}
    assert merged["pixels"].crs is None
