"""The way of a picture through the server: admit its memory, decode, queue, run, write. Knows no protobuf."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeVar

from serving.admission import Admission
from serving.batcher import MicroBatcher
from serving.commands import DecodeCommand, EncodeCommand, Encoded, OutputForm, Picture, Pixels, StopReason
from serving.config import BYTES_PER_PIXEL_IN_WORK, ServingConfig
from serving.metrics.server import Metrics
from serving.model import ServedModel
from serving.pictures import PicturePool
from serving.rate_limit import spend_picture
from serving.rates import apply_rate, rate_kind
from serving.status import InvalidRequest
from serving.trace import RequestTrace
from tokenizer.canvas import Size
from tokenizer.coding import Coding
from tokenizer.realism import Realism
from tokenizer.sequence import TokenSequence

Result = TypeVar("Result")

# Room for the fields around a picture in its reply.
_REPLY_OVERHEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class _EncodeKey:
    """What pictures must have in common to share a model call."""

    coding: Coding
    canvas_area_px: int


class Pipeline:
    """Runs commands on one model."""

    def __init__(
        self,
        model: ServedModel,
        config: ServingConfig,
        admission: Admission,
        metrics: Metrics,
        pictures: PicturePool,
    ) -> None:
        self.model = model
        self._config = config
        self._admission = admission
        self._metrics = metrics
        self._pictures = pictures
        self._encoder = MicroBatcher(
            "encode",
            self._encode_batch,
            max_batch_size=config.max_batch_size,
            max_queue_items=config.max_queue_items,
            metrics=metrics,
        )
        self._decoder = MicroBatcher(
            "decode",
            self._decode_batch,
            max_batch_size=config.max_batch_size,
            max_queue_items=config.max_queue_items,
            metrics=metrics,
        )

    def start(self) -> None:
        """Begin to work; needs a running event loop."""
        self._encoder.start()
        self._decoder.start()

    async def stop(self) -> None:
        """Stop after the batches in work."""
        await self._encoder.stop()
        await self._decoder.stop()
        self._pictures.stop()

    async def encode(self, command: EncodeCommand, trace: RequestTrace) -> Encoded:
        """All tokens of the picture, and the length that its rate asks for."""
        spend_picture(command.source.area_px)
        async with self._admission.memory(trace, "encode", _size_in_work(command.source)):
            pixels = await self._pixels(command, trace)
            key = _EncodeKey(command.coding, command.canvas_area_px)
            whole = await self._encoder.submit(pixels, key, trace)
        return self._rated(whole, command)

    async def decode(
        self, sequence: TokenSequence, form: OutputForm, realism: Realism, trace: RequestTrace
    ) -> Picture:
        """The picture of this very sequence, written in the asked form."""
        spend_picture(sequence.source.area_px)
        async with self._admission.memory(trace, "decode", _size_in_work(sequence.source)):
            pixels = await self._decoder.submit(sequence, realism, trace)
            with trace.measure("image_encode", "executing"):
                picture = await self._pictures.write(pixels, form)
        self._check_reply_size(picture)
        self._metrics.image("decode", form.format.value, sequence.source.area_px, len(picture.data))
        self._metrics.tokens("decode", sequence.length)
        return picture

    async def run_beside_loop(self, work: Callable[[], Result]) -> Result:
        """Run something short but not harmless in the threads for pictures."""
        return await self._pictures.run(work)

    def count_cut(self, command: DecodeCommand) -> None:
        """Note whether a stream came shortened."""
        if command.was_cut:
            self._metrics.decoded_cut_stream()

    async def _pixels(self, command: EncodeCommand, trace: RequestTrace) -> Pixels:
        if command.pixels is not None:
            pixels, size_bytes = command.pixels, command.pixels.nbytes
        else:
            assert command.file is not None  # parse_encode sets exactly one
            with trace.measure("image_decode", "decoding"):
                pixels = await self._pictures.read(command.file, self._config.image_limits)
            size_bytes = len(command.file)
        self._metrics.image("encode", command.format, command.source.area_px, size_bytes)
        return pixels

    def _rated(self, whole: TokenSequence, command: EncodeCommand) -> Encoded:
        kind = rate_kind(command.rate)
        try:
            encoded = apply_rate(whole, command.rate)
        except InvalidRequest:
            self._metrics.rate_target(kind, "unreachable")
            raise
        short = encoded.stop_reason is StopReason.QUALITY_UNREACHABLE
        self._metrics.rate_target(kind, "best_effort" if short else "met")
        return encoded

    def _check_reply_size(self, picture: Picture) -> None:
        limit = self._config.max_response_size_bytes - _REPLY_OVERHEAD_BYTES
        if len(picture.data) > limit:
            raise InvalidRequest(
                f"this picture takes {len(picture.data)} bytes as {picture.form.format.value}, and a reply "
                f"may have {limit}; ask for JPEG or WebP",
                reason="OUTPUT_TOO_LARGE",
                field="output.format",
            )

    def _encode_batch(self, key: Hashable, pictures: list[Pixels]) -> list[TokenSequence]:
        assert isinstance(key, _EncodeKey)
        return self.model.tokenizer.encode(pictures, coding=key.coding, canvas_area_px=key.canvas_area_px)

    def _decode_batch(self, realism: Hashable, sequences: list[TokenSequence]) -> list[Pixels]:
        assert isinstance(realism, Realism)
        return self.model.tokenizer.decode(
            sequences,
            max_pixels=self._config.max_image_area_px,
            realism=realism.strength,
            steps=realism.steps,
            seed=realism.seed,
        )


def _size_in_work(size: Size) -> int:
    return size.area_px * BYTES_PER_PIXEL_IN_WORK
