import numpy as np
import pytest

from treedet.metrics.crown_errors import crown_errors
from treedet.metrics.paired import PairedCrowns


def raster(truth, predicted, **values):
    predicted = np.array(predicted, float).reshape(-1, 4)
    truth = np.array(truth, float).reshape(-1, 4)
    return PairedCrowns(truth, predicted, np.ones(len(predicted), np.float32), **values)


def test_figures_by_hand():
    rasters = [
        # Two matched: 25 % too large and 0.5 m off, and 10 % too small and 0.5 m off; one missed.
        raster(
            [[0, 0, 4, 4], [20, 0, 30, 10], [50, 0, 54, 4]],
            [[0, 0, 4, 5], [20, 0, 29, 10]],
            hectares=1.0,
        ),
        # Nothing there, three found on two hectares.
        raster([], [[0, 0, 4, 4], [20, 0, 30, 10], [50, 0, 54, 4]], hectares=2.0),
        # One matched exactly, one false alarm, hectares unknown.
        raster([[0, 0, 4, 4]], [[0, 0, 4, 4], [50, 50, 54, 54]]),
    ]
    errors = crown_errors(rasters)
    assert errors == pytest.approx(
        {
            "count_error": (1 + 3 + 1) / 3,
            "count_bias": (-1 + 3 + 1) / 3,
            "count_error_rel": 5 / 4,
            "count_bias_rel": 3 / 4,
            "area_error": (0.25 + 0.1 + 0) / 3,
            "area_bias": (0.25 - 0.1 + 0) / 3,
            "centre_distance_m": (0.5 + 0.5 + 0) / 3,
            "centre_distance_p95_m": 0.5,
            "false_alarms_per_ha": 3 / 3,
            "false_alarms_per_ha_empty": 3 / 2,
        }
    )


def test_crowns_outside_the_aoi_are_not_counted():
    one = raster(
        [[0, 0, 4, 4], [90, 0, 94, 4]],
        [[0, 0, 4, 4], [90, 0, 94, 4], [50, 50, 54, 54]],
        truth_ignored=np.array([False, True]),
        predicted_ignored=np.array([True, True, False]),
        hectares=1.0,
    )
    errors = crown_errors([one])
    assert errors["count_bias"] == 0, "by their centres: one of the truth, one of the predictions"
    assert errors["false_alarms_per_ha"] == 1
    assert errors["centre_distance_m"] == 0


def test_nothing_at_all_is_undefined():
    assert np.isnan(list(crown_errors([]).values())).all()


def test_an_empty_raster_without_alarms_has_none():
    errors = crown_errors([raster([], [], hectares=3.0)])
    assert errors["false_alarms_per_ha"] == errors["false_alarms_per_ha_empty"] == errors["count_error"] == 0
    assert np.isnan([errors["count_error_rel"], errors["area_error"], errors["centre_distance_p95_m"]]).all()
