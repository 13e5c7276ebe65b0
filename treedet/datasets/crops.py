"""Folders of crown pictures (``class/crop.jpg``) whose class is known: training data for attribute heads."""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from treedet.core.labels import LabelSchema
from treedet.datasets.attributes import Renaming, Schema, codes_of
from treedet.datasets.sources import place_of
from treedet.errors import ConfigError, CrownsError, RasterError, UnreadableRasterError
from treedet.rasters.listing import SUFFIXES
from treedet.rasters.raster import Raster
from treedet.vectors.truth_values import UNKNOWN, ValueMap, accepted, hint, mapped, shown, value_maps

log = logging.getLogger("treedet")

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures by number: in memory as far as that was allowed, else read anew from their files.

    Attributes:
        files: Path of each; empty text where it was never in a file.
        sizes: Int64 ``[N, 2]``, height and width of each in pixels.
        held: Uint8 ``[H, W, 3]`` of each, or None for one that is read from its file.
    """

    files: tuple[str, ...]
    sizes: npt.NDArray[np.int64]
    held: tuple[Pixels | None, ...]

    @classmethod
    def of(cls, pictures: Sequence[Pixels]) -> Pictures:
        """Wrap pictures ``[H, W, 3]`` that are in memory already."""
        sizes = np.array([picture.shape[:2] for picture in pictures], np.int64).reshape(-1, 2)
        return cls(("",) * len(pictures), sizes, tuple(pictures))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> Pixels:
        held = self.held[number]
        return read_picture(self.files[number]) if held is None else held

    def __iter__(self) -> Iterator[Pixels]:
        return (self[number] for number in range(len(self)))

    def take(self, index: npt.NDArray[np.int64]) -> Pictures:
        """Return some of the pictures, those in memory shared."""
        rows = [int(row) for row in index]
        return Pictures(
            tuple(self.files[row] for row in rows), self.sizes[rows], tuple(self.held[row] for row in rows)
        )


@dataclass(frozen=True, eq=False)
class CropSet:
    """Pictures of one crown each, whose class is known.

    Attributes:
        path: The folder.
        attribute: Attribute that the classes are of.
        gsd: Metres per pixel.
        pixels: The pictures.
        values: Class of each, as its folder is called or mapped.
        places: Key of the place each comes from: crops of one place belong on one side of a split.
        names: File of each, relative to the folder.
        notices: What was passed over; said through the log too.
    """

    path: str
    attribute: str
    gsd: float
    pixels: Pictures
    values: tuple[str, ...]
    places: tuple[str, ...]
    names: tuple[str, ...]
    notices: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def counts(self) -> Counter[str]:
        """Crops of each class."""
        return Counter(self.values)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the alphabet."""
        return tuple(sorted(self.counts))

    def take(self, index: npt.NDArray[np.int64]) -> CropSet:
        """Return some of the crops, by their numbers ``[M]``."""
        return replace(
            self,
            pixels=self.pixels.take(index),
            values=tuple(self.values[row] for row in index),
            places=tuple(self.places[row] for row in index),
            names=tuple(self.names[row] for row in index),
        )

    def codes(self, classes: Schema, renaming: Renaming) -> npt.NDArray[np.int64]:
        """Return the class of each attribute of each crop.

        Args:
            classes: Classes by attribute.
            renaming: What values become, where they are not classes as they are.

        Returns:
            Int64 ``[N, A]``, columns in the order of the schema; -1 where nothing is known.
        """
        codes = np.full((len(self), len(classes)), -1, np.int64)
        if self.attribute in classes:
            values = np.array(self.values, dtype=object)
            column = list(classes).index(self.attribute)
            codes[:, column] = codes_of(values, classes[self.attribute], renaming.get(self.attribute, {}))
        return codes


