"""From options to a job that rebuilds pictures. What `tessera batch decode` calls."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from serving.batch.decode_options import DecodeOptions
from serving.batch.engines import Engine
from serving.batch.job import Tolerance
from serving.batch.repeats import decode_units
from serving.batch.reports import Totals
from serving.batch.units import Unit
from serving.batch.watch import Metering
from serving.batch.watched_job import model_facts, run_watched
from serving.batch.worker import WorkerSettings


def decode_data_set(
    folder: Path,
    options: DecodeOptions,
    engine: Engine,
    *,
    threads: int = 1,
    providers: tuple[str, ...] = ("cpu",),
    tolerance: Tolerance | None = None,
    metering: Metering | None = None,
) -> Totals:
    """Rebuild the pictures of the streams into the folder, or go on with it.

    Raises BatchError, ArtifactError, ProviderError, RealismUnavailable, OSError.
    """

    def units() -> Iterator[Unit]:
        return decode_units(options)

    facts = model_facts(options.model)
    settings = WorkerSettings(folder, options, facts, threads=threads, providers=providers)
    return run_watched(settings, units, engine, tolerance or Tolerance(), metering or Metering())
