import math

import pytest

from treedet.errors import ConfigError
from treedet.inference.options import PredictOptions


def test_defaults_make_sense():
    assert PredictOptions() == PredictOptions().but({})


def test_but_changes_by_name_and_checks_again():
    assert PredictOptions(gsd=0.2).but({"shape": "point"}) == PredictOptions(gsd=0.2, shape="point")
    with pytest.raises(ConfigError, match="gsd must be a positive number of metres, found 0"):
        PredictOptions().but({"gsd": 0})


def test_an_unknown_option_is_named_with_those_there_are():
    with pytest.raises(ConfigError, match=r"option 'patch_size' is unknown; accepted are gsd, bands, .*readers"):
        PredictOptions().but({"gsd": 0.1, "patch_size": 400})


@pytest.mark.parametrize("name", ["gsd", "max_crown", "min_diameter"])
@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf])
def test_lengths_are_positive_and_finite(name, value):
    with pytest.raises(ConfigError, match=f"{name} must be a positive number"):
        PredictOptions(**{name: value})


@pytest.mark.parametrize("value", [-0.1, 1.5, 70, math.nan, math.inf])
def test_the_least_probability_is_a_probability(value):
    with pytest.raises(ConfigError, match="min_p must be a probability from 0 to 1, found"):
        PredictOptions(min_p=value)
    assert [PredictOptions(min_p=edge).min_p for edge in (0, 1, None)] == [0, 1, None]


@pytest.mark.parametrize("name", ["batch_size", "readers"])
def test_counts_are_at_least_one(name):
    with pytest.raises(ConfigError, match=f"{name} must be at least 1, found 0"):
        PredictOptions(**{name: 0})


def test_an_unknown_shape_is_refused():
    with pytest.raises(ConfigError, match="'blob' is unknown; accepted are box, ellipse, point"):
        PredictOptions(shape="blob")
