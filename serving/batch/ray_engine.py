"""The same units on Ray Data: one actor per session, as many as the cluster gives. Needs `ray[data]`.

Rows of the data set are units, not pictures: an actor reads, encodes and writes its unit as a local process
does, so that the output is the same byte for byte, and an actor or node that dies costs its unit's time. The
job's folder and the sources must be places that every node sees.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from serving.batch.crashes import run_recorded
from serving.batch.engines import Reports
from serving.batch.errors import ClusterUnreachable, PackageMissing, caught
from serving.batch.reports import UnitReport
from serving.batch.units import Unit
from serving.batch.worker import WorkerSettings, make_worker

# Units handed to Ray at a time: a plan of a billion pictures must not lie in its object store at once.
_WINDOW_UNITS = 5000
# A head node that answers at all does so in milliseconds.
_CONNECT_TIMEOUT_S = 10.0
# Our actors keep what goes wrong while they load: one that ends there was lost with its node, or for memory.
_MAX_LOST_STARTS = 5
_LOG_LEVEL = "RAY_BACKEND_LOG_LEVEL"


@dataclass(frozen=True, slots=True)
class RayEngine:
    """Between `min_workers` and `max_workers` actors, which Ray starts and stops by load."""

    address: str | None = None
    """`auto`, `host:port` or `ray://...`; None is what RAY_ADDRESS says, or else a Ray on this
    machine for the time of the job.
    """
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

    def run(self, settings: WorkerSettings, units: Iterator[Unit]) -> Reports:
        """See Engine. Raises PackageMissing, ClusterUnreachable, too."""
        ray = _import_ray()
        with _connected(ray, self, settings.threads), _one_line_errors(ray):
            while window := list(islice(units, _WINDOW_UNITS)):
                yield from self._run_window(ray, settings, window)

    def _run_window(self, ray: Any, settings: WorkerSettings, units: list[Unit]) -> Iterator[UnitReport]:
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
            outcome = pickle.loads(row["outcome"])
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome


class RayWorker:
    """The actor: loads the model once. Errors are outcomes: Ray would bury what is raised in its own."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._worker = caught(lambda: make_worker(settings))

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        """Units in as JSON, pickled reports or errors out."""
        return {"outcome": [pickle.dumps(self._outcome(unit)) for unit in batch["unit"]]}

    def _outcome(self, unit: str) -> UnitReport | Exception:
        worker = self._worker
        if isinstance(worker, Exception):
            return worker
        return caught(lambda: run_recorded(worker, Unit.from_json(json.loads(unit)), self._settings.folder))


@contextmanager
def _connected(ray: Any, engine: RayEngine, threads: int) -> Iterator[None]:
    """Ray as the caller has it, or as the engine says for as long as the block lasts."""
    if ray.is_initialized():
        yield
        return
    address = engine.address or os.environ.get("RAY_ADDRESS")
    _check_reachable(address)
    try:
        _start(ray, address)
        if address is None:
            _check_room(ray, engine, threads)
        yield
    finally:
        ray.shutdown()


def _start(ray: Any, address: str | None) -> None:
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        # Without a word, Ray would join any cluster that it finds on this machine.
        address, settings["include_dashboard"] = "local", False
    try:
        with _signals_kept(), _quiet_start():
            ray.init(address=address, **settings)
    except (OSError, RuntimeError, SystemExit) as error:  # it exits where something else answers
        raise ClusterUnreachable(f"no Ray at {address}: {error}") from error


def _check_reachable(address: str | None) -> None:
    """Ray itself would try for two minutes, and then end the process."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise ClusterUnreachable(f"nothing answers at {address}: {error.strerror or error}") from error


def _check_room(ray: Any, engine: RayEngine, threads: int) -> None:
    """A Ray of our own never grows: actors that do not fit would be waited for without end."""
    has = ray.cluster_resources()
    for kind, each in (("CPU", float(threads)), ("GPU", engine.num_gpus)):
        if (needed := engine.min_workers * each) > has.get(kind, 0.0):
            raise ClusterUnreachable(
                f"{engine.min_workers} actors take {needed:g} {kind}, and Ray finds "
                f"{has.get(kind, 0.0):g} on this machine"
            )


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself; how this job ends is for its caller to say."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def _quiet_start() -> Iterator[None]:
    """Ray's own code writes to the descriptor: that actors' arguments lie in its store (where they stay),
    and, if that is turned off, that it is.
    """
    if _LOG_LEVEL in os.environ:
        yield
        return
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.environ[_LOG_LEVEL] = "fatal"
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        del os.environ[_LOG_LEVEL]
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


@contextmanager
def _one_line_errors(ray: Any) -> Iterator[None]:
    """What Ray itself cannot do, as an error of the job."""
    try:
        yield
    except ray.exceptions.RayError as error:
        (reason, *_) = str(error).strip().splitlines() or [type(error).__name__]
        raise ClusterUnreachable(f"Ray cannot go on: {type(error).__name__}: {reason}") from error


def _import_ray() -> Any:
    # Ray tells its makers how it is used by default: a job does so only where the user says so.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise PackageMissing("--engine ray needs Ray: pip install 'tessera[ray]'") from error
    # It says there what it does and, with its stack, what it cannot do: the job says both in a line.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL + 1)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    if hasattr(context, "max_consecutive_actor_init_deaths"):  # newer than our oldest Ray
        context.max_consecutive_actor_init_deaths = _MAX_LOST_STARTS
    return ray
