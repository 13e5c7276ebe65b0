"""One raster as it would have looked at other resolutions, and what a model finds in it then.

Coarser imagery is simulated first, by writing the raster once with larger pixels (area averaging), and from then on
only that file is seen: reading the original at another GSD degrades nothing and measures nothing.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import shapely
import shapely.affinity
from shapely.geometry.base import BaseGeometry

from treedet.core.crown_arrays import CrownArrays
from treedet.core.grid import SAME_GSD, Grid
from treedet.core.spec import ModelSpec, Reading
from treedet.datasets.annotated import AnnotatedRaster
from treedet.errors import ConfigError, DetectionCapWarning, GsdWarning, OutputError
from treedet.evaluation.config import MODES, Mode
from treedet.inference.memory import run_in_memory
from treedet.inference.options import PredictOptions
from treedet.inference.setup import set_up, tiling
from treedet.models.base import WindowDetector
from treedet.rasters.coarsen import coarsen
from treedet.rasters.raster import Raster
from treedet.rasters.tiling import plan_tiles


@dataclass(frozen=True)
class Condition:
    """Imagery of one resolution, and how it is read.

    Attributes:
        gsd: Metres per pixel of the imagery; None for the raster as it is.
        mode: ``adapt`` resamples the imagery to the model's GSD; ``native`` runs the model on its pixels as they are,
            as a tool that knows no GSD would; ``band-limit`` brings it back to the raster's own pixel size first, so
            that only the detail is that of ``gsd``.
        note: Why nothing new was computed for it; empty where something was. Of no account in comparisons.

    Raises:
        ConfigError: The GSD is not positive, or the mode is unknown.
    """

    gsd: float | None
    mode: Mode
    note: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if self.gsd is not None and not 0 < self.gsd < float("inf"):
            raise ConfigError(f"gsds must be positive numbers of metres per pixel, found {self.gsd}")
        if self.mode not in MODES:
            raise ConfigError(f"modes can not be {self.mode!r}; accepted are {', '.join(MODES)}")


AS_IT_IS = Condition(None, "adapt")
"""Imagery as ``predict`` sees it: at the model's GSD, unless the model file asks for coarse imagery as it is."""


def conditions(gsds: Sequence[float], modes: Sequence[Mode], *, model_gsd: float) -> tuple[Condition, ...]:
    """Return each GSD in each mode: GSDs from fine to coarse, modes in the order given, nothing twice.

    Args:
        gsds: Metres per pixel of the imagery to simulate.
        modes: How it is read.
        model_gsd: The model's GSD, at which ``native`` is noted to be the same as ``adapt``.

    Raises:
        ConfigError: A GSD is not positive, or a mode is unknown.

    >>> [(c.gsd, c.mode) for c in conditions([0.3, 0.1], ["adapt", "native"], model_gsd=0.1)]
    [(0.1, 'adapt'), (0.1, 'native'), (0.3, 'adapt'), (0.3, 'native')]
    >>> conditions([0.1], ["native"], model_gsd=0.1)[0].note
    'the imagery has the pixel size of the model (0.1 m), so native is the same as adapt'
    """
    every = (Condition(gsd, mode) for gsd in sorted(set(gsds)) for mode in dict.fromkeys(modes))
    return tuple(
        replace(one, note=_same_as_adapt("the imagery has", "native", model_gsd))
        if one.mode == "native" and one.gsd is not None and abs(one.gsd / model_gsd - 1) <= SAME_GSD
        else one
        for one in every
    )


def spans_windows(plot: AnnotatedRaster, spec: ModelSpec) -> bool:
    """Tell whether a raster is too large for one window of a model, so that crowns are merged across seams."""
    return plan_tiles(plot.grid.at_gsd(spec.gsd), tiling(spec, None)).n_windows > 1


def predict_conditions(
    model: WindowDetector,
    plot: AnnotatedRaster,
    conditions: Sequence[Condition],
    *,
    threshold: float = 0.05,
    scratch: Path,
    upsample: bool = False,
) -> Iterator[tuple[Condition, CrownArrays]]:
    """Find the crowns of a raster as it would have looked under each condition.

    For each GSD one file is written, and removed when its conditions are done; a GSD within 2 % of the raster's own
    is the raster itself. Conditions of one GSD come together, GSDs in the order in which they first occur. What is
    bound to give the same result is computed once, and the condition's note says so.

    Args:
        model: Finds crowns in windows.
        plot: The raster, and its AOI: crowns are looked for inside it and up to the model's widest crown around it.
        conditions: Resolutions and modes.
        threshold: Least score.
        scratch: Folder for the files.
        upsample: Allow GSDs finer than the raster's.

    Returns:
        Each condition, with crowns in pixels of ``plot.grid``. No warning is given where a sweep
        leaves the GSDs the model is trained for, or reaches its cap on candidates.

    Raises:
        ConfigError: A GSD is finer than the raster's and ``upsample`` is off; raised by the call itself.
        RasterError: The raster can not be read.
        OutputError: The folder can not be written.
    """
    grids = {gsd: plot.grid if gsd is None else plot.grid.at_gsd(gsd) for gsd in (c.gsd for c in conditions)}
    finer = [gsd for gsd in grids if gsd is not None and gsd < plot.grid.gsd * (1 - SAME_GSD)]
    if finer and not upsample:
        raise ConfigError(
            f"{plot.path} has {plot.grid.gsd:.4g} m per pixel, {min(finer):g} m would be finer; give coarser gsds=, "
            "or upsample=True (--upsample) for enlarged pixels"
        )
    if not scratch.is_dir():
        raise OutputError(f"folder {scratch} does not exist; make it first")
    # Grouped by the pixels rather than by the number: two GSDs may round to the same file.
    groups: dict[Grid, list[Condition]] = {}
    for condition in conditions:
        groups.setdefault(grids[condition.gsd], []).append(condition)
    return _each(_Look(model, plot, threshold), groups, scratch)


