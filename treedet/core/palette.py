"""Colours of classes, the same in map styles, overlays and plots."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable

from treedet.errors import ConfigError

COLOUR_BLIND_SAFE = ("#f0e442", "#56b4e9", "#d55e00", "#cc79a7", "#e69f00", "#009e73", "#0072b2")
"""Okabe and Ito (2008), *Color Universal Design*, brightest against forest first; without its black and its grey."""

KNOWN = {"alive": "#56b4e9", "dead": "#d55e00"}
"""Classes that look alike in every picture: blue and vermilion stay apart for every common colour deficiency."""


COLOURED_BY = ("status", "species")
"""Attributes that colour crowns before any other."""

NO_VALUE = "#bbbbbb"
"""Crowns that have no value."""
OTHER = "#777777"
"""Classes too rare for a colour of their own."""


def coloured_by(attributes: Iterable[str], wanted: str | None = None) -> str:
    """Return the column that crowns are coloured by: what is wanted, else status, species, any attribute, label.

    Args:
        attributes: Names of the attributes there are.
        wanted: One of them, or ``label``.

    Raises:
        ConfigError: What is wanted is not there.

    >>> coloured_by(["species", "status"]), coloured_by(["species", "status"], "species"), coloured_by([])
    ('status', 'species', 'label')
    """
    names = list(attributes)
    if wanted is None:
        return next((name for name in (*COLOURED_BY, *names) if name in names), "label")
    if wanted not in (*names, "label"):
        raise ConfigError(
            f"crowns can not be coloured by {wanted!r}; accepted are {', '.join([*names, 'label'])} (--colour_by)"
        )
    return wanted


def class_colours(names: Iterable[str]) -> dict[str, str]:
    """Return a colour for each name, as ``#rrggbb``, all different and the same for the same names in the same order.

    The first seven are safe for colour-blind readers; with more classes no set of hues is, and the further ones
    step around the colour circle by the golden angle at three brightnesses.

    >>> class_colours(["alive", "dead", "unsure"])
    {'alive': '#56b4e9', 'dead': '#d55e00', 'unsure': '#f0e442'}
    """
    wanted = list(dict.fromkeys(names))
    colours = {name: KNOWN[name] for name in wanted if name in KNOWN}
    used = set(colours.values())
    free = [colour for colour in COLOUR_BLIND_SAFE if colour not in used]
    step = 0
    for name in wanted:
        if name in colours:
            continue
        colour = free.pop(0) if free else None
        while colour is None or colour in used:
            colour = _stepped(step)
            step += 1
        colours[name] = colour
        used.add(colour)
    return {name: colours[name] for name in wanted}


def _stepped(step: int) -> str:
    """Return the ``step``-th colour around the circle."""
    hue = (0.12 + step * 0.6180339887) % 1.0
    rgb = colorsys.hls_to_rgb(hue, (0.6, 0.75, 0.45)[step % 3], 0.8)
    return "#" + "".join(f"{round(channel * 255):02x}" for channel in rgb)
