"""The way of a picture through the server: admit its memory, decode, queue, run, write. Knows no protobuf."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from operator import attrgetter

from serving.admission import Admission
from serving.batcher import MicroBatcher
from serving.commands import (
    DecodeCommand,
    EncodeCommand,
    Encoded,
    OutputForm,
    Picture,
    Pixels,
    StopReason,
    Tokenizer,
)
from serving.config import BYTES_PER_PIXEL_IN_WORK, ServingConfig
from serving.metrics.model import ModelMetrics
from serving.metrics.server import Metrics
from serving.metrics.sets import DECODING_METHODS, ENCODING_METHODS
from serving.model import ServedModel
from serving.pictures import PicturePool
from serving.rate_limit import spend_picture
from serving.rates import apply_rate, rate_kind
from serving.status import InvalidRequest, is_our_failure
from serving.trace import RequestTrace
from tokenizer.canvas import Size, choose_canvas
from tokenizer.coding import Coding
from tokenizer.realism import Realism
from tokenizer.sequence import TokenSequence

# Room for the fields around a picture in its reply.
_REPLY_OVERHEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class _EncodeKey:
    """What pictures must have in common to share a model call."""

    coding: Coding
    canvas_area_px: int
    canvas: Size

    @property
    def cost_class(self) -> Hashable:
        """Equal for pictures that cost about the same: a canvas class spans a factor of two in area."""
        return self.coding, self.canvas.area_px.bit_length()


@dataclass(frozen=True, slots=True)
class _DecodeKey:
    """What streams must have in common to share a model call."""

    canvas: Size
    realism: Realism

    @property
    def cost_class(self) -> Hashable:
        """See _EncodeKey; the seed costs nothing."""
        return self.realism.steps if self.realism.strength else 0, self.canvas.area_px.bit_length()


@dataclass(frozen=True, slots=True)
class SharedResources:
    """What all models of a server have together: limits, memory, threads for pictures, processors."""

    config: ServingConfig
    admission: Admission
    metrics: Metrics
    pictures: PicturePool
    turns: asyncio.Semaphore
    """One for each model call that may run at the same time."""
    suspect: Callable[[], None]
    """Told of every failure that is no caller's fault."""


