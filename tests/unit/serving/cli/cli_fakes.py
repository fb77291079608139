"""What the tests of the command run: a tokenizer without a model, and the command itself in this process."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from serving.cli.app import app
from tokenizer.canvas import Size, choose_canvas
from tokenizer.coding import DEFAULT_CODING, Coding
from tokenizer.distortion import DistortionCurve
from tokenizer.errors import FingerprintMismatch
from tokenizer.image_tokenizer import ImageTokenizer
from tokenizer.sequence import TokenSequence

FINGERPRINT = "00c0ffee"


class ThumbnailTokenizer:
    """Same methods as ImageTokenizer; 192 tokens that are an 8x8 thumbnail, and a made-up curve.

    In range coding the thumbnail is inverted: taken for fixed, it shows the negative.
    """

    name, version, fingerprint, digest = "thumbnail", "1", FINGERPRINT, FINGERPRINT * 8
    has_realism = True
    codings = (Coding.RANGE, Coding.FIXED)
    canvas_area_px = 65_536

    def max_tokens(self, canvas: Size) -> int:
        return 192

    def encode(
        self,
        images: Sequence[np.ndarray],
        *,
        coding: Coding | None = None,
        canvas_area_px: int | None = None,
    ) -> list[TokenSequence]:
        coding, canvas_area_px = coding or DEFAULT_CODING, canvas_area_px or self.canvas_area_px
        curve = DistortionCurve((1, 192), (10.0, 30.0), {0.9: (1.0, 1.0)})
        return [
            TokenSequence(
                thumbnail_tokens(Image.fromarray(image).resize((8, 8)).tobytes(), coding),
                source := Size(image.shape[1], image.shape[0]),
                FINGERPRINT,
                choose_canvas(source, canvas_area_px),
                curve,
                coding,
            )
            for image in images
        ]

    cut = ImageTokenizer.cut

    def decode(
        self, sequences: Sequence[TokenSequence], *, realism: float = 0.0, steps: int = 4, seed: int = 0
    ) -> list[np.ndarray]:
        """Realism inverts the picture, so that a test sees whether it was asked for."""
        if realism:
            return [255 - picture for picture in self.decode(sequences)]
        for sequence in sequences:
            if sequence.fingerprint != FINGERPRINT:
                raise FingerprintMismatch(f"made by {sequence.fingerprint}, this is {FINGERPRINT}")
        return [
            np.asarray(
                Image.frombytes(
                    "RGB", (8, 8), thumbnail_tokens(sequence.tokens, sequence.coding).ljust(192, b"\x80")
                ).resize((sequence.source.width_px, sequence.source.height_px))
            )
            for sequence in sequences
        ]


def thumbnail_tokens(values: bytes, coding: Coding) -> bytes:
    """Grey values to tokens of the coding, and back."""
    return bytes(255 - value for value in values) if coding is Coding.RANGE else values


class Ran:
    """Exit code and streams of a command."""

    def __init__(self, *arguments: str, stdin: bytes | None = None) -> None:
        result = CliRunner().invoke(app, list(arguments), input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        self.code = result.exit_code
        self.out, self.err = result.stdout, result.stderr
        self.out_bytes = result.stdout_bytes
