"""AdminService on its own port: which models run, and how much is logged. Loads nothing itself."""

from __future__ import annotations

from typing import Any

import grpc
import structlog
from grpc_reflection.v1alpha import reflection

from serving import logs, replies
from serving.announcement import Address
from serving.config import ServingConfig
from serving.generation import Generation, ModelState, ModelStatus
from serving.interceptor import RpcInterceptor
from serving.listening import refusal
from serving.metrics.server import Metrics
from serving.models import ModelRegistry
from serving.served_rpcs import admin_rpcs
from serving.status import InvalidRequest, StatusError
from tessera.admin.v1 import admin_service_pb2 as pb
from tessera.admin.v1 import admin_service_pb2_grpc as pb_grpc

SERVICE = pb.DESCRIPTOR.services_by_name["AdminService"].full_name

_STATES = {
    ModelState.LOADING: pb.MODEL_STATE_LOADING,
    ModelState.READY: pb.MODEL_STATE_READY,
    ModelState.DRAINING: pb.MODEL_STATE_DRAINING,
}
_LEVELS = {
    pb.LOG_LEVEL_DEBUG: "debug",
    pb.LOG_LEVEL_INFO: "info",
    pb.LOG_LEVEL_WARNING: "warning",
    pb.LOG_LEVEL_ERROR: "error",
}
# Nobody calls often, and a call may run for as long as a model loads and drains.
_STOP_GRACE_S = 0.5

_log = structlog.get_logger("tessera.admin")


class AdminPort:
    """A second gRPC server on the same event loop, for this machine only."""

    def __init__(self, config: ServingConfig, models: ModelRegistry, metrics: Metrics) -> None:
        assert config.admin_port is not None
        self.address = Address(config.admin_host, config.admin_port)
        self._models = models
        self._metrics = metrics
        self._rpcs = admin_rpcs()
        metrics.serve_also(self._rpcs.values())
        self._grpc: Any = None

    async def start(self) -> None:
        """Bind and answer. Raises OSError if the port is taken."""
        # Two servers on one port would share its connections without a word.
        self._grpc = grpc.aio.server(
            interceptors=(RpcInterceptor(self._metrics, self._rpcs),), options=(("grpc.so_reuseport", 0),)
        )
        pb_grpc.add_AdminServiceServicer_to_server(  # type: ignore[no-untyped-call]
            AdminServicer(self._models), self._grpc
        )
        reflection.enable_server_reflection((SERVICE, reflection.SERVICE_NAME), self._grpc)
        asked = f"{self.address.host}:{self.address.port}"
        try:
            self.address = Address(self.address.host, self._grpc.add_insecure_port(asked))
            await self._grpc.start()
        except RuntimeError as error:  # what gRPC raises for a port that is taken
            raise OSError(refusal(self.address.host, self.address.port)) from error

    async def stop(self) -> None:
        """Stop answering; a change that has begun is the registry's to end."""
        if self._grpc is not None:
            await self._grpc.stop(_STOP_GRACE_S)


class AdminServicer(pb_grpc.AdminServiceServicer):
    """Each call that changes something leaves a line in the log, with who asked and what came of it."""

    def __init__(self, models: ModelRegistry) -> None:
        self._models = models

    async def ListModels(  # noqa: N802
        self, request: pb.ListModelsRequest, context: Any
    ) -> pb.ListModelsResponse:
        """Models in any state."""
        return pb.ListModelsResponse(models=[_message(status) for status in self._models.listing()])

    async def LoadModel(  # noqa: N802
        self, request: pb.LoadModelRequest, context: Any
    ) -> pb.LoadModelResponse:
        """Add a model."""
        with _Logged("LoadModel", context, source=request.source, make_default=request.make_default):
            if not request.source:
                raise InvalidRequest("say which model", reason="OPTION_INVALID", field="source")
            loaded = await self._models.load(request.source, make_default=request.make_default)
        return pb.LoadModelResponse(model=self._loaded_message(loaded))

    async def UnloadModel(  # noqa: N802
        self, request: pb.UnloadModelRequest, context: Any
    ) -> pb.UnloadModelResponse:
        """Take a model out of service."""
        with _Logged("UnloadModel", context, name=request.name):
            if not request.name:
                raise InvalidRequest("say which model", reason="OPTION_INVALID", field="name")
            await self._models.unload(request.name)
        return pb.UnloadModelResponse()

    async def ReloadModel(  # noqa: N802
        self, request: pb.ReloadModelRequest, context: Any
    ) -> pb.ReloadModelResponse:
        """Load a model again."""
        with _Logged("ReloadModel", context, name=request.name):
            loaded = await self._models.reload(request.name)
        return pb.ReloadModelResponse(model=self._loaded_message(loaded))

    async def SetLogLevel(  # noqa: N802
        self, request: pb.SetLogLevelRequest, context: Any
    ) -> pb.SetLogLevelResponse:
        """Log more or less from now on."""
        level = _LEVELS.get(request.level)
        with _Logged("SetLogLevel", context, level=level):
            if level is None:
                raise InvalidRequest(f"no level {request.level}", reason="ENUM_UNKNOWN", field="level")
        logs.set_level(level)
        return pb.SetLogLevelResponse()

    def _loaded_message(self, loaded: Generation) -> pb.ServedModel:
        is_default = loaded is self._models.in_service[0]
        status = ModelStatus(
            loaded.source, loaded.state, loaded.pipeline.model, loaded.leases, is_default=is_default
        )
        return _message(status)


class _Logged:
    """A block whose end is logged."""

    def __init__(self, method: str, context: Any, **facts: object) -> None:
        self._method = method
        self._facts = {"peer": context.peer(), **facts}

    def __enter__(self) -> None:
        _log.info("admin call", method=self._method, **self._facts)

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        outcome = "done" if error is None else getattr(error, "reason", type(error).__name__)
        text = {"text": str(error)} if isinstance(error, StatusError) else {}
        _log.info("admin call ended", method=self._method, outcome=outcome, **self._facts, **text)


def _message(status: ModelStatus) -> pb.ServedModel:
    message = pb.ServedModel(
        source=status.source,
        state=_STATES[status.state],
        lease_count=status.leases,
        default=status.is_default,
    )
    if status.model is not None:
        message.ref.CopyFrom(replies.ref_message(status.model.ref))
        message.load_duration.CopyFrom(replies.duration(status.model.load_s))
        message.warmup_duration.CopyFrom(replies.duration(status.model.warmup_s))
    return message
