"""The new model's GSD, anchors and crown sizes, chosen from the crowns it is to be trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from treedet.core.labels import LabelSchema
from treedet.core.spec import ModelSpec
from treedet.errors import ConfigError

Floats = npt.NDArray[np.float64]

REFERENCE_PX = 48.0
"""Median crown in pixels that a new GSD aims at: about that of the bundled model's training crowns."""
EASY_PX = (20.0, 110.0)
"""Median crown in pixels within which the starting model's GSD, or that of coarser rasters, is kept."""
COARSER = 1.25
"""Rasters up to this much coarser than the starting model's GSD are enlarged rather than the GSD changed."""
SNAP = 0.25
"""A wanted GSD this close to a raster's becomes the raster's, so that nothing is resampled."""
SAME = 0.02
"""A wanted GSD this close to the starting model's is no reason to leave it."""
REACHED_IOU = 0.5
ENOUGH = 0.8
"""Share of crowns that some anchor should reach."""
SPREAD = 1.6
"""Coarsest imagery a model with a GSD of its own is said to work on, as a multiple of it."""
LOOKED_AT = 4000
"""Crowns looked at in the search for a GSD that would suit the anchors."""


@dataclass(frozen=True, eq=False)
class CrownFacts:
    """What is known about the training crowns and their rasters.

    Attributes:
        diameters_m: Float64 ``[N]``, metres.
        sides_m: Float64 ``[N, 2]``, width and height of the boxes in metres.
        raster_gsds: GSD of each raster, metres per pixel.
        classes: Number of crowns by class name.
    """

    diameters_m: Floats
    sides_m: Floats
    raster_gsds: tuple[float, ...]
    classes: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not len(self.diameters_m) or not self.raster_gsds:
            raise ConfigError(
                f"a model can not be fitted to {len(self.diameters_m)} crowns on {len(self.raster_gsds)} rasters; "
                "give at least one of each"
            )
        sizes = np.concatenate([np.ravel(self.diameters_m), np.ravel(self.sides_m), self.raster_gsds])
        if not (np.isfinite(sizes).all() and (sizes > 0).all()):
            raise ConfigError(
                "crown sizes and GSDs must be positive numbers of metres; mend or drop the crowns first"
            )

    @property
    def median_m(self) -> float:
        """Median crown diameter in metres."""
        return float(np.median(self.diameters_m))


