"""What the scenes share: noise, lookups, blends, blur, and the way from light to a picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
WIDTH_PX, HEIGHT_PX = 768, 512


def fractal_noise(shape: tuple[int, int], slope: float, seed: int) -> Floats:
    """Periodic noise whose amplitude falls as frequency ** -slope; mean 0, deviation 1."""
    rng = np.random.default_rng(seed)
    fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :]
    radius = np.hypot(fy, fx)
    radius[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal(shape)) * radius**-slope
    noise = np.fft.irfft2(spectrum, s=shape)
    return (noise - noise.mean()) / noise.std()


def sample(texture: Floats, y: Floats, x: Floats) -> Floats:
    """Bilinear lookup with wrap-around; texture[H, W] or [H, W, C]."""
    y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
    fy, fx = y - y0, x - x0
    if texture.ndim == 3:
        fy, fx = fy[..., None], fx[..., None]
    rows, columns = texture.shape[:2]
    ya, yb, xa, xb = y0 % rows, (y0 + 1) % rows, x0 % columns, (x0 + 1) % columns
    top = texture[ya, xa] * (1 - fx) + texture[ya, xb] * fx
    return top * (1 - fy) + (texture[yb, xa] * (1 - fx) + texture[yb, xb] * fx) * fy


def dot(a: Floats, b: Floats) -> Floats:
    """Inner product along the last axis of three; numpy's own sum takes five times as long over so few."""
    product: Floats = a * b
    return product[..., 0] + product[..., 1] + product[..., 2]


def mix(a: Floats, b: Floats, share: Floats) -> Floats:
    """a where share is 0, b where it is 1; share[...] against colours[..., 3]."""
    share = np.asarray(share)[..., None]
    return a * (1 - share) + b * share


def smoothstep(low: float, high: float, x: Floats) -> Floats:
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def blur(image: Floats, sigma_px: float) -> Floats:
    """Gaussian blur of [H, W, C] by FFT, with mirrored borders."""
    margin = int(3 * sigma_px) + 1
    padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    fy = np.fft.fftfreq(padded.shape[0])[:, None, None]
    fx = np.fft.rfftfreq(padded.shape[1])[None, :, None]
    gain = np.exp(-2 * (np.pi * sigma_px) ** 2 * (fy**2 + fx**2))
    soft = np.fft.irfft2(np.fft.rfft2(padded, axes=(0, 1)) * gain, s=padded.shape[:2], axes=(0, 1))
    return soft[margin:-margin, margin:-margin]


def develop(linear: Floats, seed: int) -> NDArray[np.uint8]:
    """Linear light to a picture: filmic shoulder, sRGB curve, vignette and a little sensor noise."""
    height, width = linear.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    light = np.maximum(linear, 0) * (1 - 0.18 * (x**2 + y**2))[..., None]
    light = light * (1 + light / 4.0) / (1 + light)
    srgb = np.where(light < 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055)
    noise = np.random.default_rng(seed).normal(0, 0.008, srgb.shape)
    return np.rint(np.clip(srgb + noise, 0, 1) * 255).astype(np.uint8)


def colour(red: float, green: float, blue: float) -> Floats:
    return np.array([red, green, blue])
