import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treedet.errors import ConfigError
from treedet.metrics.calibration import (
    detections_correct,
    fit_softmax,
    fit_temperature,
    reliability,
    with_temperature,
)
from treedet.metrics.paired import PairedCrowns


def drawn(temperature: float, *, count: int = 40_000) -> tuple[np.ndarray, np.ndarray]:
    """Scores that are right as often as they would say at a temperature."""
    rng = np.random.default_rng(5)
    confidence = rng.uniform(0.02, 0.98, count)
    return confidence, rng.random(count) < with_temperature(confidence, temperature)


def test_the_expected_calibration_error_of_a_hand_computed_table() -> None:
    confidence = np.array([0.1, 0.3, 0.6, 0.8, 1.0])
    correct = np.array([False, True, True, False, True])
    found = reliability(confidence, correct, bins=4)
    assert found.table["count"].tolist() == [1, 1, 1, 2]
    assert found.table["confidence"].to_numpy() == pytest.approx([0.1, 0.3, 0.6, 0.9])
    assert found.table["accuracy"].tolist() == [0.0, 1.0, 1.0, 0.5]
    assert found.ece == pytest.approx((0.1 + 0.7 + 0.4 + 2 * 0.4) / 5)
    assert found.brier == pytest.approx((0.01 + 0.49 + 0.16 + 0.64 + 0.0) / 5)


def test_a_score_on_a_border_belongs_to_the_bin_above_and_one_to_the_last() -> None:
    found = reliability(np.array([0.0, 0.5, 1.0]), np.ones(3, bool), bins=2)
    assert found.table["count"].tolist() == [1, 2]


def test_an_empty_bin_has_no_accuracy_and_no_weight() -> None:
    found = reliability(np.array([0.9, 0.9]), np.array([True, True]), bins=10)
    assert found.table["accuracy"].isna().sum() == 9
    assert found.ece == pytest.approx(0.1)


def test_no_detections_have_no_error() -> None:
    found = reliability(np.zeros(0), np.zeros(0, bool))
    assert len(found.table) == 15
    assert np.isnan([found.ece, found.brier]).all()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_scores_were_drawn_at_is_found_and_mends_them(temperature: float) -> None:
    confidence, correct = drawn(temperature)
    found = fit_temperature(confidence, correct)
    assert found == pytest.approx(temperature, rel=0.05)
    assert reliability(with_temperature(confidence, found), correct).ece < 0.015
    if temperature != 1.0:
        assert reliability(confidence, correct).ece > 0.04


def test_scores_of_zero_and_one_are_fitted_too() -> None:
    found = fit_temperature(np.array([1.0, 1.0, 0.0, 0.0], np.float32), np.array([True, True, True, False]))
    assert 1 < found <= 20


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0.001, 0.999), min_size=2, max_size=20), st.floats(0.1, 10))
def test_a_temperature_keeps_the_order_and_is_undone_by_its_inverse(scores: list[float], temperature: float) -> None:
    confidence = np.sort(scores)
    assert (np.diff(with_temperature(confidence, temperature)) >= 0).all()
    assert with_temperature(confidence, 1.0) == pytest.approx(confidence)
    if temperature >= 1:  # below 1, scores may be pushed to where they are kept from 0 and 1
        assert with_temperature(with_temperature(confidence, temperature), 1 / temperature) == pytest.approx(
            confidence
        )


@pytest.mark.parametrize("right", [[], [True, True], [False, False]])
def test_nothing_to_fit_on_is_refused(right: list[bool]) -> None:
    with pytest.raises(ConfigError, match=f"{len(right)} detections of which {sum(right)} are right"):
        fit_temperature(np.full(len(right), 0.5), np.array(right, bool))


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ConfigError, match="from 0 to 1"):
        reliability(np.array([55.0]), np.array([True]))
    with pytest.raises(ConfigError, match="from 0 to 1"):
        fit_temperature(np.array([np.nan, 0.5]), np.array([True, False]))
    with pytest.raises(ConfigError, match="one outcome for each"):
        reliability(np.array([0.5]), np.array([True, False]))
    with pytest.raises(ConfigError, match="at least 1"):
        reliability(np.array([0.5]), np.array([True]), bins=0)
    with pytest.raises(ConfigError, match="above 0"):
        with_temperature(np.array([0.5]), 0.0)


def test_the_higher_of_two_scores_on_a_crown_is_right_and_ignored_ones_are_left_out() -> None:
    crown = np.array([[0.0, 0, 4, 4]])
    outside, nowhere, unknown = crown + 10, crown + 20, crown + 30
    raster = PairedCrowns(
        np.concatenate([crown, outside]),
        np.concatenate([crown, crown, outside, nowhere, unknown]),
        np.array([0.25, 0.5, 0.75, 0.125, 0.875], np.float32),
        truth_ignored=np.array([False, True]),
        predicted_ignored=np.array([False, False, False, False, True]),
    )
    confidence, correct = detections_correct([raster, raster])
    assert confidence.tolist() == [0.25, 0.5, 0.125] * 2
    assert correct.tolist() == [False, True, False] * 2


def test_a_crown_of_another_class_is_right_only_where_classes_do_not_matter() -> None:
    box, score = np.array([[0.0, 0, 4, 4]]), np.ones(1, np.float32)
    raster = PairedCrowns(box, box, score, np.array([0]), np.array([1]))
    assert detections_correct([raster])[1].tolist() == [True]
    assert detections_correct([raster], by_class=True)[1].tolist() == [False]
    assert len(detections_correct([])[0]) == 0


def test_a_prior_moves_probabilities_to_where_classes_are_as_frequent():
    rng = np.random.default_rng(0)
    classes = (rng.random(20_000) < 0.4).astype(np.int64)
    evidence = rng.normal(classes * 2.0 - 1.0, 1.0)  # log odds of 2 * evidence where both are as frequent
    odds = np.exp(2 * evidence) * 0.4 / 0.6
    p = np.stack([1 / (1 + odds), odds / (1 + odds)], axis=1)
    temperature, offsets = fit_softmax(p, classes, prior=(0.9, 0.1))
    assert temperature == pytest.approx(1, abs=0.05)
    assert offsets[1] - offsets[0] == pytest.approx(np.log(0.1 / 0.9) - np.log(0.4 / 0.6), abs=0.07)
    assert offsets.sum() == pytest.approx(0, abs=1e-9)


def test_without_a_prior_the_most_probable_class_stays():
    p = np.random.default_rng(1).dirichlet(np.ones(4), 200)
    temperature, offsets = fit_softmax(p, p.argmax(axis=1))
    assert not offsets.any()
    assert temperature < 1  # always right: the scores promised too little


@pytest.mark.parametrize(("classes", "prior"), [([], None), ([0, 0, 0], (0.5, 0.5))])
def test_a_softmax_is_not_calibrated_on_nothing(classes, prior):
    with pytest.raises(ConfigError, match="hold out some of each class"):
        fit_softmax(np.full((len(classes), 2), 0.5), np.array(classes, np.int64), prior=prior)
