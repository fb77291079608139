"""What pixels of every Pillow mode look like as upright 8-bit sRGB. Knows nothing of files or limits.

    mode                       becomes
    1, L, LA, P, PA, RGB(A)    RGB
    I;16 (8 < bits <= 16)      grey, scaled by 255 / (2^bits - 1) and rounded, never clipped
    CMYK, LAB, YCbCr           RGB, through the embedded ICC profile where there is a good one
    F                          grey, only if every value lies in 0..1; else ImageModeUnsupported
    I (32-bit integers)        ImageModeUnsupported: nothing says what white is

Transparency is composited on white, as a printed page would show it, in sRGB as browsers do.

All of it happens in bands of the picture: beside Pillow's own 4 bytes per pixel and the 3 of the result there
is never a whole copy, where composing the picture at once would take 24 bytes per pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms
from PIL.TiffImagePlugin import TiffImageFile

from tokenizer.errors import ImageModeUnsupported

_WHITE = (255, 255, 255)
Pixels = NDArray[np.uint8]
# EXIF orientation -> the upright picture as it is stored, as a view.
_TURNS: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels, -1),
}
_BAND_PX = 256
_PROFILE_MODES = ("RGB", "L", "CMYK", "LAB")
_TIFF_BITS_PER_SAMPLE = 258
_TIFF_PHOTOMETRIC = 262
_TIFF_WHITE_IS_ZERO = 0


def upright_rgb(image: Image.Image) -> Pixels:
    """uint8[H, W, 3] of a Pillow image. Raises ImageModeUnsupported, and what Pillow raises on bad bytes."""
    orientation = _orientation(image)  # before loading: must agree with `turns_sideways`
    image.load()
    to_8_bit, to_srgb = _depth_converter(image), _colour_converter(image)
    sides = (image.width, image.height) if orientation >= 5 else (image.height, image.width)
    upright = np.empty((*sides, 3), dtype=np.uint8)
    stored = _TURNS[orientation](upright) if orientation in _TURNS else upright
    for top in range(0, image.height, _BAND_PX):
        bottom = min(top + _BAND_PX, image.height)
        colour, alpha = to_8_bit(image.crop((0, top, image.width, bottom)))
        rgb = to_srgb(colour)
        if alpha is not None:
            rgb = Image.composite(rgb, Image.new("RGB", rgb.size, _WHITE), alpha)
        stored[top:bottom] = np.asarray(rgb)
    return upright


def turns_sideways(image: Image.Image) -> bool:
    """True if the upright picture is as wide as the stored one is high. Reads the header only."""
    return _orientation(image) >= 5


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8; 1 where it is missing or unreadable."""
    if isinstance(image, TiffImageFile):
        return 1  # Pillow turns TIFF itself: the size in the header, the pixels while loading
    try:
        # Not `image.getexif()`: for PNG that decodes the whole picture to look for EXIF behind the pixels,
        # which browsers ignore too.
        value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except Exception:  # a damaged EXIF block is no reason to refuse the picture
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


Layers = tuple[Image.Image, Image.Image | None]


def _depth_converter(image: Image.Image) -> Callable[[Image.Image], Layers]:
    """From a band to an opaque 8-bit one in a mode of _PROFILE_MODES, and its coverage as "L", if any."""
    if not image.mode.startswith("I;16"):
        return _colour_and_alpha
    tags = getattr(image, "tag_v2", {})
    white = 2 ** int(tags.get(_TIFF_BITS_PER_SAMPLE, (16,))[0]) - 1  # a 12-bit TIFF keeps its 0..4095
    is_negative = tags.get(_TIFF_PHOTOMETRIC) == _TIFF_WHITE_IS_ZERO
    clear = image.info.get("transparency")
    return lambda band: _from_16_bit(band, white, is_negative, clear if isinstance(clear, int) else None)


def _colour_and_alpha(image: Image.Image) -> Layers:
    if image.mode == "F":
        return _from_float(image), None
    if image.mode == "I":
        raise ImageModeUnsupported("32-bit integer pixels: nothing says which value is white")
    if image.mode in ("LA", "La"):
        grey = image.convert("LA")
        return grey.getchannel("L"), grey.getchannel("A")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return rgba.convert("RGB"), rgba.getchannel("A")
    if image.mode == "1":
        return image.convert("L"), None
    return (image if image.mode in _PROFILE_MODES else image.convert("RGB")), None


def _from_16_bit(image: Image.Image, white: int, is_negative: bool, clear: int | None) -> Layers:
    values = np.asarray(image).astype(np.uint32)
    grey = ((values * 255 + white // 2) // white).clip(0, 255).astype(np.uint8)
    if is_negative:
        grey = 255 - grey
    alpha = None if clear is None else Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8))
    return Image.fromarray(grey), alpha


def _from_float(image: Image.Image) -> Image.Image:
    values = np.asarray(image, dtype=np.float32)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0.0 and high <= 1.0):  # false for NaN as well
        raise ImageModeUnsupported(f"float pixels must lie in 0..1, got {low:g}..{high:g}")
    return Image.fromarray(np.rint(values * 255).astype(np.uint8))


def _colour_converter(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """From a band in one of _PROFILE_MODES to RGB: by the picture's profile, or by convention (Lab: D50)."""
    profile = _profile(image.info.get("icc_profile"))
    standard = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    # Made at the first band, which tells the mode; False once the profile turned out to fit none.
    transforms: dict[str, ImageCms.ImageCmsTransform | None] = {}

    def to_srgb(band: Image.Image) -> Image.Image:
        if band.mode not in transforms:
            transforms[band.mode] = _transform(profile, band.mode)
            if transforms[band.mode] is None and band.mode == "LAB":
                transforms[band.mode] = _transform(standard, band.mode)
        transform = transforms[band.mode]
        if transform is None:
            return band.convert("RGB")
        converted = ImageCms.applyTransform(band, transform)
        assert converted is not None  # None is the answer of `inPlace=True` only
        return converted

    return to_srgb


def _profile(data: bytes | None) -> ImageCms.ImageCmsProfile | None:
    try:
        return ImageCms.ImageCmsProfile(BytesIO(data)) if data else None
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None  # damaged: shown as browsers show it


def _transform(profile: ImageCms.ImageCmsProfile | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """None where there is no profile, or a foreign one (say, of RGB on a grey picture)."""
    if profile is None:
        return None
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    try:
        return ImageCms.buildTransform(profile, srgb, mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
