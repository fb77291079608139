"""docs/security.md does what it says: its commands make certificates that a server takes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from serving.api_keys import Scope, parse_keys
from serving.client_credentials import ClientTls, access_to
from serving.config import ServingConfig
from tessera.v1 import model_service_pb2 as pb
from tessera.v1 import model_service_pb2_grpc as pb_grpc

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_the_openssl_commands_make_what_mutual_tls_needs(start_server, tmp_path):
    script = next(block for block in blocks("sh") if "openssl" in block)
    done = subprocess.run(["sh", "-ec", script], cwd=tmp_path, capture_output=True, text=True)
    if "copy_extensions" in done.stderr:
        pytest.skip("this openssl is older than 3.0")
    assert done.returncode == 0, done.stderr
    running = start_server(
        tls_cert_file=tmp_path / "server.pem",
        tls_key_file=tmp_path / "server-key.pem",
        tls_client_ca_file=tmp_path / "ca.pem",
    )
    target = f"localhost:{running.server.port}"
    tls = ClientTls(tmp_path / "ca.pem", tmp_path / "client.pem", tmp_path / "client-key.pem")
    with access_to(target, tls=tls).channel(target) as channel:
        assert pb_grpc.ModelServiceStub(channel).GetServerInfo(pb.GetServerInfoRequest(), timeout=10).ready


def test_the_entry_on_the_page_is_one_that_a_server_reads():
    (entry,) = parse_keys((blocks("toml")[0].encode(),))
    assert entry.name == "shop" and entry.pictures_per_s == 20


def test_every_scope_and_every_setting_named_on_the_page_exists_and_the_other_way_round():
    rows = set(re.findall(r"^\| `([a-z]+)` \|", PAGE, re.MULTILINE))
    assert rows == {scope.value for scope in Scope}
    settings = re.findall(r"`((?:tls|auth|rate_limit|decode|allow|open|security)_[a-z_]+)`", PAGE)
    known = set(ServingConfig.model_fields)
    assert {name for name in settings if name not in known} <= {"allow_insecure_key"}
    variables = re.findall(r"TESSERA_([A-Z_]+)=", PAGE)
    assert {name.lower() for name in variables} <= known
