"""report.png: histograms of lengths and quality; the hardest and easiest pictures beside their sources."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from serving.batch.atomic import write_bytes
from serving.batch.bar_chart import GRID, INK, MUTED, Histogram, draw_histogram, font
from serving.batch.bins import length_edges, psnr_edges
from serving.batch.extreme_pictures import Pair, read_pairs
from serving.batch.options import EncodeOptions
from serving.batch.reports import REPORT, Totals
from tokenizer.image_tokenizer import ImageTokenizer

PICTURE = "report.png"
_PAPER = (250, 250, 247)
_MARGIN_PX, _GAP_PX, _SIDE_PX, _PAIRS_PER_ROW = 28, 8, 172, 4
_PAIR_PX = 2 * _SIDE_PX + _GAP_PX
_BETWEEN_PX = 26
_WIDTH_PX = 2 * _MARGIN_PX + _PAIRS_PER_ROW * _PAIR_PX + (_PAIRS_PER_ROW - 1) * _BETWEEN_PX
_HEAD_PX, _CHART_PX, _BLOCK_HEAD_PX, _CAPTION_PX = 88, 310, 42, 58
# More bars than this and each is a line.
_MAX_BARS = 40
_MAX_REASONS = 3


def write_report_picture(folder: Path, options: EncodeOptions, totals: Totals) -> None:
    """The picture beside report.json, if that is newer. Whatever happens here, a job that is done is done."""
    path = folder / PICTURE
    if path.exists() and path.stat().st_mtime >= (folder / REPORT).stat().st_mtime:
        return
    try:
        decoder = ImageTokenizer.from_pretrained(options.model)
        hardest, easiest = (
            read_pairs(folder, options, decoder, extremes, _SIDE_PX)
            for extremes in (totals.hardest, totals.easiest)
        )
        out = io.BytesIO()
        title = f"tessera batch encode, model {decoder.name} {decoder.version}"
        draw_report(title, totals, hardest, easiest).save(out, "PNG")
        write_bytes(path, out.getvalue())
    except Exception as error:  # the tokens are written: nothing here is worth a failed job
        print(f"warning: no {PICTURE}: {type(error).__name__}: {error}", file=sys.stderr)


def draw_report(title: str, totals: Totals, hardest: Sequence[Pair], easiest: Sequence[Pair]) -> Image.Image:
    """The sheet."""
    blocks = [("Hardest", "lowest", hardest), ("Easiest", "highest", easiest)]
    blocks = [block for block in blocks if block[2]]
    height = (
        _HEAD_PX + _CHART_PX + _BETWEEN_PX + sum(_block_px(pairs) for _, _, pairs in blocks) + 2 * _MARGIN_PX
    )
    sheet = Image.new("RGB", (_WIDTH_PX, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN_PX, _MARGIN_PX), title, INK, font(26))
    draw.text((_MARGIN_PX, _MARGIN_PX + 38), _summary(totals), MUTED, font(17))
    top = _MARGIN_PX + _HEAD_PX
    middle = _WIDTH_PX // 2
    draw_histogram(draw, (_MARGIN_PX, top, middle - _MARGIN_PX, top + _CHART_PX), lengths_chart(totals))
    if totals.psnr_db:
        box = (middle + _MARGIN_PX, top, _WIDTH_PX - _MARGIN_PX, top + _CHART_PX)
        draw_histogram(draw, box, psnr_chart(totals))
    top += _CHART_PX + _BETWEEN_PX
    for name, why, pairs in blocks:
        _draw_block(sheet, draw, top, name, why, pairs)
        top += _block_px(pairs)
    return sheet


def lengths_chart(totals: Totals) -> Histogram:
    """Half octaves from the shortest to the longest; empty ones, too."""
    edges = length_edges(totals.lengths)
    counts = [totals.lengths.get(str(low), 0) for low in edges[:-1]]
    return Histogram("Length", "tokens of a picture", [str(edge) for edge in edges], counts)


def psnr_chart(totals: Totals) -> Histogram:
    """Half decibels, or wider bins where there would be too many."""
    edges = psnr_edges(totals.psnr_db)
    counts = [totals.psnr_db.get(f"{low:g}", 0) for low in edges[:-1]]
    every = math.ceil(len(counts) / _MAX_BARS)
    wider = [sum(counts[at : at + every]) for at in range(0, len(counts), every)]
    step_db = every * (edges[1] - edges[0])
    names = [f"{edges[0] + place * step_db:g}" for place in range(len(wider) + 1)]
    return Histogram("Predicted quality", "PSNR, dB", names, wider)


def _summary(totals: Totals) -> str:
    each = max(1, totals.pictures)
    facts = [
        f"{totals.pictures:,} pictures",
        f"{totals.tokens / each:.1f} tokens each",
        f"{totals.size_bytes / each:.1f} bytes each",
        *([f"{totals.short:,} short of the asked quality"] if totals.short else ()),
        f"{totals.errors:,} bad" if totals.errors else "none bad",
        *(f"{count:,} {reason}" for reason, count in totals.reasons.most_common(_MAX_REASONS)),
    ]
    return "   ".join(facts)


def _block_px(pairs: Sequence[Pair]) -> int:
    rows = math.ceil(len(pairs) / _PAIRS_PER_ROW)
    return _BLOCK_HEAD_PX + rows * (_SIDE_PX + _CAPTION_PX)


def _draw_block(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, top: int, name: str, why: str, pairs: Sequence[Pair]
) -> None:
    draw.text((_MARGIN_PX, top), name, INK, font(20))
    beside = _MARGIN_PX + draw.textlength(name, font(20)) + 12
    draw.text((beside, top + 4), f"{why} predicted quality; source left, decoded right", MUTED, font(15))
    for place, pair in enumerate(pairs):
        row, column = divmod(place, _PAIRS_PER_ROW)
        left = _MARGIN_PX + column * (_PAIR_PX + _BETWEEN_PX)
        _draw_pair(sheet, draw, left, top + _BLOCK_HEAD_PX + row * (_SIDE_PX + _CAPTION_PX), pair)


def _draw_pair(sheet: Image.Image, draw: ImageDraw.ImageDraw, left: int, top: int, pair: Pair) -> None:
    halves = ((pair.source, "source is gone"), (pair.decoded, "cannot be decoded"))
    for place, (picture, missing) in enumerate(halves):
        x = left + place * (_SIDE_PX + _GAP_PX)
        if picture is None:
            draw.rectangle((x, top, x + _SIDE_PX - 1, top + _SIDE_PX - 1), GRID)
            draw.text((x + _SIDE_PX // 2, top + _SIDE_PX // 2), missing, MUTED, font(15), anchor="mm")
        else:
            y = top + _SIDE_PX - picture.height
            sheet.paste(picture, (x, y))
            # A white picture would be lost on white paper.
            draw.rectangle((x - 1, y - 1, x + picture.width, y + picture.height), outline=GRID)
    facts = [f"{pair.facts.size_bytes} bytes", f"predicted {pair.facts.predicted_psnr_db:.1f} dB"]
    if pair.psnr_db is not None:
        facts.append(f"is {pair.psnr_db:.1f} dB")
    draw.text((left, top + _SIDE_PX + 7), _fitted(draw, pair.facts.key), INK, font(14))
    draw.text((left, top + _SIDE_PX + 25), ", ".join(facts), MUTED, font(14))


def _fitted(draw: ImageDraw.ImageDraw, key: str) -> str:
    """The key, or its end, which tells it from its neighbours."""
    shown = key
    while len(key) > 1 and draw.textlength(shown, font(14)) > _PAIR_PX:
        key = key[1:]
        shown = f"...{key}"
    return shown
