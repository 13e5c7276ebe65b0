"""Several sets of annotated rasters, each drawn from in its own way, split by place."""

from pathlib import Path

import numpy as np
import pyproj
import pytest
from affine import Affine

from treedet.core.grid import Grid
from treedet.datasets.annotated import AnnotatedRaster
from treedet.datasets.annotation_set import AnnotationSet
from treedet.datasets.sets import pair_sets, places, split_places
from treedet.errors import ConfigError, UnreadableRasterError
from treedet.rasters.write import RasterWriter

HEADER = "image_path,xmin,ymin,xmax,ymax,label\n"


def raster(path: Path, *, x: float = 0.0, crs: str | None = "EPSG:32632") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    transform = Affine(0.5, 0, 500_000 + x, 0, -0.5, 5_400_000)
    grid = Grid.build(pyproj.CRS(crs) if crs else None, transform, width=64, height=64, gsd=0.5)
    with RasterWriter(path, grid) as writer:
        writer.write(np.zeros((3, 64, 64), np.uint8))
    return path


def plots_of(folder: Path, names: dict[str, float], origin: AnnotationSet) -> list[AnnotatedRaster]:
    folder.mkdir(exist_ok=True)
    rows = "".join(f"{name},10,10,20,20,tree\n" for name in names)
    (folder / "crowns.csv").write_text(HEADER + rows)
    for name, x in names.items():
        raster(folder / name, x=x)
    return pair_sets({"one": origin}, folder)


PLOTS = AnnotationSet(".", "crowns.csv", place=r"([A-Z]{4})_(\d+)")


def test_sets_are_read_each_in_its_own_way(tmp_path: Path) -> None:
    for name in ("a", "b"):
        raster(tmp_path / name / "one.tif", crs=None)
        (tmp_path / name / "crowns.csv").write_text(HEADER + "one.tif,10,10,20,20,tree\n")
    sets = {
        "loose": AnnotationSet("a", "a/crowns.csv", gsd=0.5, tightening=(0.8, 0.9)),
        "fine": AnnotationSet("b/*.tif", "b/crowns.csv", gsd=0.25, weight=2.0),
    }
    loose, fine = pair_sets(sets, tmp_path)
    assert (loose.grid.gsd, fine.grid.gsd) == (0.5, 0.25)
    assert (loose.origin, fine.origin) == (sets["loose"], sets["fine"])
    assert [len(loose), len(fine)] == [1, 1]


def test_years_of_a_plot_are_one_place(tmp_path: Path) -> None:
    names = {
        f"{year}/SJER_{n:03}.tif": 1000.0 * n + (200 if year == 2018 else 0)
        for n in range(6)
        for year in (2017, 2018)
    }
    plots = plots_of(tmp_path, names, PLOTS)
    place = places(plots)
    assert len(set(place)) == 6
    split = split_places(plots, share=0.34, seed=3)
    held = {Path(part.plot.path).name for part in split.validation}
    assert len(held) == 2
    assert len(split.validation) == 4
    assert not held & {Path(part.plot.path).name for part in split.train}


def test_plots_that_overlap_are_one_place_and_those_that_abut_are_not(tmp_path: Path) -> None:
    plots = plots_of(
        tmp_path, {"a.tif": 0.0, "b.tif": 16.0, "c.tif": 48.0, "d.tif": 500.0}, AnnotationSet(".", "crowns.csv")
    )
    a, b, c, d = places(plots)
    assert a == b
    assert len({b, c, d}) == 3


def test_a_single_place_is_trained_on(tmp_path: Path) -> None:
    split = split_places(plots_of(tmp_path, {"a.tif": 0.0}, PLOTS), share=0.5)
    assert (len(split.train), len(split.validation)) == (1, 0)


def test_the_split_depends_on_the_seed_alone(tmp_path: Path) -> None:
    plots = plots_of(tmp_path, {f"AAAA_{n}.tif": 100.0 * n for n in range(8)}, PLOTS)
    held = [[part.plot.path for part in split_places(plots, share=0.5, seed=seed).validation] for seed in (1, 1, 2)]
    assert held[0] == held[1]
    assert held[0] != held[2]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weight": 0.0}, "weight of .* above 0"),
        ({"mosaic": 1.5}, "mosaic of .* share of 0 to 1"),
        ({"tightening": (1.0, 0.8)}, "two factors above 0, smallest first"),
        ({"place": "(["}, "not a regular expression"),
    ],
)
def test_settings_of_a_set_are_checked(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AnnotationSet("plots", "crowns.csv", **wrong)  # type: ignore[arg-type]


def test_an_empty_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "plots").mkdir()
    with pytest.raises(UnreadableRasterError, match="plots"):
        pair_sets({"one": AnnotationSet("plots", "crowns.csv")}, tmp_path)


def test_years_of_the_same_places_hold_out_the_same(tmp_path: Path) -> None:
    """Sets share what is held out, so that it stays a share, and something is left to train on."""
    sets, plots = {}, []
    for year in (2017, 2018, 2019):
        sets[str(year)] = AnnotationSet(".", "crowns.csv", place=r"([A-Z]{4})_(\d+)", weight=float(year))
        plots += plots_of(tmp_path / str(year), {f"SJER_{n:03}.tif": 1000.0 * n for n in range(10)}, sets[str(year)])
    for seed in range(5):
        held = {int(place) for place in places(plots)[[plot in split_of(plots, seed) for plot in plots]]}
        assert len(held) == 2
    two = [plot for plot in plots if "SJER_000" in plot.path or "SJER_001" in plot.path]
    assert all(len(split_of(two, seed, share=0.75)) == 3 for seed in range(5))


def split_of(plots: list[AnnotatedRaster], seed: int, share: float = 0.2) -> list[AnnotatedRaster]:
    return [part.plot for part in split_places(plots, share=share, seed=seed).validation]
