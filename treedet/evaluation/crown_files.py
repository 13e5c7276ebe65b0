"""Crowns in files against truth in files: no model needed, and rasters only where they tell what the files do not."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyproj
from affine import Affine

from treedet.core import crowns as crowns_table
from treedet.core.grid import Grid
from treedet.datasets.annotated import AnnotatedRaster, pair
from treedet.datasets.notices import each_once
from treedet.datasets.outside import say_outside
from treedet.datasets.pairing import annotation_folder, files_by_stem, match_images, some
from treedet.errors import ConfigError, CrownsError, CrsMismatchError, UnknownGsdError
from treedet.evaluation.attributes import Attributes, common_attributes, said_classes
from treedet.evaluation.classes import Classes, common
from treedet.evaluation.ground import EvaluatedGround, Place, Side, check_truth, in_metres, place_of
from treedet.evaluation.map_ground import on_map
from treedet.vectors.predictions import read_predictions
from treedet.vectors.truth import Annotations, TruthOptions, on_raster, read_annotations

log = logging.getLogger("treedet")

PathLike = str | os.PathLike[str]
Sides = tuple[Place, Side, Side]
"""Ground, its truth and its prediction."""


@dataclass(frozen=True, eq=False)
class PairedFiles:
    """Truth and prediction of files, side by side.

    Attributes:
        grounds: One per raster, per image, or one for all of a map.
        classes: What the crowns are compared by.
        attributes: What is said about crowns that is compared too.
        has_scores: The predictions say how sure they are; without it every score is 1.
    """

    grounds: list[EvaluatedGround]
    classes: Classes
    attributes: Attributes
    has_scores: bool


def paired_files(
    predictions: PathLike,
    truth: PathLike,
    *,
    aoi: PathLike | None = None,
    rasters: PathLike | Sequence[PathLike] | None = None,
    gsd: float | None = None,
    bands: Sequence[int] | None = None,
    truth_options: TruthOptions | None = None,
    prediction_options: TruthOptions | None = None,
) -> PairedFiles:
    """Bring crowns that any tool found together with annotated ones.

    - *With rasters*, truth and predictions are brought to each raster, as :func:`treedet.datasets.annotated.pair`
      does. A raster that the predictions do not name shows none.
    - *Map formats without rasters* are one ground. Predictions are brought to the CRS of the truth, and matched in
      metres: by the scale of its projection at the centre, or on a local transverse Mercator grid where the CRS is
      geographic or its scale varies by more than 2 %.
    - *Pixel formats without rasters* are one ground per image that the truth names. Images of both files are the same
      where their names are, else by full path, else by a basename that is unique.

    Args:
        predictions: File or folder of crowns; see :func:`treedet.vectors.predictions.read_predictions`.
        truth: File or folder of annotations.
        aoi: Vector file with the polygons inside which every crown is annotated; needs rasters or a map.
        rasters: See :func:`treedet.rasters.listing.list_rasters`.
        gsd: Ground metres per pixel (per map unit for a map without CRS), overriding what rasters say.
        bands: Bands of the rasters to draw, counted from 1; by default red, green and blue.
        truth_options: How the truth is read.
        prediction_options: How the predictions are read; by default with bad rows dropped where those of the truth
            are.

    Raises:
        CrownsError: A file can not be used, or no image of the truth is in the predictions.
        CrsMismatchError: Truth and predictions, or the AOI, do not overlap.
        UnknownGsdError: Nothing tells the length of a pixel or map unit on the ground.
        ConfigError: One file is in pixels and the other on a map, and there are no rasters.
        RasterError: A raster can not be used.

    Warns:
        SparseTruthWarning: The truth looks incomplete.
        TreedetWarning: Classes are on one side only.
    """
    truth_options = truth_options or TruthOptions()
    prediction_options = prediction_options or TruthOptions(drop=truth_options.drop)
    if rasters is not None:
        plots = pair(rasters, truth, aoi=aoi, gsd=gsd, bands=bands, truth=truth_options)
        sides, has_scores = _on_rasters(plots, predictions, prediction_options, gsd=gsd, bands=bands)
    else:
        annotated = read_annotations(os.fspath(truth), truth_options)
        found = read_predictions(os.fspath(predictions), prediction_options)
        has_scores = found.has_scores
        if annotated.in_pixels != found.in_pixels:
            one, other = (annotated, found) if annotated.in_pixels else (found, annotated)
            raise ConfigError(
                f"{one.path} is in pixels of images and {other.path} on a map; give the rasters too, which tell "
                "where the pixels are"
            )
        sides = (
            _by_image(annotated, found, gsd, aoi)
            if annotated.in_pixels
            else [on_map(annotated, found, gsd=gsd, aoi=aoi)]
        )
    classes = common(_labels(side for _, side, _ in sides), _labels(side for _, _, side in sides))
    attributes = common_attributes(
        [side.table for _, side, _ in sides],
        said_classes(side.table for _, _, side in sides),
        points=any(place.points for place, _, _ in sides),
    )
    grounds = [EvaluatedGround.of(*three, classes=classes, attributes=attributes) for three in sides]
    check_truth(grounds)
    return PairedFiles(grounds, classes, attributes, has_scores)


def _labels(sides: Iterable[Side]) -> list[str]:
    return sorted({str(name) for side in sides for name in side.table["label"].unique()})


def _nothing(crs: pyproj.CRS | None) -> Side:
    return Side(crowns_table.empty(crs=crs), np.zeros((0, 4)))


@dataclass(frozen=True, eq=False)
class _Found:
    """Predictions that may be of a raster, and its name in them if they are in pixels."""

    annotations: Annotations
    image: str | None = None


def _on_rasters(
    plots: Sequence[AnnotatedRaster],
    predictions: PathLike,
    options: TruthOptions,
    *,
    gsd: float | None,
    bands: Sequence[int] | None,
) -> tuple[list[Sides], bool]:
    found = _predictions_by_raster([plot.path for plot in plots], predictions, options)
    placed: dict[str, AnnotatedRaster] = {}
    failures: list[CrsMismatchError] = []
    with each_once():  # what holds for the file is not said again for each raster
        for path, of_path in found.items():
            if not len(of_path.annotations.table):
                continue
            try:
                placed[path] = AnnotatedRaster(path, of_path.annotations, gsd=gsd, bands=bands, image=of_path.image)
            except CrsMismatchError as error:
                failures.append(error)
    if failures and not placed:
        raise failures[0]
    for file in {id(of_path.annotations): of_path.annotations for of_path in found.values()}.values():
        shown = [placed[path] for path in placed if found[path].annotations is file]
        if shown:
            say_outside(file, shown, drop=options.drop)
    if bare := [plot.path for plot in plots if plot.path not in placed]:
        log.info("%d rasters are without predictions, as if nothing was found there: %s", len(bare), some(bare))
    sides = []
    for plot in plots:
        theirs = _nothing(plot.crs)
        if (other := placed.get(plot.path)) is not None:
            theirs = Side(other.crowns, in_metres(other.boxes, other.grid))
        sides.append((place_of(plot), Side(plot.crowns, in_metres(plot.boxes, plot.grid)), theirs))
    files = [of_path.annotations for of_path in found.values() if len(of_path.annotations.table)]
    return sides, all(file.has_scores for file in files)


def _predictions_by_raster(
    paths: Sequence[str], predictions: PathLike, options: TruthOptions
) -> Mapping[str, _Found]:
    """Return the predictions of each raster; those that none names are left out."""
    place = Path(predictions)
    if place.is_dir() and (files := files_by_stem(place, paths)):
        return {path: _Found(read_predictions(file, options)) for path, file in files.items()}
    found = read_predictions(place, options)
    if not found.in_pixels:
        return {path: _Found(found) for path in paths}
    images = match_images(found.images, found.path, paths)
    _say_other_images(found, set(images.values()), f"the {len(paths)} rasters with truth")
    return {path: _Found(found, image) for path, image in images.items()}


def _say_other_images(found: Annotations, used: set[str], what: str) -> None:
    """Say which images of the predictions are not evaluated.

    Raises:
        CrownsError: None is.
    """
    others = [image for image in found.images if image not in used]
    if found.images and not used:
        raise CrownsError(
            f"{found.path} names {some(found.images, most=3)}, none of which is among {what}; correct the names in "
            "it: they are paths relative to the file, or basenames"
        )
    if others:
        rows = int((~found.table["source"].isin(list(used))).sum())
        log.info(
            "%s: %d images that are not among %s are left out, with their %d crowns: %s",
            found.path,
            len(others),
            what,
            rows,
            some(others),
        )


def _by_image(annotated: Annotations, found: Annotations, gsd: float | None, aoi: PathLike | None) -> list[Sides]:
    if gsd is None:
        raise UnknownGsdError(
            f"{annotated.path} and {found.path} are in pixels, whose size on the ground is unknown; give it in "
            "metres per pixel with gsd= (--gsd 0.1), or give the rasters"
        )
    if aoi is not None:
        raise ConfigError(f"the AOI {aoi} is on a map and {annotated.path} in pixels; give the rasters too")
    partner = _same_images(annotated, found)
    _say_other_images(found, set(partner.values()), f"the {len(annotated.images)} images of {annotated.path}")
    if missed := [image for image in annotated.images if image not in partner]:
        log.info(
            "%s: %d images of the truth are not in it, as if nothing was found there: %s",
            found.path,
            len(missed),
            some(missed),
        )
    return [_image(annotated, found, image, partner.get(image), gsd) for image in annotated.images]


def _same_images(annotated: Annotations, found: Annotations) -> dict[str, str]:
    """Return the image of the predictions for each of the truth's that has one."""
    same = {image: image for image in annotated.images if image in set(found.images)}
    folder = annotation_folder(annotated.path)
    by_path = {str(folder / image): image for image in annotated.images if image not in same}
    left = [image for image in found.images if image not in same]
    return same | {by_path[path]: image for path, image in match_images(left, found.path, list(by_path)).items()}


def _image(annotated: Annotations, found: Annotations, image: str, other: str | None, gsd: float) -> Sides:
    size = annotated.sizes.get(image) or (found.sizes.get(other) if other is not None else None)
    if size is None and (annotated.normalised or found.normalised):
        raise ConfigError(
            f"{image} has coordinates in fractions of its sides, and nothing tells how long these are; give the "
            "rasters"
        )
    # Without a size any will do that tells nothing: pixels of an image are its map.
    grid = Grid.build(None, Affine.identity(), width=(size or (1, 1))[0], height=(size or (1, 1))[1], gsd=gsd)
    place = Place(image, None, grid.hectares if size else math.nan, points=annotated.points)
    ours = on_raster(annotated, grid, image=image)
    sides = place, Side(ours, in_metres(grid.to_pixels(ours.geometry.to_numpy()), grid))
    if other is None:
        return *sides, _nothing(None)
    theirs = on_raster(found, grid, image=other)
    return *sides, Side(theirs, in_metres(grid.to_pixels(theirs.geometry.to_numpy()), grid))
