"""ModelService: what is served and every limit. Answers at once, loaded or not, and is never shed."""

from __future__ import annotations

from typing import Any

from serving import convert, replies
from serving.admission import Admission, ServerState
from serving.config import ServingConfig
from serving.model import ServedModel
from serving.status import InvalidRequest, NotReady
from tessera.v1 import model_service_pb2 as pb
from tessera.v1 import model_service_pb2_grpc as pb_grpc

SERVICE = pb.DESCRIPTOR.services_by_name["ModelService"].full_name


class ModelServicer(pb_grpc.ModelServiceServicer):
    """One model, default and only."""

    def __init__(self, config: ServingConfig, admission: Admission, version: str) -> None:
        self._config = config
        self._admission = admission
        self._version = version
        self._attached: ServedModel | None = None

    def attach(self, model: ServedModel) -> None:
        """Begin to show this model."""
        self._attached = model

    async def ListModels(  # noqa: N802
        self, request: pb.ListModelsRequest, context: Any
    ) -> pb.ListModelsResponse:
        """All models on one page."""
        if request.page_token or request.page_size < 0:
            message = "there is one page; page_size is 0 or more"
            raise InvalidRequest(message, reason="OPTION_INVALID", field="page_token")
        return pb.ListModelsResponse(models=[replies.model_message(self._model)])

    async def GetModel(  # noqa: N802
        self, request: pb.GetModelRequest, context: Any
    ) -> pb.GetModelResponse:
        """One model by `name` or `name@version`."""
        convert.check_model(request.name, self._model)
        return pb.GetModelResponse(model=replies.model_message(self._model))

    async def GetServerInfo(  # noqa: N802
        self, request: pb.GetServerInfoRequest, context: Any
    ) -> pb.GetServerInfoResponse:
        """Versions and limits."""
        ready = self._admission.state is ServerState.SERVING
        return replies.server_info(self._config, self._version, ready=ready)

    @property
    def _model(self) -> ServedModel:
        if self._attached is None:
            raise NotReady("the model is still loading", retry_after_s=1.0)
        return self._attached
