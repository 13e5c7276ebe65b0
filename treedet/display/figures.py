"""What all pictures share: a figure without a window, panels of ground, a scale bar, and how they are saved.

matplotlib is imported inside functions: a second that only those pay who draw.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from treedet.errors import OutputError

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LineStyle: TypeAlias = Literal["solid", "dashed"]

DPI = 110
LEGEND_INCHES = 1.9
"""Width an entry of a legend may need; a narrow figure has its legend in several rows."""
LONGEST_BAR = 0.3
"""Share of a panel's width that its scale bar may take."""


def new_figure(width: float, height: float, *, title: str) -> Figure:
    """Return a figure that needs no display.

    Args:
        width: Inches.
        height: Inches.
        title: Line above everything; drawn as it is, also where it holds a ``$``.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11, parse_math=False)
    return figure


def panels(count: int, *, title: str, inches: float = 4.0) -> tuple[Figure, list[Axes]]:
    """Return a figure with ``count`` square panels in a grid as near to a square as can be, row by row."""
    columns = max(1, math.ceil(math.sqrt(count)))
    rows = max(1, math.ceil(count / columns))
    figure = new_figure(inches * columns, inches * rows + 0.7, title=title)
    return figure, [figure.add_subplot(rows, columns, position + 1) for position in range(count)]


def show_ground(axes: Axes, pixels: npt.NDArray[np.uint8], *, title: str) -> None:
    """Fill a panel with pixels, uint8 ``[C, H, W]``: the first three bands, or the first as grey."""
    bands = pixels[:3] if len(pixels) >= 3 else np.repeat(pixels[:1], 3, axis=0)
    height, width = pixels.shape[1:]
    axes.imshow(bands.transpose(1, 2, 0), interpolation="nearest", extent=(0, width, height, 0))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_title(title, fontsize=9, parse_math=False)
    axes.set_axis_off()


def draw_boxes(
    axes: Axes,
    boxes: npt.NDArray[np.floating[Any]],
    colours: str | Sequence[str],
    *,
    width: float = 1.3,
    style: LineStyle = "solid",
) -> None:
    """Outline boxes on a panel.

    Args:
        axes: The panel.
        boxes: Float ``[N, 4]``, pixels of the panel.
        colours: One for all, or one for each.
        width: Of the line, in points.
        style: Of the line.
    """
    from matplotlib.collections import PatchCollection  # noqa: PLC0415
    from matplotlib.patches import Rectangle  # noqa: PLC0415

    if len(boxes) == 0:
        return
    outlines = [Rectangle((b[0], b[1]), b[2] - b[0], b[3] - b[1]) for b in np.asarray(boxes, dtype=float)]
    axes.add_collection(
        PatchCollection(outlines, facecolor="none", edgecolor=colours, linewidth=width, linestyle=style)
    )


def bar_length_m(side_m: float) -> float:
    """Return the longest of 1, 2, 5, 10, 20, 50, ... metres that is at most 30 % of a side.

    >>> bar_length_m(40.0), bar_length_m(96.0), bar_length_m(2.0)
    (10.0, 20.0, 0.5)
    """
    most = LONGEST_BAR * side_m * (1 + 1e-9)
    power = 10.0 ** math.floor(math.log10(most))
    return max(step * power for step in (1.0, 2.0, 5.0) if step * power <= most)


def scale_bar(axes: Axes, *, width: int, height: int, gsd: float) -> None:
    """Draw a bar of a round number of metres in the lower left corner.

    Args:
        axes: The panel.
        width: Of the panel, in pixels.
        height: Of the panel, in pixels.
        gsd: Metres per pixel along a row.
    """
    metres = bar_length_m(width * gsd)
    x, y = width * 0.04, height * 0.96
    ends = [x, x + metres / gsd]
    axes.plot(ends, [y, y], color="black", linewidth=5, solid_capstyle="butt")
    axes.plot(ends, [y, y], color="white", linewidth=3, solid_capstyle="butt")
    axes.text(x, y - height * 0.02, f"{metres:g} m", color="white", fontsize=8, va="bottom")


def legend_below(figure: Figure, handles: Iterable[Artist]) -> None:
    """Put a legend under all panels, as wide as it may be."""
    kept = list(handles)
    if not kept:
        return
    for handle in kept:
        # matplotlib passes over labels that start with an underscore; a class may.
        if str(handle.get_label()).startswith("_"):
            handle.set_label(f" {handle.get_label()}")
    columns = min(len(kept), 6, max(1, int(figure.get_figwidth() / LEGEND_INCHES)))
    legend = figure.legend(handles=kept, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    for text in legend.get_texts():
        text.set_parse_math(False)


def outline_keys(colours: Mapping[str, str], *, style: LineStyle = "solid", width: float = 1.3) -> list[Artist]:
    """Return legend entries for outlines, from name to colour."""
    from matplotlib.patches import Patch  # noqa: PLC0415

    return [
        Patch(edgecolor=colour, facecolor="none", label=name, linestyle=style, linewidth=width)
        for name, colour in colours.items()
    ]


def say_empty(figure: Figure, what: str) -> None:
    """Write in the middle of a figure without panels why there are none."""
    figure.text(0.5, 0.5, what, ha="center", va="center", fontsize=12, parse_math=False)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG under a temporary name beside ``path``, then rename it.

    Raises:
        OutputError: The file can not be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with warnings.catch_warnings():
            # A name in a script the font lacks is drawn as boxes; that spoils a label, not the run.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            figure.savefig(temporary, format="png")
        _fewer_colours(temporary)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"can not write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _fewer_colours(path: Path) -> None:
    """Bring a PNG to 256 colours: a third of the size, and on photographs no eye sees it."""
    from PIL import Image  # noqa: PLC0415

    with Image.open(path) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, format="png", optimize=True)
