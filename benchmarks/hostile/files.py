"""Pictures in every dress, damage to any file, and bombs: small files that claim to be huge."""

from __future__ import annotations

import io
import random
import struct
import zlib

import numpy as np
from PIL import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SCAN_MARKER, _END_MARKER = b"\xff\xda", b"\xff\xd9"


def pictures() -> dict[str, bytes]:
    """Small files of every kind that Pillow writes; about half are kinds that the service refuses."""
    rgb = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8))
    dresses = {
        "png rgb": (rgb, "PNG", {}),
        "png palette": (rgb.convert("P"), "PNG", {}),
        "png grey alpha": (rgb.convert("LA"), "PNG", {}),
        "png rgba": (rgb.convert("RGBA"), "PNG", {}),
        "png 16 bit": (Image.fromarray(np.arange(960, dtype=np.uint16).reshape(24, 40) * 68), "PNG", {}),
        "png animated": (rgb, "PNG", {"save_all": True, "append_images": [rgb.rotate(90)]}),
        "jpeg": (rgb, "JPEG", {}),
        "jpeg progressive": (rgb, "JPEG", {"progressive": True}),
        "jpeg grey": (rgb.convert("L"), "JPEG", {}),
        "jpeg cmyk": (rgb.convert("CMYK"), "JPEG", {}),
        "webp": (rgb, "WEBP", {}),
        "webp lossless": (rgb, "WEBP", {"lossless": True}),
        "webp animated": (rgb, "WEBP", {"save_all": True, "append_images": [rgb.rotate(90)]}),
        "gif": (rgb.convert("P"), "GIF", {}),
        "tiff": (rgb, "TIFF", {}),
        "bmp": (rgb, "BMP", {}),
        "eps": (rgb, "EPS", {}),
        "ppm": (rgb, "PPM", {}),
    }
    return {name: _written(*dress) for name, dress in dresses.items()}


def damaged(draw: random.Random, data: bytes) -> bytes:
    """The bytes after one to four accidents: flips, cuts, insertions, doubled blocks, huge lengths."""
    accidents = (_flip, _overwrite, _cut, _insert, _double, _huge_length)
    for _ in range(draw.randint(1, 4)):
        if not data:
            break
        data = draw.choice(accidents)(draw, data)
    return data


def spliced(draw: random.Random, first: bytes, second: bytes) -> bytes:
    """The beginning of one file and the end of another."""
    return first[: draw.randrange(len(first) + 1)] + second[draw.randrange(len(second) + 1) :]


def bombs() -> dict[str, bytes]:
    """Files that cost little to send and would cost much to decode; every one must be refused."""
    tiny = Image.new("RGB", (8, 8))
    return {
        "PNG of 50,000 x 50,000": png(50_000, 50_000),
        "PNG of 1 x 2,000,000": png(1, 2_000_000),
        "PNG of 16,384 x 16,384, above the area": png(16_384, 16_384),
        "PNG whose text unpacks to 256 MiB": png(8, 8, _text_bomb()),
        "PNG of 60 texts of 1 MiB": png(8, 8, 60 * _chunk(b"zTXt", b"Comment\0\0" + _packed(2**20 - 1))),
        "animated PNG of 2,000 frames": _written(
            tiny, "PNG", {"save_all": True, "append_images": _blinking(2000)}
        ),
        "animated WebP of 500 frames": _written(
            tiny, "WEBP", {"save_all": True, "append_images": _blinking(500)}
        ),
        "JPEG of 65,500 x 65,500": _with_jpeg_size(_written(tiny, "JPEG", {}), 65_500, 65_500),
        "progressive JPEG of 1,000 scans": scan_bomb(),
        "EPS named PNG": PNG_SIGNATURE + _written(tiny, "EPS", {}),
        "SVG": b"<svg xmlns='http://www.w3.org/2000/svg' width='99999' height='99999'/>",
        "TIFF of 50,000 x 50,000": _tiff_header(50_000),
    }


def scan_bomb(scans: int = 1000) -> bytes:
    """16 megapixels of one colour whose last, empty scan comes again and again: ten seconds of decoding."""
    flat = Image.new("RGB", (4096, 4096), (90, 120, 30))
    whole = _written(flat, "JPEG", {"progressive": True})
    last = whole.rindex(_SCAN_MARKER)
    scan = whole[last : whole.rindex(_END_MARKER)]
    return whole[:last] + scan * scans + _END_MARKER


def png(width_px: int, height_px: int, *chunks: bytes) -> bytes:
    """A PNG with this header, these chunks, and next to no pixels."""
    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    body = (_chunk(b"IHDR", header), *chunks, _chunk(b"IDAT", zlib.compress(bytes(64))), _chunk(b"IEND", b""))
    return PNG_SIGNATURE + b"".join(body)


def _text_bomb() -> bytes:
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(2**20)) for _ in range(256)) + packer.flush()
    return _chunk(b"zTXt", b"Comment\0\0" + packed)


def _packed(size_bytes: int) -> bytes:
    return zlib.compress(bytes(size_bytes), 9)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _tiff_header(side_px: int) -> bytes:
    tags = [(256, 4, 1, side_px), (257, 4, 1, side_px), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4)


def _with_jpeg_size(data: bytes, width_px: int, height_px: int) -> bytes:
    frame = data.index(b"\xff\xc0")
    return data[: frame + 5] + struct.pack(">HH", height_px, width_px) + data[frame + 9 :]


def _blinking(frames: int) -> list[Image.Image]:
    return [Image.new("RGB", (8, 8), (index % 256, index // 256, 0)) for index in range(1, frames)]


def _written(image: Image.Image, format: str, settings: dict[str, object]) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **settings)
    return out.getvalue()


def _flip(draw: random.Random, data: bytes) -> bytes:
    place = draw.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << draw.randrange(8))]) + data[place + 1 :]


def _overwrite(draw: random.Random, data: bytes) -> bytes:
    place = draw.randrange(len(data))
    block = draw.randbytes(draw.randint(1, 16))
    return data[:place] + block + data[place + len(block) :]


def _cut(draw: random.Random, data: bytes) -> bytes:
    return data[: draw.randrange(len(data))]


def _insert(draw: random.Random, data: bytes) -> bytes:
    place = draw.randrange(len(data))
    return data[:place] + draw.randbytes(draw.randint(1, 64)) + data[place:]


def _double(draw: random.Random, data: bytes) -> bytes:
    start = draw.randrange(len(data))
    end = min(len(data), start + draw.randint(1, 256))
    return data[:end] + data[start:end] * draw.randint(1, 8) + data[end:]


def _huge_length(draw: random.Random, data: bytes) -> bytes:
    """Four bytes that a parser may take for a length."""
    place = draw.randrange(len(data))
    length = draw.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1))
    return data[:place] + struct.pack(draw.choice((">I", "<I")), length) + data[place + 4 :]
