"""``treedet import``: weights of another tool become a model file."""

from __future__ import annotations

import sys
from pathlib import Path

from treedet.commands.paths import model_path, quoted
from treedet.compat.deepforest import Imported, import_deepforest
from treedet.compat.options import ImportOptions
from treedet.vectors.crowns_writer import refuse_existing


def run(path: str, output: str, options: ImportOptions, *, overwrite: bool) -> Imported:
    """Write the model file and say what became of the weights.

    Raises:
        TreedetError: The weights can not be used, or the model file can not be written.
    """
    target = model_path(output)
    if not overwrite:
        refuse_existing(target)
    imported = import_deepforest(path, options)
    imported.save(target, overwrite=overwrite)
    for line in describe(imported, target):
        sys.stdout.write(line + "\n")
    return imported


def describe(imported: Imported, target: Path) -> list[str]:
    """Return what was read, what was assumed, and the next command."""
    spec, original = imported.spec, imported.spec.original
    lines = [*imported.report.lines(), f"classes    {', '.join(spec.labels.classes)}"]
    if original is not None:
        lines.append(
            f"sees       {spec.gsd:g} m per pixel, as {original.tool}'s windows of {original.patch_px} px at "
            f"{spec.gsd * original.enlargement:g} m do once enlarged to {original.short_side_px}"
        )
    lines += [
        f"threshold  score {spec.threshold():g}, one crown above IoU {spec.iou_threshold:g}",
        f"precision  {spec.precision}; --precision bf16 is faster where the processor has it",
        *(f"note       {note}" for note in imported.notes),
        f"written    {target} ({target.stat().st_size / 1e6:.1f} MB)",
        f"next       treedet predict RASTER crowns.gpkg --model {quoted(str(target))}",
    ]
    return lines
