"""ImageTokenizer: pictures -> token sequences -> pictures. The runtime facade; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tokenizer.artifact import ModelArtifact
from tokenizer.bitstream import header_size_bytes
from tokenizer.budget import TokenBudget, choose_length
from tokenizer.canvas import Size, choose_canvas, is_canvas
from tokenizer.coding import Coding
from tokenizer.errors import (
    ArtifactError,
    BitstreamError,
    CodingUnsupported,
    FingerprintMismatch,
    ImageModeUnsupported,
    ImageTooLarge,
    RealismUnavailable,
)
from tokenizer.halting import resample_mse
from tokenizer.images import to_rgb_array
from tokenizer.onnx_session import OnnxSession
from tokenizer.preprocess import from_model_output, resize, to_model_input
from tokenizer.providers import DEFAULT_OPTIONS, ProviderFallback, ProviderOptions
from tokenizer.quality import psnr_db
from tokenizer.quality_search import quality_length
from tokenizer.realism import DEFAULT_STEPS, Realism, RealismDecoder
from tokenizer.sequence import TokenSequence
from tokenizer.stream_codec import StreamCodec
from tokenizer.token_layout import Arrays, SpectralTokens, open_layout

Pixels = NDArray[np.uint8]
MAX_PIXELS = 50_000_000
# Room for 2048 x 2048 of any aspect. A header can claim 4096 x 4096, whose bit order alone takes 1 GB.
MAX_CANVAS_AREA_PX = 5_000_000


class ImageTokenizer:
    """One model, ready to encode and decode. Thread-safe.

    >>> tokenizer = ImageTokenizer.from_pretrained()
    >>> picture = np.full((48, 64, 3), 200, np.uint8)
    >>> (tokens,) = tokenizer.encode([picture], TokenBudget(max_tokens=24))
    >>> (decoded,) = tokenizer.decode([tokens.prefix(8)])
    >>> tokens.length, decoded.shape
    (24, (48, 64, 3))
    """

    def __init__(
        self,
        artifact: ModelArtifact,
        providers: Sequence[str] = ("cpu",),
        num_threads: int = 1,
        provider_options: ProviderOptions = DEFAULT_OPTIONS,
    ) -> None:
        self.artifact = artifact
        self.encoder, self.decoder, halting = (
            OnnxSession(artifact.graphs[name], providers, num_threads, provider_options)
            for name in ("encoder.onnx", "decoder.onnx", "halting.onnx")
        )
        self.layout = open_layout(artifact, halting)
        self._realism = RealismDecoder.from_artifact(artifact, providers, num_threads, provider_options)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path = "default",
        *,
        providers: Sequence[str] = ("cpu",),
        num_threads: int = 1,
        provider_options: ProviderOptions = DEFAULT_OPTIONS,
    ) -> ImageTokenizer:
        """Load a shipped model by name, or a folder. Raises ArtifactError, ProviderError."""
        return cls(ModelArtifact.load(name_or_path), providers, num_threads, provider_options)

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.artifact.config.name

    @property
    def version(self) -> str:
        """Version of the model."""
        return self.artifact.config.version

    @property
    def fingerprint(self) -> str:
        """Eight hex digits in every stream of this model."""
        return self.artifact.fingerprint

    @property
    def digest(self) -> str:
        """SHA-256 of config and weights."""
        return self.artifact.digest

    @property
    def provider(self) -> str:
        """Execution provider that ONNX Runtime really gave."""
        return self.encoder.provider

    @property
    def provider_fallback(self) -> ProviderFallback | None:
        """The requested provider that ONNX Runtime did not give; None if it gave all of them."""
        return self.encoder.fallback

    @property
    def has_realism(self) -> bool:
        """True if this model can decode with realism above 0."""
        return self._realism is not None

    @property
    def codings(self) -> tuple[Coding, ...]:
        """Codings that this model's tokens have; the first is the default."""
        return self.layout.codings

    @property
    def canvas_area_px(self) -> int:
        """Area of the canvas that pictures are encoded at, where nobody asks for another."""
        return self.layout.canvas_area_px

    @property
    def codec(self) -> StreamCodec:
        """Coefficients <-> tokens of the spectral layout. Raises ArtifactError in the register layout."""
        if not isinstance(self.layout, SpectralTokens):
            raise ArtifactError(f"model {self.name} has no spectral tokens")
        return self.layout.codec

    def max_tokens(self, canvas: Size) -> int:
        """Tokens of a whole stream on this canvas; of the shipped models 2048 at 256 x 256."""
        return self.layout.max_tokens(canvas)

    def encode(
        self,
        images: Sequence[Pixels | Image.Image],
        budget: TokenBudget | None = None,
        *,
        coding: Coding | None = None,
        canvas_area_px: int | None = None,
    ) -> list[TokenSequence]:
        """Tokenize pictures of any size: uint8 HWC arrays (grey HW is fine) or Pillow images.

        Without a budget every token is kept; cut later with `prefix`. One pass serves every budget. The
        coding `fixed` gives every bit one meaning by its place, for language models; `range` is shorter, and
        the default where the model has it. `canvas_area_px` is by default what the model was made for.
        Alpha is laid on white, EXIF rotation applied. Raises ImageError, InvalidBudget, CodingUnsupported.
        """
        _refuse_single(images)
        coding = self.codings[0] if coding is None else Coding(coding)
        self._check_coding(coding)
        pictures = [as_pixels(image) for image in images]
        sources = [Size(picture.shape[1], picture.shape[0]) for picture in pictures]
        area_px = canvas_area_px or self.canvas_area_px
        canvases = [choose_canvas(source, area_px) for source in sources]
        for canvas in canvases:
            _check_canvas(canvas)
        fitted = [resize(p, canvas) for p, canvas in zip(pictures, canvases, strict=True)]
        encoded: list[TokenSequence | None] = [None] * len(pictures)
        for canvas, members in _group(canvases).items():
            batch = to_model_input([fitted[i] for i in members])
            out = self.encoder.run(image=batch, **self.layout.canvas_inputs(canvas))
            for row, i in enumerate(members):
                one = {name: value[row] for name, value in out.items()}
                whole = self._tokenize(one, pictures[i], fitted[i], coding)
                encoded[i] = self.cut(whole, budget, pictures[i])
        return [sequence for sequence in encoded if sequence is not None]

    def decode(
        self,
        sequences: Sequence[TokenSequence],
        *,
        max_pixels: int = MAX_PIXELS,
        realism: float = 0.0,
        steps: int = DEFAULT_STEPS,
        seed: int = 0,
    ) -> list[Pixels]:
        """Pictures at their source size from sequences of any length.

        `realism` 0 shows the mean of all pictures with these tokens: nearest to the source, and smooth. Up
        to 1 it adds detail that could be there, chosen by `seed`, in 1..8 `steps` of the refiner.

        Raises FingerprintMismatch, BitstreamError (more tokens than the canvas has, or no canvas at all),
        CodingUnsupported, ImageTooLarge, InvalidRealism, RealismUnavailable.
        """
        wanted = Realism(realism, steps, seed)
        if wanted.strength > 0 and self._realism is None:
            raise RealismUnavailable(f"model {self.name} has no refiner: it decodes with realism 0 only")
        for sequence in sequences:
            self.check(sequence, max_pixels)
        decoded: list[Pixels | None] = [None] * len(sequences)
        for canvas, members in _group([s.canvas for s in sequences]).items():
            images = self._synthesize([sequences[i] for i in members], canvas, wanted)
            for image, i in zip(images, members, strict=True):
                decoded[i] = resize(image, sequences[i].source)
        return [pixels for pixels in decoded if pixels is not None]

    def cut(
        self,
        whole: TokenSequence,
        budget: TokenBudget | None,
        image: Pixels | Image.Image,
        *,
        bare: bool = False,
    ) -> TokenSequence:
        """The prefix of the picture's stream that keeps a budget; `bare` streams spend no bytes on a header.

        Only the modes `verify` and `exact` look at the image, and decode. Raises InvalidBudget, ImageError.
        """
        if budget is None or budget.min_psnr_db is None:
            header_bytes = 0 if bare else header_size_bytes(whole.source, whole.canvas)
            length = choose_length(
                budget,
                available_tokens=whole.length,
                header_size_bytes=header_bytes,
                source_area_px=whole.source.area_px,
                curve=whole.curve,
            )
            return whole.prefix(length)

        def measure(length: int) -> float:
            (decoded,) = self.decode([whole.prefix(length)])
            return psnr_db(as_pixels(image), decoded)

        return whole.prefix(quality_length(whole, budget, measure))

    def check(self, sequence: TokenSequence, max_pixels: int = MAX_PIXELS) -> None:
        """Raise what `decode` would raise for this sequence, without any work."""
        if sequence.fingerprint != self.fingerprint:
            raise FingerprintMismatch(
                f"made by model {sequence.fingerprint}, this is {self.fingerprint} ({self.name})"
            )
        self._check_coding(sequence.coding)
        if not is_canvas(sequence.canvas) or min(sequence.source.width_px, sequence.source.height_px) < 1:
            raise BitstreamError(
                f"source {sequence.source} must not be empty, "
                f"nor canvas {sequence.canvas} other than multiples of 16 in 16..4096"
            )
        if max(sequence.source.area_px, sequence.canvas.area_px) > max_pixels:
            raise ImageTooLarge(
                f"claims {sequence.source} on canvas {sequence.canvas}, limit {max_pixels} pixels"
            )
        _check_canvas(sequence.canvas)
        available = self.max_tokens(sequence.canvas)
        if sequence.length > available:
            raise BitstreamError(
                f"{sequence.length} tokens, but canvas {sequence.canvas} has {available} at most"
            )

    def _check_coding(self, coding: Coding) -> None:
        if coding not in self.codings:
            raise CodingUnsupported(
                f"model {self.name} has no coding {coding.value!r}; allowed: {', '.join(self.codings)}"
            )

    def _tokenize(
        self, out: dict[str, NDArray[np.float32]], picture: Pixels, fitted: Pixels, coding: Coding
    ) -> TokenSequence:
        """All tokens and the curve of one picture, from what the encoder graph put out."""
        source, canvas = (Size(pixels.shape[1], pixels.shape[0]) for pixels in (picture, fitted))
        lost = resample_mse(picture, fitted)
        tokens, curve = self.layout.tokenize(out, canvas, coding, fitted, lost)
        return TokenSequence(tokens, source, self.fingerprint, canvas, curve, coding)

    def _synthesize(self, sequences: Sequence[TokenSequence], canvas: Size, realism: Realism) -> Pixels:
        inputs = self.decoder_inputs(sequences, canvas)
        image = self.decoder.run(**inputs)["image"]
        if self._realism is not None and realism.strength > 0:
            image = self._realism.refine(image, inputs["length"], inputs["expected_mse"], realism)
        return from_model_output(image)

    def decoder_inputs(self, sequences: Sequence[TokenSequence], canvas: Size) -> Arrays:
        """What the decoder graph is given for these sequences, which all are of one canvas."""
        return self.layout.decoder_inputs(sequences, canvas)


