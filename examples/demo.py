"""The whole product in one run: start a server, send pictures, cut their streams, see what comes back.

    python examples/demo.py [--image PATH ...] [--out demo]

Writes OUT/contact_sheet.png and prints a table. Each picture is encoded once; its stream is cut here, with
`stream[:n]` and without the model, and each piece is decoded by the server. Headers count as bytes, too.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, perf_counter, sleep

import numpy as np
from contact_sheet import Cell, Row, draw_sheet
from numpy.typing import NDArray
from PIL import Image
from rich import box
from rich.console import Console
from rich.table import Table
from scenes import scenes
from webp_peer import WebpPicture, best_webp

from serving.client import TokenizerClient
from tokenizer import TokenizerError, TokenSequence
from tokenizer.images import SERVICE_FORMATS, read_image, sniff_format, write_image
from tokenizer.quality import psnr_db

CUTS_BYTES = (24, 64, 128, 512)
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 40.0
console = Console()


@dataclass(frozen=True, slots=True)
class Piece:
    """The first bytes of one stream, and the picture that came back for them."""

    size_bytes: int
    tokens: int
    pixels: NDArray[np.uint8]
    psnr_db: float
    predicted_psnr_db: float | None
    decode_ms: float
    webp: WebpPicture | None


@dataclass(frozen=True, slots=True)
class Shown:
    """One picture, what its encoding took, and its pieces from short to whole."""

    name: str
    source: NDArray[np.uint8]
    encode_ms: float
    pieces: Sequence[Piece]


def main() -> int:
    arguments = _parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    try:
        pictures = _user_pictures(arguments.image) if arguments.image else _computed_pictures()
        with running_server(arguments.out, arguments.model) as (process, target):
            with TokenizerClient(target) as client:
                shown = [_show(client, name, data) for name, data in pictures.items()]
            exit_code = stop_server(process)
    except (OSError, TokenizerError) as error:
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    sheet = arguments.out / "contact_sheet.png"
    _sheet(shown).save(sheet)
    console.print(_table(shown))
    console.print(f"server stopped with exit code {exit_code}\ncontact sheet: {sheet}", markup=False)
    return 0 if exit_code == 0 else 1


@contextmanager
def running_server(folder: Path, model: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server process on a free port, and its address once it serves; killed if it outlives the block."""
    port_file, log_file = folder / "ports.json", folder / "server.log"
    port_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "serving", "serve", "--port", "0", "--metrics-port", "0"]
    with open(log_file, "wb") as log:
        process = subprocess.Popen(
            [*command, "--port-file", str(port_file), "--model", model], stdout=log, stderr=subprocess.STDOUT
        )
        try:
            with console.status("starting the server"):
                target = _wait_for_target(process, port_file, log_file)
            console.print(f"server ready at {target}", markup=False)
            yield process, target
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def stop_server(process: subprocess.Popen[bytes]) -> int:
    """SIGTERM, as an operator would; the server drains and ends by itself."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise OSError(f"the server did not stop within {STOP_TIMEOUT_S:g} s of SIGTERM") from error


def _wait_for_target(process: subprocess.Popen[bytes], port_file: Path, log_file: Path) -> str:
    deadline_s = monotonic() + START_TIMEOUT_S
    while monotonic() < deadline_s:
        if port_file.exists():
            return str(json.loads(port_file.read_text())["target"])
        if process.poll() is not None:
            raise OSError(f"the server ended with {process.returncode}:\n{log_file.read_text()[-600:]}")
        sleep(0.05)
    raise OSError(f"the server was not ready within {START_TIMEOUT_S:g} s; see {log_file}")


def _show(client: TokenizerClient, name: str, data: bytes) -> Shown:
    source = read_image(data)
    started_s = perf_counter()
    whole = client.encode(data)
    encode_ms = 1e3 * (perf_counter() - started_s)
    stream = whole.to_bytes()
    cuts = [size for size in CUTS_BYTES if size < len(stream)] + [len(stream)]
    with console.status(f"decoding {name}"):
        pieces = [_piece(client, source, whole, stream[:size]) for size in cuts]
    return Shown(name, source, encode_ms, pieces)


def _piece(client: TokenizerClient, source: NDArray[np.uint8], whole: TokenSequence, data: bytes) -> Piece:
    started_s = perf_counter()
    pixels = read_image(client.decode(data, format="png"))
    decode_ms = 1e3 * (perf_counter() - started_s)
    length = TokenSequence.from_bytes(data).length
    return Piece(
        size_bytes=len(data),
        tokens=length,
        pixels=pixels,
        psnr_db=psnr_db(source, pixels),
        predicted_psnr_db=whole.prefix(length).predicted_psnr_db,
        decode_ms=decode_ms,
        webp=best_webp(source, len(data)),
    )


def _computed_pictures() -> dict[str, bytes]:
    with console.status("computing three scenes"):
        return {name: write_image(pixels, "png") for name, pixels in scenes().items()}


def _user_pictures(paths: Sequence[Path]) -> dict[str, bytes]:
    """The files as they are; formats that the server does not take become PNG."""
    pictures = {}
    for path in paths:
        data = path.read_bytes()
        pictures[path.name] = (
            data if sniff_format(data) in SERVICE_FORMATS else write_image(read_image(data), "png")
        )
    return pictures


def _sheet(shown: Sequence[Shown]) -> Image.Image:
    rows = []
    for picture in shown:
        height, width = picture.source.shape[:2]
        original = Cell(f"{width}x{height}, {width * height * 3:,} bytes raw", picture.source)
        ours = [Cell(_caption(piece), piece.pixels) for piece in picture.pieces]
        rows.append(Row("Tessera", [original, *ours]))
        rows.append(
            Row("WebP\nat the\nsame\nbytes", [None, *(_webp_cell(piece) for piece in picture.pieces)])
        )
    heads = ["original", *(f"{size} bytes" for size in CUTS_BYTES), "whole stream"]
    return draw_sheet("One encoding, cut at any byte, decoded by the server", heads, rows)


def _caption(piece: Piece) -> str:
    return f"{piece.size_bytes} bytes, {piece.psnr_db:.1f} dB"


def _webp_cell(piece: Piece) -> Cell:
    if piece.webp is None:
        return Cell("no WebP this small")
    return Cell(f"{piece.webp.size_bytes} bytes, {piece.webp.psnr_db:.1f} dB", piece.webp.pixels)


def _table(shown: Sequence[Shown]) -> Table:
    table = Table(
        box=box.SIMPLE, pad_edge=False, title="PSNR in dB, times in ms with the network, whole files"
    )
    table.add_column("picture", no_wrap=True, overflow="ellipsis", max_width=16)
    for name in ("bytes", "tokens", "PSNR", "predicted", "WebP", "encode", "decode"):
        table.add_column(name, justify="right", no_wrap=True, min_width=max(5, len(name)))
    for picture in shown:
        for index, piece in enumerate(picture.pieces):
            table.add_row(
                picture.name if index == 0 else "",
                str(piece.size_bytes),
                str(piece.tokens),
                _decibels(piece.psnr_db),
                _decibels(piece.predicted_psnr_db),
                _decibels(piece.webp.psnr_db if piece.webp else None),
                f"{picture.encode_ms:.0f}" if index == 0 else "",
                f"{piece.decode_ms:.0f}",
                end_section=index == len(picture.pieces) - 1,
            )
    return table


def _decibels(value: float | None) -> str:
    return "-" if value is None or math.isinf(value) else f"{value:.2f}"


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Start a server, send pictures, cut their streams, look.")
    parser.add_argument("--image", type=Path, action="append", help="your picture (may be given again)")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the sheet and the log")
    parser.add_argument("--model", default="default", help="name of a shipped model, or a folder")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
