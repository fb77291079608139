"""From options to a running job: sources, plan, model, watchers. What `tessera batch encode` calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.batch.engines import Engine
from serving.batch.job import Job, Tolerance
from serving.batch.options import EncodeOptions
from serving.batch.reports import Totals
from serving.batch.sources import open_sources, units_of
from serving.batch.units import Plan, Unit
from serving.batch.watch import metrics_watcher, progress_bar, publisher
from serving.batch.worker import WorkerSettings
from serving.metrics.batch import BatchMetrics
from tokenizer.artifact import ModelArtifact


@dataclass(frozen=True, slots=True)
class Metering:
    """Where metrics go."""

    port: int | None = None
    textfile: Path | None = None
    gateway: str | None = None


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
        return units_of(sources, options.unit_size)

    settings = WorkerSettings(
        folder, options, model_facts(options.model), threads=threads, providers=providers
    )
    with progress_bar() as bar:
        metrics, wanted = BatchMetrics(), metering or Metering()
        if wanted.port is not None:
            metrics.serve(wanted.port)
        publish = publisher(metrics, wanted.textfile, wanted.gateway)
        watchers = [bar, metrics_watcher(metrics, publish)]
        job = Job(settings, Plan.of(units()), units, engine, tolerance or Tolerance(), watchers)
        totals = job.run()
        metrics.succeeded()
        publish()
    return totals


def model_facts(model: str) -> dict[str, str]:
    """What names the model in manifest and files. Raises ArtifactError."""
    artifact = ModelArtifact.load(model)
    config = artifact.config
    return {
        "model": config.name,
        "version": config.version,
        "fingerprint": artifact.fingerprint,
        "digest": artifact.digest,
    }
