"""What ``treedet train`` learns from."""

import pytest

from treedet.commands.train_inputs import annotated
from treedet.datasets.annotation_set import AnnotationSet
from treedet.errors import ConfigError
from treedet.training.options import TrainOptions

SETS = {"plots": AnnotationSet("plots", "plots.csv")}


def test_sets_stand_alone() -> None:
    with pytest.raises(ConfigError, match=r"must be - where sets are given; make stand\.tif one of the sets"):
        annotated("stand.tif", "crowns.gpkg", TrainOptions(sets=SETS))


@pytest.mark.parametrize("told", [{"validation": "other.tif"}, {"aoi": "area.shp"}, {"gsd": 0.1}])
def test_what_sets_have_of_their_own_is_refused(told: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(told))} is for RASTER and CROWNS"):
        annotated("-", "-", TrainOptions(sets=SETS, **told))  # type: ignore[arg-type]


def test_nothing_to_learn_from_is_said() -> None:
    with pytest.raises(ConfigError, match="needs sets, or --crops"):
        annotated("-", "-", TrainOptions())
    with pytest.raises(ConfigError, match="both RASTER and CROWNS"):
        annotated("-", "crowns.gpkg", TrainOptions(sets=SETS))
