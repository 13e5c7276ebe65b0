"""What refuses a training run before it starts, and what it is warned about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from treedet.errors import (
    ConfigError,
    CrownsError,
    CutCrownsWarning,
    GsdWarning,
    SparseTruthWarning,
    TreedetError,
    TreedetWarning,
)

if TYPE_CHECKING:
    from treedet.training.preflight import Preflight

SMALLEST_MEDIAN_PX = 6.0
"""Median crown diameter, in pixels of the model, below which there is nothing to learn."""
SMALL_MEDIAN_PX = 12.0
"""Median below which crowns are learned badly."""
FEW_CROWNS = 30
FEW_OF_A_CLASS = 10
MOST_UNFITTING = 0.2
"""Share of crowns without an anchor from which training is likely to disappoint."""
COARSE = 2.0
"""A raster this many times as coarse as the model's GSD shows it blur."""
MOST_LISTED = 12


def refusal(facts: Preflight) -> TreedetError | None:
    """Return why this run can not work, or None."""
    kept = facts.train.total + facts.validation.total
    others = {**facts.train.others, **facts.validation.others}
    if facts.annotated == 0:
        return CrownsError(
            "there are no crowns to train on: the annotation has no row on the rasters; name another crowns file"
        )
    if kept == 0 and not others:
        return CrownsError(
            f"all {facts.annotated} crowns lie outside the AOI, so there is nothing to train on; check the AOI's "
            "CRS and place, or train without --aoi"
        )
    if kept == 0:
        return ConfigError(
            f"no crown is of the model's classes {named(facts.classes)}; the annotation has {named(others)}; "
            "name these as classes, or map the column that holds the class"
        )
    missing = [name for name in facts.classes if not facts.train.crowns[name]]
    if missing:
        held = {name: facts.validation.crowns[name] for name in missing if facts.validation.crowns[name]}
        where = f" ({counted(held)} in validation)" if held else ""
        return ConfigError(
            f"no training crown for {'class' if len(missing) == 1 else 'classes'} {named(missing)}{where}; "
            f"training has {counted(facts.train.crowns)}; annotate some, or leave the class out"
        )
    if facts.median_px < SMALLEST_MEDIAN_PX:
        return ConfigError(
            f"the model can not see these crowns: the median is {facts.diameters.median:.2f} m, "
            f"{facts.median_px:.1f} px at the model's GSD of {facts.gsd:.3g} m, and {SMALLEST_MEDIAN_PX:.0f} px "
            "are needed; train at a finer GSD (--model_gsd), or check the raster's own GSD (--gsd) and the units of "
            "diameters"
        )
    return None


def cautions(facts: Preflight) -> list[TreedetWarning]:
    """Return what rarely works in this run, worst first."""
    return [*_of_counts(facts), *_of_sizes(facts)]


def _of_counts(facts: Preflight) -> list[TreedetWarning]:
    found: list[TreedetWarning] = []
    total = facts.train.total
    if total < FEW_CROWNS:
        found.append(
            SparseTruthWarning(
                f"{total} training crowns are few: a model seldom gets better with fewer than {FEW_CROWNS}; "
                "annotate more, or freeze the backbone (--freeze backbone)"
            )
        )
    rare = {name: n for name, n in facts.train.crowns.items() if n < FEW_OF_A_CLASS}
    if rare and len(facts.classes) > 1:
        found.append(
            SparseTruthWarning(
                f"few training crowns of {counted(rare)}; with fewer than {FEW_OF_A_CLASS} a class is seldom "
                "learned; annotate more, or join it with another"
            )
        )
    if not facts.validation.total:
        found.append(
            SparseTruthWarning(
                "there are no crowns in validation, so the best epoch and the score thresholds can not be chosen; "
                "annotate more, or give rasters and crowns for validation (--validation)"
            )
        )
    return found


def _of_sizes(facts: Preflight) -> list[TreedetWarning]:
    found: list[TreedetWarning] = []
    if facts.median_px < SMALL_MEDIAN_PX:
        found.append(
            TreedetWarning(
                f"crowns are small: the median is {facts.diameters.median:.1f} m, {facts.median_px:.0f} px at the "
                f"model's GSD of {facts.gsd:g} m; below {SMALL_MEDIAN_PX:.0f} px many are missed; a finer GSD helps "
                "where the raster has it"
            )
        )
    if 1 - facts.fitting > MOST_UNFITTING:
        found.append(
            TreedetWarning(
                f"{percent(1 - facts.fitting)} of the training crowns fit no anchor ({facts.anchors_m[0]:.1f} to "
                f"{facts.anchors_m[1]:.1f} m) and are hard to learn; let GSD and anchors be set from the crowns, or "
                "check their outlines"
            )
        )
    if facts.diameters.longest_side > facts.window_m:
        found.append(
            CutCrownsWarning(
                f"the widest crown ({facts.diameters.longest_side:.1f} m) is wider than a training window "
                f"({facts.window_m:.1f} m), so it is never seen whole; raise samples.window_px"
            )
        )
    coarse = [group for group in facts.rasters if group.gsd > COARSE * facts.gsd]
    if coarse:
        files = sum(len(group.files) for group in coarse)
        found.append(
            GsdWarning(
                f"{files} raster{'' if files == 1 else 's'} of {max(group.gsd for group in coarse):g} m per pixel "
                f"are more than {COARSE:g} times as coarse as the model's GSD of {facts.gsd:g} m; the model sees "
                "blur there; train at a coarser GSD, or check the raster's own (--gsd)"
            )
        )
    return found


def counted(crowns: Mapping[str, int]) -> str:
    """Return crowns by class as text; of many classes the first twelve.

    >>> counted({"spruce": 12, "pine": 3})
    'spruce 12, pine 3'
    """
    return _listed([f"{name} {n}" for name, n in crowns.items()])


def named(names: Iterable[str]) -> str:
    """Return names in quotes; of many the first twelve.

    >>> named(["spruce", "pine"])
    "'spruce', 'pine'"
    """
    return _listed([repr(name) for name in names])


def _listed(words: list[str]) -> str:
    """Return words with commas.

    >>> _listed([str(n) for n in range(14)])
    '0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 2 more'
    """
    more = len(words) - MOST_LISTED
    return ", ".join(words[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def percent(share: float) -> str:
    """Return a share as text.

    >>> percent(0.25)
    '25 %'
    """
    return f"{100 * share:.0f} %"
