"""A job with its plan, model facts, progress and metrics: what both commands of `tessera batch` share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from serving.batch.engines import Engine
from serving.batch.job import Job, Tolerance
from serving.batch.progress import progress
from serving.batch.reports import Totals
from serving.batch.units import Plan, Unit
from serving.batch.watch import Metering, metrics_watcher, publisher
from serving.batch.worker import WorkerSettings
from serving.metrics.batch import BatchMetrics
from tokenizer.artifact import ModelArtifact


def run_watched(
    settings: WorkerSettings,
    units: Callable[[], Iterator[Unit]],
    engine: Engine,
    tolerance: Tolerance,
    metering: Metering,
) -> Totals:
    """The whole job, or what is left of it. Raises BatchError, TokenizerError, OSError."""
    with progress(engine.samples_in_work) as bar:
        metrics = BatchMetrics()
        if metering.port is not None:
            metrics.serve(metering.port)
        publish = publisher(metrics, metering)
        watchers = [bar, metrics_watcher(metrics, publish)]
        facts = engine.facts | {"threads": settings.threads, "providers": settings.providers}
        totals = Job(settings, Plan.of(units()), units, engine, tolerance, watchers, facts).run()
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
