"""The life of one server: bind, load, warm up, serve, drain, stop. Knows no request.

start ──> NOT_SERVING ──load──> SERVING ──drain──> NOT_SERVING, refuse the new, finish the old ──> stop
"""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from serving import fitness, health, logs, model_service, service
from serving.admin import AdminPort
from serving.admission import Admission, ServerState
from serving.announcement import Address, announce
from serving.commands import Tokenizer
from serving.config import ServingConfig
from serving.door import Door
from serving.interceptor import RpcInterceptor
from serving.isolated_pictures import open_pictures
from serving.listening import refusal
from serving.metrics.model import LoadedModel
from serving.metrics.server import Metrics
from serving.model import LoadTokenizer, ServedModel, load_and_warm_up, load_tokenizer
from serving.models import ModelRegistry
from serving.observers import Observers, rpc_observers
from serving.pictures import PicturePool
from serving.pipeline import Pipeline, SharedResources
from serving.probes import Probes
from serving.provider_report import report_fallback
from serving.reloaded_files import SetupError
from serving.security import Security
from serving.served_rpcs import public_rpcs
from serving.server_channel import channel_options
from serving.signals import call_on_hangup, stop_signals
from serving.status import StatusError
from serving.versions import onnxruntime_version, version_of
from tessera.v1 import model_service_pb2_grpc
from tokenizer.errors import TokenizerError

# How often the loop shows that it turns; also the resolution of the lag metric.
_HEARTBEAT_S = 0.25
# After a drain only health and reflection can still be open; they get this long to end.
_STOP_GRACE_S = 0.5

_log = structlog.get_logger("tessera.server")


