"""serve and client: flags over the environment, and whose fault a failed call is."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from cli_fakes import Ran, ThumbnailTokenizer
from grpc import StatusCode

from serving.cli.connection import Connection
from serving.client.errors import InvalidRequest, Unavailable
from serving.config import ServingConfig
from tokenizer.budget import TokenBudget
from tokenizer.coding import Coding
from tokenizer.images import read_image, write_image
from tokenizer.sequence import TokenSequence


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[ServingConfig]:
    """The settings that `serve` would run with; no server starts."""
    configs: list[ServingConfig] = []

    def run(config: ServingConfig) -> int:
        configs.append(config)
        return 1 if config.model_sources == ("broken",) else 0

    monkeypatch.setattr("serving.server.run", run)
    return configs


def test_serve_puts_flags_over_the_environment(
    served: list[ServingConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESSERA_PORT", "7")
    monkeypatch.setenv("TESSERA_HOST", "::1")
    assert Ran("serve", "--port", "0", "--threads", "2", "--provider", "cuda", "--provider", "cpu").code == 0
    (config,) = served
    assert (config.host, config.port, config.num_threads) == ("::1", 0, 2)
    assert config.providers == ("cuda", "cpu")


@pytest.mark.parametrize(("variable", "value"), [("TESSERA_MODEL", "x"), ("TESSERA_MODELS", '["x", "y"]')])
def test_model_flags_win_over_either_variable(
    served: list[ServingConfig], monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert Ran("serve", "--model", "a", "--model", "b", "--admin-port", "0").code == 0
    (config,) = served
    assert (config.model_sources, config.admin_port) == (("a", "b"), 0)


def test_a_list_in_the_environment_that_is_no_json_is_wrong_use(
    served: list[ServingConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESSERA_MODELS", "a,b")
    ran = Ran("serve")
    assert ran.code == 2 and "TESSERA_MODELS" in ran.err and "JSON" in ran.err
    assert served == []


def test_serve_passes_on_the_exit_code_of_the_server(served: list[ServingConfig]) -> None:
    assert Ran("serve", "--model", "broken").code == 1
    assert len(served) == 1


def test_serve_refuses_nonsense_before_it_starts(served: list[ServingConfig]) -> None:
    ran = Ran("serve", "--port", "70000")
    assert ran.code == 2 and "port" in ran.err
    assert served == []


class FailingClient:
    """A server that knows one bad picture, and that goes away when it sees `gone`."""

    def __enter__(self) -> FailingClient:
        return self

    def __exit__(self, *_: object) -> None: ...

    def encode(
        self, image: bytes, budget: TokenBudget | None, *, coding: Coding, **_: object
    ) -> TokenSequence:
        if image == b"<html>":
            raise InvalidRequest("no picture", code=StatusCode.INVALID_ARGUMENT, reason="IMAGE_CORRUPT")
        if image == b"gone":
            raise Unavailable("connection refused", code=StatusCode.UNAVAILABLE)
        (sequence,) = ThumbnailTokenizer().encode([read_image(image)], coding=coding)
        return sequence if budget is None else sequence.prefix(budget.max_tokens or 0)

    def decode(
        self, sequence: TokenSequence, format: str, *, quality: int | None, model: str, **realism: float
    ) -> bytes:
        return write_image(ThumbnailTokenizer().decode([sequence], **realism)[0], format, quality)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "connect", lambda connection: FailingClient())


@pytest.mark.usefixtures("server")
def test_a_server_encodes_and_decodes_like_the_library(folder: Path) -> None:
    Ran("encode", "a.png", "-o", "here.tsr", "--max-tokens", "50")
    assert Ran("client", "encode", "a.png", "-o", "there.tsr", "--max-tokens", "50").code == 0
    assert Path("here.tsr").read_bytes() == Path("there.tsr").read_bytes()
    Ran("decode", "here.tsr", "--max-tokens", "20", "-o", "here.jpg", "--quality", "70")
    assert (
        Ran("client", "decode", "there.tsr", "--max-tokens", "20", "-o", "there.jpg", "--quality", "70").code
        == 0
    )
    assert Path("here.jpg").read_bytes() == Path("there.jpg").read_bytes()


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("options", [(), ("--coding", "fixed"), ("--coding", "range")])
def test_the_coding_reaches_the_server(folder: Path, options: tuple[str, ...]) -> None:
    Ran("encode", "a.png", "-o", "here.tsr", *options)
    assert Ran("client", "encode", "a.png", "-o", "there.tsr", *options).code == 0
    assert Path("here.tsr").read_bytes() == Path("there.tsr").read_bytes()


@pytest.mark.usefixtures("server")
def test_an_input_that_the_server_refuses_does_not_stop_the_others(folder: Path) -> None:
    ran = Ran("client", "encode", "bad.png", "a.png", "-o", "out/")
    assert (ran.code, ran.err) == (3, "error: bad.png: no picture [IMAGE_CORRUPT]\n")
    assert Path("out/a.tsr").exists()


@pytest.mark.usefixtures("server")
def test_a_server_that_is_gone_ends_the_run(folder: Path) -> None:
    Path("gone.png").write_bytes(b"gone")
    ran = Ran("client", "encode", "gone.png", "a.png", "-o", "out/")
    assert (ran.code, ran.err) == (1, "error: connection refused [UNAVAILABLE]\n")
    assert not Path("out").exists()


def test_nobody_at_the_target_is_one_line(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    ran = Ran("client", "encode", "a.png", "--target", f"127.0.0.1:{port}")
    assert ran.code == 1
    assert ran.err.startswith("error: ") and ran.err.endswith("[UNAVAILABLE]\n") and ran.err.count("\n") == 1
