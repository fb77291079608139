"""Which metrics, labels and label values a PromQL expression needs. For tests only."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
DASHBOARD = ROOT / "deploy/grafana/tessera.json"
ALERTS = ROOT / "deploy/prometheus/alerts.yml"


@dataclass(frozen=True)
class Need:
    """One selector: a metric, the labels it must have, and values of which each must exist."""

    metric: str
    labels: frozenset[str]
    values: frozenset[tuple[str, str]]


def panels() -> list[dict[str, Any]]:
    """The panels of the dashboard that show something."""
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def panel_queries(interval: str = "1m") -> dict[str, str]:
    """Panel and query -> its expression, as Grafana sends it with every variable at All."""
    return {
        f"{panel['title']} / {target['refId']}": concrete(target["expr"], interval)
        for panel in panels()
        for target in panel["targets"]
    }


def concrete(expr: str, interval: str) -> str:
    """Fill in Grafana's variables."""
    filled = expr.replace("$__rate_interval", interval)
    return re.sub(r"\$(instance|model|method)\b", ".*", filled)


def alert_rules() -> list[dict[str, Any]]:
    """All alerts."""
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def needs(expr: str) -> set[Need]:
    """What this expression reads."""
    import promql_parser

    return set(_needs(promql_parser.parse(expr), frozenset()))


def _needs(node: Any, grouping: frozenset[str]) -> Iterator[Need]:
    kind = type(node).__name__
    if kind == "VectorSelector":
        matchers = node.matchers.matchers
        values = {(m.name, value) for m in matchers for value in m.value.split("|") if value != ".*"}
        yield Need(node.name, grouping | {m.name for m in matchers}, frozenset(values))
    elif kind == "MatrixSelector":
        yield from _needs(node.vector_selector, grouping)
    elif kind == "AggregateExpr":
        by = frozenset(node.modifier.labels) if node.modifier else frozenset()
        yield from _needs(node.expr, grouping | by)
    elif kind == "BinaryExpr":
        yield from _needs(node.lhs, grouping)
        yield from _needs(node.rhs, grouping)
    elif kind == "Call":
        for argument in node.args:
            yield from _needs(argument, grouping)
    elif kind in ("ParenExpr", "UnaryExpr", "SubqueryExpr"):
        yield from _needs(node.expr, grouping)
    else:
        assert kind in ("NumberLiteral", "StringLiteral"), f"{kind} is not walked yet"