@dataclass(frozen=True, eq=False)
class _Look:
    """A model that looks for the crowns of one plot, in whatever file shows its ground."""

    model: WindowDetector
    plot: AnnotatedRaster
    threshold: float

    def crowns(self, raster: Raster, mode: Reading) -> CrownArrays:
        """Return crowns in pixels of the plot's grid."""
        with warnings.catch_warnings():
            # A sweep leaves the model's range on purpose.
            warnings.simplefilter("ignore", GsdWarning)
            # The cap lies far above the crowns a window can hold; at a low threshold it cuts candidates alone.
            warnings.simplefilter("ignore", DetectionCapWarning)
            options = PredictOptions(score_threshold=self.threshold)
            setup = set_up(raster, self.model, options, area=self._area(raster.grid), mode=mode)
            found = run_in_memory(setup, self.model, watch=None)
        return found.scaled(setup.job.plan.grid, self.plot.grid)

    def _area(self, grid: Grid) -> BaseGeometry | None:
        """Return the AOI and the ground around it that its outermost crowns may reach, in pixels of a grid."""
        if self.plot.aoi is None:
            return None
        own = self.plot.grid
        metres = shapely.affinity.scale(self.plot.aoi, own.gsd_x, own.gsd_y, origin=(0, 0))
        around = shapely.buffer(metres, self.model.spec.crown_range_m[1])
        per_metre = grid.width / (own.width * own.gsd_x), grid.height / (own.height * own.gsd_y)
        return shapely.affinity.scale(around, *per_metre, origin=(0, 0))


def _each(
    look: _Look, groups: Mapping[Grid, Sequence[Condition]], scratch: Path
) -> Iterator[tuple[Condition, CrownArrays]]:
    """Yield the crowns of each condition; its group shares a file, and results that are bound to be the same."""
    own, model_gsd = look.plot.grid, look.model.spec.gsd
    for grid, group in groups.items():
        found: dict[Mode, CrownArrays] = {}
        with tempfile.TemporaryDirectory(dir=scratch) as folder, ExitStack() as stack:
            raster = stack.enter_context(look.plot.open())
            if grid is not own and group[0].gsd is not None:
                raster = stack.enter_context(_written(raster, Path(folder) / "seen.tif", group[0].gsd))
            for condition in group:
                mode, note = _same_as(condition, grid, own, model_gsd=model_gsd)
                if condition == AS_IT_IS and look.model.spec.mode_at(own.gsd) == "native":
                    mode, note = "native", "the imagery was read as it is (native), as the model file asks for"
                if mode not in found and mode == "band-limit":
                    with _written(raster, Path(folder) / "band-limited.tif", own.gsd) as restored:
                        found[mode] = look.crowns(restored, "adapt")
                elif mode not in found:
                    found[mode] = look.crowns(raster, "native" if mode == "native" else "adapt")
                yield replace(condition, note=note), found[mode]


def _written(raster: Raster, path: Path, gsd: float) -> Raster:
    """Write a raster at another GSD, and open what was written."""
    coarsen(raster, path, gsd=gsd, upsample=True)
    # The GSD is told: the file of an image without georeference, or with a GSD overridden, does not say.
    return Raster.open(path, gsd=raster.grid.at_gsd(gsd).gsd, bands=range(1, raster.channels + 1))


def _same_as(condition: Condition, grid: Grid, own: Grid, *, model_gsd: float) -> tuple[Mode, str]:
    """Return the simplest mode that gives the same crowns, and why; an empty note where nothing is the same.

    Args:
        condition: What was asked for.
        grid: Pixels of the imagery it leads to.
        own: Pixels of the raster.
        model_gsd: The model's GSD.
    """
    if condition.mode == "native" and grid.at_gsd(model_gsd) is grid:
        return "adapt", _same_as_adapt("the imagery has", "native", model_gsd)
    if condition.mode == "band-limit" and own.at_gsd(model_gsd) is own:
        return "adapt", _same_as_adapt("the raster has", "band-limit", model_gsd)
    if condition.mode == "band-limit" and grid is own:
        return "adapt", "the raster is as it is, so band-limit is the same as adapt"
    if condition.gsd is not None and grid is own:
        return condition.mode, f"the raster itself has {own.gsd:.4g} m per pixel, so it is taken as it is"
    return condition.mode, ""


def _same_as_adapt(what: str, mode: Mode, model_gsd: float) -> str:
    return f"{what} the pixel size of the model ({model_gsd:g} m), so {mode} is the same as adapt"
