"""Flowers at three depths before a bright meadow, out of focus where they are far."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scenes.optics import HEIGHT_PX, WIDTH_PX, Floats, blur, colour, develop, fractal_noise, mix, smoothstep

_PETALS = (
    # colour at the rim, colour at the heart, number of petals
    (colour(0.72, 0.03, 0.10), colour(0.35, 0.01, 0.06), 9),
    (colour(0.86, 0.84, 0.80), colour(0.70, 0.66, 0.45), 17),
    (colour(0.42, 0.16, 0.62), colour(0.18, 0.05, 0.36), 11),
    (colour(0.92, 0.46, 0.04), colour(0.70, 0.20, 0.01), 13),
)
_DEPTHS = (
    # blur, flower radius, flowers, grass blades, brightness
    (11.0, 26.0, 26, 160, 1.00),
    (4.5, 44.0, 10, 110, 0.90),
    (0.7, 92.0, 4, 60, 1.00),
)


def flowers() -> NDArray[np.uint8]:
    """A flower bed with shallow depth of field."""
    rng = np.random.default_rng(99)
    picture = _meadow(rng)
    for depth in _DEPTHS:
        layer = _flower_layer(rng, *depth)
        picture = picture * (1 - layer[..., 3:]) + layer[..., :3]
    return develop(picture * 1.35, seed=3)


def _meadow(rng: np.random.Generator) -> Floats:
    """Far, bright and out of focus: trees above, grass below, discs of light."""
    y, x = np.mgrid[0 : 1 : HEIGHT_PX * 1j, 0 : 1 : WIDTH_PX * 1j]
    clumps = fractal_noise((HEIGHT_PX, WIDTH_PX), 1.9, seed=81)
    trees = mix(colour(0.045, 0.10, 0.03), colour(0.30, 0.42, 0.12), smoothstep(-1.2, 1.8, clumps + 1.2 * x))
    grass = mix(colour(0.20, 0.34, 0.05), colour(0.08, 0.15, 0.02), y)
    picture = mix(trees, grass * (1 + 0.12 * clumps[..., None]), smoothstep(0.34, 0.50, y + 0.02 * clumps))
    rows, columns = np.mgrid[0:HEIGHT_PX, 0:WIDTH_PX].astype(float)
    for _ in range(38):
        cx, cy = rng.uniform(0, WIDTH_PX), rng.triangular(0, 70, 230)
        disc = smoothstep(1.5, -1.5, np.hypot(columns - cx, rows - cy) - rng.uniform(8, 19))
        picture += disc[..., None] * colour(0.60, 0.62, 0.32) * rng.uniform(0.12, 0.75)
    return blur(picture, 3.0)


def _flower_layer(
    rng: np.random.Generator, sigma_px: float, radius_px: float, count: int, blades: int, brightness: float
) -> Floats:
    """Flowers and grass at one depth, as premultiplied light and coverage[H, W, 4]."""
    layer = np.zeros((HEIGHT_PX, WIDTH_PX, 4))
    for _ in range(blades):
        _paint_blade(layer, rng, radius_px)
    places = np.linspace(0.06, 0.94, count) * WIDTH_PX
    for place in rng.permutation(places):
        x = place + rng.normal(0, radius_px * 0.25)
        y = HEIGHT_PX * rng.uniform(0.32, 0.52) + radius_px * rng.uniform(-0.4, 1.0)
        radius = radius_px * rng.uniform(0.75, 1.1)
        _paint_stem(layer, rng, x, y, radius * 0.055)
        _paint_flower(layer, rng, x, y, radius)
    layer[..., :3] *= brightness
    return np.clip(blur(layer, sigma_px), 0, None)


def _cover(layer: Floats, light: Floats, coverage: Floats, top: int, left: int) -> None:
    """Paint light[h, w, 3] with coverage[h, w] over a part of the layer."""
    rows, columns = coverage.shape
    part = layer[top : top + rows, left : left + columns]
    opaque = np.concatenate([light, np.ones((rows, columns, 1))], axis=-1)
    part[...] = part * (1 - coverage[..., None]) + opaque * coverage[..., None]


def _columns(one_end: float, other_end: float, half_px: float) -> slice:
    """Those that something thin touches on its way from one end to the other."""
    low, high = sorted((one_end, other_end))
    first, last = int(np.floor(low - half_px)) - 2, int(np.ceil(high + half_px)) + 3
    return slice(int(np.clip(first, 0, WIDTH_PX)), int(np.clip(last, 0, WIDTH_PX)))


def _paint_blade(layer: Floats, rng: np.random.Generator, scale_px: float) -> None:
    foot, length = rng.uniform(-20, WIDTH_PX + 20), scale_px * rng.uniform(1.6, 4.2)
    lean, width = rng.normal(0, 0.45), scale_px * rng.uniform(0.03, 0.07)
    top = int(np.clip(HEIGHT_PX - length, 0, HEIGHT_PX - 2))
    columns = _columns(foot, foot + lean * length, width)
    y, x = np.mgrid[top:HEIGHT_PX, columns].astype(float)
    share = np.clip((HEIGHT_PX - y) / length, 0, 1)
    off = x - foot - lean * length * share**1.8
    half = width * (1 - share) ** 0.6 + 1e-3
    green = mix(colour(0.03, 0.09, 0.015), colour(0.22, 0.36, 0.06), share * rng.uniform(0.4, 1.0))
    light = green * (0.8 + 0.35 * np.clip(off / half, -1, 1))[..., None]
    _cover(layer, light, smoothstep(0.7, -0.7, np.abs(off) - half) * (share < 1), top, columns.start)


def _paint_stem(layer: Floats, rng: np.random.Generator, x0: float, y0: float, half_px: float) -> None:
    top = int(np.clip(y0, 0, HEIGHT_PX - 2))
    sway = rng.normal(0, 26)
    columns = _columns(x0, x0 + 3 * sway, half_px)
    y, x = np.mgrid[top:HEIGHT_PX, columns].astype(float)
    off = x - x0 - sway * ((y - y0) / HEIGHT_PX) ** 2 * 3
    light = colour(0.07, 0.17, 0.03) * (1 - 0.5 * np.clip(off / half_px, -1, 1))[..., None]
    _cover(layer, light, smoothstep(0.7, -0.7, np.abs(off) - half_px), top, columns.start)


def _paint_flower(layer: Floats, rng: np.random.Generator, x0: float, y0: float, radius_px: float) -> None:
    """Three whorls of petals, the inner ones shorter, around a domed heart."""
    rim, inner, petals = _PETALS[rng.integers(len(_PETALS))]
    reach = int(radius_px * 1.1)
    top, left = max(int(y0) - reach, 0), max(int(x0) - reach, 0)
    bottom, right = min(int(y0) + reach, HEIGHT_PX), min(int(x0) + reach, WIDTH_PX)
    if top >= bottom or left >= right:
        return
    y, x = np.mgrid[top:bottom, left:right].astype(float)
    tilt, squash = rng.uniform(0, np.pi), rng.uniform(0.72, 0.95)
    dx, dy = (x - x0) / radius_px, (y - y0) / radius_px
    u = np.cos(tilt) * dx + np.sin(tilt) * dy
    v = (-np.sin(tilt) * dx + np.cos(tilt) * dy) / squash
    r, angle, edge_px = np.hypot(u, v), np.arctan2(v, u), 1.2 / radius_px
    facing_light = 0.85 - 0.35 * (dx + dy)
    for whorl, reach_share in enumerate((1.0, 0.80, 0.55)):
        turn = angle * petals / (2 * np.pi) + 0.5 * whorl + rng.uniform(0, 0.3)
        number = np.floor(turn)
        across = turn - number - 0.5
        length = reach_share * (1 + 0.10 * np.sin(7.1 * number + whorl))
        outline = length * np.cos(np.pi * across * 0.86) ** 0.42
        veins = 0.06 * np.sin(across * 46 + 2 * np.sin(r * 9))
        hollow = 0.62 + 0.5 * np.cos(np.pi * across) ** 2 + veins + 0.10 * np.sin(3.7 * number)
        depth = 0.45 + 0.55 * smoothstep(0.1, 0.9, r / reach_share)
        light = (
            mix(inner, rim, smoothstep(0.1, 0.9, r))
            * (hollow * depth * facing_light * (0.8 + 0.12 * whorl))[..., None]
        )
        _cover(layer, light, smoothstep(edge_px, -edge_px, r - outline), top, left)
    dome = np.sqrt(np.clip(1 - (r / 0.24) ** 2, 0, 1))
    seeds = 0.75 + 0.4 * np.sin(150 * u) * np.sin(150 * v)
    heart = colour(0.62, 0.38, 0.03) * (seeds * (0.35 + 0.75 * dome) * facing_light)[..., None]
    _cover(layer, heart, smoothstep(edge_px, -edge_px, r - 0.24), top, left)
