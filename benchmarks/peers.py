"""What people would use instead: JPEG, WebP, AVIF and JPEG 2000 as Pillow writes them, JPEG XL, placeholders.

Always whole files, headers included: that is what a user of these formats has to store.
"""

from __future__ import annotations

import io
import math
from functools import partial
from itertools import count, takewhile
from typing import Any

import PIL
from PIL import Image, features

from benchmarks import jpeg_xl, placeholders
from benchmarks.codec import Codec
from benchmarks.scores import BYTE_COUNTS

# JPEG 2000 reaches the size that it is told only roughly: the list goes on to this share of the largest file.
_J2K_OVERSHOOT = 1.8


def all_peers(largest_bytes: int = BYTE_COUNTS[-1]) -> list[Codec]:
    """Every peer that this installation has, for files of up to `largest_bytes`."""
    makers = {
        "webp": _webp,
        "avif": _avif,
        "jpg_2000": partial(_jpeg_2000, largest_bytes),
        "jpg": _jpeg,
    }
    supported = [make() for feature, make in makers.items() if features.check(feature)]
    return supported + jpeg_xl.available() + placeholders.available()


def missing_peers(codecs: list[Codec]) -> list[str]:
    """Names of the peers that are not installed here."""
    wanted = ("WebP", "AVIF", "JPEG 2000", "JPEG", "JPEG XL", "ThumbHash", "BlurHash")
    return [name for name in wanted if name not in {codec.name for codec in codecs}]


def _webp() -> Codec:
    return Codec(
        name="WebP",
        version=_version("webp"),
        modes=("method 6",),
        qualities=tuple(range(101)),
        encode=lambda image, mode, quality: _save(
            image, "WEBP", quality=quality, method=int(mode.split()[1])
        ),
        decode=_open,
    )


def _avif() -> Codec:
    # Speed 6 takes a fifth of the time of speed 4 at nearly the same size: enough to find the winner.
    return Codec(
        name="AVIF",
        version=_version("avif"),
        modes=("4:2:0 speed 6",),
        qualities=tuple(range(100)),
        encode=_encode_avif,
        decode=_open,
        refine_modes=("4:2:0 speed 4", "4:4:4 speed 4"),
    )


def _encode_avif(image: Image.Image, mode: str, quality: int) -> bytes:
    subsampling, _, speed = mode.split()
    return _save(image, "AVIF", quality=quality, subsampling=subsampling, speed=int(speed), max_threads=1)


def _jpeg() -> Codec:
    return Codec(
        name="JPEG",
        version=_version("libjpeg_turbo"),
        modes=("4:2:0", "4:4:4"),
        qualities=tuple(range(1, 96)),
        encode=lambda image, mode, quality: _save(
            image, "JPEG", quality=quality, subsampling=mode, optimize=True
        ),
        decode=_open,
    )


def _jpeg_2000(largest_bytes: int) -> Codec:
    # Every resolution level costs header bytes: few do best below 300 bytes, the default of 6 never does.
    modes = ("2 levels", "3 levels", "5 levels")
    return Codec(
        name="JPEG 2000",
        version=f"{_version('jpg_2000')}, {', '.join(modes)}",
        modes=modes,
        qualities=j2k_sizes_bytes(largest_bytes),
        encode=_encode_jpeg_2000,
        decode=_open,
    )


def j2k_sizes_bytes(largest_bytes: int) -> tuple[int, ...]:
    """What JPEG 2000 is told; 3 % apart is finer than the spacing of the sizes it makes."""
    sizes = (round(60 * 1.03**step) for step in count())
    return tuple(sorted(set(takewhile(lambda size: size <= _J2K_OVERSHOOT * largest_bytes, sizes))))


def _encode_jpeg_2000(image: Image.Image, mode: str, quality: int) -> bytes:
    """A naked codestream of about `quality` bytes."""
    raw_bytes = 3 * image.width * image.height
    return _save(
        image,
        "JPEG2000",
        no_jp2=True,
        irreversible=True,
        mct=1,
        quality_mode="rates",
        quality_layers=[max(1.0, raw_bytes / quality)],
        # More levels than halvings of the short side are refused.
        num_resolutions=max(1, min(int(mode.split()[0]), int(math.log2(min(image.size))))),
    )


def _version(feature: str) -> str:
    return f"{features.version(feature)}, Pillow {PIL.__version__}"


def _save(image: Image.Image, pillow_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, pillow_format, **options)
    return buffer.getvalue()


def _open(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as file:
        return file.convert("RGB")
