"""Says aloud that a model runs on another execution provider than the one asked for."""

from __future__ import annotations

import structlog

from serving.metrics.providers import ProviderMetrics
from serving.model import ServedModel

_log = structlog.get_logger("tessera.server")


def report_fallback(model: ServedModel, metrics: ProviderMetrics) -> None:
    """Log and count, where `allow_provider_fallback` let a model be loaded all the same."""
    if model.fallback is None:
        return
    requested, actual = model.fallback.requested, model.fallback.actual
    metrics.fell_back(requested, actual)
    _log.warning("provider fallback", model=model.ref.name, requested=requested, actual=actual)
