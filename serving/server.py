"""The life of one server: bind, load, warm up, serve, drain, stop. Knows no request.

start ──> NOT_SERVING ──load──> SERVING ──drain──> NOT_SERVING, refuse the new, finish the old ──> stop
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from serving import health, limits, logs, model_service, service
from serving.admission import Admission, ServerState
from serving.commands import Tokenizer
from serving.config import ServingConfig
from serving.interceptor import RpcInterceptor
from serving.isolated_pictures import open_pictures
from serving.metrics.server import Metrics, Rpc
from serving.model import ServedModel, load_and_warm_up, load_tokenizer
from serving.pictures import PicturePool
from serving.pipeline import Pipeline
from serving.probes import Probes
from serving.reloaded_files import SetupError
from serving.security import Security
from tessera.v1 import model_service_pb2, model_service_pb2_grpc, tokenizer_service_pb2
from tokenizer.errors import TokenizerError

# How often the loop shows that it turns; also the resolution of the lag metric.
_HEARTBEAT_S = 0.25
# After a drain only health and reflection can still be open; they get this long to end.
_STOP_GRACE_S = 0.5

_log = structlog.get_logger("tessera.server")


class TesseraServer:
    """One gRPC server, one probe port, one model. Every method runs on one event loop."""

    def __init__(self, config: ServingConfig, tokenizer: Tokenizer | None = None) -> None:
        self.config = config
        self.port = 0
        self._given = tokenizer
        self._rpcs = served_rpcs()
        self.metrics = Metrics(self._rpcs.values())
        self.admission = Admission(
            max_rpcs=config.max_concurrent_rpcs,
            max_truncates=config.max_concurrent_truncates,
            max_bulk_streams=config.max_bulk_streams,
            max_size_bytes=config.max_queue_size_bytes,
            metrics=self.metrics,
        )
        self.security = Security(config, self.metrics.registry, self._rpcs, self.metrics.rejected)
        self._health = health.DrainingHealthServicer((service.SERVICE, model_service.SERVICE))
        self._tokenizer_service = service.TokenizerServicer(config, self.admission, self.metrics)
        self._model_service = model_service.ModelServicer(config, self.admission, _version("tessera"))
        self._grpc: Any = None
        self._probes: Probes | None = None
        self._pipeline: Pipeline | None = None
        self._heartbeat: asyncio.Task[None] | None = None

    @property
    def target(self) -> str:
        """Where a client on this machine finds the RPCs."""
        return f"{_reachable(self.config.host)}:{self.port}"

    @property
    def metrics_port(self) -> int:
        """The port of /metrics; 0 before `start`."""
        return self._probes.port if self._probes else 0

    async def start(self) -> None:
        """Bind both ports and answer health. Raises OSError if a port is taken, SetupError for bad files."""
        self.security.open(self.config.host)
        self.metrics.build(version=_version("tessera"), onnxruntime=_onnxruntime_version())
        self._probes = Probes(
            self.config.metrics_host, self.config.metrics_port, exposition=self.metrics.exposition
        )
        try:
            self._grpc, self.port = self._build_grpc()
            await self._grpc.start()
        except RuntimeError as error:  # what gRPC raises for a port that is taken
            self._probes.stop()
            raise OSError(f"cannot listen on {self.config.host}:{self.config.port}: {error}") from error
        self._probes.start()
        self.security.follow()
        self._heartbeat = asyncio.create_task(self._beat(), name="heartbeat")

    async def load(self) -> None:
        """Load and warm up the model, then serve. Raises ArtifactError, ProviderError or SetupError."""
        given = self._given
        load = load_tokenizer if given is None else (lambda _config: given)
        model = await asyncio.to_thread(load_and_warm_up, self.config, load)
        self._attach(model, await asyncio.to_thread(open_pictures, self.config, self.security.metrics))
        await self._health.set_serving()
        self.admission.state = ServerState.SERVING
        self._set_ready(model, ready=True)
        _log.info("serving", target=self.target, model=model.ref.name, fingerprint=model.ref.fingerprint)

    async def drain(self) -> bool:
        """Refuse new work and wait for the old; False if some was still there after the drain timeout."""
        await self._health.drain()
        if self._pipeline is not None:
            self._set_ready(self._pipeline.model, ready=False)
        await asyncio.sleep(self.config.drain_delay_s)
        self.admission.state = ServerState.DRAINING
        _log.info("draining", in_flight=self.admission.in_flight)
        return await self.admission.wait_idle(self.config.drain_timeout_s)

    async def stop(self) -> None:
        """End at once what is still there, and free the ports."""
        if self._grpc is not None:
            await self._grpc.stop(_STOP_GRACE_S)
        if self._pipeline is not None:
            await self._pipeline.stop()
        await self.security.stop()
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            await asyncio.gather(self._heartbeat, return_exceptions=True)
        if self._probes is not None:
            await asyncio.to_thread(self._probes.stop)

    def _build_grpc(self) -> tuple[Any, int]:
        server = grpc.aio.server(
            interceptors=(RpcInterceptor(self.metrics, self._rpcs, self.security.authenticator),),
            options=channel_options(self.config),
        )
        server.add_generic_rpc_handlers((self._tokenizer_service.handlers(),))
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(  # type: ignore[no-untyped-call]
            self._model_service, server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (service.SERVICE, model_service.SERVICE, health.SERVICE, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        return server, self.security.add_port(server, f"{self.config.host}:{self.config.port}")

    def _attach(self, model: ServedModel, pictures: PicturePool) -> None:
        ref = model.ref
        self.metrics.model_loaded(
            name=ref.name,
            version=ref.version,
            digest=ref.digest,
            provider=model.providers[0],
            load_s=model.load_s,
            warmup_s=model.warmup_s,
        )
        self.metrics.queue_limits(
            items=self.config.max_queue_items, size_bytes=self.config.max_queue_size_bytes
        )
        self._pipeline = Pipeline(model, self.config, self.admission, self.metrics, pictures)
        self._pipeline.start()
        self._tokenizer_service.attach(self._pipeline)
        self._model_service.attach(model)

    def _set_ready(self, model: ServedModel, *, ready: bool) -> None:
        assert self._probes is not None  # start comes first
        self._probes.ready = ready
        self.metrics.model_ready(model.ref.name, model.ref.version, ready=ready)

    async def _beat(self) -> None:
        assert self._probes is not None  # start comes first
        while True:
            due = time.monotonic() + _HEARTBEAT_S
            await asyncio.sleep(_HEARTBEAT_S)
            self.metrics.loop_lag(max(0.0, time.monotonic() - due))
            self._probes.beat()


def build_server(config: ServingConfig, *, tokenizer: Tokenizer | None = None) -> TesseraServer:
    """A server that is not started yet; with `tokenizer`, that one instead of the one the settings name."""
    return TesseraServer(config, tokenizer)


def run(config: ServingConfig, *, tokenizer: Tokenizer | None = None) -> int:
    """Serve until SIGTERM or SIGINT, then drain. Returns the exit code: 0, or 1 if it could not serve."""
    listener = logs.configure(config.log_level)
    try:
        return asyncio.run(_run(config, tokenizer))
    finally:
        listener.stop()


async def _run(config: ServingConfig, tokenizer: Tokenizer | None) -> int:
    _log.info("starting", config=config.effective())
    asked_to_stop, asked_again = _watch_signals()
    server = build_server(config, tokenizer=tokenizer)
    try:
        await server.start()
        if not await _load_unless(asked_to_stop, server):
            return 0
        _announce(server)
        await asked_to_stop.wait()
        await _drain_unless(asked_again, server)
        return 0
    except (OSError, TokenizerError, SetupError) as error:
        _log.error("cannot serve", reason=getattr(error, "reason", "OS_ERROR"), text=str(error))
        return 1
    finally:
        await server.stop()
        _log.info("stopped")


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


def _watch_signals() -> tuple[asyncio.Event, asyncio.Event]:
    """Set on the first signal, and on the second."""
    first, second = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (second if first.is_set() else first).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return first, second


def _announce(server: TesseraServer) -> None:
    """Say on stdout, and in the port file, where the server is."""
    metrics_url = f"http://{_reachable(server.config.metrics_host)}:{server.metrics_port}/metrics"
    print(f"tessera serves on {server.target}, metrics on {metrics_url}", flush=True)
    if server.config.port_file is not None:
        facts = {"target": server.target, "port": server.port, "metrics_port": server.metrics_port}
        _write_atomically(server.config.port_file, json.dumps(facts) + "\n")


def _write_atomically(path: Path, text: str) -> None:
    """A reader sees the whole file or none."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    draft.write_text(text)
    draft.replace(path)


