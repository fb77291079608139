"""Traced fruit and a mirror ball on a wooden table, with the soft shadows of a window."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scenes.optics import (
    HEIGHT_PX,
    WIDTH_PX,
    Floats,
    colour,
    develop,
    dot,
    fractal_noise,
    mix,
    sample,
    smoothstep,
)

_LAMP = np.array([-4.0, 6.5, -2.5])
_LAMP_RADIUS = 1.3
_BALLS = (
    # centre x, radius, centre z, finish
    (-1.35, 0.92, 1.1, "orange"),
    (0.55, 0.78, 0.35, "apple"),
    (2.05, 0.95, 1.7, "mirror"),
    (-0.28, 0.47, -0.55, "plum"),
    (1.62, 0.42, -0.45, "lime"),
    (-2.35, 0.55, -0.15, "apple"),
)


def still_life() -> NDArray[np.uint8]:
    """Fruit on a table, lit by a window on the left."""
    y, x = np.mgrid[0:HEIGHT_PX, 0:WIDTH_PX].astype(float)
    eye = np.broadcast_to(np.array([0.0, 2.5, -7.2]), (HEIGHT_PX, WIDTH_PX, 3))
    pitch = 0.24
    forward = np.array([0.0, -np.sin(pitch), np.cos(pitch)])
    up = np.array([0.0, np.cos(pitch), np.sin(pitch)])
    ray = (
        forward * 1.75
        + ((x - WIDTH_PX / 2)[..., None] * colour(1, 0, 0) - (y - HEIGHT_PX / 2)[..., None] * up) / 384
    )
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
    return develop(_trace(eye, ray, bounces=1) * 1.5, seed=2)


def _trace(origin: Floats, ray: Floats, bounces: int) -> Floats:
    """Light that arrives along each ray[..., 3]."""
    nearest, hit = _nearest_hit(origin, ray)
    point = origin + ray * nearest[..., None]
    light = np.empty_like(ray)
    table, wall = hit == len(_BALLS), hit == len(_BALLS) + 1
    light[table] = _wood(point[table]) * _lamp_light(point[table], colour(0, 1, 0))
    light[wall] = _plaster(point[wall]) * _lamp_light(point[wall], colour(0, 0, -1))
    for index, (_, _, _, finish) in enumerate(_BALLS):
        here = hit == index
        if here.any():
            light[here] = _shade_ball(point[here], ray[here], _centre(index), finish, bounces)
    return light


def _centre(index: int) -> Floats:
    x, radius, z, _ = _BALLS[index]
    return np.array([x, radius, z])


def _nearest_hit(origin: Floats, ray: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Distance and index of what each ray meets first: a ball, the table (n) or the wall (n + 1)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        table = np.where(ray[..., 1] < 0, -origin[..., 1] / ray[..., 1], np.inf)
        wall = np.where(ray[..., 2] > 0, (5.5 - origin[..., 2]) / ray[..., 2], np.inf)
    balls = [_ball_distance(origin, ray, _centre(i), _BALLS[i][1]) for i in range(len(_BALLS))]
    distances = np.stack([*balls, table, np.minimum(wall, 60.0)])
    hit = distances.argmin(axis=0)
    return np.take_along_axis(distances, hit[None], axis=0)[0], hit


def _ball_distance(origin: Floats, ray: Floats, centre: Floats, radius: float) -> Floats:
    towards = centre - origin
    along = dot(towards, ray)
    inside = radius**2 - (dot(towards, towards) - along**2)
    near = along - np.sqrt(np.maximum(inside, 0))
    return np.where((inside > 0) & (near > 1e-4), near, np.inf)


def _lamp_light(point: Floats, normal: Floats) -> Floats:
    """Warm light of a round window with soft shadows, and cool light of the room, darker in corners."""
    rng = np.random.default_rng(7)
    sunny = np.zeros(len(point))
    for offset in rng.normal(0, 0.5, (24, 3)):
        towards = _LAMP + offset * _LAMP_RADIUS - point
        towards /= np.sqrt(dot(towards, towards))[:, None]
        start = point + normal * 1e-3
        blocked = np.zeros(len(point), dtype=bool)
        for index, (_, radius, _, _) in enumerate(_BALLS):
            blocked |= np.isfinite(_ball_distance(start, towards, _centre(index), radius))
        sunny += np.where(blocked, 0, np.clip(dot(towards, normal), 0, 1)) / 24
    falloff = 42 / dot(_LAMP - point, _LAMP - point)
    return (sunny * falloff)[:, None] * colour(1.35, 1.15, 0.9) + _open_sky(point, normal)[:, None] * colour(
        0.15, 0.18, 0.24
    )


def _open_sky(point: Floats, normal: Floats) -> Floats:
    """Ambient occlusion: how much of the room a point sees past the balls and the table."""
    seen = 0.6 + 0.4 * np.broadcast_to(normal, point.shape)[:, 1]
    for index, (_, radius, _, _) in enumerate(_BALLS):
        towards = _centre(index) - point
        distance = np.sqrt(dot(towards, towards))
        facing = np.clip(dot(towards, normal) / distance + 0.2, 0, 1)
        seen = seen * np.where(distance > radius * 1.01, 1 - 0.8 * facing * (radius / distance) ** 2, 1)
    return seen


def _shade_ball(point: Floats, ray: Floats, centre: Floats, finish: str, bounces: int) -> Floats:
    normal = (point - centre) / np.linalg.norm(point - centre, axis=-1, keepdims=True)
    bumpy = _bump(normal, finish)
    mirrored = ray - 2 * np.sum(ray * bumpy, axis=-1, keepdims=True) * bumpy
    glint = np.clip(mirrored @ (_LAMP / np.linalg.norm(_LAMP)), 0, 1)
    fresnel = (0.04 + 0.6 * (1 - np.clip(-dot(ray, normal), 0, 1)) ** 4)[:, None]
    if bounces == 0:
        return _skin(normal, finish) * (0.35 + 0.5 * np.clip(bumpy @ (_LAMP / 8), 0, 1)[:, None])
    if finish == "mirror":
        return (
            _trace(point + normal * 1e-3, mirrored, 0) * colour(0.86, 0.88, 0.90) + 3 * glint[:, None] ** 400
        )
    body = _skin(normal, finish) * _lamp_light(point, bumpy)
    return body * (1 - fresnel) + fresnel * colour(0.28, 0.27, 0.26) + 0.55 * glint[:, None] ** 60


def _bump(normal: Floats, finish: str) -> Floats:
    """Peel: the normal moved by noise."""
    strength = {"orange": 0.09, "lime": 0.05, "plum": 0.015, "apple": 0.01, "mirror": 0.0}[finish]
    noise = np.stack([fractal_noise((256, 256), 0.7, seed) for seed in (41, 42, 43)], axis=-1)
    around, down = _longitude_latitude(normal)
    moved = normal + strength * sample(noise, down * 120, around * 120)
    return moved / np.linalg.norm(moved, axis=-1, keepdims=True)


def _longitude_latitude(normal: Floats) -> tuple[Floats, Floats]:
    return np.arctan2(normal[:, 0], -normal[:, 2]), np.arccos(np.clip(normal[:, 1], -1, 1))


def _skin(normal: Floats, finish: str) -> Floats:
    around, down = _longitude_latitude(normal)
    mottle = sample(fractal_noise((256, 256), 1.2, seed=51), down * 60, around * 60)
    stripes = sample(fractal_noise((256, 256), 1.0, seed=52), down * 6, around * 60)
    stem = smoothstep(0.28, 0.05, down)
    if finish == "apple":
        red, yellow = colour(0.50, 0.035, 0.03), colour(0.62, 0.46, 0.10)
        return mix(
            mix(red, yellow, 0.8 * smoothstep(-0.6, 2.4, 0.8 * stripes + np.cos(around - 1.2))),
            colour(0.10, 0.07, 0.03),
            stem,
        )
    base = {
        "orange": colour(0.80, 0.28, 0.02),
        "plum": colour(0.10, 0.025, 0.11),
        "lime": colour(0.27, 0.42, 0.05),
        "mirror": colour(0.8, 0.8, 0.8),
    }[finish]
    return mix(base * (1 + 0.12 * mottle[:, None]), base * 0.3, stem)


def _wood(point: Floats) -> Floats:
    """Planks along x, with grain and joints."""
    across, along = point[:, 2], point[:, 0]
    plank = np.floor(across / 1.25)
    rings = sample(fractal_noise((512, 512), 1.1, seed=61), across * 90 + plank * 37, along * 5 + plank * 91)
    knots = sample(fractal_noise((512, 512), 1.8, seed=62), across * 22 + plank * 11, along * 6 + plank * 53)
    grain = np.sin(9 * knots + 1.2 * rings)
    base = colour(0.34, 0.19, 0.09) * (1 + 0.16 * np.sin(plank * 2.4))[:, None]
    wood = base * (1 + 0.16 * grain + 0.14 * rings)[:, None]
    joint = smoothstep(0.035, 0.0, np.abs(across / 1.25 - plank - 0.5) * -1 + 0.5)
    return wood * (1 - 0.75 * joint)[:, None]


def _plaster(point: Floats) -> Floats:
    blotches = sample(fractal_noise((512, 512), 1.4, seed=71), point[:, 1] * 30, point[:, 0] * 30)
    return colour(0.30, 0.36, 0.38) * (1 + 0.10 * blotches)[:, None]