def fit_spec(
    start: ModelSpec,
    facts: CrownFacts,
    *,
    gsd: float | None = None,
    max_crown: float | None = None,
    classes: tuple[str, ...] | None = None,
) -> tuple[ModelSpec, list[str]]:
    """Return the spec of a model for these crowns, and one line per decision with its reason.

    Anchors keep their size in pixels, so that transferred weights keep their meaning; on the ground they follow the
    GSD. Operating points, temperature and provenance are the starting model's: the caller sets them anew.

    Args:
        start: Spec of the model to start from.
        facts: Training crowns and their rasters.
        gsd: GSD of the new model in metres per pixel; by default chosen.
        max_crown: Widest crown expected, in metres; by default from the crowns.
        classes: Class names; by default those found, the ones the starting model knows first.

    Raises:
        ConfigError: ``gsd`` or ``max_crown`` is not positive, or ``max_crown`` is below the smallest crowns.

    >>> facts = CrownFacts(np.full(9, 14.0), np.full((9, 2), 14.0), (0.25,))
    >>> spec, lines = fit_spec(ModelSpec(), facts)
    >>> spec.gsd, spec.crown_range_m
    (0.25, (11.2, 17.5))
    >>> lines[3]
    'imagery from 0.05 to 0.4 m per pixel expected'
    """
    for name, value in (("gsd", gsd), ("max_crown", max_crown)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ConfigError(f"{name} must be a positive number of metres, found {value}")
    chosen, reason = (gsd, f"GSD {gsd:g} m, as told") if gsd is not None else _choose_gsd(start, facts)
    kept = math.isclose(chosen, start.gsd, rel_tol=1e-9)
    anchors = start.anchor_sizes_m if kept else _scaled(start.anchor_sizes_m, chosen / start.gsd)
    crowns, crowns_line = _crown_range(facts, max_crown)
    names = classes or _names(start, facts)
    spec = replace(
        start,
        gsd=chosen,
        gsd_range=_gsd_range(start, facts, chosen, kept=kept),
        anchor_sizes_m=anchors,
        crown_range_m=crowns,
        labels=LabelSchema(names, start.labels.attributes),
    )
    counted = ", ".join(f"{name} ({facts.classes.get(name, 0)})" for name in names)
    range_line = f"imagery from {spec.gsd_range[0]:g} to {spec.gsd_range[1]:g} m per pixel expected"
    overlap = f"windows overlap by {spec.overlap_px()} px"
    lines = [reason, *_anchor_lines(spec, facts), f"{crowns_line}; {overlap}", range_line, f"classes: {counted}"]
    return spec, lines


def anchor_reach(spec: ModelSpec, sides_m: Floats) -> Floats:
    """Return the IoU ``[N]`` of each crown with the anchor shape that suits it best, both centred on one point.

    Args:
        spec: Anchors and GSD.
        sides_m: Float64 ``[N, 2]``, width and height in metres.

    >>> anchor_reach(ModelSpec(), np.array([[1.6, 1.6], [4.0, 2.0], [0.8, 0.8]])).round(2).tolist()
    [1.0, 0.54, 0.25]
    """
    sizes = np.array([size for level in spec.anchor_sizes_m for size in level])
    root = np.sqrt(np.array(spec.anchor_ratios))
    width, height = np.ravel(sizes[:, None] / root), np.ravel(sizes[:, None] * root)
    best = np.zeros(len(sides_m))
    for w, h in zip(width, height, strict=True):
        shared = np.minimum(sides_m[:, 0], w) * np.minimum(sides_m[:, 1], h)
        np.maximum(best, shared / (sides_m.prod(axis=1) + w * h - shared), out=best)
    return best


def _choose_gsd(start: ModelSpec, facts: CrownFacts) -> tuple[float, str]:
    finest, coarsest = min(facts.raster_gsds), max(facts.raster_gsds)
    median, px = facts.median_m, facts.median_m / start.gsd
    crown = f"the median crown of {median:.1f} m is"
    easy = EASY_PX[0] <= px <= EASY_PX[1]
    # Not a hair's breadth: a raster of 12.5 cm has a computed GSD of 0.12500000001 m.
    fine = coarsest <= COARSER * start.gsd * (1 + 1e-6)
    if fine and easy:
        return start.gsd, f"GSD {start.gsd:g} m, the starting model's: {crown} {px:.0f} px"
    wanted = max(median / REFERENCE_PX, finest)
    if fine and abs(wanted / start.gsd - 1) <= SAME:
        return start.gsd, f"GSD {start.gsd:g} m, the starting model's: {crown} {px:.0f} px, and no raster is finer"
    why = (
        f"{crown} {px:.0f} px at the starting model's {start.gsd:g} m, outside {EASY_PX[0]:g} to {EASY_PX[1]:g} px, "
        f"and"
        if fine
        else f"the rasters are up to {coarsest:g} m, coarser than the starting model's {start.gsd:g} m, and the "
        f"median crown of {median:.1f} m is"
    )
    nearest = min(facts.raster_gsds, key=lambda g: abs(math.log(g / wanted)))
    if abs(wanted / nearest - 1) <= SNAP or (not fine and EASY_PX[0] <= median / nearest <= EASY_PX[1]):
        return nearest, f"GSD {nearest:g} m, the raster's own: {why} {median / nearest:.0f} px"
    rounded = max(float(f"{wanted:.2g}"), finest)
    return rounded, f"GSD {rounded:g} m, chosen: {why} {median / rounded:.0f} px"


def _gsd_range(start: ModelSpec, facts: CrownFacts, gsd: float, *, kept: bool) -> tuple[float, float]:
    if kept:
        return start.gsd_range
    finest = gsd * start.gsd_range[0] / start.gsd
    # What it is trained on is within the range, whatever GSD was told.
    return min(_short(finest), *facts.raster_gsds), max(_short(gsd * SPREAD), *facts.raster_gsds)


def _crown_range(facts: CrownFacts, max_crown: float | None) -> tuple[tuple[float, float], str]:
    """Return the range of diameters in metres, and the line that says why."""
    smallest = _short(0.8 * float(np.percentile(facts.diameters_m, 1)))
    widest_side = float(facts.sides_m.max())
    if max_crown is None:
        widest = _short(1.25 * widest_side)
        return (
            smallest,
            widest,
        ), f"crowns of {smallest:g} to {widest:g} m expected: the widest is {widest_side:.1f} m"
    if max_crown <= smallest:
        raise ConfigError(
            f"max_crown is {max_crown:g} m, but the smallest training crowns are {smallest:g} m; give at least the "
            f"widest, {widest_side:.1f} m"
        )
    wider = int((facts.sides_m.max(axis=1) > max_crown).sum())
    said = f"; {wider} of {len(facts.sides_m)} training crowns are wider" if wider else ""
    return (smallest, max_crown), f"crowns of {smallest:g} to {max_crown:g} m expected, the widest as told{said}"


def _anchor_lines(spec: ModelSpec, facts: CrownFacts) -> list[str]:
    share = float((anchor_reach(spec, facts.sides_m) >= REACHED_IOU).mean())
    sizes = [size for level in spec.anchor_sizes_m for size in level]
    lines = [
        f"anchors of {min(sizes):.3g} to {max(sizes):.3g} m, in pixels the starting model's, reach {share:.0%} of "
        f"crowns at IoU {REACHED_IOU}"
    ]
    if share >= ENOUGH:
        return lines
    better, reached = _better_gsd(spec, facts)
    cure = f"{better:g} m would reach {reached:.0%}"
    if better < min(facts.raster_gsds):
        cure += ", finer than the rasters"
    if reached <= share:
        cure = "no other GSD reaches more: the crowns are of very different sizes or shapes"
    return [*lines, f"warning: anchors reach only {share:.0%} of crowns, below {ENOUGH:.0%}; {cure} (--model_gsd)"]


def _better_gsd(spec: ModelSpec, facts: CrownFacts) -> tuple[float, float]:
    """Return the GSD nearest to the present one whose anchors reach enough crowns, else the best, and its share."""
    sides = facts.sides_m[:: max(1, len(facts.sides_m) // LOOKED_AT)]
    factors = sorted(np.geomspace(1 / 8, 8, 61), key=lambda f: abs(math.log(f)))
    tried = []
    for factor in factors:
        gsd = float(f"{spec.gsd * factor:.2g}")
        scaled = replace(spec, anchor_sizes_m=_scaled(spec.anchor_sizes_m, gsd / spec.gsd))
        tried.append((gsd, float((anchor_reach(scaled, sides) >= REACHED_IOU).mean())))
    enough = [found for found in tried if found[1] >= ENOUGH]
    return enough[0] if enough else max(tried, key=lambda found: found[1])


def _scaled(sizes: tuple[tuple[float, ...], ...], factor: float) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(size * factor for size in level) for level in sizes)


def _names(start: ModelSpec, facts: CrownFacts) -> tuple[str, ...]:
    known = [name for name in start.labels.classes if name in facts.classes]
    return (*known, *sorted(set(facts.classes) - set(known))) or start.labels.classes


def _short(value: float) -> float:
    return float(f"{value:.3g}")
