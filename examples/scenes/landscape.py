"""Fractal mountains, snow, haze, clouds, and a lake that reflects them: painted from far to near."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scenes.optics import HEIGHT_PX, WIDTH_PX, Floats, colour, develop, fractal_noise, mix, sample, smoothstep

_HORIZON = 0.42
_TERRAIN = 1024
_SUN = np.array([-0.62, 0.46, 0.35]) / np.linalg.norm([-0.62, 0.46, 0.35])


def landscape() -> NDArray[np.uint8]:
    """Mountains behind a lake."""
    picture = _sky()
    heights = _terrain_heights()
    shore = _paint_terrain(picture, heights, _terrain_colours(heights))
    _paint_water(picture, shore)
    return develop(picture * 1.25, seed=1)


def _sky() -> Floats:
    y, x = np.mgrid[0:HEIGHT_PX, 0:WIDTH_PX].astype(float)
    above = np.clip(1 - y / (HEIGHT_PX * _HORIZON), 0.02, 1)
    sky = mix(colour(0.62, 0.70, 0.80), colour(0.06, 0.18, 0.48), above**0.6)
    sun = np.exp(-((x / WIDTH_PX - 0.12) ** 2 * 6 + (y / HEIGHT_PX - 0.25) ** 2 * 14))
    sky = sky + sun[..., None] * colour(0.55, 0.36, 0.18)
    # Clouds lie on a plane overhead: towards the horizon they get flatter and closer together.
    depth = 60 / (above + 0.16)
    noise = fractal_noise((512, 512), 1.45, seed=11)
    density = sample(noise, depth * 2.2, (x / WIDTH_PX - 0.5) * depth * 1.6)
    lit = sample(noise, depth * 2.2 - 4, (x / WIDTH_PX - 0.5) * depth * 1.6 - 5)
    shade = np.clip(0.85 + 0.35 * (density - lit), 0.45, 1.5)
    clouds = shade[..., None] * colour(1.0, 0.95, 0.90)
    return mix(sky, clouds, smoothstep(-0.3, 1.0, density) * smoothstep(0.03, 0.3, above) * 0.95)


def _terrain_heights() -> Floats:
    """Ridged mountains that rise with distance from a lake bed."""
    broad = fractal_noise((_TERRAIN, _TERRAIN), 2.35, seed=5)
    ridges = 1 - np.abs(fractal_noise((_TERRAIN, _TERRAIN), 2.0, seed=21))
    fine = fractal_noise((_TERRAIN, _TERRAIN), 1.5, seed=8)
    distance = np.arange(_TERRAIN)[:, None]
    rise = smoothstep(250, 700, distance) * (1.2 - 0.4 * smoothstep(700, 1000, distance))
    mountains = 120 * rise * (0.55 + 0.30 * broad + 0.60 * ridges)
    return mountains + 2.2 * fine * (0.2 + rise) - 6 * (1 - rise)


def _terrain_colours(heights: Floats) -> Floats:
    dy, dx = np.gradient(heights)
    normal = np.stack([-dx, np.full_like(dx, 1.0), -dy], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    grain = fractal_noise(heights.shape, 0.9, seed=3)
    forest = colour(0.030, 0.060, 0.026) * (1 + 0.35 * grain[..., None])
    meadow = colour(0.16, 0.19, 0.06) * (1 + 0.15 * grain[..., None])
    rock = colour(0.20, 0.18, 0.165) * (1 + 0.25 * grain[..., None])
    ground = mix(forest, meadow, smoothstep(0.1, 1.4, grain + 0.02 * heights - 0.6))
    ground = mix(ground, rock, smoothstep(48, 70, heights + 5 * grain - 30 * normal[..., 1] + 15))
    ground = mix(
        ground, colour(0.86, 0.89, 0.95), smoothstep(92, 112, heights + 4 * grain + 50 * normal[..., 1] - 28)
    )
    sun = np.clip(normal @ _SUN, 0, 1) * _sunlit(heights)
    return ground * (sun[..., None] * colour(2.5, 2.15, 1.7) + colour(0.30, 0.38, 0.52))


def _sunlit(heights: Floats) -> Floats:
    """0 where a mountain stands between the ground and the sun, softly."""
    shadow = np.full_like(heights, -np.inf)
    for step in range(2, 160, 3):
        blocked = np.roll(heights, round(-step * _SUN[0] / 0.72), axis=1)
        blocked = np.roll(blocked, round(-step * _SUN[2] / 0.72), axis=0)
        shadow = np.maximum(shadow, blocked - heights - step * _SUN[1] / 0.72)
    return 1 - smoothstep(-2, 3, shadow)


def _paint_terrain(picture: Floats, heights: Floats, colours: Floats) -> NDArray[np.intp]:
    """Paint from far to near, column by column; returns the shore's row of each column."""
    horizon, eye = HEIGHT_PX * _HORIZON, 9.0
    rows = np.arange(HEIGHT_PX)[:, None]
    across = np.linspace(-0.62, 0.62, WIDTH_PX)
    haze = colour(0.60, 0.68, 0.80)
    shore = np.full(WIDTH_PX, int(horizon) + 2)
    for depth in np.geomspace(980, 150, 700):
        x, y = 512 + across * depth, np.full(WIDTH_PX, depth)
        height = sample(heights, y, x)
        top = horizon - (height - eye) / depth * 620
        seen = mix(sample(colours, y, x), haze, np.full(WIDTH_PX, 1 - np.exp(-depth / 2200)))
        foot = np.ceil(horizon + eye / depth * 620).astype(int)
        land = height > 0
        between = slice(max(int(top.min()), 0), max(int(foot.max()), 0))
        painted = (rows[between] >= top) & (rows[between] < foot) & land
        at, column = np.nonzero(painted)
        picture[between][at, column] = seen[column]
        shore = np.where(land, np.maximum(shore, foot), shore)
    return shore


def _paint_water(picture: Floats, shore: NDArray[np.intp]) -> None:
    """Mirror what stands above the shore, stretched by ripples that grow towards the viewer."""
    y, x = np.mgrid[0:HEIGHT_PX, 0:WIDTH_PX].astype(float)
    water = y >= shore[None, :]
    below = np.clip(y - HEIGHT_PX * _HORIZON, 1, None)
    waves = fractal_noise((512, 512), 1.15, seed=31)
    ripple = sample(waves, 16_000 / below, (x - WIDTH_PX / 2) * 12 / below)
    mirrored_y = np.clip(
        shore[None, :] - 0.8 * (y - shore[None, :]) + ripple * (0.5 + 0.03 * below), 0, shore[None, :] - 1
    )
    reflected = sample(picture, np.clip(mirrored_y, 0, HEIGHT_PX - 2), np.clip(x + ripple, 0, WIDTH_PX - 2))
    deep = colour(0.012, 0.045, 0.060) * (1 + 0.25 * ripple[..., None])
    steep = np.clip(0.85 - below / 620 + 0.05 * ripple, 0.2, 0.9)
    picture[water] = mix(deep, reflected, steep)[water]
