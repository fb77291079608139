"""Pictures on which prefixes fail, free to print: all but the portrait are computed. Knows no tokenizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.pictures import Pixels
from tokenizer.images import read_image

SIDE_PX = 256
# Lines are drawn at this scale and reduced, so that they have soft edges as a scan has.
_FINE = 4
_WORDS = (
    "Every prefix of the stream is a picture. The first byte names one of many spectra, the next ones say "
    "which coefficients matter, plane by plane. Letters are made of thin strokes: high frequencies with "
    "little energy each, spread over the whole page. A coder that spends its bytes where most error is "
    "removed comes to them last, and a reader wants them first."
)


def failure_pictures() -> dict[str, Pixels]:
    """Label of each row -> picture."""
    return {
        "face": portrait(),
        "text": text(),
        "line art": line_art(),
        "noise": noise(),
        "flat\ncolours": flat_colours(),
    }


def portrait() -> Pixels:
    """Grace Hopper, photographed for the US Navy (public domain), as it ships with matplotlib."""
    from matplotlib import cbook

    return read_image(Path(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)).read_bytes())


def text() -> Pixels:
    """A headline and a paragraph in black on white."""
    page = Image.new("RGB", (SIDE_PX, SIDE_PX), "white")
    draw = ImageDraw.Draw(page)
    draw.text((12, 10), "Text fails first", "black", ImageFont.load_default(28))
    font = ImageFont.load_default(13)
    draw.multiline_text((12, 52), _wrapped(draw, font, SIDE_PX - 24), "black", font, spacing=4)
    return np.asarray(page)


def _wrapped(
    draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> str:
    lines = [""]
    for word in _WORDS.split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)


def line_art() -> Pixels:
    """A house of thin strokes: straight lines, circles, hatching."""
    page = Image.new("L", (SIDE_PX * _FINE, SIDE_PX * _FINE), 255)
    draw = ImageDraw.Draw(page)
    draw.rectangle(_fine(28, 110, 228, 236), outline=0, width=6)
    draw.line(_fine(18, 114, 128, 28, 238, 114), fill=0, width=6, joint="curve")
    for x in range(36, 224, 6):
        draw.line(_fine(x, 110, x + 3, 104, x + 6, 110), fill=0, width=3)
    for left in (48, 168):
        draw.rectangle(_fine(left, 140, left + 40, 180), outline=0, width=5)
        draw.line(_fine(left + 20, 140, left + 20, 180), fill=0, width=4)
        draw.line(_fine(left, 160, left + 40, 160), fill=0, width=4)
    draw.rectangle(_fine(108, 168, 148, 236), outline=0, width=5)
    for radius in (6, 10, 14):
        draw.ellipse(_fine(128 - radius, 80 - radius, 128 + radius, 80 + radius), outline=0, width=4)
    for x in range(30, 106, 5):
        right = min(x + 40, 106)
        draw.line(_fine(x, 234, right, 234 - (right - x)), fill=0, width=3)
    grey = page.resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    return np.asarray(grey.convert("RGB"))


def _fine(*coordinates_px: int) -> list[int]:
    return [_FINE * coordinate for coordinate in coordinates_px]


def noise() -> Pixels:
    """Every pixel and colour independent: 196,608 random bytes, which nobody can code in fewer."""
    return np.random.default_rng(0).integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)


def flat_colours() -> Pixels:
    """Shapes in saturated colours with hard edges, as in a logo."""
    page = Image.new("RGB", (SIDE_PX, SIDE_PX), (255, 220, 0))
    draw = ImageDraw.Draw(page)
    draw.rectangle((0, 128, 127, 255), (0, 60, 255))
    draw.polygon([(128, 255), (255, 255), (255, 96)], (230, 0, 40))
    draw.ellipse((64, 48, 192, 176), (0, 200, 80))
    draw.ellipse((100, 84, 156, 140), (255, 255, 255))
    draw.rectangle((122, 16, 134, 240), (0, 0, 0))
    return np.asarray(page)
