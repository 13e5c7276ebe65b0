"""What ``treedet train`` learns from: a raster and its crowns, several sets, or crops."""

from __future__ import annotations

from treedet.datasets.annotated import AnnotatedRaster, pair
from treedet.datasets.crops import read_crops
from treedet.datasets.sets import pair_sets
from treedet.errors import ConfigError
from treedet.rasters.listing import list_rasters
from treedet.training.head_plan import HeadRecipe
from treedet.training.options import TrainOptions
from treedet.training.recipe import Recipe
from treedet.vectors.truth import TruthOptions

NONE = "-"
"""Stands for a raster or a file of crowns where there is none."""


def annotated(
    raster: str, crowns: str, options: TrainOptions
) -> tuple[list[AnnotatedRaster], list[AnnotatedRaster] | None]:
    """Return the annotated rasters to train on, and those to validate on; None where some are to be held out.

    Raises:
        ConfigError: What is asked for does not go together.
        TreedetError: Rasters or annotation can not be used.
    """
    if (raster == NONE) != (crowns == NONE):
        raise ConfigError(f"{NONE} must stand for both RASTER and CROWNS, where others are learned from")
    truth = TruthOptions(
        columns=options.columns,
        crs=options.crs,
        diameter=options.diameter,
        drop=options.drop,
        values=options.values,
    )
    if options.sets and raster != NONE:
        raise ConfigError(f"RASTER and CROWNS must be {NONE} where sets are given; make {raster} one of the sets")
    if options.sets and (told := [n for n in ("validation", "aoi", "gsd") if getattr(options, n) is not None]):
        raise ConfigError(f"{told[0]} is for RASTER and CROWNS; sets hold out places of theirs, and have a gsd each")
    if options.sets:
        return pair_sets(options.sets, options.sets_folder, bands=options.bands, truth=truth), None
    if raster == NONE:
        if options.crops is None:
            raise ConfigError(f"{NONE} for RASTER and CROWNS needs sets, or --crops, a folder of crown pictures")
        return [], None

    def paired(rasters: str | list[str], annotation: str) -> list[AnnotatedRaster]:
        return pair(rasters, annotation, aoi=options.aoi, gsd=options.gsd, bands=options.bands, truth=truth)

    if options.validation is None:
        return paired(raster, crowns), None
    if options.validation_crowns is not None:
        return paired(raster, crowns), paired(options.validation, options.validation_crowns)
    # Together, so that the annotation is read once and a crown of either side is not said to lie outside.
    to_train, to_validate = list_rasters(raster), list_rasters(options.validation)
    if both := sorted(set(to_train) & set(to_validate)):
        raise ConfigError(f"{both[0]} is to be trained and validated on; give other rasters with --validation")
    plots = {plot.path: plot for plot in paired([*to_train, *to_validate], crowns)}
    train, held = ([plots[path] for path in paths if path in plots] for paths in (to_train, to_validate))
    if not held:
        raise ConfigError(f"no raster of --validation {options.validation} is annotated in {crowns}")
    return train, held


def recipe_of(options: TrainOptions) -> Recipe:
    """Return what is made of the annotation and of the starting model."""
    crops = None
    if options.crops is not None:
        crops = read_crops(
            options.crops,
            attribute=options.crops_attribute,
            gsd=options.crops_gsd,
            values=options.values.get(options.crops_attribute),
            drop=options.drop,
        )
    return Recipe(
        annotation="partial" if options.partial else "complete" if options.complete else "check",
        classes=options.classes,
        comes_from=options.comes_from,
        from_scratch=options.from_scratch,
        model_gsd=options.model_gsd,
        max_crown=options.max_crown,
        validation_share=options.validation_share,
        memory_mb=options.memory_mb,
        heads=HeadRecipe(options.attributes, options.min_crowns, options.rare),
        crops=crops,
        scenes=options.scenes,
        scenes_weight=options.scenes_weight,
    )
