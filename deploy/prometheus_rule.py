"""Write the alerts once more, as the resource that the Prometheus Operator reads.

    python deploy/prometheus_rule.py           # after a change of deploy/prometheus/alerts.yml

Kustomize can put a file into a string, but not into a structure, hence this copy. A test compares the two.
"""

from __future__ import annotations

from pathlib import Path

import yaml

_DEPLOY = Path(__file__).resolve().parent
ALERTS = _DEPLOY / "prometheus" / "alerts.yml"
RULE = _DEPLOY / "kubernetes" / "overlays" / "monitoring" / "prometheus-rule.yaml"
_HEADER = "# Made from deploy/prometheus/alerts.yml by deploy/prometheus_rule.py: change it there.\n"


def prometheus_rule(alerts: str) -> str:
    """The text of the resource for the text of the alerts."""
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "tessera", "labels": {"app.kubernetes.io/name": "tessera"}},
        "spec": yaml.safe_load(alerts),
    }
    return _HEADER + yaml.safe_dump(resource, sort_keys=False, width=110)


if __name__ == "__main__":
    RULE.write_text(prometheus_rule(ALERTS.read_text()))
