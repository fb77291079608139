"""What a panel is, and the PromQL that panels are made of. Knows neither JSON nor what is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# What the variables at the top of the page select.
AT = 'job="tessera", instance=~"$instance"'
RPC = AT + ', grpc_service="tessera.v1.TokenizerService", grpc_method=~"$method"'
METHOD = AT + ', method=~"$method"'
MODEL = AT + ', model=~"$model"'
ERRORS = 'grpc_code=~"Unknown|Internal|Unavailable|DataLoss"'


@dataclass(frozen=True)
class Query:
    """One expression and the name of its curves."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One picture; `kind` is Grafana's name of it, `max` the top of its axis where there is one."""

    title: str
    description: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    max: float | None = None
    stacked: bool = False
    red_above: float | None = None
    red_below: float | None = None


def rate(metric: str, selector: str) -> str:
    """Increase per second."""
    return f"rate({metric}{{{selector}}}[$__rate_interval])"


def total(metric: str, selector: str, *by: str) -> str:
    """Increase per second, added up."""
    grouping = f" by ({', '.join(by)})" if by else ""
    return f"sum{grouping} ({rate(metric, selector)})"


def quantile(share: float, histogram: str, selector: str, *by: str) -> str:
    """A quantile of a histogram."""
    return f"histogram_quantile({share}, {total(f'{histogram}_bucket', selector, *by, 'le')})"


def quantiles(histogram: str, selector: str, *by: str) -> tuple[Query, ...]:
    """Median, p95 and p99."""
    name = " ".join(f"{{{{{label}}}}}" for label in by)
    return tuple(
        Query(quantile(share, histogram, selector, *by), f"{name} p{round(share * 100)}".strip())
        for share in (0.5, 0.95, 0.99)
    )


def mean(histogram: str, selector: str, *by: str) -> str:
    """Sum over count."""
    return f"{total(f'{histogram}_sum', selector, *by)} / {total(f'{histogram}_count', selector, *by)}"


def stat(title: str, description: str, expr: str, unit: str = "short", **more: Any) -> Panel:
    """One large number."""
    return Panel(title, description, (Query(expr),), unit, kind="stat", width=4, height=4, **more)


def graph(title: str, description: str, expr: str, legend: str, unit: str = "short", **more: Any) -> Panel:
    """Curves of one expression."""
    return Panel(title, description, (Query(expr, legend),), unit, **more)
