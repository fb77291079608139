"""Writes tessera.json, the dashboard, from one line per query: python deploy/grafana/dashboard.py

Knows the metrics of docs/observability.md and Grafana's JSON of schema 41 (Grafana 12). Needs no package.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from panels import AT, Panel, Query
from rows import rows

TARGET = Path(__file__).with_name("tessera.json")
GRID_COLUMNS = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def dashboard() -> dict[str, Any]:
    """The whole page as Grafana reads it."""
    return {
        "uid": "tessera",
        "title": "Tessera",
        "description": "Traffic, errors, latency, saturation, streams, models and process of tessera serve.",
        "tags": ["tessera"],
        "schemaVersion": 41,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": list(_variables())},
        "panels": list(_laid_out(rows())),
    }


def _variables() -> Iterator[dict[str, Any]]:
    yield {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "hide": 0,
    }
    for name, query in (
        ("instance", 'label_values(tessera_build_info{job="tessera"}, instance)'),
        ("model", f"label_values(tessera_model_info{{{AT}}}, model)"),
        ("method", f"label_values(tessera_in_flight_requests{{{AT}}}, method)"),
    ):
        yield {
            "name": name,
            "label": name.capitalize(),
            "type": "query",
            "datasource": DATASOURCE,
            "query": {"query": query, "refId": "StandardVariableQuery"},
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
            "hide": 0,
        }


def _laid_out(rows: dict[str, list[Panel]]) -> Iterator[dict[str, Any]]:
    """Panels from left to right, a new line where one does not fit; rows in the order given."""
    number, top = 0, 0
    for title, panels in rows.items():
        number += 1
        place = {"x": 0, "y": top, "w": GRID_COLUMNS, "h": 1}
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "gridPos": place,
            "panels": [],
        }
        top, left, line_height = top + 1, 0, 0
        for panel in panels:
            if left + panel.width > GRID_COLUMNS:
                top, left, line_height = top + line_height, 0, 0
            number += 1
            yield _panel(panel, number, {"x": left, "y": top, "w": panel.width, "h": panel.height})
            left, line_height = left + panel.width, max(line_height, panel.height)
        top += line_height


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": place,
        "targets": [_target(panel, query, index) for index, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": _OPTIONS[panel.kind],
    }


def _target(panel: Panel, query: Query, index: int) -> dict[str, Any]:
    target = {
        "refId": chr(ord("A") + index),
        "datasource": DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "editorMode": "code",
        "range": panel.kind != "table",
        "instant": panel.kind == "table",
    }
    return target | ({"format": "table"} if panel.kind == "table" else {})


def _field(panel: Panel) -> dict[str, Any]:
    field: dict[str, Any] = {"unit": panel.unit, "thresholds": _thresholds(panel)}
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.stacked else "none", "group": "A"}
        fill = 30 if panel.stacked else 5
        field["custom"] = {"stacking": stacking, "fillOpacity": fill, "lineWidth": 1, "showPoints": "never"}
        field["min"] = 0
    if panel.max is not None:
        field["max"] = panel.max
    return field


def _thresholds(panel: Panel) -> dict[str, Any]:
    if panel.red_below is not None:
        steps = [{"color": "red", "value": None}, {"color": "green", "value": panel.red_below}]
    elif panel.red_above is not None:
        steps = [{"color": "green", "value": None}, {"color": "red", "value": panel.red_above}]
    else:
        steps = [{"color": "green", "value": None}]
    return {"mode": "absolute", "steps": steps}


_OPTIONS: dict[str, dict[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "area",
    },
    "table": {"showHeader": True, "cellHeight": "sm"},
}


def text() -> str:
    """The file's contents."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text())
    print(f"wrote {TARGET.name}")