def read_crops(
    folder: str | os.PathLike[str],
    *,
    attribute: str,
    gsd: float,
    values: ValueMap | None = None,
    drop: bool = False,
    memory_mb: float = 1024.0,
) -> CropSet:
    """Read a folder that holds a folder of pictures for each class; ``class/site/crop.jpg`` is fine too.

    Files that are no pictures are passed over with a notice, and so are classes that stand for a missing label.
    Whether a set may be trained on is not asked here; see :func:`treedet.datasets.sources.refuse_evaluation_only`.

    Args:
        folder: Holds ``CLASS/PICTURE``, the pictures of any format that rasters come in.
        attribute: Attribute that the classes are of.
        gsd: Ground metres per pixel of all pictures.
        values: What folders are called as classes; None leaves a folder out. By default by their names. Compared as
            :func:`treedet.vectors.truth_values.mapped` says.
        drop: Leave out what can not be used instead of raising.
        memory_mb: Memory for decoded pictures in MiB; further ones are read anew whenever they are asked for.

    Raises:
        ConfigError: The GSD is not positive, the name of the attribute is taken, or ``values`` makes no sense.
        CrownsError: There is no such folder, no picture in a folder of a class, a picture without a class, a class
            that ``values`` does not name, or one class only.
        UnreadableRasterError: A picture can not be read.
    """
    root = Path(folder)
    if not (math.isfinite(gsd) and gsd > 0):
        raise ConfigError(f"the gsd of crops must be a positive number of metres, found {gsd}")
    LabelSchema(attributes={attribute: ("a", "b")})  # raises where the name is taken
    if not root.is_dir():
        raise CrownsError(f"{root} is no folder; crops are a folder with a folder of pictures for each class")
    notices: list[str] = []
    files = _pictures_of_classes(root, notices, drop=drop)
    class_of = _classes(root, files, attribute, values, notices, drop=drop)
    kept = [path for path in files if class_of[_parts(path, root)[0]] is not None]
    pictures, read = _read_all(kept, notices, drop=drop, memory_mb=memory_mb)
    found = [path for path, fine in zip(kept, read, strict=True) if fine]
    crops = CropSet(
        path=str(root),
        attribute=attribute,
        gsd=float(gsd),
        pixels=pictures,
        values=tuple(str(class_of[_parts(path, root)[0]]) for path in found),
        places=tuple(_place(_parts(path, root)) for path in found),
        names=tuple(path.relative_to(root).as_posix() for path in found),
        notices=tuple(notices),
    )
    for notice in notices:
        log.info("%s", notice)
    if len(crops.counts) < 2:
        raise CrownsError(_too_few_classes(crops))
    return crops


def _parts(path: Path, root: Path) -> tuple[str, ...]:
    return path.relative_to(root).parts


def _pictures_of_classes(root: Path, notices: list[str], *, drop: bool) -> list[Path]:
    """Return the pictures in folders of classes, in the order of their names."""
    every = sorted(path for path in root.rglob("*") if path.is_file())
    # Files of an operating system may be called like the pictures they belong to: ._1.jpg
    pictures = [
        path
        for path in every
        if path.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in _parts(path, root))
    ]
    if len(pictures) < len(every):
        chosen = set(pictures)
        first = next(path for path in every if path not in chosen)
        notices.append(
            f"{root}: {len(every) - len(pictures)} files are no pictures and were passed over, first {first}"
        )
    inside = [path for path in pictures if len(_parts(path, root)) > 1]
    loose = [path for path in pictures if len(_parts(path, root)) == 1]
    if not inside:
        has = f"{len(loose)} pictures without a folder" if loose else "no picture"
        raise CrownsError(
            f"{root} holds {has}; crops are pictures ({', '.join(SUFFIXES)}) in a folder for each class, such as "
            f"{root.name}/alive/1.jpg"
        )
    if loose and not drop:
        raise CrownsError(
            f"{root}: {len(loose)} pictures are in no folder of a class, first {loose[0].name}; move them into one, "
            "or leave them out with drop=True (--drop)"
        )
    if loose:
        notices.append(f"{root}: {len(loose)} pictures in no folder of a class dropped, first {loose[0].name}")
    return inside


