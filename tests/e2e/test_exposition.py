"""What /metrics says, against its page, the dashboard, the alerts, Prometheus' own lint and hostile names."""

from __future__ import annotations

import random
import re
import shutil
import string
import subprocess

import grpc
import pytest
from certificates import TlsFolder, authority
from key_files import caller, write_keys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from promql_names import ROOT, Need, alert_rules, needs, panel_queries
from running_server import Running, StartServer

from tessera.v1 import tokenizer_service_pb2 as pb
from tessera.v1 import tokenizer_service_pb2_grpc
from tessera.v1 import types_pb2 as types

# What Prometheus adds to every scrape.
SCRAPE_METRICS = {"up"}
SCRAPE_LABELS = {"job", "instance"}
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \|(.*?)\| .+ \|$", re.M)
# Bits per pixel is the unit of the field, as in every paper on compression.
ACCEPTED_LINT = 'tessera_codestream_bits_per_pixel use base unit "bytes" instead of "bits"\n'


@pytest.fixture
def equipped(start_server: StartServer, tmp_path) -> Running:
    """A server with TLS and keys: it has every series there is."""
    folder = TlsFolder(tmp_path)
    folder.put(authority().issue("server"))
    keys = write_keys(tmp_path / "keys.toml", caller("somebody"))
    return start_server(**folder.settings(), auth_keys_file=keys)


def described(exposition: str) -> dict[str, str]:
    """Family -> type, without those of the process and the interpreter."""
    found = dict(re.findall(r"^# TYPE (\S+) (\w+)$", exposition, flags=re.M))
    return {name: kind for name, kind in found.items() if not name.startswith(("process_", "python_"))}


def documented_labels(text: str, same_as: set[str]) -> set[str]:
    """The labels of one row; the first may be `the same` as in the row above."""
    return set(re.findall(r"`(\w+)`", text)) | (same_as if text.strip().startswith("the same") else set())


def documented() -> dict[str, tuple[str, set[str]]]:
    """Metric -> type and labels, as the page has them."""
    rows: dict[str, tuple[str, set[str]]] = {}
    labels: set[str] = set()
    for name, kind, text in ROW.findall((ROOT / "docs/observability.md").read_text()):
        labels = documented_labels(text, labels)
        rows[name] = (kind, labels)
    return rows


def labels_of(running, family: str) -> set[str]:
    return {
        label
        for name, pairs in running.samples()
        if re.fullmatch(rf"{family}(_bucket|_sum|_count)?", name)
        for label, _ in pairs
        if label != "le"
    }


def test_the_page_describes_exactly_the_metrics_there_are(equipped):
    found = described(equipped.http("/metrics"))
    assert {name: kind for name, (kind, _) in documented().items()} == found


def test_the_page_names_the_labels_of_each_metric(equipped):
    exposed = {name: labels_of(equipped, name) for name in documented()}
    assert exposed == {name: labels for name, (_, labels) in documented().items()}


def missing(need: Need, running) -> set[str]:
    """What this selector asks for and the server does not have."""
    if need.metric in SCRAPE_METRICS:
        return set()
    series = [dict(pairs) for name, pairs in running.samples() if name == need.metric]
    lacks = {need.metric} if not series else set()
    labels = need.labels - SCRAPE_LABELS
    lacks |= {f"{need.metric}.{label}" for label in labels if not all(label in found for found in series)}
    for label, pattern in need.values:
        if label not in SCRAPE_LABELS and not any(
            re.fullmatch(pattern, found.get(label, "")) for found in series
        ):
            lacks.add(f"{need.metric}{{{label}={pattern}}}")
    return lacks


def test_dashboard_and_alerts_ask_only_for_series_that_the_server_has(equipped):
    pytest.importorskip("promql_parser")
    asked = [*panel_queries().values(), *(rule["expr"] for rule in alert_rules())]
    wanted = {need for expr in asked for need in needs(expr)}
    assert len(wanted) > 50
    assert set().union(*(missing(need, equipped) for need in wanted)) == set()


def test_every_metric_of_ours_is_on_the_dashboard(equipped):
    pytest.importorskip("promql_parser")
    shown = {need.metric for expr in panel_queries().values() for need in needs(expr)}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown} | shown
    assert set(described(equipped.http("/metrics"))) - families == set()


def test_openmetrics_has_the_same_series_as_the_text_form(equipped):
    page = equipped.http("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    families = text_string_to_metric_families(page)
    found = {
        (sample.name, tuple(sorted(sample.labels.items()))) for one in families for sample in one.samples
    }
    assert found == set(equipped.samples())


def test_promtool_finds_nothing_to_complain_about(equipped):
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=equipped.http("/metrics"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout + done.stderr == ACCEPTED_LINT


def test_two_thousand_invented_names_add_no_series(running, png):
    rng = random.Random(5)

    def word() -> str:
        return "".join(rng.choices(string.ascii_letters, k=12))

    before = set(running.samples())
    request = pb.EncodeRequest(image=types.Image(encoded=png[:1000]))
    with running.channel() as channel:
        stub = tokenizer_service_pb2_grpc.TokenizerServiceStub(channel)
        calls = []
        for number in range(2000):
            metadata = (("x-request-id", word()), ("user-agent-id", word()))
            if number % 2:
                method = channel.unary_unary(f"/{word()}.{word()}/{word()}")
                calls.append(method.future(b"", timeout=30, metadata=metadata))
            else:
                request.model = f"{word()}@{word()}"
                calls.append(stub.Encode.future(request, timeout=30, metadata=metadata))
            if len(calls) == 50:
                assert all(isinstance(call.exception(), grpc.RpcError) for call in calls)
                calls.clear()
    running.expect(1000, "grpc_server_handled_total", grpc_method="unknown", grpc_code="Unimplemented")
    running.expect(1000, "tessera_invalid_requests_total", method="Encode", reason="MODEL_NOT_FOUND")
    assert set(running.samples()) == before
