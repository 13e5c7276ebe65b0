"""``treedet match``: crowns that know their trees, the fate of every stem, the shifts of plots, and a picture."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from treedet.commands.paths import beside, quoted
from treedet.datasets.field_trees import FieldMatch, match_field
from treedet.display.field_match import draw_match
from treedet.errors import OutputError
from treedet.vectors.crowns_writer import refuse_existing
from treedet.vectors.field_options import FieldOptions
from treedet.vectors.writers import check_target, write_crowns


def run(crowns: str, field: str, output: str, options: FieldOptions, *, overwrite: bool) -> FieldMatch:
    """Match a field table to crowns, write what came of it and print it in a few lines.

    Raises:
        TreedetError: Something the user can mend.
    """
    target = Path(output)
    records, plots, picture = (beside(target, name) for name in ("records.csv", "plots.csv", "match.png"))
    check_target(target, overwrite=overwrite)
    for path in (records, plots, picture):
        if not overwrite:
            refuse_existing(path)
    if same := {path.resolve() for path in (target, records, plots)} & _inputs(crowns, field, options):
        raise OutputError(f"{same.pop()} is read and would be replaced; give another OUTPUT")
    found = match_field(crowns, field, options)
    draw_match(picture, found, title=f"{Path(field).name} on {Path(crowns).name}")
    _write_table(found.records, records)
    _write_table(found.plots, plots)
    write_crowns(found.crowns, target, overwrite=overwrite, metadata={"field": Path(field).name})
    lines = [
        *found.lines(),
        f"crowns      {quoted(output)}",
        f"records     {quoted(str(records))}",
        f"plots       {quoted(str(plots))}",
        f"picture     {quoted(str(picture))}",
    ]
    if found.attributes:
        lines.append(f"next        treedet train ORTHO.tif {quoted(output)} model.safetensors --freeze trunk")
    for line in lines:
        sys.stdout.write(line + "\n")
    return found


def _inputs(crowns: str, field: str, options: FieldOptions) -> set[Path]:
    return {Path(path).resolve() for path in (crowns, field, options.plots) if path is not None}


def _write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV under a temporary name, then rename it."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        table.to_csv(temporary, index=False)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"can not write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
