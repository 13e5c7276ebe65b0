"""Finished units of a run over many rasters, on disk, so that any machine can go on with it or gather it.

``<output>.parts/`` holds ``run.json`` with the settings of the run, and a file for each finished unit, named after
all that its result depends on: a raster that changed on disk makes another unit. A unit during which a raster could
not be read has ``.troubled`` in its name; its result counts, and a resumed run does it again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from treedet.core.crown_arrays import CrownArrays
from treedet.errors import OutputError
from treedet.inference.candidates import Candidates
from treedet.inference.parts import (
    GROUND,
    RowFacts,
    arguments_of,
    flat,
    load_arrays,
    read_settings,
    refuse_other_settings,
    save_arrays,
    write_bytes,
)

OPEN = "open:"
FACTS = "facts"
TROUBLES = "troubles"
DONE, TROUBLED = ".npz", ".troubled.npz"


@dataclass(frozen=True)
class UnitResult:
    """What a unit gave.

    Attributes:
        closed: Crowns that no other unit can change, in pixels of the ground's model grid.
        open: Detections that windows above or below may have to do with.
        facts: What was counted.
        troubles: Files that could not be read, with the reason.
    """

    closed: CrownArrays
    open: Candidates
    facts: RowFacts
    troubles: Mapping[str, str]


class CampaignFolder:
    """The folder beside an output.

    Args:
        output: What will be written at the end.
    """

    def __init__(self, output: Path) -> None:
        self.path = output.with_name(output.name + ".parts")

    @classmethod
    def at(cls, path: Path) -> CampaignFolder:
        """Return a folder by its own path."""
        folder = cls(path)
        folder.path = path
        return folder

    @property
    def exists(self) -> bool:
        """Whether there is something to resume."""
        return (self.path / "run.json").exists()

    def stored(self) -> dict[str, Any]:
        """Return the settings of the run that is there; empty where there is none."""
        return read_settings(self.path) if self.exists else {}

    def start(self, settings: Mapping[str, Any], *, join: bool) -> None:
        """Begin a run, or take part in one.

        Args:
            settings: Everything the result depends on besides the files, JSON-able.
            join: Take up a run that is there.

        Raises:
            OutputError: There is a run and ``join`` is off, or the folder can not be written.
            ResumeMismatchError: The run that is there has other settings.
        """
        if self.path.exists() and not join:
            raise OutputError(
                f"{self.path} is left from an interrupted run; go on with it by resume=True (--resume), or delete it"
            )
        wanted = json.loads(json.dumps(settings))
        if self.exists:
            refuse_other_settings(self.path, wanted)
            return
        try:
            self.path.mkdir(exist_ok=True)
            write_bytes(self.path / "run.json", json.dumps(wanted, indent=1).encode())
        except OSError as error:
            raise OutputError(f"{self.path} can not be written: {error.strerror or error}") from error

    def finished(self, *, troubled: bool) -> set[str]:
        """Return the keys of finished units; those during which a file could not be read only if ``troubled``."""
        names = {entry.name for entry in self.path.iterdir()} if self.path.is_dir() else set()
        bad = {name.removesuffix(TROUBLED) for name in names if name.endswith(TROUBLED)}
        good = {name.removesuffix(DONE) for name in names if name.endswith(DONE) and not name.endswith(TROUBLED)}
        return good | bad if troubled else good - bad

    def save(self, key: str, result: UnitResult) -> None:
        """Store what a unit gave; after this returns, the unit is finished.

        Raises:
            OutputError: The disk is full or the folder can not be written.
        """
        figures = np.array(list(result.facts.figures.values()), np.float64)
        arrays = {**flat(result.closed), FACTS: figures, FACTS + GROUND: result.facts.ground}
        if len(result.open):
            arrays |= {OPEN + name: values for name, values in flat(result.open).items()}
        if result.troubles:
            arrays[TROUBLES] = np.frombuffer(json.dumps(dict(result.troubles)).encode(), np.uint8)
        path, other = self.path / (key + DONE), self.path / (key + TROUBLED)
        if result.troubles:
            path, other = other, path
        try:
            save_arrays(path, arrays)
            if other.exists():
                other.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                f"{path} can not be written: {error.strerror or error}; free some space, then go on with resume=True "
                "(--resume)"
            ) from error

    def load(self, key: str) -> UnitResult:
        """Return what a unit gave.

        Raises:
            OutputError: Its file is missing or damaged.
        """
        path = self.path / (key + DONE)
        values = load_arrays(path if path.exists() else self.path / (key + TROUBLED))
        mine = {name.removeprefix(OPEN): v for name, v in values.items() if name.startswith(OPEN)}
        figures = dict(zip(RowFacts().figures, values[FACTS].tolist(), strict=True))
        return UnitResult(
            CrownArrays(**arguments_of(CrownArrays, values)),
            Candidates(**arguments_of(Candidates, mine)) if mine else Candidates.empty(),
            RowFacts(**figures, ground=values[FACTS + GROUND]),
            json.loads(values[TROUBLES].tobytes()) if TROUBLES in values else {},
        )

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.path)
