"""A real Prometheus with our configuration, the shipped model under load: no empty panel, no broken alert."""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from certificates import TlsFolder, authority
from key_files import caller, write_keys
from mixed_load import MixedLoad
from promql_names import ALERTS, ROOT, alert_rules, panel_queries

pytestmark = [pytest.mark.load, pytest.mark.timeout(300)]

SCRAPE_INTERVAL_S = 1
# How long the load runs before the panels are read; `rate` looks back over half of it.
LOAD_S = 40
RATE_INTERVAL = "20s"


@dataclass(frozen=True)
class Prometheus:
    """What the HTTP API of a running Prometheus answers."""

    url: str

    def get(self, path: str, **query: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(query)}", timeout=20) as reply:
            answer = json.loads(reply.read())
        assert answer["status"] == "success", answer
        return answer["data"]

    def values(self, expr: str) -> list[float]:
        """The present values of an instant vector."""
        return [float(series["value"][1]) for series in self.get("/api/v1/query", query=expr)["result"]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Any, timeout_s: float, what: str) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"{what} took longer than {timeout_s} s"
        time.sleep(0.25)


@dataclass(frozen=True)
class Access:
    """What a server asks of its clients, and what it is to know about that."""

    credentials: grpc.ChannelCredentials
    settings: dict[str, str]


@pytest.fixture(scope="module")
def access(tmp_path_factory: pytest.TempPathFactory) -> Access:
    """TLS and a key, so that their panels have something to show."""
    ca, user, folder = authority(), caller("load"), tmp_path_factory.mktemp("access")
    files = TlsFolder(folder)
    files.put(ca.issue("server"))
    tls = grpc.ssl_channel_credentials(ca.cert_pem)
    return Access(
        grpc.composite_channel_credentials(tls, grpc.access_token_call_credentials(user.key)),
        {
            "TESSERA_TLS_CERT_FILE": str(files.cert),
            "TESSERA_TLS_KEY_FILE": str(files.key),
            "TESSERA_AUTH_KEYS_FILE": str(write_keys(folder / "keys.toml", user)),
        },
    )


@pytest.fixture(scope="module")
def ports(access: Access, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The shipped model, served by a process with limits that the load can reach."""
    port_file = tmp_path_factory.mktemp("server") / "ports.json"
    command = (sys.executable, "-m", "serving", "serve", "--port", "0", "--metrics-port", "0")
    limits = {"TESSERA_MAX_CONCURRENT_RPCS": "16", "TESSERA_MAX_QUEUE_ITEMS": "8"}
    environment = {**os.environ, **limits, **access.settings}
    with subprocess.Popen(
        (*command, "--port-file", str(port_file)), env=environment, cwd=ROOT, stderr=subprocess.DEVNULL
    ) as child:
        try:
            wait_until(lambda: port_file.exists() or child.poll() is not None, 120, "loading the model")
            yield json.loads(port_file.read_text())
        finally:
            child.terminate()
            child.wait(timeout=40)


@pytest.fixture(scope="module")
def prometheus(ports: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Our configuration, with the server's address and a shorter interval."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed (Debian package prometheus)")
    folder = tmp_path_factory.mktemp("prometheus")
    config = yaml.safe_load((ALERTS.parent / "prometheus.yml").read_text())
    config["global"] = dict.fromkeys(config["global"], f"{SCRAPE_INTERVAL_S}s")
    config["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{ports['metrics_port']}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(ALERTS, folder)
    with running_prometheus(folder) as started:
        yield started


@contextmanager
def running_prometheus(folder: Path) -> Iterator[Prometheus]:
    """The binary, on a free port, with the configuration in this folder."""
    address = f"127.0.0.1:{free_port()}"
    command = (
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={address}",
    )
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        try:
            wait_until(lambda: _answers(f"http://{address}"), 60, "starting Prometheus")
            yield Prometheus(f"http://{address}")
        finally:
            child.terminate()
            child.wait(timeout=30)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/-/ready", timeout=2).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def under_load(ports: dict[str, Any], access: Access, prometheus: Prometheus) -> Iterator[Prometheus]:
    """Prometheus, while the load goes on and has for a while."""
    with MixedLoad(ports["target"], access.credentials) as load:
        time.sleep(LOAD_S)
        yield prometheus
    assert load.failure is None


def test_the_target_is_up(under_load: Prometheus) -> None:
    assert under_load.values('up{job="tessera"}') == [1.0]


def test_no_panel_is_empty(under_load: Prometheus) -> None:
    empty = []
    for name, expr in panel_queries(RATE_INTERVAL).items():
        if not any(math.isfinite(value) for value in under_load.values(expr)):
            empty.append(name)
    assert empty == []


def test_the_load_shows_where_it_should(under_load: Prometheus) -> None:
    counted = (
        f'grpc_server_handled_total{{grpc_code="OK", grpc_method="{method}"}}'
        for method in (
            *("Encode", "EncodeStream", "EncodeMany", "Decode", "DecodeStream", "DecodeMany"),
            *("Truncate", "Check"),
        )
    )
    ends = (
        f'grpc_server_handled_total{{grpc_method="Encode", grpc_code="{code}"}}'
        for code in ("InvalidArgument", "ResourceExhausted", "DeadlineExceeded", "Canceled")
    )
    others = (
        'grpc_server_handled_total{grpc_method="unknown", grpc_code="Unimplemented"}',
        'tessera_rate_targets_total{result="best_effort"}',
        'tessera_batches_total{trigger="full"}',
        "tessera_decode_truncated_total",
        "tessera_truncate_bytes_saved_total",
        'tessera_images_total{op="encode"} > 0',
    )
    silent = [expr for expr in (*counted, *ends, *others) if not sum(under_load.values(expr))]
    assert silent == []


def test_every_alert_can_be_evaluated(under_load: Prometheus) -> None:
    for rule in alert_rules():
        under_load.values(rule["expr"])
    groups = under_load.get("/api/v1/rules")["groups"]
    loaded = [rule for group in groups for rule in group["rules"]]
    assert sorted(rule["name"] for rule in loaded) == sorted(rule["alert"] for rule in alert_rules())
    assert [(rule["name"], rule.get("lastError")) for rule in loaded if rule["health"] != "ok"] == []


def test_a_healthy_server_under_load_wakes_nobody(under_load: Prometheus) -> None:
    alerts = under_load.get("/api/v1/alerts")["alerts"]
    critical = [alert for alert in alerts if alert["labels"]["severity"] == "critical"]
    assert [alert["labels"]["alertname"] for alert in critical] == []
