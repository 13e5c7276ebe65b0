import pytest

from treedet.errors import ConfigError
from treedet.evaluation.config import CalibrateConfig, EvaluateConfig, TruthReading


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"gsds": (0.2, -1.0)}, "gsds must be positive"),
        ({"gsds": (float("nan"),)}, "gsds must be positive"),
        ({"modes": ()}, "accepted are adapt, native, band-limit"),
        ({"modes": ("blurred",)}, "'blurred'"),
        ({"iou_threshold": 1.0}, "below 1"),
        ({"iou_threshold": 0.0}, "above 0"),
        ({"draws": 0}, "at least 1"),
        ({"max_distance": 0.0}, "max_distance must be a positive"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        EvaluateConfig(**wrong)


def test_an_unknown_setting_is_named_with_those_accepted():
    with pytest.raises(ConfigError, match="'gsd' is unknown; accepted are gsds, modes"):
        EvaluateConfig().but({"gsd": 0.2})


@pytest.mark.parametrize("wrong", [{"merge_ious": (0.4, 1.0)}, {"gsds": (0.0,)}, {"iou_threshold": 0.0}])
def test_what_calibration_tries_is_checked(wrong):
    with pytest.raises(ConfigError):
        CalibrateConfig(**wrong)


@pytest.mark.parametrize("name", ["gsd", "diameter"])
def test_lengths_must_be_positive(name):
    with pytest.raises(ConfigError, match=f"{name} must be a positive number of metres, found -1"):
        TruthReading(**{name: -1.0})
