"""Sun, sky and camera of a rendered scene: from relief and reflectance to the bytes of a photograph."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from treedet.datasets.scene_canvas import Canvas, Image
from treedet.errors import ConfigError

_SUN = np.array([1.06, 1.0, 0.92], dtype=np.float32)
_SKY = np.array([0.80, 0.93, 1.25], dtype=np.float32)
_HAZE = np.array([0.50, 0.55, 0.62], dtype=np.float32)
_SOFT_M = 0.35


@dataclass(frozen=True)
class Camera:
    """What lies between the ground and the file.

    Attributes:
        exposure: Factor on the light; 1 shows sunlit grass at middle grey.
        contrast: Factor on the distance from middle grey, after the tone curve.
        saturation: Factor on colourfulness; 0 is a grey image.
        cast: Factors on red, green and blue.
        haze: Share of the light that is veil, 0 to 1.
        sky: Light of the sky relative to the sun's; 0.2 on a clear day, above 1 under clouds.
        blur_px: Standard deviation of the optical blur in pixels of the image.
        noise: Standard deviation of the sensor noise in grey levels (of 255).
        jpeg_quality: 1 to 100, or None for no compression.
    """

    exposure: float = 1.0
    contrast: float = 1.0
    saturation: float = 0.9
    cast: tuple[float, float, float] = (1.0, 1.0, 1.0)
    haze: float = 0.04
    sky: float = 0.22
    blur_px: float = 0.55
    noise: float = 2.0
    jpeg_quality: int | None = None

    def __post_init__(self) -> None:
        for name in ("exposure", "contrast", "saturation", "sky", "blur_px", "noise"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"camera {name} must be a number of at least 0, found {value}")
        if not 0 <= self.haze < 1:
            raise ConfigError(f"camera haze must be at least 0 and below 1, found {self.haze}")
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 100:
            raise ConfigError(f"camera jpeg_quality must be 1 to 100 or None, found {self.jpeg_quality}")

    @classmethod
    def random(cls, rng: np.random.Generator) -> Camera:
        """Return a camera and weather drawn from what archives of aerial photographs hold."""
        cast = np.exp(rng.normal(0, 0.07, 3))
        return cls(
            exposure=float(np.exp(rng.normal(0.08, 0.28))),
            contrast=float(rng.uniform(0.75, 1.25)),
            saturation=float(rng.uniform(0.35, 1.25)),
            cast=(float(cast[0]), float(cast[1]), float(cast[2])),
            haze=float(rng.beta(1.2, 8)),
            sky=float(rng.choice([rng.uniform(0.18, 0.5), rng.uniform(0.5, 2.5)], p=[0.8, 0.2])),
            blur_px=float(rng.choice([rng.uniform(0.35, 0.8), rng.uniform(0.8, 1.8)], p=[0.75, 0.25])),
            noise=float(rng.uniform(0.5, 6.0)),
            jpeg_quality=int(rng.integers(40, 96)) if rng.random() < 0.5 else None,
        )


def sun_direction(azimuth_deg: float, elevation_deg: float) -> npt.NDArray[np.float64]:
    """Return the unit vector to the sun: right, down (south) and up.

    >>> sun_direction(180.0, 45.0).round(3).tolist()
    [0.0, 0.707, 0.707]
    """
    azimuth, elevation = math.radians(azimuth_deg), math.radians(elevation_deg)
    flat = math.cos(elevation)
    return np.array([math.sin(azimuth) * flat, -math.cos(azimuth) * flat, math.sin(elevation)])


def illuminate(canvas: Canvas, sun: npt.NDArray[np.float64], *, sky: float) -> Image:
    """Light the canvas: sun on slopes that face it, shadows, and skylight that does not reach down between crowns.

    Args:
        canvas: Relief and reflectance.
        sun: Unit vector to the sun.
        sky: Light of the sky relative to the sun's.

    Returns:
        Float32 ``[H, W, 3]``, reflected light; open level ground gives its reflectance.
    """
    shade = np.maximum(_cast_shadows(canvas, sun), canvas.gloom * (canvas.height < 2))
    dy, dx = np.gradient(canvas.solid, np.float32(canvas.gsd))
    # Leaves and crown edges are not walls: steep slopes are compressed.
    steep = 1 / (1 + 0.2 * np.hypot(dx, dy))
    dx, dy = dx * steep, dy * steep
    right, down, up = (float(part) for part in sun)  # plain floats keep the images float32
    facing = (up - dx * right - dy * down) / np.sqrt(1 + dx * dx + dy * dy)
    # Foliage scatters and lets light through, so it never turns quite dark where it is turned away.
    direct = np.clip(0.2 * up + 0.8 * facing, 0, None) * (1 - 0.97 * shade)
    open_sky = _sky_view(canvas)
    direct /= up + sky
    open_sky *= sky / (up + sky)
    light = np.empty_like(canvas.colour)
    for band in range(3):
        light[..., band] = canvas.colour[..., band] * (direct * _SUN[band] + open_sky * _SKY[band])
    return light


def _cast_shadows(canvas: Canvas, sun: npt.NDArray[np.float64]) -> Image:
    """Return how deep in shadow each pixel lies, 0 to 1.

    The shadow's ceiling is the largest of ``height(p + t d) - t rise`` along the way ``d`` to the sun. Each
    pass doubles the way looked at, so a shadow of a thousand pixels takes ten passes; their interpolation
    softens its edge as the sun's disk does.
    """
    across = math.hypot(sun[0], sun[1])
    top = float(canvas.solid.max())
    if across < 1e-3 or top <= 0:
        return np.zeros_like(canvas.solid)
    step = sun[:2] / across
    drop = canvas.gsd * sun[2] / across
    ceiling = canvas.solid.copy()
    reach = min(top / drop, float(max(ceiling.shape)))
    for doubling in range(max(1, math.ceil(math.log2(reach + 1)))):
        far = float(2**doubling)
        moved = _shifted(ceiling, step[0] * far, step[1] * far)
        moved -= np.float32(drop * far)
        np.maximum(ceiling, moved, out=ceiling)
    return np.asarray(np.clip((ceiling - canvas.height) / _SOFT_M, 0, 1), dtype=np.float32)


def _shifted(image: Image, right: float, down: float) -> Image:
    """Return the image as seen from a point so many pixels right and down; 0 outside."""
    matrix = np.array([[1, 0, right], [0, 1, down]], dtype=np.float64)
    size = (image.shape[1], image.shape[0])
    return np.asarray(cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP))


def _sky_view(canvas: Canvas) -> Image:
    """Return the share of open sky, from how far a pixel lies below its surroundings at two scales."""
    near = np.clip(blurred(canvas.solid, 0.5 / canvas.gsd) - canvas.solid, 0, None)
    wide = np.clip(blurred(canvas.solid, 2.5 / canvas.gsd) - canvas.solid, 0, None)
    return np.asarray(1 / (1 + 0.8 * near + 0.12 * wide), dtype=np.float32)


def blurred(image: Image, sigma_px: float) -> Image:
    """Return a Gaussian blur; wide ones are made on a coarser sheet, which costs a fraction.

    Args:
        image: Float32 ``[H, W]`` or ``[H, W, C]``.
        sigma_px: Standard deviation in pixels.
    """
    step = max(1, int(sigma_px / 2))
    if step == 1:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px), dtype=np.float32)
    rows, columns = image.shape[:2]
    size = (max(1, columns // step), max(1, rows // step))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma_px / step)
    return np.asarray(cv2.resize(small, (columns, rows), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def develop(light: Image, camera: Camera, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Take the photograph: blur, haze, tone curve, colour, noise and compression.

    Args:
        light: Float32 ``[H, W, 3]``, reflected light, RGB.
        camera: Settings.
        rng: Source of the noise.

    Returns:
        Uint8 ``[3, H, W]``.
    """
    if camera.blur_px > 0:
        light = blurred(light, camera.blur_px)
    light = light * np.float32((1 - camera.haze) * 1.75 * camera.exposure) * np.array(camera.cast, dtype=np.float32)
    light += np.float32(camera.haze) * _HAZE
    # A shoulder keeps bright roofs and stones below white; 1 / 2.2 is the display's gamma.
    tone = np.power(np.clip(light * 1.25 / (1 + 0.5 * light), 0, None), np.float32(1 / 2.2))
    grey = tone @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    tone = grey[..., None] + np.float32(camera.saturation) * (tone - grey[..., None])
    tone = 0.45 + np.float32(camera.contrast) * (tone - 0.45)
    levels = tone * 255
    if camera.noise > 0:
        levels += camera.noise * rng.standard_normal(levels.shape, dtype=np.float32)
    pixels = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    if camera.jpeg_quality is not None:
        pixels = _compressed(pixels, camera.jpeg_quality)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _compressed(pixels: npt.NDArray[np.uint8], quality: int) -> npt.NDArray[np.uint8]:
    """Return what a JPEG file of the pixels would show."""
    _, encoded = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), dtype=np.uint8)
    return decoded[..., ::-1]
