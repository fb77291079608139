"""One unit from source to shard and report. Runs in any process: a pool's, an actor's, or this one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from serving.batch.atomic import write_json
from serving.batch.encoder import SampleEncoder
from serving.batch.options import EncodeOptions
from serving.batch.reports import UnitReport, both_ends, report_path
from serving.batch.sinks import open_sink
from serving.batch.sources import read_samples
from serving.batch.units import Sample, Unit
from tokenizer.image_tokenizer import ImageTokenizer


class UnitWorker:
    """Holds one model; `run` may be repeated, and a repeated unit leaves the same files."""

    def __init__(
        self, folder: Path, options: EncodeOptions, threads: int, providers: tuple[str, ...]
    ) -> None:
        self._folder = folder
        self._options = options
        tokenizer = ImageTokenizer.from_pretrained(options.model, providers=providers, num_threads=threads)
        self._encoder = SampleEncoder(tokenizer, options)
        facts = {"model": tokenizer.name, "fingerprint": tokenizer.fingerprint, "digest": tokenizer.digest}
        self._sink = open_sink(folder, options, facts | {"options": json.dumps(options.as_json())})

    def run(self, unit: Unit, trail: Path | None = None) -> UnitReport:
        """Read, encode, write; the report comes last and makes the unit count. Raises SourceRefused.

        With a `trail`, pictures go one by one, and the file holds the number of the one in work.
        """
        report = UnitReport(unit.index)
        samples = _watched(read_samples(unit, self._options.image_column), unit.poison, trail)
        with self._sink.shard(unit) as write:
            for row in self._encoder.rows(samples, unit.source, one_by_one=trail is not None):
                write(row)
                report.add(row)
        report.extremes = both_ends(report.extremes)
        write_json(report_path(self._folder, unit.index), report.as_json())
        return report


def _watched(samples: Iterator[Sample], poison: tuple[int, ...], trail: Path | None) -> Iterator[Sample]:
    for number, sample in enumerate(samples):
        if trail is not None:
            trail.write_text(str(number))
        yield replace(sample, is_poison=True) if number in poison else sample