def as_pixels(image: object) -> Pixels:
    """uint8 HWC from what a caller gives. Raises ImageModeUnsupported, ImageError."""
    if isinstance(image, Image.Image):
        return to_rgb_array(image)
    if isinstance(image, str | bytes | Path):
        raise ImageModeUnsupported("give pixels or a Pillow image; tokenizer.images.read_image reads files")
    pixels: NDArray[Any] = np.asarray(image)
    if pixels.dtype != np.uint8:
        raise ImageModeUnsupported(f"arrays must be uint8 (0..255), got {pixels.dtype}")
    given = pixels.shape
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or 0 in pixels.shape:
        raise ImageModeUnsupported(f"arrays must be H x W, or H x W x 1, 3 or 4, and not empty, got {given}")
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    return pixels if pixels.shape[2] == 3 else to_rgb_array(Image.fromarray(pixels, "RGBA"))


def _refuse_single(images: object) -> None:
    """One array in place of a list would be taken for many grey rows, without a word."""
    one_array = isinstance(images, np.ndarray) and images.ndim != 4
    if one_array or isinstance(images, Image.Image | str | bytes | Path):
        raise ImageModeUnsupported(f"encode takes a list of pictures, got one {type(images).__name__}")


def _check_canvas(canvas: Size) -> None:
    if canvas.area_px > MAX_CANVAS_AREA_PX:
        raise ImageTooLarge(f"canvas {canvas} has more than {MAX_CANVAS_AREA_PX} pixels")


def _group(canvases: Sequence[Size]) -> dict[Size, list[int]]:
    groups: dict[Size, list[int]] = {}
    for index, canvas in enumerate(canvases):
        groups.setdefault(canvas, []).append(index)
    return groups