class Pipeline:
    """Runs commands on one model."""

    def __init__(
        self,
        model: ServedModel,
        shared: SharedResources,
        metrics: ModelMetrics,
    ) -> None:
        self.model = model
        self.metrics = metrics
        self._config = shared.config
        self._admission = shared.admission
        self._server_metrics = shared.metrics
        self._pictures = shared.pictures
        self._suspect = shared.suspect
        # No method of this object among what the batchers hold: a cycle would keep the model in memory until
        # a garbage collection, which never comes to what was frozen after the start.
        tokenizer = model.tokenizer
        self._encoder: MicroBatcher[Pixels, TokenSequence] = MicroBatcher(
            "encode",
            partial(_encode_batch, tokenizer),
            max_batch_size=self._config.max_batch_size,
            max_queue_items=self._config.max_queue_items,
            metrics=shared.metrics,
            model_metrics=metrics,
            turns=shared.turns,
            max_queue_delay_s=self._config.max_queue_delay_s,
            num_instances=self._config.num_instances,
            cost_class=attrgetter("cost_class"),
        )
        self._decoder: MicroBatcher[TokenSequence, Pixels] = MicroBatcher(
            "decode",
            partial(_decode_batch, tokenizer, self._config.max_image_area_px),
            max_batch_size=self._config.max_batch_size,
            max_queue_items=self._config.max_queue_items,
            metrics=shared.metrics,
            model_metrics=metrics,
            turns=shared.turns,
            max_queue_delay_s=self._config.max_queue_delay_s,
            num_instances=self._config.num_instances,
            cost_class=attrgetter("cost_class"),
        )

    def start(self) -> None:
        """Begin to work; needs a running event loop."""
        self._encoder.start()
        self._decoder.start()

    def drain(self) -> None:
        """Nothing new will come: let no picture wait for company."""
        self._encoder.drain()
        self._decoder.drain()

    async def stop(self) -> None:
        """Stop at once; what is still in work fails with ModelUnloaded."""
        await self._encoder.stop()
        await self._decoder.stop()

    def check_room_unread(self, method: str, remaining_s: float) -> None:
        """Refuse this RPC if it would be refused whatever it brings. Raises QueueFull, DeadlineUnmeetable."""
        if method in ENCODING_METHODS:
            self._encoder.check_room_unread(method, remaining_s)
        elif method in DECODING_METHODS:
            self._decoder.check_room_unread(method, remaining_s)

    async def encode(self, command: EncodeCommand, trace: RequestTrace) -> Encoded:
        """All tokens of the picture, and the length that its rate asks for."""
        canvas = choose_canvas(command.source, command.canvas_area_px)
        key = _EncodeKey(command.coding, command.canvas_area_px, canvas)
        # Before the picture is decoded: that costs far more than a refusal may.
        self._encoder.check_room(key, trace)
        size_in_work = _size_in_work(command.source)
        with self._noticing_failures():
            async with self._admission.memory(trace, "encode", size_in_work, self.metrics):
                spend_picture(command.source.area_px)  # not for what was refused
                pixels = await self._pixels(command, trace)
                whole = await self._encoder.submit(pixels, key, trace)
        encoded = self._rated(whole, command)
        trace.note(model=self.model.ref.name, token_count=encoded.length)
        return encoded

    async def decode(
        self, sequence: TokenSequence, form: OutputForm, realism: Realism, trace: RequestTrace
    ) -> Picture:
        """The picture of this very sequence, written in the asked form."""
        size_in_work = _size_in_work(sequence.source)
        with self._noticing_failures():
            async with self._admission.memory(trace, "decode", size_in_work, self.metrics):
                spend_picture(sequence.source.area_px)
                pixels = await self._decoder.submit(sequence, _DecodeKey(sequence.canvas, realism), trace)
                picture = await self._write(pixels, form, trace)
        self._check_reply_size(picture)
        self._server_metrics.image("decode", form.format.value, sequence.source.area_px, len(picture.data))
        self.metrics.tokens("decode", sequence.length)
        trace.note(model=self.model.ref.name, token_count=sequence.length)
        return picture

    async def try_out(self, pixels: Pixels, timeout_s: float) -> None:
        """Encode this picture and decode its tokens, behind all single requests; raises what fails."""
        tokenizer = self.model.tokenizer
        area_px = tokenizer.canvas_area_px
        canvas = choose_canvas(Size(pixels.shape[1], pixels.shape[0]), area_px)
        trace = RequestTrace("self-test", time.monotonic() + timeout_s, is_bulk=True, followers=())
        key = _EncodeKey(tokenizer.codings[0], area_px, canvas)
        sequence = await self._encoder.submit(pixels, key, trace)
        await self._decoder.submit(sequence, _DecodeKey(canvas, Realism()), trace)

    @contextmanager
    def _noticing_failures(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if is_our_failure(error):
                self._suspect()
            raise

    def count_cut(self, command: DecodeCommand) -> None:
        """Note whether a stream came shortened."""
        if command.was_cut:
            self.metrics.decoded_cut_stream()

    async def _pixels(self, command: EncodeCommand, trace: RequestTrace) -> Pixels:
        if command.pixels is not None:
            pixels, size_bytes = command.pixels, command.pixels.nbytes
        else:
            assert command.file is not None  # parse_encode sets exactly one
            with trace.measure("image_decode", "decoding"):
                pixels = await self._pictures.read(command.file, self._config.image_limits)
            size_bytes = len(command.file)
        self._server_metrics.image("encode", command.format, command.source.area_px, size_bytes)
        return pixels

    async def _write(self, pixels: Pixels, form: OutputForm, trace: RequestTrace) -> Picture:
        try:
            with trace.measure("image_encode", "executing"):
                return await self._pictures.write(pixels, form)
        except asyncio.CancelledError:
            self.metrics.wasted("decode", trace.model_share_s)
            raise

    def _rated(self, whole: TokenSequence, command: EncodeCommand) -> Encoded:
        kind = rate_kind(command.rate)
        try:
            encoded = apply_rate(whole, command.rate)
        except InvalidRequest:
            self.metrics.rate_target(kind, "unreachable")
            raise
        short = encoded.stop_reason is StopReason.QUALITY_UNREACHABLE
        self.metrics.rate_target(kind, "best_effort" if short else "met")
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


def _encode_batch(tokenizer: Tokenizer, key: Hashable, pictures: list[Pixels]) -> list[TokenSequence]:
    assert isinstance(key, _EncodeKey)
    return tokenizer.encode(pictures, coding=key.coding, canvas_area_px=key.canvas_area_px)


def _decode_batch(
    tokenizer: Tokenizer, max_pixels: int, key: Hashable, sequences: list[TokenSequence]
) -> list[Pixels]:
    assert isinstance(key, _DecodeKey)
    return tokenizer.decode(
        sequences,
        max_pixels=max_pixels,
        realism=key.realism.strength,
        steps=key.realism.steps,
        seed=key.realism.seed,
    )


def _size_in_work(size: Size) -> int:
    return size.area_px * BYTES_PER_PIXEL_IN_WORK
