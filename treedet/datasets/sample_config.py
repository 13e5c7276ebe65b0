"""How training windows are drawn, apart from torch so that a command line can be built without it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from treedet.errors import ConfigError

RADIOMETRY = ("strong", "calm", "none")
"""How much light and colour can vary."""


@dataclass(frozen=True)
class SampleConfig:
    """How training windows are drawn.

    Attributes:
        window_px: Side of a window in pixels, a multiple of 32.
        gsd: Metres per pixel of a window before jitter.
        zoom: Range of random zoom; teaches sizes and resolutions between the rasters' own. Windows are read at
            ``gsd / zoom``.
        turn: Largest turn in degrees besides quarter turns; shear is a quarter of it. 0 for quarter turns and flips
            alone, which leave boxes exact.
        mosaic: Share of windows with crowns that are put together from four.
        empty: Share of windows aimed at places without crowns; where there are none, at random places.
        calm_from: Epoch, counted from 0, from which windows are varied little, so that training ends on what a
            user's imagery looks like; None for never.
        radiometry: How much light and colour vary: ``strong``, ``calm`` or ``none``.
        resolutions: Finest and coarsest metres per pixel of imagery that windows are made to look like, drawn evenly
            on a logarithmic scale; teaches one model several resolutions. None for the rasters' own alone.
        coarse: Share of windows that ``resolutions`` is applied to; the others keep all their detail.
    """

    window_px: int = 384
    gsd: float = 0.1
    zoom: tuple[float, float] = (0.65, 1.5)
    turn: float = 25.0
    mosaic: float = 0.4
    empty: float = 0.1
    calm_from: int | None = None
    radiometry: str = "strong"
    resolutions: tuple[float, float] | None = None
    coarse: float = 1.0

    def __post_init__(self) -> None:
        if self.window_px < 32 or self.window_px % 32:
            raise ConfigError(f"window_px must be a multiple of 32 px, found {self.window_px}")
        if not self.gsd > 0 or not 0 < self.zoom[0] <= self.zoom[1]:
            raise ConfigError(
                f"gsd must be positive and zoom a range above 0, low first; found gsd {self.gsd}, zoom {self.zoom}"
            )
        shares = {name: getattr(self, name) for name in ("mosaic", "empty", "coarse")}
        if not (all(0 <= share <= 1 for share in shares.values()) and 0 <= self.turn <= 45):
            found = ", ".join(f"{name} {share}" for name, share in shares.items())
            raise ConfigError(
                "mosaic, empty and coarse must be shares of 0 to 1 and turn 0 to 45 degrees; "
                f"found {found}, turn {self.turn}"
            )
        if self.resolutions is not None and not 0 < self.resolutions[0] <= self.resolutions[1] < math.inf:
            raise ConfigError(
                f"resolutions must be two numbers of metres above 0, finest first; found {self.resolutions}"
            )
        if self.radiometry not in RADIOMETRY:
            raise ConfigError(f"radiometry must be one of {', '.join(RADIOMETRY)}; found {self.radiometry!r}")

    @property
    def finest_gsd(self) -> float:
        """Finest metres per pixel that windows are read at."""
        return self.gsd / self.zoom[1]
