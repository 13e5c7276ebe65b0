"""Warnings at the end of a run."""

from __future__ import annotations

import warnings

from treedet.errors import CutCrownsWarning, DeadShareWarning


def warn_cut(overlap_m: float) -> None:
    """Warn that some crowns are wider than what windows share, in metres."""
    warnings.warn(
        f"some crowns are wider than the overlap of windows ({overlap_m:.1f} m) and may be cut; "
        "give the widest crown in metres with max_crown= (--max_crown)",
        CutCrownsWarning,
        stacklevel=3,
    )


def warn_dead(cautions: tuple[str, ...]) -> None:
    """Warn of what is to be doubted about the status of crowns."""
    for caution in cautions:
        warnings.warn(caution, DeadShareWarning, stacklevel=3)
