"""Compose file and Kubernetes manifests: valid, hardened, and in step with the server's settings."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import prometheus_rule
import pytest
import yaml
from manifests import DEPLOY, OVERLAYS, ROOT, compose, container, pod, rendered, resource, settings, tool

from serving.config import ServingConfig
from serving.metrics.server import Metrics
from serving.served_rpcs import public_rpcs

# From the last RPC to the end of the process: half a second of gRPC, logs, and room for a busy machine.
STOP_SLACK_S = 5
MIB = 2**20
RESULTS = ROOT / "benchmarks" / "results"
KUBERNETES = ["plain", "gpu", "tls", "monitoring"]


def config(values: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> ServingConfig:
    """The settings that a server with this environment has. An unknown name would be ignored there."""
    fields = ServingConfig.model_fields
    ours = {name: value for name, value in values.items() if name.startswith("TESSERA_")}
    assert ours
    unknown = [name for name in ours if name.removeprefix("TESSERA_").lower() not in fields]
    assert unknown == []
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    return ServingConfig()


def seconds(duration: str) -> int:
    match = re.fullmatch(r"(\d+)s", duration)
    assert match is not None
    return int(match[1])


def worst_case_mib(config: ServingConfig) -> float:
    """The formula of docs/operations.md, with the figures that the benchmarks wrote."""
    calls = json.loads((RESULTS / "model_memory.json").read_text())["cases"]
    loaded_mib = calls[0]["peak_mib"]
    largest = [case for case in calls if (case["side_px"], case["batch_size"]) == (1024, 4)]
    assert len(largest) == 2
    per_px = sum((case["peak_mib"] - loaded_mib) / (4 * 1024**2) for case in largest)
    serving_mib = json.loads((RESULTS / "speed.json").read_text())["server"]["after_run_mib"]
    requests = 2 * config.max_concurrent_rpcs + 6 * config.max_bulk_streams
    requests_mib = requests * config.max_request_size_bytes / MIB
    call_mib = per_px * config.max_batch_size * config.max_canvas_area_px
    return serving_mib + call_mib + config.max_queue_size_bytes / MIB + requests_mib


# --- compose ---------------------------------------------------------------------------------------------


def test_the_compose_file_follows_the_specification() -> None:
    check = [
        tool("check-jsonschema"),
        "--builtin-schema",
        "vendor.compose-spec",
        str(DEPLOY / "compose.yaml"),
    ]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_compose_names_settings_that_exist_and_waits_for_the_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    service = compose()["services"]["tessera"]
    made = config(service["environment"], monkeypatch)
    drain_s = made.drain_delay_s + made.drain_timeout_s
    assert seconds(service["stop_grace_period"]) >= drain_s + STOP_SLACK_S


def test_compose_takes_every_right_from_the_containers() -> None:
    for name, service in compose()["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["cpus"] and service["mem_limit"], name
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", service["image"]), name
    ours = compose()["services"]["tessera"]
    assert ours["read_only"] is True
    assert [mount.split(":")[0] for mount in ours["tmpfs"]] == ["/tmp"]
    assert ours["user"] == "10001:10001"


def test_the_memory_limits_hold_the_worst_case_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = compose()["services"]["tessera"]
    limits = (ours["mem_limit"], container("plain")["resources"]["limits"]["memory"])
    assert limits == ("3584m", "3584Mi")
    for values in (ours["environment"], settings("plain")):
        assert 3584 > worst_case_mib(config(values, monkeypatch)) > 1024


def test_compose_mounts_files_that_exist() -> None:
    volumes = [volume for service in compose()["services"].values() for volume in service.get("volumes", ())]
    paths = [volume.split(":")[0] for volume in volumes if volume.startswith("./")]
    assert paths
    assert [path for path in paths if not (DEPLOY / path).exists()] == []


# --- Kubernetes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", KUBERNETES)
def test_every_resource_follows_the_schema_of_kubernetes(overlay: str) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="needs the extra `deploy`")
    kinds = set()
    for document in rendered(overlay):
        kinds.add(document["kind"])
        # The operator's own kinds are no part of Kubernetes.
        if not document["apiVersion"].startswith("monitoring.coreos.com/"):
            validator.validate(document, "1.32", strict=True)
    assert {"Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler"} <= kinds


def test_every_overlay_is_tested() -> None:
    assert {path.name for path in OVERLAYS.iterdir()} == {"plain", "gpu", "tls", "monitoring"}


@pytest.mark.parametrize("overlay", ["plain", "gpu", "tls"])
def test_the_settings_exist_and_are_legal(overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config(settings(overlay), monkeypatch)


@pytest.mark.parametrize("overlay", ["plain", "gpu", "tls"])
def test_the_grace_period_holds_the_whole_shutdown(overlay: str) -> None:
    values = settings(overlay)
    pre_stop_s = container(overlay)["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain_s = float(values["TESSERA_DRAIN_DELAY_S"]) + float(values["TESSERA_DRAIN_TIMEOUT_S"])
    assert pre_stop_s > 0
    assert pod(overlay)["terminationGracePeriodSeconds"] >= pre_stop_s + drain_s + STOP_SLACK_S


@pytest.mark.parametrize("overlay", ["plain", "gpu", "tls"])
def test_probes_ask_where_the_server_answers(overlay: str) -> None:
    fields, ours = ServingConfig.model_fields, container(overlay)
    ports = {port["name"]: port["containerPort"] for port in ours["ports"]}
    assert ports == {"grpc": fields["port"].default, "metrics": fields["metrics_port"].default}
    probes = {name: ours[f"{name}Probe"] for name in ("startup", "readiness", "liveness")}
    assert {name: probe["httpGet"]["path"] for name, probe in probes.items()} == {
        "startup": "/readyz",
        "readiness": "/readyz",
        "liveness": "/livez",
    }
    assert {probe["httpGet"]["port"] for probe in probes.values()} == {"metrics"}


@pytest.mark.parametrize("overlay", ["plain", "gpu", "tls"])
def test_a_pod_has_no_right_that_it_does_not_need(overlay: str) -> None:
    ours, whole = container(overlay), pod(overlay)
    assert whole["securityContext"]["runAsNonRoot"] is True
    assert whole["securityContext"]["runAsUser"] == 10001
    assert whole["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert ours["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert whole["automountServiceAccountToken"] is False
    assert set(ours["resources"]["limits"]) >= {"cpu", "memory"}
    assert [mount["mountPath"] for mount in ours["volumeMounts"] if not mount.get("readOnly")] == ["/tmp"]


@pytest.mark.parametrize("overlay", ["plain", "gpu", "tls"])
def test_a_service_of_our_name_cannot_overwrite_our_settings(overlay: str) -> None:
    """Kubernetes would set TESSERA_PORT to the address of the service `tessera`."""
    assert pod(overlay)["enableServiceLinks"] is False


@pytest.mark.parametrize("overlay", ["plain", "gpu", "tls"])
def test_images_have_a_version(overlay: str) -> None:
    assert re.fullmatch(r"tessera:\d+\.\d+\.\d+(-gpu)?", container(overlay)["image"])


def test_clients_see_every_pod() -> None:
    assert resource("plain", "Service")["spec"]["clusterIP"] == "None"


def test_clients_need_one_label_and_none_of_ours() -> None:
    clients, monitoring = resource("plain", "NetworkPolicy")["spec"]["ingress"]
    expression = {"key": "tessera-client", "operator": "In", "values": ["true"]}
    assert clients["from"] == [{"namespaceSelector": {}, "podSelector": {"matchExpressions": [expression]}}]
    assert [rule["ports"] for rule in (clients, monitoring)] == [[{"port": "grpc"}], [{"port": "metrics"}]]


def test_selectors_find_the_pods() -> None:
    labels = resource("plain", "Deployment")["spec"]["template"]["metadata"]["labels"].items()
    selectors = {
        "Deployment": resource("plain", "Deployment")["spec"]["selector"]["matchLabels"],
        "Service": resource("plain", "Service")["spec"]["selector"],
        "PodDisruptionBudget": resource("plain", "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        "NetworkPolicy": resource("plain", "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    }
    assert [kind for kind, wanted in selectors.items() if not wanted or not wanted.items() <= labels] == []


def test_files_of_the_settings_lie_in_mounted_secrets() -> None:
    mounts = {mount["mountPath"]: mount for mount in container("tls")["volumeMounts"]}
    files = {name: value for name, value in settings("tls").items() if name.endswith("_FILE")}
    assert len(files) == 4
    for path in files.values():
        mount = mounts[path.rpartition("/")[0]]
        # A mount of a single file would never see a renewed certificate.
        assert mount["readOnly"] is True and "subPath" not in mount


# --- monitoring ------------------------------------------------------------------------------------------


def test_the_autoscaler_asks_for_what_the_adapter_makes_of_our_metric() -> None:
    folder = OVERLAYS / "monitoring"
    (patch,) = yaml.safe_load((folder / "scale-on-waiting.yaml").read_text())
    values = yaml.safe_load((folder / "prometheus-adapter-rule.yaml").read_text())
    (rule,) = values["rules"]["custom"]
    assert patch["value"]["pods"]["metric"]["name"] == rule["name"]["as"]
    series = rule["seriesQuery"].partition("{")[0]
    exposition = Metrics(public_rpcs().values()).exposition()[1].decode()
    assert f"# TYPE {series.removesuffix('_bucket')} histogram" in exposition


def test_the_rule_of_the_operator_holds_our_alerts() -> None:
    alerts = prometheus_rule.ALERTS.read_text()
    expected = prometheus_rule.prometheus_rule(alerts)
    assert prometheus_rule.RULE.read_text() == expected, "run `python deploy/prometheus_rule.py`"


def test_versions_are_those_of_the_project() -> None:
    import tomllib

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    images: list[Any] = [compose()["services"]["tessera"]["image"], container("plain")["image"]]
    assert images == [f"tessera:{version}"] * 2
