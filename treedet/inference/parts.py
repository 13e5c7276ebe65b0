"""The run folder: what a run has finished, so that it can go on after being killed.

``<output>.parts/`` holds ``run.json`` with everything the result depends on, and for each finished row of windows a
seam (the detections still open below it) and a part (the crowns closed by it). A seam is written before its part, and
the part's rename marks the row as done.
"""

from __future__ import annotations

import json
import shutil
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from treedet.core.crown_arrays import CrownArrays
from treedet.errors import OutputError, ResumeMismatchError
from treedet.inference.candidates import Candidates
from treedet.inference.ground import no_ground

ATTRIBUTE = "attribute:"
FACT = "fact:"
GROUND = "ground"


@dataclass(frozen=True)
class RowFacts:
    """What was counted while a row of windows was worked off.

    Attributes:
        windows: Windows looked at.
        skipped: Windows without a valid pixel.
        valid_px: Valid pixels of the model grid inside the AOI, each counted once.
        seconds: Wall-clock seconds.
        network_s: Seconds of them in the detector.
        ground: Int32 ``[M, 4]``: valid ground of the model grid as rectangles, each pixel in one at most; the AOI is
            not regarded. See :func:`treedet.inference.ground.valid_rectangles`.
    """

    windows: int = 0
    skipped: int = 0
    valid_px: float = 0.0
    seconds: float = 0.0
    network_s: float = 0.0
    ground: npt.NDArray[np.int32] = field(default_factory=no_ground, compare=False, repr=False)

    @property
    def figures(self) -> dict[str, float]:
        """Everything but the ground, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != GROUND}

    def __add__(self, other: RowFacts) -> RowFacts:
        sums = {name: value + getattr(other, name) for name, value in self.figures.items()}
        return RowFacts(**sums, ground=np.concatenate([self.ground, other.ground]))


class RunFolder:
    """Parts of one run on disk; a context manager, left by an error it stays only if there is a row to go on from.

    Args:
        output: The file that will be written at the end; the folder lies beside it.
    """

    def __init__(self, output: Path) -> None:
        self.path = output.with_name(output.name + ".parts")
        self._begun = False

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self._begun and not self.done:
            shutil.rmtree(self.path, ignore_errors=True)

    def start(self, fingerprint: Mapping[str, Any], *, resume: bool) -> int:
        """Open the folder and return the first row of windows to do.

        Args:
            fingerprint: Everything the result depends on, JSON-able.
            resume: Take up what is there.

        Raises:
            OutputError: There is a folder and ``resume`` is off, or it can not be written.
            ResumeMismatchError: The folder belongs to a run with other settings.
        """
        if self.path.exists() and not resume:
            raise OutputError(
                f"{self.path} is left from an interrupted run; go on with it by resume=True (--resume), or delete it"
            )
        wanted = json.loads(json.dumps(fingerprint))
        if not (self.path / "run.json").exists() and not self.done:
            # The folder may be there: a kill can fall between it and its run.json.
            self._begun = True
            try:
                self.path.mkdir(exist_ok=True)
                write_bytes(self.path / "run.json", json.dumps(wanted, indent=1).encode())
            except OSError as error:
                raise OutputError(f"{self.path} can not be written: {error.strerror or error}") from error
            return 0
        refuse_other_settings(self.path, wanted)
        self._begun = True
        return self.done

    @property
    def done(self) -> int:
        """Rows of windows that are finished."""
        row = 0
        while self._part(row).exists():
            row += 1
        return row

    def finish_row(self, row: int, closed: CrownArrays, open_: Candidates, facts: RowFacts) -> None:
        """Store what a row gave; after this returns, the row is done.

        Raises:
            OutputError: The disk is full or the folder can not be written.
        """
        try:
            save_arrays(self._seam(row), flat(open_))
            figures = {FACT + name: np.float64(value) for name, value in facts.figures.items()}
            save_arrays(self._part(row), {**flat(closed), **figures, FACT + GROUND: facts.ground})
            if row:
                self._seam(row - 1).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                f"{self._part(row)} can not be written: {error.strerror or error}; free some space, then go on "
                "with resume=True (--resume)"
            ) from error

    def open_detections(self, row: int) -> Candidates:
        """Return the detections that were open below a finished row."""
        values = load_arrays(self._seam(row))
        return Candidates(**arguments_of(Candidates, values))

    def parts(self) -> Iterator[tuple[CrownArrays, RowFacts]]:
        """Yield crowns and figures of the finished rows, in order."""
        for row in range(self.done):
            values = load_arrays(self._part(row))
            figures = {name: values[FACT + name].item() for name in RowFacts().figures}
            facts = RowFacts(**figures, ground=values[FACT + GROUND])
            yield CrownArrays(**arguments_of(CrownArrays, values)), facts

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.path)

    def _part(self, row: int) -> Path:
        return self.path / f"part-{row:06d}.npz"

    def _seam(self, row: int) -> Path:
        return self.path / f"seam-{row:06d}.npz"


def read_settings(folder: Path) -> dict[str, Any]:
    """Return what the run in a folder was started with.

    Raises:
        ResumeMismatchError: The folder does not tell.
    """
    try:
        return dict(json.loads((folder / "run.json").read_text()))
    except (OSError, ValueError) as error:
        raise ResumeMismatchError(f"{folder} has no readable run.json; delete the folder and start anew") from error


def refuse_other_settings(folder: Path, wanted: Mapping[str, Any]) -> None:
    """Raise a ResumeMismatchError that names what differs from the settings of the run in a folder."""
    found = read_settings(folder)
    for key in sorted(set(found) | set(wanted)):
        if found.get(key) != wanted.get(key):
            raise ResumeMismatchError(
                f"can not resume {folder}: {key} was {found.get(key)!r}, is now {wanted.get(key)!r}; "
                "resume with the settings of the interrupted run, or delete the folder to start anew"
            )


def flat(arrays: Candidates | CrownArrays) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays by name, those of attributes with a prefix."""
    plain = {f.name: getattr(arrays, f.name) for f in fields(arrays) if f.name != "attributes"}
    return {**plain, **{ATTRIBUTE + name: values for name, values in arrays.attributes.items()}}


def arguments_of(
    kind: type[Candidates] | type[CrownArrays], values: Mapping[str, npt.NDArray[Any]]
) -> dict[str, Any]:
    """Return what a dataclass is made from, of arrays by name; the reverse of :func:`flat`."""
    plain = {f.name: values[f.name] for f in fields(kind) if f.name != "attributes"}
    return {
        **plain,
        "attributes": {k.removeprefix(ATTRIBUTE): v for k, v in values.items() if k.startswith(ATTRIBUTE)},
    }


def _beside(path: Path) -> Path:
    """Return a temporary name that no other process takes."""
    return path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def save_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays under a temporary name and rename the file."""
    temporary = _beside(path)
    with temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    temporary.replace(path)


def load_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a file by name.

    Raises:
        OutputError: The file is damaged.
    """
    try:
        # Opened here: numpy leaves a file open that it can not make sense of.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise OutputError(f"{path} is damaged ({error}); delete {path.parent} and start anew") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under a temporary name and rename it."""
    temporary = _beside(path)
    temporary.write_bytes(content)
    temporary.replace(path)
