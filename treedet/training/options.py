"""What a user may ask of a training, besides how long and how fast."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from treedet.datasets.annotation_set import AnnotationSet
from treedet.errors import ConfigError


@dataclass(frozen=True)
class TrainOptions:
    """What to learn from which annotation.

    Attributes:
        aoi: Vector file with the polygons inside which every crown is annotated.
        partial: The annotation is not complete: what the starting model confidently finds besides is left out.
        complete: The annotation is complete: ground without a crown is background, whatever the starting model says.
        columns: Columns of the annotation by our names, such as label: SP_CODE.
        values: Classes of the values in these columns, such as status: {Live: alive, Downed: null}; null is a
            missing label, and of label leaves the row out. By default values are classes as they are.
        crs: CRS of the annotation, overriding what its file says.
        diameter: Crown diameter in metres for annotation in points.
        drop: Leave out rows of the annotation that can not be used, instead of stopping.
        classes: Classes to detect; by default those of the annotation. A single one stands for all crowns.
        attributes: Attributes to learn, each with its classes in their order, such as status: [alive, dead]; an empty
            list takes those found. By default all attributes of CROWNS.
        min_crowns: Crowns of an attribute's class below which it is rare.
        rare: What becomes of rare classes: one class other together, or out, as crowns without a label.
        crops: Folder with a folder of crown pictures for each class (class/crop.jpg) that heads learn from besides;
            with - for RASTER and CROWNS, from nothing else.
        crops_attribute: Attribute that these classes are of.
        crops_gsd: Ground metres per pixel of the crops.
        sets: Sets of annotated rasters by name, each with its rasters, crowns, weight and treatment; with - for
            RASTER and CROWNS. Whole places are held out for validation.
        sets_folder: Folder that the paths of sets are relative to.
        scenes: Rendered scenes to train on besides.
        scenes_weight: Share of training windows drawn from them, relative to a set of weight 1.
        comes_from: Class of the starting model that a new class starts as a copy of, such as spruce: tree.
        from_scratch: Start from random weights.
        validation: Rasters to validate on: a file, folder, glob or list; by default blocks are held out of RASTER.
        validation_crowns: Annotation of the validation rasters; by default CROWNS.
        validation_share: Share of crowns held out where no validation rasters are given; 0 for none.
        gsd: Ground metres per pixel of the rasters, overriding what the files say; needed where they have no CRS.
        bands: Bands for red, green and blue, counted from 1; by default chosen by colour interpretation.
        model_gsd: Metres per pixel the model shall see; by default set from the crowns.
        max_crown: Widest crown expected in metres; by default set from the crowns.
        memory_mb: Memory for decoded pixels in MiB; rasters that do not fit are read window by window.
    """

    aoi: str | None = None
    partial: bool = False
    complete: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    crs: str | None = None
    diameter: float | None = None
    drop: bool = False
    classes: tuple[str, ...] | None = None
    attributes: Mapping[str, tuple[str, ...]] | None = None
    min_crowns: int = 1
    rare: Literal["other", "out"] = "out"
    crops: str | None = None
    crops_attribute: str = "status"
    crops_gsd: float = 0.1
    sets: Mapping[str, AnnotationSet] = field(default_factory=dict)
    sets_folder: str = "."
    scenes: int = 0
    scenes_weight: float = 1.0
    comes_from: Mapping[str, str] = field(default_factory=dict)
    from_scratch: bool = False
    validation: str | None = None
    validation_crowns: str | None = None
    validation_share: float = 0.2
    gsd: float | None = None
    bands: tuple[int, ...] | None = None
    model_gsd: float | None = None
    max_crown: float | None = None
    memory_mb: float = 2048.0

    def __post_init__(self) -> None:
        if self.partial and self.complete:
            raise ConfigError("annotation can not be both partial and complete; give one of --partial, --complete")
        if self.validation is None and self.validation_crowns is not None:
            raise ConfigError("--validation_crowns needs --validation, the rasters they were drawn on")
        for name in ("crops_gsd", "gsd", "diameter", "model_gsd", "max_crown", "memory_mb"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} must be a positive number, found {value}")
