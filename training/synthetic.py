"""Pictures that no camera takes, for the halting head's fit: flat, ramps, blocks, stripes. numpy only.

A head that saw photographs alone corrected the exact linear curve of such pictures by decibels that no decode
showed (docs/log.md). They are for the fit, never for the margins, which promise something about photographs.
"""

from __future__ import annotations

import numpy as np

from tokenizer.canvas import Size
from training.data import PictureSet


def synthetic_pictures(count: int, canvas: Size, seed: int = 0) -> PictureSet:
    """`count` pictures, the four kinds in turns; the same for the same arguments."""
    kinds = (_flat, _ramp, _blocks, _stripes)
    rng = np.random.default_rng(seed)
    pictures = [kinds[i % len(kinds)](rng, canvas) for i in range(count)]
    return PictureSet(
        tuple(f"synthetic {i}" for i in range(count)),
        tuple(np.rint(picture).clip(0, 255).astype(np.uint8) for picture in pictures),
    )


def _colour(rng: np.random.Generator) -> np.ndarray:
    """Half of the time at the corners of the colour cube: black, white and the saturated colours."""
    if rng.random() < 0.5:
        return rng.integers(0, 2, 3) * 255.0
    return rng.uniform(0, 255, 3)


def _flat(rng: np.random.Generator, canvas: Size) -> np.ndarray:
    noise = rng.choice([0.0, 0.5, 2.0])
    shape = (canvas.height_px, canvas.width_px, 3)
    return _colour(rng) + noise * rng.standard_normal(shape)


def _ramp(rng: np.random.Generator, canvas: Size) -> np.ndarray:
    """From one colour to another in a random direction, through more than one period at times."""
    place = np.mod(rng.choice([1.0, 1.0, 3.0]) * _along(rng, canvas), 1.0)[..., None]
    return (1 - place) * _colour(rng) + place * _colour(rng)


def _stripes(rng: np.random.Generator, canvas: Size) -> np.ndarray:
    periods = np.exp(rng.uniform(np.log(2), np.log(40)))
    is_on = (np.mod(periods * _along(rng, canvas), 1.0) < 0.5)[..., None]
    return np.where(is_on, _colour(rng), _colour(rng))


def _blocks(rng: np.random.Generator, canvas: Size) -> np.ndarray:
    """Rectangles of flat colour, one over the other."""
    picture = np.broadcast_to(_colour(rng), (canvas.height_px, canvas.width_px, 3)).copy()
    for _ in range(int(rng.integers(2, 30))):
        top, bottom = sorted(rng.integers(0, canvas.height_px + 1, 2))
        left, right = sorted(rng.integers(0, canvas.width_px + 1, 2))
        picture[top:bottom, left:right] = _colour(rng)
    return picture


def _along(rng: np.random.Generator, canvas: Size) -> np.ndarray:
    """0..1 along a random direction, f64[H, W]."""
    y, x = np.mgrid[0 : canvas.height_px, 0 : canvas.width_px]
    angle = rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)])
    place = np.cos(angle) * x + np.sin(angle) * y
    return (place - place.min()) / max(float(np.ptp(place)), 1.0)
