"""TLS from outside: who is let in, which versions are spoken, and certificates that change under load."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest
from certificates import Issued, TlsFolder, authority
from running_server import Running

from serving.config import ServingConfig
from serving.server import build_server
from tessera.v1 import model_service_pb2 as pb
from tessera.v1 import model_service_pb2_grpc as pb_grpc

RELOAD_S = 0.05
NOT_AFTER = "tessera_tls_certificate_not_after_timestamp_seconds"


@pytest.fixture(scope="module")
def ca() -> Issued:
    return authority()


@pytest.fixture
def folder(tmp_path, ca) -> TlsFolder:
    folder = TlsFolder(tmp_path)
    folder.put(ca.issue("first"))
    folder.client_ca.write_bytes(ca.cert_pem)
    return folder


def ask(running: Running, ca: Issued | None, client: Issued | None = None) -> pb.GetServerInfoResponse:
    """One RPC over a connection of its own."""
    credentials = grpc.ssl_channel_credentials(
        ca.cert_pem if ca else None,
        private_key=client.key_pem if client else None,
        certificate_chain=client.cert_pem if client else None,
    )
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    with grpc.secure_channel(f"localhost:{running.server.port}", credentials, options) as channel:
        stub = pb_grpc.ModelServiceStub(channel)
        return stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=10)


def refused(running: Running, ca: Issued | None, client: Issued | None = None) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        ask(running, ca, client)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_client_that_trusts_the_ca_is_served_and_another_is_not(start_server, folder, ca):
    running = start_server(**folder.settings())
    assert ask(running, ca).ready
    refused(running, authority("somebody else"))


def test_a_client_without_tls_gets_nothing(start_server, folder):
    running = start_server(**folder.settings())
    with running.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        pb_grpc.ModelServiceStub(channel).GetServerInfo(pb.GetServerInfoRequest(), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_with_a_client_ca_only_certificates_that_it_signed_are_let_in(start_server, folder, ca):
    running = start_server(**folder.settings(mutual=True))
    assert ask(running, ca, ca.issue("client")).ready
    refused(running, ca)
    refused(running, ca, authority("somebody else").issue("client"))
    refused(running, ca, ca.issue("old client", days=-1))


def handshake(port: int, ca_file, version: ssl.TLSVersion) -> str | None:
    """The version that was agreed on."""
    context = ssl.create_default_context(cafile=ca_file)
    context.set_alpn_protocols(["h2"])
    # Our side must be willing, or the test would show the refusal of the client.
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as encrypted,
    ):
        return encrypted.version()


@contextmanager
def old_server(folder: TlsFolder) -> Iterator[int]:
    """A server that does speak TLS 1.1, once: shows that `handshake` could."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1_1
    context.load_cert_chain(folder.cert, folder.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def answer() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True):
                pass

        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)


def test_tls_1_2_and_1_3_are_spoken_and_1_1_is_not(start_server, folder):
    running = start_server(**folder.settings())
    port = running.server.port
    assert handshake(port, folder.client_ca, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    assert handshake(port, folder.client_ca, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    with old_server(folder) as old_port:
        assert handshake(old_port, folder.client_ca, ssl.TLSVersion.TLSv1_1) == "TLSv1.1"
    with pytest.raises(ssl.SSLError):
        handshake(port, folder.client_ca, ssl.TLSVersion.TLSv1_1)


def test_certificates_rotate_under_load_without_one_failed_rpc(start_server, folder, ca):
    running = start_server(**folder.settings(), security_reload_interval_s=RELOAD_S)
    failures: list[Exception] = []
    answered = [0, 0]
    stop = threading.Event()

    def load(number: int) -> None:
        while not stop.is_set():
            try:
                ask(running, ca)
                answered[number] += 1
            except grpc.RpcError as error:
                failures.append(error)

    threads = [threading.Thread(target=load, args=(number,)) for number in range(len(answered))]
    for thread in threads:
        thread.start()
    try:
        for days in range(40, 46):
            issued = ca.issue(f"rotated for {days} days", days=days)
            before = min(answered)
            folder.put(issued)
            running.expect(issued.not_after_s, NOT_AFTER)
            running.eventually(lambda before=before: min(answered) >= before + 2)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    running.expect(6, "tessera_tls_rotations_total")
    presented = ssl.get_server_certificate(("127.0.0.1", running.server.port))
    assert presented.encode().split() == issued.cert_pem.split()


def test_a_connection_outlives_the_certificate_it_began_with(start_server, folder, ca):
    running = start_server(**folder.settings(), security_reload_interval_s=RELOAD_S)
    credentials = grpc.ssl_channel_credentials(ca.cert_pem)
    with grpc.secure_channel(f"localhost:{running.server.port}", credentials) as channel:
        stub = pb_grpc.ModelServiceStub(channel)
        assert stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=10).ready
        other = authority("the next CA").issue("second", days=50)
        folder.put(other)
        running.expect(other.not_after_s, NOT_AFTER)
        assert stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=10).ready
    refused(running, ca)


def test_a_broken_rotation_is_counted_and_the_old_certificate_serves_on(start_server, folder, ca):
    running = start_server(**folder.settings(), security_reload_interval_s=RELOAD_S)
    before = running.sample(NOT_AFTER)
    folder.key.write_bytes(ca.issue("somebody else's key").key_pem)
    running.expect(1, "tessera_tls_rotation_failures_total")
    running.expect(0, "tessera_security_files_last_reload_successful", files="certificates")
    assert ask(running, ca).ready
    running.expect(before, NOT_AFTER)
    folder.put(ca.issue("good again", days=50))
    running.expect(1, "tessera_security_files_last_reload_successful", files="certificates")


def test_the_ca_of_clients_rotates_too(start_server, folder, ca):
    running = start_server(**folder.settings(mutual=True), security_reload_interval_s=RELOAD_S)
    old, new_ca = ca.issue("client"), authority("new client CA")
    assert ask(running, ca, old).ready
    folder.client_ca.write_bytes(new_ca.cert_pem)
    running.expect(1, "tessera_tls_rotations_total")
    refused(running, ca, old)
    assert ask(running, ca, new_ca.issue("client")).ready


def test_probes_need_no_certificate(start_server, folder):
    running = start_server(**folder.settings(mutual=True))
    assert running.http("/livez") == running.http("/readyz") == "ok\n"


def test_without_tls_there_is_no_certificate_that_could_seem_expired(running):
    assert not any(name == NOT_AFTER for name, _ in running.samples())


async def test_a_server_whose_certificate_is_no_good_does_not_start(folder, tmp_path):
    folder.cert.write_bytes(b"nothing")
    server = build_server(ServingConfig(port=0, metrics_port=0, **folder.settings()))
    with pytest.raises(Exception, match="holds no PEM certificate"):
        await server.start()
    await server.stop()