def _classes(
    root: Path,
    files: Sequence[Path],
    attribute: str,
    values: Mapping[str, str | None] | None,
    notices: list[str],
    *,
    drop: bool,
) -> dict[str, str | None]:
    """Return the class of each folder; None where its crops are left out."""
    counts = Counter(_parts(path, root)[0] for path in files)
    if empty := sorted(p.name for p in root.iterdir() if p.is_dir() and p.name not in counts and p.name[0] != "."):
        notices.append(f"{root}: no picture is in {shown(empty)}")
    folders = sorted(counts)
    words = np.array(folders, dtype=object)
    mapping = None if values is None else value_maps({attribute: values})[attribute]
    found = mapped(words, dict(zip(folders, folders, strict=True)) if mapping is None else mapping, missing=UNKNOWN)
    classes: list[str | None] = found.classes.tolist()
    if mapping is None:
        classes = [None if name.casefold() in UNKNOWN else name for name in folders]
    elif found.strange.any():
        strange = [str(name) for name in words[found.strange]]
        what = f"{root}: values does not name the folder {shown(strange)} for {attribute}"
        if not drop:
            raise CrownsError(
                f"{what}; accepted are {accepted(mapping)}: add it ({hint(attribute, strange[0], mapping)}), map it "
                "to null to leave it out, or leave out all such with drop=True (--drop)"
            )
        notices.append(f"{what}, so it is left out")
    if mapping is not None and found.unused:
        notices.append(f"{root} has no folder {shown(found.unused)}, which values names for {attribute}")
    out = [f"{name} {counts[name]}" for name, one in zip(folders, classes, strict=True) if one is None]
    if out:
        notices.append(f"{root}: crops without a class are left out: {', '.join(out[:8])}")
    return dict(zip(folders, classes, strict=True))


def _read_all(
    files: Sequence[Path], notices: list[str], *, drop: bool, memory_mb: float
) -> tuple[Pictures, list[bool]]:
    """Return the pictures that can be read, and which these are."""
    room = memory_mb * 2**20
    held: list[Pixels | None] = []
    sizes: list[tuple[int, int]] = []
    read: list[bool] = []
    failures: list[RasterError] = []
    for path in files:
        try:
            one = read_picture(path)
        except RasterError as error:
            failures.append(error)
            read.append(False)
            continue
        room -= one.nbytes
        held.append(one if room >= 0 else None)
        sizes.append((one.shape[0], one.shape[1]))
        read.append(True)
    if failures and not drop:
        more = f" ({len(failures)} pictures in all)" if len(failures) > 1 else ""
        raise UnreadableRasterError(f"{failures[0]}{more}; or leave such out with drop=True (--drop)")
    if failures:
        notices.append(f"{len(failures)} pictures can not be read and were dropped, first {files[read.index(False)]}")
    names = tuple(str(path) for path, fine in zip(files, read, strict=True) if fine)
    return Pictures(names, np.array(sizes, np.int64).reshape(-1, 2), tuple(held)), read


def read_picture(path: str | os.PathLike[str]) -> Pixels:
    """Return a picture as uint8 ``[H, W, 3]``, black where it has no data.

    Raises:
        RasterError: It can not be read, or has no three colours.
    """
    with Raster.open(path, gsd=1.0) as raster:  # what a pixel measures is known of the set
        tile = raster.read(raster.grid.full_window)
    picture = np.ascontiguousarray(tile.pixels.transpose(1, 2, 0))
    if not tile.valid.all():
        picture[~tile.valid] = 0
    return picture


def _place(parts: tuple[str, ...]) -> str:
    """Return the key of the place a crop comes from: what its name says, else the folder between class and file."""
    place = place_of(parts[-1])
    return "/".join(parts[1:-1]) if place == Path(parts[-1]).stem and len(parts) > 2 else place


def _too_few_classes(crops: CropSet) -> str:
    said = f" ({'; '.join(crops.notices)})" if crops.notices else ""
    only = f"all {len(crops)} crops are {crops.classes[0]!r}" if len(crops) else "no crop has a class"
    return f"{crops.path}: {only}, and a head needs two classes; add a folder of pictures of another{said}"