def channel_options(config: ServingConfig) -> list[tuple[str, int]]:
    """gRPC's own settings; each is named in its `grpc_types.h`."""
    options = [
        ("grpc.max_receive_message_length", config.max_request_size_bytes),
        ("grpc.max_send_message_length", config.max_response_size_bytes),
        # Two servers on one port would share its connections without a word.
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_permit_without_calls", 1),
        # Finds clients that vanished without a word, whose RPCs would otherwise stay for hours.
        ("grpc.keepalive_time_ms", 1000 * limits.SERVER_KEEPALIVE_S),
        ("grpc.keepalive_timeout_ms", 1000 * limits.KEEPALIVE_TIMEOUT_S),
        ("grpc.http2.min_ping_interval_without_data_ms", 1000 * limits.SERVER_MIN_PING_INTERVAL_S),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 1000 * limits.SERVER_MIN_PING_INTERVAL_S),
    ]
    if config.max_connection_age_s:
        # New RPCs go elsewhere; those in work have all the time they need (a grace would cut bulk streams).
        options.append(("grpc.max_connection_age_ms", int(1000 * config.max_connection_age_s)))
    return options


def served_rpcs() -> dict[str, Rpc]:
    """`/service/Method` -> metric labels, for everything this server answers."""
    files = (
        tokenizer_service_pb2.DESCRIPTOR,
        model_service_pb2.DESCRIPTOR,
        health_pb2.DESCRIPTOR,
        reflection_pb2.DESCRIPTOR,
    )
    found: dict[str, Rpc] = {}
    for file in files:
        for svc in file.services_by_name.values():
            for method in svc.methods:
                kind = _kind(method.client_streaming, method.server_streaming)
                found[f"/{svc.full_name}/{method.name}"] = (kind, svc.full_name, method.name)
    return found


def _kind(client_streaming: bool, server_streaming: bool) -> str:
    """The words of go-grpc-middleware."""
    if client_streaming:
        return "bidi_stream" if server_streaming else "client_stream"
    return "server_stream" if server_streaming else "unary"


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in ("", "0.0.0.0", "[::]", "::") else host


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"


def _onnxruntime_version() -> str:
    for name in ("onnxruntime", "onnxruntime-gpu"):
        if (found := _version(name)) != "unknown":
            return found
    return "none"
