"""The same units on Ray Data: one actor per session, as many as the cluster gives. Needs `ray[data]`.

Rows of the data set are units, not pictures: an actor reads, encodes and writes its unit as a local process
does, so that the output is the same byte for byte, and an actor or node that dies costs its unit's time. The
job's folder and the sources must be places that every node sees.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from serving.batch.crashes import run_recorded
from serving.batch.errors import PackageMissing
from serving.batch.reports import UnitReport
from serving.batch.units import Unit
from serving.batch.worker import WorkerSettings, make_worker

# Units handed to Ray at a time: a plan of a billion pictures must not lie in its object store at once.
_WINDOW_UNITS = 5000


@dataclass(frozen=True, slots=True)
class RayEngine:
    """Between `min_workers` and `max_workers` actors, which Ray starts and stops by load."""

    address: str | None = None
    """`auto`, `host:port` or `ray://...`; None starts Ray on this machine for the time of the job."""
    min_workers: int = 1
    max_workers: int = 1
    num_gpus: float = 0.0
    """Of each actor."""

    @property
    def facts(self) -> dict[str, Any]:
        """See Engine."""
        return {"engine": "ray", **asdict(self)}

    def samples_in_work(self) -> int:
        """See Engine: actors may be on any node, so units count when they are done."""
        return 0

    def run(self, settings: WorkerSettings, units: Iterator[Unit]) -> Iterator[UnitReport]:
        """See Engine."""
        ray = _import_ray()
        is_ours = not ray.is_initialized()
        if is_ours:
            ray.init(address=self.address, log_to_driver=False, logging_level="warning")
        try:
            while window := list(islice(units, _WINDOW_UNITS)):
                yield from self._run_window(ray, settings, window)
        finally:
            if is_ours:
                ray.shutdown()

    def _run_window(self, ray: Any, settings: WorkerSettings, units: list[Unit]) -> Iterator[UnitReport]:
        ray.data.DataContext.get_current().enable_progress_bars = False
        rows = [{"unit": json.dumps(unit.as_json())} for unit in units]
        reports = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            RayWorker,
            fn_constructor_args=(settings,),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(min_size=self.min_workers, max_size=self.max_workers),
            num_cpus=settings.threads,
            num_gpus=self.num_gpus or None,
        )
        for row in reports.iter_rows():
            yield UnitReport.from_json(json.loads(row["report"]))


class RayWorker:
    """The actor's class: loads the model once."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._worker = make_worker(settings)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Units in, reports out, both as JSON."""
        reports = [
            run_recorded(self._worker, Unit.from_json(json.loads(unit)), self._settings.folder)
            for unit in batch["unit"]
        ]
        return {"report": [json.dumps(report.as_json()) for report in reports]}


def _import_ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise PackageMissing("--engine ray needs Ray: pip install 'tessera[ray]'") from error
    return ray
