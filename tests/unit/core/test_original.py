import pytest

from treedet.core.original import OriginalSetting
from treedet.core.spec import ModelSpec
from treedet.errors import ConfigError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"patch_px": 0}, "patch_px must be at least 1, found 0"),
        ({"overlap_px": 400}, "less than patch_px"),
        ({"iou_within": 1.5}, "iou_within must be a share from 0 to 1, found 1.5"),
        ({"max_detections": 0}, "max_detections must be at least 1"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OriginalSetting(**values)


def test_windows_are_enlarged_to_the_short_side_unless_the_long_one_gets_too_long() -> None:
    setting = OriginalSetting()
    assert setting.scale(400, 400) == 2
    assert setting.scale(400, 300) == 800 / 300
    assert setting.scale(1000, 400) == pytest.approx(1.333)


def test_the_setting_survives_being_stored() -> None:
    spec = ModelSpec(original=OriginalSetting(patch_px=300), precision="fp32", anchor_rounding=True)
    assert ModelSpec.from_dict(spec.to_dict()) == spec
    assert ModelSpec.from_dict(ModelSpec().to_dict()).original is None


def test_a_spec_refuses_a_precision_that_is_none() -> None:
    with pytest.raises(ConfigError, match="accepted are auto, fp32"):
        ModelSpec(precision="fp8")  # type: ignore[arg-type]
