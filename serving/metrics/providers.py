"""What is counted of execution providers that gave way to others."""

from __future__ import annotations

from itertools import permutations

from serving.metrics.declare import Declare, create_series
from tokenizer.providers import PROVIDERS


class ProviderMetrics:
    """One series for every way in which one provider can stand in for another."""

    def __init__(self, declare: Declare) -> None:
        self._fallbacks = declare.counter(
            "tessera_provider_fallbacks_total",
            "Models loaded on another execution provider than the one asked for.",
            ("requested", "actual"),
        )
        create_series(self._fallbacks, permutations(PROVIDERS, 2))

    def fell_back(self, requested: str, actual: str) -> None:
        """A model was loaded without the provider that was asked for."""
        self._fallbacks.labels(requested, actual).inc()
