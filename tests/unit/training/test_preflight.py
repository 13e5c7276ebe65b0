import json
import math
import warnings
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine

from treedet.core.grid import Grid
from treedet.core.labels import LabelSchema
from treedet.core.spec import ModelSpec
from treedet.errors import (
    ConfigError,
    CrownsError,
    CutCrownsWarning,
    GsdWarning,
    SparseTruthWarning,
    TreedetWarning,
)
from treedet.training.annotation_facts import fitting_share, raster_groups, side_of
from treedet.training.preflight import Preflight

UTM = pyproj.CRS.from_epsg(32632)


@dataclass(frozen=True, eq=False)
class Plot:
    boxes: np.ndarray
    labels: np.ndarray
    diameters_m: np.ndarray
    grid: Grid
    path: str = "stand.tif"
    crs: pyproj.CRS | None = UTM
    aoi: object = None

    @property
    def hectares(self):
        return self.grid.hectares if self.aoi is None else self.aoi.area * self.grid.gsd**2 / 1e4


@dataclass(frozen=True, eq=False)
class Part:
    plot: Plot
    area: object
    blank: object
    mine: np.ndarray


def plot(count=60, *, side_m=4.0, labels=None, gsd=0.1, pixels=2000, seed=0, **values):
    """Squares of one size, anywhere on a square raster."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, pixels - side_m / gsd, (count, 2))
    return Plot(
        boxes=np.concatenate([low, low + side_m / gsd], axis=1),
        labels=np.array(labels if labels is not None else ["tree"] * count, dtype=object),
        diameters_m=np.full(count, side_m),
        grid=Grid.build(None, Affine.identity(), width=pixels, height=pixels, gsd=gsd),
        **values,
    )


def part(of, *, area=None, mine=None):
    return Part(of, area, None, np.ones(len(of.boxes), bool) if mine is None else np.asarray(mine, dtype=bool))


def config(**values):
    samples = SimpleNamespace(window_px=384, empty=0.1)
    return SimpleNamespace(**{"epochs": 30, "windows_per_epoch": 403, "batch_size": 8, "samples": samples, **values})


def flight(train=None, validation=None, *, spec=None, **values):
    train = [part(plot())] if train is None else train
    validation = [part(plot(seed=1, path="other.tif"))] if validation is None else validation
    return Preflight.of(train, validation, spec=spec or ModelSpec(), config=config(), **values)


def cautioned(report):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report.check()
    return [(caution.category, str(caution.message)) for caution in caught]


def test_a_sound_run_raises_nothing_and_warns_of_nothing():
    assert cautioned(flight()) == []


def test_the_report_says_what_will_be_seen():
    report = flight(decisions=["gsd 0.1 m, as the raster"], transfer=["kept 40 tensors", "class tree kept"])
    text = "\n".join(report.lines())
    for fact in (
        "2 rasters: 8.00 ha at 0.1 m, WGS 84 / UTM zone 32N, 120 crowns",
        "60 crowns (tree 60) on 4.00 ha",
        "4.0 m median (40 px)",
        "1.6 to 20.3 m; 100 % of the training crowns fit one",
        "for crowns up to 20.0 m; no training crown is wider",
        "384 px at 0.1 m = 38 m",
        "10 % of windows are drawn there",
        "1500 at most: 12000 windows in 30 epochs",
        "gsd 0.1 m, as the raster",
        "kept 40 tensors",
    ):
        assert fact in text
    assert all("\n" not in line for line in report.lines())
    starts = [line for line in report.lines() if line.startswith("start")]
    assert len(starts) == 1, "a name that repeats is written once"


def test_the_report_is_plain_json():
    nothing = flight([part(plot(0))], [])
    for report in (flight(), nothing):
        values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
        assert values["train"]["crowns"]["tree"] == report.train.total
        assert values["rasters"][0]["gsd"] == pytest.approx(0.1)
    assert nothing.to_dict()["diameters"]["median"] is None
    assert any("few" in caution for caution in nothing.to_dict()["cautions"])


def test_parts_of_one_raster_count_it_once_and_its_crowns_on_their_side():
    of = plot(100)
    left = of.boxes[:, [0, 2]].mean(axis=1) < 1000
    halves = [shapely.box(0, 0, 1000, 2000), shapely.box(1000, 0, 2000, 2000)]
    report = flight([part(of, area=halves[0], mine=left)], [part(of, area=halves[1], mine=~left)])
    assert report.annotated == 100
    assert report.rasters[0].files == ("stand.tif",)
    assert (report.train.total, report.validation.total) == (left.sum(), (~left).sum())
    assert report.train.hectares == report.validation.hectares == pytest.approx(2.0)


def test_rasters_are_grouped_by_gsd_and_crs():
    others = [
        part(plot(1, path=f"{i}.tif", gsd=gsd, crs=crs)) for i, (gsd, crs) in enumerate([(0.25, UTM), (0.1, None)])
    ]
    groups = raster_groups([part(plot(5)), part(plot(7, path="b.tif")), *others])
    assert [(g.gsd, g.crs, g.crowns) for g in groups] == [
        (0.1, UTM.name, 12),
        (0.1, "no CRS", 1),
        (0.25, UTM.name, 1),
    ]
    assert groups[0].files == ("stand.tif", "b.tif")


def test_empty_ground_is_counted_inside_the_area_alone():
    # Windows of 384 px on 1536 px: 4 x 4 places, with crowns in two of the left half.
    centres = np.array([[100, 100], [110, 120], [500, 1500]])
    of = replace(plot(3, pixels=1536), boxes=np.concatenate([centres - 5, centres + 5], axis=1))
    assert side_of([part(of)], ModelSpec(), window_px=384).empty_share == pytest.approx(14 / 16)
    left = shapely.box(0, 0, 768, 1536)
    assert side_of([part(of, area=left)], ModelSpec(), window_px=384).empty_share == pytest.approx(6 / 8)
    sliver = shapely.box(0, 0, 10, 10)
    none_mine = part(of, area=sliver, mine=[0, 0, 0])
    assert side_of([none_mine], ModelSpec(), window_px=384).empty_share == 0


def test_crowns_of_other_labels_are_passed_over_and_said():
    report = flight([part(plot(60, labels=["tree"] * 40 + ["shrub"] * 20))])
    assert report.train.crowns == {"tree": 40}
    assert "passed over: shrub 20" in "\n".join(report.lines())


@pytest.mark.parametrize(
    ("side", "share"),
    [([4.0, 4.0], 1.0), ([0.5, 0.5], 0.0), ([20.0, 2.0], 0.0), ([60.0, 60.0], 0.0), ([5.0, 3.5], 1.0)],
)
def test_a_crown_fits_where_an_anchor_overlaps_it_by_half(side, share):
    assert fitting_share(np.array([side]), ModelSpec()) == share


def test_the_distance_to_the_nearest_anchor_counts():
    near = ModelSpec(levels=(2,), anchor_sizes_m=((1.6,),))
    far = ModelSpec(levels=(5,), anchor_sizes_m=((1.6,),))
    crown = np.array([[1.6, 1.6]])
    assert fitting_share(crown, near) == 1
    assert fitting_share(crown, far) == 0, "anchors 3.2 m apart pass by crowns of 1.6 m"


def test_no_crowns_at_all_are_refused():
    with pytest.raises(CrownsError, match="no crowns to train on"):
        flight([part(plot(0))], []).check()


def test_crowns_outside_the_aoi_are_refused():
    aoi = shapely.box(0, 0, 1, 1)
    outside = part(plot(9, aoi=aoi), area=aoi, mine=[False] * 9)
    with pytest.raises(CrownsError, match="all 9 crowns lie outside the AOI"):
        flight([outside], []).check()


def test_crowns_of_no_class_of_the_model_are_refused():
    with pytest.raises(ConfigError, match=r"classes 'tree'; the annotation has 'palm'"):
        flight([part(plot(9, labels=["palm"] * 9))], []).check()


def test_a_class_without_a_training_crown_is_refused():
    spec = ModelSpec(labels=LabelSchema(("tree", "bird")))
    held = part(plot(4, labels=["bird"] * 4))
    with pytest.raises(ConfigError, match=r"class 'bird' \(bird 4 in validation\); training has tree 60, bird 0"):
        flight(validation=[held], spec=spec).check()


def test_crowns_too_small_for_the_gsd_are_refused_and_small_ones_warned_of():
    spec = ModelSpec(anchor_sizes_m=((0.5, 0.6, 0.8), *ModelSpec().anchor_sizes_m[1:]))
    with pytest.raises(ConfigError, match=r"can not see .* 0\.50 m, 5\.0 px .* finer GSD"):
        flight([part(plot(side_m=0.5))], spec=spec).check()
    ((category, text),) = cautioned(flight([part(plot(side_m=0.9))], spec=spec))
    assert category is TreedetWarning
    assert "crowns are small: the median is 0.9 m, 9 px" in text


def test_few_crowns_are_warned_of():
    spec = ModelSpec(labels=LabelSchema(("tree", "bird")))
    few = part(plot(29, labels=["tree"] * 20 + ["bird"] * 9))
    found = cautioned(flight([few], spec=spec))
    assert [category for category, _ in found] == [SparseTruthWarning] * 2
    assert "29 training crowns" in found[0][1]
    assert "bird 9" in found[1][1]
    enough = part(plot(30, labels=["tree"] * 20 + ["bird"] * 10))
    assert cautioned(flight([enough], spec=spec)) == []


@pytest.mark.parametrize("validation", [[], [part(plot(0))]])
def test_validation_without_crowns_is_warned_of(validation):
    ((category, text),) = cautioned(flight(validation=validation))
    assert category is SparseTruthWarning
    assert "no crowns in validation" in text


def test_crowns_without_an_anchor_are_warned_of():
    spec = ModelSpec(crown_range_m=(1.0, 40.0))
    many, few = (
        [part(plot(100 - n, pixels=3000)), part(plot(n, side_m=34.0, pixels=3000, seed=3))] for n in (21, 20)
    )
    ((category, text),) = cautioned(flight(many, spec=spec))
    assert category is TreedetWarning
    assert "21 % of the training crowns fit no anchor" in text
    assert cautioned(flight(few, spec=spec)) == []


def test_a_crown_wider_than_a_window_is_warned_of():
    wide = [part(plot(60)), part(plot(1, side_m=38.5, pixels=3000))]
    report = flight(wide)
    ((category, text),) = cautioned(report)
    assert category is CutCrownsWarning
    assert "38.5 m) is wider than a training window (38.4 m)" in text
    assert "1 training crowns are wider" in "\n".join(report.lines())


def test_a_raster_much_coarser_than_the_model_is_warned_of():
    coarse = flight([part(plot(gsd=0.21))])
    ((category, text),) = cautioned(coarse)
    assert category is GsdWarning
    assert "0.21 m per pixel" in text
    assert cautioned(flight([part(plot(gsd=0.2))])) == []


def test_without_crowns_figures_are_not_a_number_and_the_report_still_reads():
    report = flight([part(plot(0))], [])
    assert math.isnan(report.median_px)
    assert report.fitting == 1
    assert "validation" in "\n".join(report.lines())


def test_crowns_outside_the_aoi_are_said():
    inside = np.arange(60) < 50
    report = flight([part(plot(), mine=inside)])
    assert report.outside == 10
    assert "left out    10 crowns outside the AOI" in report.lines()
    assert not any(line.startswith("left out") for line in flight().lines())
