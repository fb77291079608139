"""TLS, client certificate and key together, over a synchronous and an asynchronous channel."""

from __future__ import annotations

import grpc
import pytest
from certificates import TlsFolder, authority
from key_files import caller, write_keys

from serving.client_credentials import ClientTls, access_to
from tessera.v1 import model_service_pb2 as pb
from tessera.v1 import model_service_pb2_grpc as pb_grpc

INFO = pb.GetServerInfoRequest()


@pytest.fixture
def secured(start_server, tmp_path):
    """A server that wants everything, what opens it, and where it is."""
    ca, good = authority(), caller("good")
    folder = TlsFolder(tmp_path)
    folder.put(ca.issue("server"))
    folder.client_ca.write_bytes(ca.cert_pem)
    client = ca.issue("client")
    (tmp_path / "client.pem").write_bytes(client.cert_pem)
    (tmp_path / "client-key.pem").write_bytes(client.key_pem)
    keys = write_keys(tmp_path / "keys.toml", good)
    running = start_server(**folder.settings(mutual=True), auth_keys_file=keys)
    tls = ClientTls(folder.client_ca, tmp_path / "client.pem", tmp_path / "client-key.pem")
    return f"localhost:{running.server.port}", good.key, tls


def test_a_synchronous_channel_carries_the_key_in_every_call(secured):
    target, key, tls = secured
    with access_to(target, key=key, tls=tls).channel(target) as channel:
        assert pb_grpc.ModelServiceStub(channel).GetServerInfo(INFO, timeout=10).ready


async def test_an_asynchronous_channel_carries_the_key_in_every_call(secured):
    target, key, tls = secured
    async with access_to(target, key=key, tls=tls).aio_channel(target) as channel:
        reply = await pb_grpc.ModelServiceStub(channel).GetServerInfo(INFO, timeout=10)
    assert reply.ready


def test_the_client_certificate_alone_is_not_enough(secured):
    target, _, tls = secured
    with access_to(target, tls=tls).channel(target) as channel, pytest.raises(grpc.RpcError) as caught:
        pb_grpc.ModelServiceStub(channel).GetServerInfo(INFO, timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_the_name_in_the_certificate_can_be_another_than_that_in_the_target(secured):
    target, key, tls = secured
    target = target.replace("localhost", "ipv4:127.0.0.1")
    named = ClientTls(tls.ca_file, tls.certificate_file, tls.key_file, server_name="localhost")
    with access_to(target, key=key, tls=named).channel(target) as channel:
        assert pb_grpc.ModelServiceStub(channel).GetServerInfo(INFO, timeout=10).ready
    wrong = ClientTls(tls.ca_file, tls.certificate_file, tls.key_file, server_name="other.example")
    channel = access_to(target, key=key, tls=wrong).channel(target)
    with channel, pytest.raises(grpc.RpcError) as caught:
        pb_grpc.ModelServiceStub(channel).GetServerInfo(INFO, timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
