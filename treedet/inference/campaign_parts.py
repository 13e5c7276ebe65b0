"""A run over many rasters shared out among machines that see the same disk: parts, and the merge of what they did."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from treedet.core.detections import Detections
from treedet.core.spec import ModelSpec
from treedet.core.suppression import MergeConfig
from treedet.errors import ConfigError, OutputError, ResumeMismatchError
from treedet.inference.campaign_folder import CampaignFolder
from treedet.inference.campaign_run import Run
from treedet.inference.campaign_summary import SHOWN, CampaignSummary
from treedet.inference.campaign_writing import Writing, check_output, excluded
from treedet.inference.folder import Rasters, look, work
from treedet.inference.options import PredictOptions
from treedet.inference.parts import write_bytes
from treedet.inference.run_options import Part, RunOptions
from treedet.inference.watching import Watch
from treedet.inference.zone_grounds import zones_on_grounds
from treedet.inference.zone_options import ZoneOptions
from treedet.rasters.listing import list_files

ABOUT = "campaign.json"


@dataclass(frozen=True)
class PartSummary:
    """What one part of a run did.

    Attributes:
        part: Which part.
        folder: The run folder, where its results are.
        output: What the parts will be merged to.
        units: Units of work in the part.
        total: Units of all parts.
        failures: Why a file could not be read, or not all of it, by path.
    """

    part: Part
    folder: str
    output: str
    units: int
    total: int
    failures: Mapping[str, str]

    def lines(self) -> list[str]:
        """Return the facts as lines for a person."""
        some = list(self.failures.items())[:SHOWN]
        return [
            f"part {self.part}: {self.units:,} of {self.total:,} units of work are done",
            *(f"  {reason if path in reason else f'{path}: {reason}'}" for path, reason in some),
            f"once all parts are done: treedet merge {self.folder} {self.output}",
        ]


@dataclass(frozen=True)
class Described:
    """A model that says what it is and finds nothing: enough to merge what it found elsewhere.

    Attributes:
        spec: What the model is.
        identity: Digest of the model, device and precision.
    """

    spec: ModelSpec
    identity: Mapping[str, str]

    def detect(self, pixels: Any, *, sides: Any, threshold: float, merge: MergeConfig) -> list[Detections]:  # noqa: ANN401 -- never called
        """Refuse to look at windows."""
        del pixels, sides, threshold, merge
        raise ConfigError("this model is only described, it can not predict; load it from its file")


def predict_part(run: Run, rasters: Rasters, part: Part, *, watch: Watch | None = None) -> PartSummary:
    """Work off one part of a run; nothing is written but its results, in the run folder beside the output.

    Args:
        run: What is looked for, and how; the same for all parts.
        rasters: The same for all parts.
        part: Which part.
        watch: Called after each batch of windows.

    Raises:
        TreedetError: An input or option can not be used, or the folder can not be written.
    """
    folder = CampaignFolder(run.output)
    check_output(run, replacing=run.how.overwrite or folder.exists)
    paths = list_files(rasters)
    campaign = look(run, paths, folder=folder if folder.exists else None)
    # Raise what the merge would, before the work.
    zones_on_grounds(run.zoning, campaign)
    excluded(run, campaign)
    folder.start(campaign.settings, join=True)
    _describe(run, paths, folder)
    mine = campaign.units[part.share(len(campaign.units))]
    work(run, campaign, mine, folder, watch=watch)
    troubles = dict(campaign.failures)
    untroubled = folder.finished(troubled=False)
    for unit in mine:
        if unit.key not in untroubled:
            troubles |= folder.load(unit.key).troubles
    return PartSummary(part, str(folder.path), str(run.output), len(mine), len(campaign.units), troubles)


def merge_parts(run_folder: str | Path, output: str | Path, *, overwrite: bool = False) -> CampaignSummary:
    """Gather what the parts of a run did into its output.

    Args:
        run_folder: The run folder, ``<output>.parts``.
        output: File to write; with ``per_raster`` a folder.
        overwrite: Replace an existing output.

    Raises:
        ConfigError: There is no such run.
        OutputError: A part is not done, or the output can not be written.
    """
    folder = CampaignFolder.at(Path(run_folder))
    run, paths = _described(folder, Path(output), overwrite=overwrite)
    filters = check_output(run, replacing=overwrite)
    campaign = look(run, paths, folder=folder)
    folder.start(campaign.settings, join=True)
    finished = folder.finished(troubled=True)
    missing = [number for number, unit in enumerate(campaign.units, start=1) if unit.key not in finished]
    if missing:
        raise OutputError(
            f"{len(missing)} of {len(campaign.units)} units of {folder.path} are not done, the first is unit "
            f"{missing[0]}: run the parts that failed again, or the whole with resume=True (--resume)"
        )
    writing = Writing(run, campaign, filters, replacing=overwrite)
    summary = writing.write(folder, None)
    if not summary.failures:
        folder.remove()
    return summary


def _describe(run: Run, paths: list[str], folder: CampaignFolder) -> None:
    """Store what a merge has to know; every part stores the same."""
    about = {
        "rasters": paths,
        "source": run.source,
        "working folder": str(Path.cwd()),
        "per_raster": run.how.per_raster,
        "options": asdict(run.options),
        "zoning": None if run.zoning is None else asdict(run.zoning),
        "model": {"name": run.name, "identity": dict(run.model.identity), "spec": run.model.spec.to_dict()},
    }
    try:
        write_bytes(folder.path / ABOUT, json.dumps(about, indent=1).encode())
    except OSError as error:
        raise OutputError(f"{folder.path / ABOUT} can not be written: {error.strerror or error}") from error


def _described(folder: CampaignFolder, output: Path, *, overwrite: bool) -> tuple[Run, list[str]]:
    path = folder.path / ABOUT
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{folder.path} is no run folder of parts: it has no {ABOUT}; give the folder OUTPUT.parts that "
            "treedet predict --part wrote"
        ) from error
    except (OSError, ValueError) as error:
        raise ResumeMismatchError(f"{path} can not be read ({error}); run a part again, which writes it") from error
    others = [about["options"].get("aoi"), about["options"].get("exclude"), (about.get("zoning") or {}).get("zones")]
    named = [*about["rasters"], *(path for path in others if path is not None)]
    relative = [path for path in named if "://" not in path and not os.path.isabs(path)]  # noqa: PTH117 -- strings
    if relative and about["working folder"] != str(Path.cwd()):
        raise ConfigError(
            f"the parts named their files from {about['working folder']}, such as {relative[0]}; merge from there"
        )
    options = {name: tuple(v) if isinstance(v, list) else v for name, v in about["options"].items()}
    model = about["model"]
    described = Described(ModelSpec.from_dict(model["spec"]), model["identity"])
    run = Run(
        described,
        model["name"],
        about["source"],
        output,
        PredictOptions().but(options),
        RunOptions(per_raster=about["per_raster"], overwrite=overwrite),
        zoning=about["zoning"] and ZoneOptions(**about["zoning"]),
    )
    return run, list(about["rasters"])