class TesseraServer:
    """One gRPC server, one probe port, the models, and an admin port if asked for. All on one event loop."""

    def __init__(self, config: ServingConfig, load: LoadTokenizer) -> None:
        self.config = config
        self.port = 0
        self._load = load
        self._rpcs = public_rpcs()
        self.metrics = Metrics(self._rpcs.values())
        self.admission = Admission(
            max_rpcs=config.max_concurrent_rpcs,
            max_truncates=config.max_concurrent_truncates,
            max_bulk_streams=config.max_bulk_streams,
            max_size_bytes=config.max_queue_size_bytes,
            metrics=self.metrics,
        )
        self.security = Security(config, self.metrics.registry, self._rpcs, self.metrics.rejected)
        self._turns = asyncio.Semaphore(config.effective_model_calls)
        self._pictures: PicturePool | None = None
        self.models = ModelRegistry(
            self._load_model, self._open_pipeline, drain_timeout_s=config.model_drain_timeout_s
        )
        self.admin = None if config.admin_port is None else AdminPort(config, self.models, self.metrics)
        self._health = health.DrainingHealthServicer((service.SERVICE, model_service.SERVICE))
        self._tokenizer_service = service.TokenizerServicer(config, self.admission, self.metrics, self.models)
        self._model_service = model_service.ModelServicer(
            config, self.admission, self.models, version_of("tessera")
        )
        self._fitness = fitness.Fitness(self._does_work, self._set_fit, retest_s=fitness.RETEST_S)
        self._observers: Observers | None = None
        self._grpc: Any = None
        self._probes: Probes | None = None
        self._heartbeat: asyncio.Task[None] | None = None

    @property
    def target(self) -> str:
        """Where a client on this machine finds the RPCs."""
        return self.address.target

    @property
    def address(self) -> Address:
        """Where the RPCs are; port 0 before `start`."""
        return Address(self.config.host, self.port)

    @property
    def metrics_port(self) -> int:
        """The port of /metrics; 0 before `start`."""
        return self._probes.port if self._probes else 0

    async def start(self) -> None:
        """Bind all ports and answer health.

        Raises OSError if a port is taken, SetupError for bad files, TracingUnavailable.
        """
        self.security.open(self.config.host)
        self._observers = rpc_observers(self.config, version_of("tessera"))
        self.metrics.build(version=version_of("tessera"), onnxruntime=onnxruntime_version())
        self._probes = self._open_probes()
        try:
            self._grpc, self.port = self._build_grpc()
            await self._grpc.start()
        except RuntimeError as error:  # what gRPC raises for a port that is taken
            self._probes.stop()
            raise OSError(refusal(self.config.host, self.config.port)) from error
        if self.admin is not None:
            await self.admin.start()
        self._probes.start()
        self.security.follow()
        self._heartbeat = asyncio.create_task(self._beat(), name="heartbeat")

    async def load(self) -> None:
        """Load and warm up the models, then serve. Raises ModelLoadFailed, ModelConflict or SetupError."""
        self._pictures = await asyncio.to_thread(open_pictures, self.config, self.security.metrics)
        self._tokenizer_service.attach(self._pictures)
        await self.models.start(self.config.model_sources)
        await self._health.set_serving()
        self.admission.state = ServerState.SERVING
        assert self._probes is not None  # start comes first
        self._probes.ready = True
        served = [f"{g.ref.name}@{g.ref.version}" for g in self.models.in_service]
        _log.info("serving", target=self.target, models=served)

    async def drain(self) -> bool:
        """Refuse new work and wait for the old; False if some was still there after the drain timeout."""
        await self._fitness.stop()
        await self._health.drain()
        if self._probes is not None:
            self._probes.ready = False
        self.models.refuse_changes()
        await asyncio.sleep(self.config.drain_delay_s)
        self.admission.state = ServerState.DRAINING
        self.models.drain()
        _log.info("draining", in_flight=self.admission.in_flight)
        return await self.admission.wait_idle(self.config.drain_timeout_s)

    async def stop(self) -> None:
        """End at once what is still there, and free the ports."""
        await self._fitness.stop()
        if self._grpc is not None:
            await self._grpc.stop(_STOP_GRACE_S)
        await self.security.stop()
        if self.admin is not None:
            await self.admin.stop()
        await self.models.stop()
        if self._pictures is not None:
            self._pictures.stop()
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            await asyncio.gather(self._heartbeat, return_exceptions=True)
        if self._probes is not None:
            await asyncio.to_thread(self._probes.stop)
        if self._observers is not None:
            await asyncio.to_thread(self._observers.stop)

    def _open_probes(self) -> Probes:
        host, port = self.config.metrics_host, self.config.metrics_port
        try:
            return Probes(host, port, exposition=self.metrics.exposition)
        except OSError as error:
            raise OSError(f"{refusal(host, port)} (metrics)") from error

    def _build_grpc(self) -> tuple[Any, int]:
        assert self._observers is not None  # start comes first
        interceptor = RpcInterceptor(
            self.metrics,
            self._rpcs,
            self.security.authenticator,
            self._observers.rpc,
            Door(self.admission, self.models, self.config.default_deadline_s),
        )
        server = grpc.aio.server(interceptors=(interceptor,), options=channel_options(self.config))
        server.add_generic_rpc_handlers((self._tokenizer_service.handlers(),))
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(  # type: ignore[no-untyped-call]
            self._model_service, server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (service.SERVICE, model_service.SERVICE, health.SERVICE, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        return server, self.security.add_port(server, f"{self.config.host}:{self.config.port}")

    async def _does_work(self) -> bool | None:
        assert self._pictures is not None  # `load` opens it first
        return await fitness.does_work(self._pictures, self.models, self.config.image_limits)

    async def _set_fit(self, is_fit: bool) -> None:
        """Requests are still tried: the next may succeed, and a client may have nowhere else to go."""
        assert self._probes is not None  # start comes first
        await self._health.set_serving(is_fit)
        self._probes.ready = is_fit
        self.models.show_ready(is_fit)

    async def _load_model(self, source: str) -> ServedModel:
        return await asyncio.to_thread(load_and_warm_up, source, self.config, self._load)

    def _open_pipeline(self, model: ServedModel) -> Pipeline:
        """A model that is about to take requests, and its metrics."""
        ref = model.ref
        report_fallback(model, self.metrics.providers)
        metrics = self.metrics.of_model(ref.name)
        metrics.loaded(
            LoadedModel(
                version=ref.version,
                digest=ref.digest,
                provider=model.providers[0],
                load_s=model.load_s,
                warmup_s=model.warmup_s,
            )
        )
        metrics.queue_limits(items=self.config.max_queue_items, size_bytes=self.config.max_queue_size_bytes)
        assert self._pictures is not None  # `load` opens it first
        shared = SharedResources(
            self.config, self.admission, self.metrics, self._pictures, self._turns, self._fitness.suspect
        )
        pipeline = Pipeline(model, shared, metrics)
        pipeline.start()
        return pipeline

    async def _beat(self) -> None:
        assert self._probes is not None  # start comes first
        while True:
            due = time.monotonic() + _HEARTBEAT_S
            await asyncio.sleep(_HEARTBEAT_S)
            self.metrics.loop_lag(max(0.0, time.monotonic() - due))
            self._probes.beat()


def build_server(
    config: ServingConfig, *, tokenizer: Tokenizer | None = None, load: LoadTokenizer = load_tokenizer
) -> TesseraServer:
    """A server that is not started yet; with `tokenizer`, that one instead of those the settings name."""
    return TesseraServer(config, load if tokenizer is None else lambda _source, _config: tokenizer)


def run(
    config: ServingConfig, *, tokenizer: Tokenizer | None = None, load: LoadTokenizer = load_tokenizer
) -> int:
    """Serve until SIGTERM or SIGINT, then drain; SIGHUP loads the models again.

    Returns the exit code: 0, or 1 if it could not serve.
    """
    listener = logs.configure(config.log_level)
    try:
        return asyncio.run(_run(config, tokenizer, load))
    finally:
        listener.stop()


async def _run(config: ServingConfig, tokenizer: Tokenizer | None, load: LoadTokenizer) -> int:
    _log.info("starting", config=config.effective())
    asked_to_stop, asked_again = stop_signals()
    server = build_server(config, tokenizer=tokenizer, load=load)
    reloading = asyncio.create_task(call_on_hangup(server.models.reload_all), name="reload on SIGHUP")
    try:
        await server.start()
        if not await _load_unless(asked_to_stop, server):
            return 0
        _announce(server)
        await asked_to_stop.wait()
        await _drain_unless(asked_again, server)
        return 0
    except (OSError, TokenizerError, StatusError, SetupError) as error:
        _log.error("cannot serve", reason=getattr(error, "reason", "OS_ERROR"), text=str(error))
        return 1
    finally:
        reloading.cancel()
        await server.stop()
        _log.info("stopped")


def _announce(server: TesseraServer) -> None:
    config = server.config
    metrics = Address(config.metrics_host, server.metrics_port)
    admin = None if server.admin is None else server.admin.address
    announce(server.address, metrics, admin, config.port_file)


async def _load_unless(asked_to_stop: asyncio.Event, server: TesseraServer) -> bool:
    """True once the model is loaded; False if the process was told to stop before."""
    loading = asyncio.create_task(server.load())
    stopping = asyncio.create_task(asked_to_stop.wait())
    await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not loading.done():
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        return False
    await loading
    # What was loaded stays for good: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    return True


async def _drain_unless(asked_again: asyncio.Event, server: TesseraServer) -> None:
    draining = asyncio.create_task(server.drain())
    forcing = asyncio.create_task(asked_again.wait())
    await asyncio.wait({draining, forcing}, return_when=asyncio.FIRST_COMPLETED)
    if draining.done() and not draining.result():
        _log.warning("drain timeout", in_flight=server.admission.in_flight)
    for task in (draining, forcing):
        task.cancel()
    await asyncio.gather(draining, forcing, return_exceptions=True)
