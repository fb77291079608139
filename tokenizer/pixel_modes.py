"""What pixels of every Pillow mode look like as upright 8-bit sRGB. Knows nothing of files or limits.

    mode                       becomes
    1, L, LA, P, PA, RGB(A)    RGB
    I;16 (8 < bits <= 16)      grey, scaled by 255 / (2^bits - 1) and rounded, never clipped
    CMYK, LAB, YCbCr           RGB, through the embedded ICC profile where there is a good one
    F                          grey, only if every value lies in 0..1; else ImageModeUnsupported
    I (32-bit integers)        ImageModeUnsupported: nothing says what white is

Transparency is composited on white, as a printed page would show it, in sRGB as browsers do.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms
from PIL.TiffImagePlugin import TiffImageFile

from tokenizer.errors import ImageModeUnsupported

_WHITE = (255, 255, 255)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PROFILE_MODES = ("RGB", "L", "CMYK", "LAB")
_TIFF_BITS_PER_SAMPLE = 258
_TIFF_PHOTOMETRIC = 262
_TIFF_WHITE_IS_ZERO = 0


def upright_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """uint8[H, W, 3] of a Pillow image. Raises ImageModeUnsupported, and what Pillow raises on bad bytes."""
    turn = _TURNS.get(_orientation(image))  # before loading: must agree with `turns_sideways`
    image.load()
    colour, alpha = _colour_and_alpha(image)
    rgb = _to_srgb(colour, image.info.get("icc_profile"))
    if alpha is not None:
        rgb = Image.composite(rgb, Image.new("RGB", rgb.size, _WHITE), alpha)
    if turn is not None:
        rgb = rgb.transpose(turn)
    return _rows(rgb)


def turns_sideways(image: Image.Image) -> bool:
    """True if the upright picture is as wide as the stored one is high. Reads the header only."""
    return _orientation(image) >= 5


def _rows(rgb: Image.Image, band_px: int = 256) -> NDArray[np.uint8]:
    """Pixels as an array of its own, copied in bands: at once, Pillow would hold two more whole copies."""
    pixels = np.empty((rgb.height, rgb.width, 3), dtype=np.uint8)
    for top in range(0, rgb.height, band_px):
        bottom = min(top + band_px, rgb.height)
        pixels[top:bottom] = np.asarray(rgb.crop((0, top, rgb.width, bottom)))
    return pixels


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


def _colour_and_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """An opaque 8-bit image in one of _PROFILE_MODES, and its coverage as "L" where it has any."""
    if image.mode.startswith("I;16"):
        return _from_16_bit(image)
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


def _from_16_bit(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    values = np.asarray(image).astype(np.uint32)
    tags = getattr(image, "tag_v2", {})
    white = 2 ** int(tags.get(_TIFF_BITS_PER_SAMPLE, (16,))[0]) - 1  # a 12-bit TIFF keeps its 0..4095
    grey = ((values * 255 + white // 2) // white).clip(0, 255).astype(np.uint8)
    if tags.get(_TIFF_PHOTOMETRIC) == _TIFF_WHITE_IS_ZERO:
        grey = 255 - grey
    clear = image.info.get("transparency")
    if not isinstance(clear, int):
        return Image.fromarray(grey), None
    return Image.fromarray(grey), Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8))


def _from_float(image: Image.Image) -> Image.Image:
    values = np.asarray(image, dtype=np.float32)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0.0 and high <= 1.0):  # false for NaN as well
        raise ImageModeUnsupported(f"float pixels must lie in 0..1, got {low:g}..{high:g}")
    return Image.fromarray(np.rint(values * 255).astype(np.uint8))


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB by the embedded profile; by convention (Lab: D50) where there is none or it does not fit."""
    if profile:
        try:
            return _through_profile(image, ImageCms.ImageCmsProfile(BytesIO(profile)))
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass  # a damaged or foreign profile (say, of RGB on a grey picture): shown as browsers show it
    if image.mode == "LAB":
        return _through_profile(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))
    return image.convert("RGB")


def _through_profile(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    converted = ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB")
    assert converted is not None  # None is the answer of `inPlace=True` only
    return converted
