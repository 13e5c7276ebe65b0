"""``treedet summarise``: crowns of a file counted by zones."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from treedet.commands.paths import quoted
from treedet.errors import OutputError
from treedet.inference.summarise import Summarised, summarise
from treedet.inference.zone_options import ZoneOptions
from treedet.vectors.zone_table import check_zones_target, write_zones


def run(
    crowns: str,
    output: str,
    zoning: ZoneOptions,
    *,
    raster: str | None,
    exclude: str | None,
    gsd: float | None,
    overwrite: bool,
) -> Summarised:
    """Count crowns by zones, write the table and print what came of it in a line.

    Raises:
        TreedetError: Something the user can mend.
    """
    check_zones_target(output, overwrite=overwrite)
    read = {Path(path).resolve() for path in (crowns, zoning.zones, exclude, raster) if path is not None}
    if Path(output).resolve() in read:
        raise OutputError(f"{output} is read and would be replaced; give another OUTPUT")
    found = summarise(crowns, zoning, raster=raster, exclude=exclude, gsd=gsd)
    write_zones(found.table, output, overwrite=overwrite)
    sys.stdout.write(replace(found.facts, table=quoted(output)).line + "\n")
    return found
