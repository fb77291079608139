"""One unit from source to shard and report. Runs in any process: a pool's, an actor's, or this one.

encode   source ──> rows ──> sink                               any budget of each picture
whole    source ──> rows ──> whole streams, and their demand    first pass of a budget for the set
cut      whole streams, price ──> rows ──> sink                 second pass; needs no model
decode   shard ──> streams ──> pictures ──> picture sink        serving/batch/decode_worker.py
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from serving.batch.atomic import drafted
from serving.batch.decode_options import DecodeOptions
from serving.batch.decode_worker import open_decode_worker
from serving.batch.encoder import SampleEncoder
from serving.batch.options import EncodeOptions, JobOptions, Phase
from serving.batch.repeats import marked
from serving.batch.reports import UnitReport
from serving.batch.rows import Row
from serving.batch.sinks import Sink, open_sink
from serving.batch.sources import read_samples
from serving.batch.trail import Tick, no_tick, watched
from serving.batch.units import Sample, Unit
from serving.batch.wholes import WHOLES, as_line, read_wholes, wholes_path
from tokenizer.image_tokenizer import ImageTokenizer
from tokenizer.set_price import Demand, Price

PRICES = "prices.json"


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a process needs to become a worker."""

    folder: Path
    options: JobOptions
    model_facts: dict[str, str]
    phase: Phase = "encode"
    threads: int = 1
    providers: tuple[str, ...] = ("cpu",)

    @property
    def wholes(self) -> Path:
        """Folder of the first pass."""
        return self.folder / WHOLES

    @property
    def reports(self) -> Path:
        """Folder whose reports say what this phase has done."""
        return self.wholes if self.phase == "whole" else self.folder

    @property
    def encoding(self) -> EncodeOptions:
        """The options of a job that encodes."""
        assert isinstance(self.options, EncodeOptions)  # phases come from the options themselves
        return self.options


class UnitWorker(Protocol):
    """Does units; one that is done twice leaves the same files."""

    def run(self, unit: Unit, trail: Path | None = None, tick: Tick = no_tick) -> UnitReport:
        """The report comes last, and makes the unit count. Raises SourceRefused, OSError.

        With a `trail`, pictures go one by one, and the file holds the number of the one in work. `tick` is
        called after every picture.
        """


def make_worker(settings: WorkerSettings) -> UnitWorker:
    """Load the model and open the sink, as the phase needs them. Raises ArtifactError, ProviderError."""
    if settings.phase == "cut":
        return CutWorker(settings, _sink(settings))
    tokenizer = ImageTokenizer.from_pretrained(
        settings.options.model, providers=settings.providers, num_threads=settings.threads
    )
    if isinstance(settings.options, DecodeOptions):
        return open_decode_worker(settings.folder, settings.options, tokenizer)
    encoder = SampleEncoder(tokenizer, settings.encoding)
    if settings.phase == "whole":
        return WholeWorker(settings, encoder)
    return EncodeWorker(settings, encoder, _sink(settings))


class EncodeWorker:
    """Source to sink in one pass."""

    def __init__(self, settings: WorkerSettings, encoder: SampleEncoder, sink: Sink) -> None:
        self._settings, self._encoder, self._sink = settings, encoder, sink

    def run(self, unit: Unit, trail: Path | None = None, tick: Tick = no_tick) -> UnitReport:
        """See UnitWorker."""
        report = UnitReport.of(unit)
        with self._sink.shard(unit) as write:
            for row in encoded_rows(unit, self._encoder, self._settings.encoding, trail):
                write(row)
                report.add(row, bare=self._settings.encoding.is_bare)
                tick(report.samples)
        return report.write(self._settings.folder)


class WholeWorker:
    """First pass: whole streams into a file of ours, and what they would buy into the report."""

    def __init__(self, settings: WorkerSettings, encoder: SampleEncoder) -> None:
        self._settings, self._encoder = settings, encoder

    def run(self, unit: Unit, trail: Path | None = None, tick: Tick = no_tick) -> UnitReport:
        """See UnitWorker. Raises InvalidBudget, too."""
        report, demands = UnitReport.of(unit), []
        options, folder = self._settings.encoding, self._settings.wholes
        with drafted(wholes_path(folder, unit)) as draft, gzip.open(draft, "wt", compresslevel=1) as lines:
            for row in encoded_rows(unit, self._encoder, options, trail):
                report.add(row, bare=options.is_bare)
                tick(report.samples)
                if row.sequence is not None:
                    demands.append(Demand.of([row.sequence], options.terms))
                lines.write(as_line(row) + "\n")
        demand = Demand.sum(demands)
        report.least_bytes = demand.least_bytes
        report.demand = {str(place): tokens for place, tokens in demand.tokens_by_bin.items()}
        return report.write(folder)


class CutWorker:
    """Second pass: every picture takes what the price gives it."""

    def __init__(self, settings: WorkerSettings, sink: Sink) -> None:
        self._settings, self._sink = settings, sink
        content = json.loads((settings.wholes / PRICES).read_text())
        self._bin, self._left = int(content["bin"]), content["left"]

    def run(self, unit: Unit, trail: Path | None = None, tick: Tick = no_tick) -> UnitReport:
        """See UnitWorker."""
        report = UnitReport.of(unit)
        options = self._settings.encoding
        price = Price(self._bin, self._left[unit.index])
        rows = read_wholes(wholes_path(self._settings.wholes, unit), unit.source)
        if options.sink == "webdataset":
            rows = _with_fields(rows, read_samples(unit, options.image_column))
        with self._sink.shard(unit) as write:
            for row in rows:
                if row.sequence is not None:
                    share, price = price.cut(row.sequence, options.terms)
                    row = replace(row, sequence=share)
                write(row)
                report.add(row, bare=self._settings.encoding.is_bare)
                tick(report.samples)
        return report.write(self._settings.folder)


def encoded_rows(
    unit: Unit, encoder: SampleEncoder, options: EncodeOptions, trail: Path | None
) -> Iterator[Row]:
    """The rows of a unit, straight from its source."""
    samples = marked(read_samples(unit, options.image_column), unit, options.sink)
    samples = watched(samples, unit.poison, trail)
    return encoder.rows(samples, unit.source, one_by_one=trail is not None)


def _sink(settings: WorkerSettings) -> Sink:
    facts = settings.model_facts | {"options": json.dumps(settings.options.as_json())}
    return open_sink(settings.folder, settings.encoding, facts)


def _with_fields(rows: Iterator[Row], samples: Iterator[Sample]) -> Iterator[Row]:
    for row, sample in zip(rows, samples, strict=True):
        yield replace(row, fields=sample.fields)
