"""Certificates and keys: which pairs are taken, and what happens to the served one when files change."""

from __future__ import annotations

import pytest
from certificates import TlsFolder, authority
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from serving.reloaded_files import SetupError
from serving.tls import TlsFiles, parse_identity

CA = authority()
SERVER = CA.issue("server")


def pem(key, encryption=None) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def test_a_pair_that_belongs_together_says_when_it_expires():
    identity = parse_identity((SERVER.cert_pem, SERVER.key_pem))
    assert identity.not_after_s == SERVER.not_after_s
    assert identity.client_ca_pem is None


def test_the_first_certificate_of_the_chain_to_expire_counts():
    short_lived = authority().issue("intermediate", days=1)
    identity = parse_identity((SERVER.cert_pem + short_lived.cert_pem, SERVER.key_pem))
    assert identity.not_after_s == short_lived.not_after_s


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ((SERVER.cert_pem, CA.issue("other").key_pem), "does not belong"),
        ((SERVER.cert_pem[:200], SERVER.key_pem), "certificate file holds no PEM"),
        ((SERVER.cert_pem, SERVER.key_pem[:100]), "key file holds no PEM"),
        ((b"", SERVER.key_pem), "certificate file holds no PEM"),
        ((SERVER.key_pem, SERVER.cert_pem), "certificate file holds no PEM"),
        ((SERVER.cert_pem, pem(SERVER.key, BestAvailableEncryption(b"secret"))), "is encrypted"),
        ((SERVER.cert_pem, pem(ed25519.Ed25519PrivateKey.generate())), "must be RSA"),
        ((SERVER.cert_pem, pem(rsa.generate_private_key(65537, 1024))), "must be RSA"),
        ((SERVER.cert_pem, SERVER.key_pem, b"no certificate"), "client CA file holds no PEM"),
        ((CA.issue("old", days=-1).cert_pem, SERVER.key_pem), "does not belong"),
    ],
)
def test_what_could_not_be_served_is_refused_with_its_reason(files, says):
    with pytest.raises(SetupError, match=says):
        parse_identity(files)


def test_an_expired_certificate_is_refused():
    old = CA.issue("old", days=-1)
    with pytest.raises(SetupError, match="expired at 20"):
        parse_identity((old.cert_pem, old.key_pem))


def test_neither_errors_nor_representations_show_a_key():
    secret = SERVER.key_pem.decode().splitlines()[1]
    assert secret not in repr(parse_identity((SERVER.cert_pem, SERVER.key_pem)))
    with pytest.raises(SetupError) as caught:
        parse_identity((SERVER.cert_pem, SERVER.key_pem[:120]))
    assert secret[:20] not in repr(caught.value) + repr(caught.value.__cause__)


@pytest.fixture
def folder(tmp_path) -> TlsFolder:
    folder = TlsFolder(tmp_path)
    folder.put(SERVER)
    return folder


def test_a_half_written_pair_keeps_the_old_one_and_is_reported_once(folder):
    reports: list[bool] = []
    files = TlsFiles(folder.cert, folder.key, None, reports.append)
    new = CA.issue("new", days=60)
    folder.cert.write_bytes(new.cert_pem)
    for _ in range(3):
        files.refresh()
    assert (files.not_after_s, reports) == (SERVER.not_after_s, [False])
    folder.key.write_bytes(new.key_pem)
    files.refresh()
    assert (files.not_after_s, reports) == (new.not_after_s, [False, True])


def test_files_that_vanish_keep_the_old_pair(folder):
    reports: list[bool] = []
    files = TlsFiles(folder.cert, folder.key, None, reports.append)
    folder.key.unlink()
    files.refresh()
    assert (files.not_after_s, reports) == (SERVER.not_after_s, [False])


def test_the_same_files_written_again_are_no_rotation(folder):
    reports: list[bool] = []
    files = TlsFiles(folder.cert, folder.key, None, reports.append)
    folder.put(SERVER)
    files.refresh()
    assert reports == []


def test_a_folder_swapped_by_its_link_is_a_rotation(tmp_path):
    """How Kubernetes replaces a mounted secret."""
    reports: list[bool] = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    new = CA.issue("new", days=60)
    TlsFolder(tmp_path / "first").put(SERVER)
    TlsFolder(tmp_path / "second").put(new)
    (tmp_path / "data").symlink_to("first")
    files = TlsFiles(tmp_path / "data" / "cert.pem", tmp_path / "data" / "key.pem", None, reports.append)
    (tmp_path / "draft").symlink_to("second")
    (tmp_path / "draft").replace(tmp_path / "data")
    files.refresh()
    assert (files.not_after_s, reports) == (new.not_after_s, [True])


def test_files_that_are_missing_at_the_start_are_named(tmp_path):
    with pytest.raises(SetupError, match=r"cannot read TLS files.*cert\.pem"):
        TlsFiles(tmp_path / "cert.pem", tmp_path / "key.pem", None)
