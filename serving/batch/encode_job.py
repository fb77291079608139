"""From options to a job that encodes. What `tessera batch encode` calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from serving.batch.engines import Engine
from serving.batch.job import Tolerance
from serving.batch.options import EncodeOptions
from serving.batch.repeats import encode_units
from serving.batch.report_picture import write_report_picture
from serving.batch.reports import Totals
from serving.batch.sources import open_sources
from serving.batch.units import Unit
from serving.batch.watch import Metering
from serving.batch.watched_job import model_facts, run_watched
from serving.batch.worker import WorkerSettings


def encode_data_set(
    folder: Path,
    options: EncodeOptions,
    engine: Engine,
    *,
    threads: int = 1,
    providers: tuple[str, ...] = ("cpu",),
    stdin: Sequence[str] = (),
    tolerance: Tolerance | None = None,
    metering: Metering | None = None,
) -> Totals:
    """Tokenize the sources into the folder, or go on with it.

    Raises BatchError, ArtifactError, ProviderError, InvalidBudget, CodingUnsupported, OSError.
    """
    sources = open_sources(options.sources, image_column=options.image_column, stdin=stdin)

    def units() -> Iterator[Unit]:
        return encode_units(sources, options)

    facts = model_facts(options.model)
    settings = WorkerSettings(folder, options, facts, threads=threads, providers=providers)
    totals = run_watched(settings, units, engine, tolerance or Tolerance(), metering or Metering())
    write_report_picture(folder, options, totals)
    return totals
