"""The admin port and `tessera admin`: models come and go, and the log tells who asked."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace

import grpc
import pytest
import structlog
from several_models import SMALL, SeveralModels, start
from typer.testing import CliRunner

from serving import logs
from serving.cli.app import app
from serving.config import ServingConfig
from tessera.admin.v1 import admin_service_pb2 as pb
from tessera.admin.v1 import admin_service_pb2_grpc
from tokenizer.errors import ArtifactError


@pytest.fixture
def running(server_loop) -> Iterator[SeveralModels]:
    """One model, and another one on the shelf."""
    running = start(server_loop, ("small",), {})
    yield running
    running.call(running.server.stop())


@pytest.fixture
def admin(running):
    with grpc.insecure_channel(running.server.admin.address.target) as channel:
        yield admin_service_pb2_grpc.AdminServiceStub(channel)


@pytest.fixture
def tessera_admin(running):
    def run(*arguments: str):
        command = ["admin", *arguments, "--target", running.server.admin.address.target]
        return CliRunner().invoke(app, command, catch_exceptions=False)

    return run


@pytest.fixture
def loud_logs() -> Iterator[None]:
    """Lines of the level `info`, until the test ends."""
    before = structlog.get_config()["wrapper_class"], logging.getLogger("tessera").level
    logs.set_level("info")
    yield
    structlog.configure(wrapper_class=before[0])
    logging.getLogger("tessera").setLevel(before[1])


def listed(admin) -> list[tuple[str, str, bool]]:
    models = admin.ListModels(pb.ListModelsRequest(), timeout=20).models
    return [(m.ref.name, pb.ModelState.Name(m.state), m.default) for m in models]


def test_models_come_and_go_by_rpc(admin):
    loaded = admin.LoadModel(pb.LoadModelRequest(source="other"), timeout=20).model
    assert (loaded.ref.name, loaded.source, loaded.state) == ("other", "other", pb.MODEL_STATE_READY)
    assert listed(admin) == [("small", "MODEL_STATE_READY", True), ("other", "MODEL_STATE_READY", False)]
    assert admin.ReloadModel(pb.ReloadModelRequest(name="other@7"), timeout=20).model.ref.name == "other"
    admin.UnloadModel(pb.UnloadModelRequest(name="other"), timeout=20)
    assert listed(admin) == [("small", "MODEL_STATE_READY", True)]


@pytest.mark.parametrize(
    ("method", "request_", "code"),
    [
        ("LoadModel", pb.LoadModelRequest(), grpc.StatusCode.INVALID_ARGUMENT),
        ("LoadModel", pb.LoadModelRequest(source="nowhere"), grpc.StatusCode.FAILED_PRECONDITION),
        ("LoadModel", pb.LoadModelRequest(source="small"), grpc.StatusCode.FAILED_PRECONDITION),
        ("UnloadModel", pb.UnloadModelRequest(), grpc.StatusCode.INVALID_ARGUMENT),
        ("UnloadModel", pb.UnloadModelRequest(name="small"), grpc.StatusCode.FAILED_PRECONDITION),
        ("UnloadModel", pb.UnloadModelRequest(name="nobody"), grpc.StatusCode.NOT_FOUND),
        ("ReloadModel", pb.ReloadModelRequest(name="nobody"), grpc.StatusCode.NOT_FOUND),
        ("SetLogLevel", pb.SetLogLevelRequest(), grpc.StatusCode.INVALID_ARGUMENT),
        ("SetLogLevel", pb.SetLogLevelRequest(level=99), grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(admin, method, request_, code):
    with pytest.raises(grpc.RpcError) as caught:
        getattr(admin, method)(request_, timeout=20)
    assert caught.value.code() is code
    assert listed(admin) == [("small", "MODEL_STATE_READY", True)]


def test_every_call_is_in_the_log_with_its_peer_and_its_outcome(admin, loud_logs):
    with structlog.testing.capture_logs() as lines:
        admin.LoadModel(pb.LoadModelRequest(source="other"), timeout=20)
        with pytest.raises(grpc.RpcError):
            admin.UnloadModel(pb.UnloadModelRequest(name="small"), timeout=20)
    ended = [line for line in lines if line["event"] == "admin call ended"]
    assert [(line["method"], line["outcome"]) for line in ended] == [
        ("LoadModel", "done"),
        ("UnloadModel", "MODEL_REQUIRED"),
    ]
    assert all(line["peer"].startswith("ipv4:127.0.0.1:") for line in ended)


def test_the_log_level_changes_while_the_server_runs(admin, loud_logs):
    admin.SetLogLevel(pb.SetLogLevelRequest(level=pb.LOG_LEVEL_ERROR), timeout=20)
    assert not structlog.get_logger("tessera.any").is_enabled_for(logging.WARNING)
    assert structlog.get_logger("tessera.any").is_enabled_for(logging.ERROR)


def test_admin_calls_are_counted_and_the_public_port_knows_none_of_them(running, admin):
    listed(admin)
    service = "tessera.admin.v1.AdminService"
    running.expect(1, "grpc_server_handled_total", grpc_service=service, grpc_code="OK")
    with running.channel() as channel:
        stub = admin_service_pb2_grpc.AdminServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ListModels(pb.ListModelsRequest(), timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_without_an_admin_port_there_is_none(start_server):
    running = start_server()
    assert running.server.admin is None
    assert running.sample("grpc_server_started_total", grpc_service="tessera.admin.v1.AdminService") == 0


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.0.7", "example.org"])
def test_the_admin_port_refuses_to_listen_beyond_this_machine(host):
    with pytest.raises(ValueError, match="loopback"):
        ServingConfig(admin_host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "[::1]", "localhost"])
def test_the_admin_port_listens_on_any_loopback_address(host):
    assert ServingConfig(admin_host=host).admin_host == host


def test_the_command_line_lists_loads_reloads_and_unloads(running, tessera_admin):
    assert tessera_admin("load", "other").stdout.startswith(
        "other@7  ready  0 leases  sha256:b2b2b2b2b2b2  other"
    )
    assert len(tessera_admin("reload").stdout.splitlines()) == 2
    assert tessera_admin("unload", "other").exit_code == 0
    (model,) = map(json.loads, tessera_admin("models", "--json").stdout.splitlines())
    assert (model["name"], model["state"], model["default"], model["leases"]) == ("small", "ready", True, 0)


def test_the_command_line_can_change_the_default(running, tessera_admin):
    running.shelf.holds["next"] = replace(SMALL, version="2", digest="a2" * 32)
    assert tessera_admin("load", "next", "--default").stdout.rstrip().endswith("default")
    assert tessera_admin("unload", "small@1").exit_code == 0


def test_the_command_line_says_in_one_line_why_a_change_failed(running, tessera_admin):
    running.shelf.holds["small"] = ArtifactError("decoder.onnx was altered")
    ran = tessera_admin("reload", "small")
    assert (ran.exit_code, ran.stderr) == (1, "error: decoder.onnx was altered [MODEL_LOAD_FAILED]\n")
    assert tessera_admin("log-level", "loud").exit_code == 2
