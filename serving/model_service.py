"""ModelService: what is served and every limit. Answers at once, loaded or not, and is never shed."""

from __future__ import annotations

from typing import Any

from serving import rate_limit, replies
from serving.admission import Admission, ServerState
from serving.config import ServingConfig
from serving.generation import Generation
from serving.models import ModelRegistry
from serving.status import InvalidRequest
from tessera.v1 import model_service_pb2 as pb
from tessera.v1 import model_service_pb2_grpc as pb_grpc

SERVICE = pb.DESCRIPTOR.services_by_name["ModelService"].full_name


class ModelServicer(pb_grpc.ModelServiceServicer):
    """What is in service, and the limits it has."""

    def __init__(
        self, config: ServingConfig, admission: Admission, models: ModelRegistry, version: str
    ) -> None:
        self._config = config
        self._admission = admission
        self._models = models
        self._version = version

    async def ListModels(  # noqa: N802
        self, request: pb.ListModelsRequest, context: Any
    ) -> pb.ListModelsResponse:
        """All models on one page, the default first."""
        if request.page_token or request.page_size < 0:
            message = "there is one page; page_size is 0 or more"
            raise InvalidRequest(message, reason="OPTION_INVALID", field="page_token")
        return pb.ListModelsResponse(models=[self._message(served) for served in self._models.in_service])

    async def GetModel(  # noqa: N802
        self, request: pb.GetModelRequest, context: Any
    ) -> pb.GetModelResponse:
        """One model by `name`, `name@version` or `name@sha256:digest`; the default without."""
        return pb.GetModelResponse(model=self._message(self._models.find(request.name)))

    async def GetServerInfo(  # noqa: N802
        self, request: pb.GetServerInfoRequest, context: Any
    ) -> pb.GetServerInfoResponse:
        """Versions and limits, the caller's own among them."""
        ready = self._admission.state is ServerState.SERVING
        return replies.server_info(self._config, self._version, rate_limit.limits_of_caller(), ready=ready)

    def _message(self, served: Generation) -> pb.Model:
        return replies.model_message(served.pipeline.model, is_default=served is self._models.in_service[0])
