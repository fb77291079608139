"""`tessera client ...` and `tessera health` against a running server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from certificates import TlsFolder, authority
from fake_service import FakeServer
from running_server import Running
from typer.testing import CliRunner

from serving.cli.app import app
from serving.cli.health import main as health
from tokenizer.sequence import TokenSequence


def tessera(*arguments: str, target: str, code: int = 0, stdin: bytes | None = None):
    ran = CliRunner().invoke(app, ["client", *arguments, "--target", target], input=stdin)
    if ran.exception is not None and not isinstance(ran.exception, SystemExit):
        raise ran.exception
    assert ran.exit_code == code, ran.stderr
    return ran


def probe(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = health(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def target(running: Running) -> str:
    return running.server.target


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, png: bytes) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("a.png").write_bytes(png)
    return tmp_path


def test_pictures_go_to_streams_and_back(folder, target):
    tessera("encode", "a.png", "--max-tokens", "100", "--model", "fake@1", target=target)
    assert TokenSequence.from_bytes(Path("a.tsr").read_bytes()).length == 100
    tessera("truncate", "a.tsr", "--max-tokens", "20", "-o", "short.tsr", target=target)
    assert Path("short.tsr").read_bytes() == Path("a.tsr").read_bytes()[:30]
    tessera("decode", "short.tsr", "-o", "back.png", target=target)
    assert Path("back.png").read_bytes()[:4] == b"\x89PNG"


def test_a_quality_that_is_not_expected_is_a_warning(folder, target):
    for command in (("encode", "a.png"), ("many", ".", "-o", "out")):
        ran = tessera(*command, "--min-psnr", "90", target=target)
        assert ran.stderr.startswith("warning: a.png: not expected to reach 90 dB")
        assert tessera(*command, "--min-psnr", "11", target=target).stderr == ""


def test_truncating_needs_a_limit_and_a_place(folder, target):
    assert "max-tokens" in tessera("truncate", "a.tsr", "-o", "b.tsr", target=target, code=2).stderr
    assert "where to write" in tessera("truncate", "a.tsr", "--max-bytes", "9", target=target, code=2).stderr


def test_info_says_which_model_decodes(folder, target):
    tessera("encode", "a.png", target=target)
    foreign = TokenSequence.from_bytes(Path("a.tsr").read_bytes()).to_bytes()
    Path("foreign.tsr").write_bytes(foreign[:2] + bytes(4) + foreign[6:])
    ran = tessera("info", "a.tsr", "foreign.tsr", "--json", target=target)
    told = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [facts["decoded_by"] for facts in told] == ["fake@1", None]


def test_models_and_limits_are_told_to_people_and_programs(target):
    facts = json.loads(tessera("models", "--json", target=target).stdout)
    assert (facts["name"], facts["codings"], facts["is_default"]) == ("fake", ["range", "fixed"], True)
    info = json.loads(tessera("server-info", "--json", target=target).stdout)
    assert info["ready"] and info["max_image_side_px"] == 16_384
    assert "max image side px" in tessera("server-info", target=target).stdout


@pytest.fixture
def tls_folder(tmp_path) -> TlsFolder:
    """Files of a server, and those of another authority as `other.pem`."""
    ca, files = authority(), TlsFolder(tmp_path)
    files.put(ca.issue("server"))
    files.client_ca.write_bytes(ca.cert_pem)
    (tmp_path / "other.pem").write_bytes(authority("other").cert_pem)
    return files


def test_where_tls_fails_the_message_says_which_flags_may_be_missing(
    start_server, tls_folder, target, tmp_path, capsys
):
    ca, other = str(tls_folder.client_ca), str(tmp_path / "other.pem")
    encrypted = start_server(**tls_folder.settings()).server.target
    mutual = start_server(**tls_folder.settings(mutual=True)).server.target
    for place, flags, missing in (
        (encrypted, (), "does the server use TLS (--tls, --ca-file)"),
        (target, ("--ca-file", ca), "does the server use TLS? If not"),
        (encrypted, ("--ca-file", other), "Give that authority with --ca-file"),
        (encrypted, ("--ca-file", ca, "--server-name", "other.example"), "Give it with --server-name"),
        (mutual, ("--ca-file", ca), "ask for a certificate (--client-cert)?"),
    ):
        assert missing in tessera("models", *flags, target=place, code=1).stderr
        code, _, err = probe(capsys, "--target", place, *flags)
        assert code == 1 and missing in err
    tessera("models", "--ca-file", ca, target=encrypted)


def test_a_model_that_is_not_there_ends_the_run(folder, target):
    ran = tessera("encode", "a.png", "--model", "nobody", target=target, code=1)
    assert ran.stderr.startswith("error: ") and ran.stderr.endswith("[MODEL_NOT_FOUND]\n")


def pictures_in(folder: Path) -> None:
    (folder / "in" / "deep").mkdir(parents=True)
    for number in range(10):
        (folder / "in" / f"{number}.png").write_bytes(bytes([number]) * 64)
    (folder / "in" / "deep" / "0.JPG").write_bytes(b"deep" * 16)
    (folder / "in" / "notes.txt").write_bytes(b"no picture")


def test_many_writes_a_folder_as_deep_as_the_first(folder, fake):
    pictures_in(folder)
    ran = tessera("many", "in", "-o", "out", "--json", target=fake.target)
    told = [json.loads(line)["file"] for line in ran.stdout.splitlines()]
    assert told == sorted(told) and len(told) == 11
    assert TokenSequence.from_bytes(Path("out/7.tsr").read_bytes()).tokens == bytes([7]) * 64
    assert Path("out/deep/0.tsr").exists()
    assert len(fake.service.streams) == 1


def test_many_names_bad_pictures_and_writes_the_others(folder, fake):
    pictures_in(folder)
    (folder / "in" / "3.png").write_bytes(b"bad")
    (folder / "in" / "5.png").unlink()
    (folder / "in" / "5.png").symlink_to("nowhere")
    (folder / "in" / "folder.png").mkdir()
    ran = tessera("many", "in", "-o", "out", target=fake.target, code=3)
    assert ran.stderr.splitlines() == [
        "error: in/3.png: no picture [IMAGE_CORRUPT]",
        "error: in/5.png: No such file or directory [FILE_NOT_FOUND]",
    ]
    assert len(list(Path("out").rglob("*.tsr"))) == 9


def test_many_goes_on_after_a_picture_that_the_server_fails_on_and_tells_in_the_end(folder, fake):
    pictures_in(folder)
    (folder / "in" / "3.png").write_bytes(b"bug")
    ran = tessera("many", "in", "-o", "out", target=fake.target, code=1)
    assert ran.stderr == "error: in/3.png: internal error 17 [INTERNAL]\n"
    assert len(list(Path("out").rglob("*.tsr"))) == 10


def test_many_leaves_out_what_is_there_when_asked(folder, fake):
    pictures_in(folder)
    tessera("many", "in", "-o", "out", target=fake.target)
    Path("out/7.tsr").unlink()
    ran = tessera("many", "in", "-o", "out", "--skip-existing", "--json", target=fake.target)
    assert [json.loads(line)["file"] for line in ran.stdout.splitlines()] == ["in/7.png"]
    tessera("many", "in", "-o", "out", "--skip-existing", target="127.0.0.1:1")


def test_many_refuses_what_would_be_written_twice(folder, fake):
    pictures_in(folder)
    (folder / "in" / "7.webp").write_bytes(b"other")
    ran = tessera("many", "in", "-o", "out", target=fake.target, code=2)
    assert "would both be" in " ".join(ran.stderr.replace("│", " ").split())
    tessera("many", "nowhere", "-o", "out", target=fake.target, code=2)


def test_many_ends_when_nobody_is_there(folder):
    pictures_in(folder)
    ran = tessera("many", "in", "-o", "out", target="127.0.0.1:1", code=1)
    assert ran.stderr.endswith("[UNAVAILABLE]\n") and ran.stderr.count("\n") == 1
    assert not Path("out").exists()


def test_the_key_comes_from_a_file_or_the_environment_and_never_from_a_flag(folder, fake, monkeypatch):
    Path("key").write_text("from-file\n")
    tessera("encode", "a.png", "--key-file", "key", target=fake.target)
    monkeypatch.setenv("TESSERA_KEY", "from-environment")
    tessera("encode", "a.png", target=fake.target)
    keys = [metadata.get("authorization") for metadata in fake.service.metadata]
    assert keys == ["Bearer from-file", "Bearer from-environment"]
    tessera("encode", "a.png", "--key", "seen-by-all", target=fake.target, code=2)
    tessera("encode", "a.png", "--key-file", "nowhere", target=fake.target, code=2)
    monkeypatch.setenv("TESSERA_KEY", "two words")
    assert "two words" not in tessera("encode", "a.png", target=fake.target, code=2).stderr


def test_a_certificate_needs_its_key(folder, fake):
    ran = tessera("encode", "a.png", "--client-cert", "a.png", target=fake.target, code=2)
    assert "belong together" in ran.stderr


def test_a_timeout_is_one_line(folder, fake):
    fake.service.gate.clear()
    ran = tessera("encode", "a.png", "--timeout", "0.2", target=fake.target, code=1)
    assert ran.stderr.endswith("[DEADLINE_EXCEEDED]\n")


def test_health_tells_serving_from_not_serving_from_not_there(fake: FakeServer, capsys):
    where = ("--target", fake.target)
    assert probe(capsys, *where) == (0, "SERVING\n", "")
    fake.set_serving(False)
    code, out, err = probe(capsys, *where)
    assert (code, out) == (1, "")
    assert err == f"error: {fake.target}: is there and does not serve [NOT_SERVING]\n"
    fake.stop()
    code, _, err = probe(capsys, *where)
    assert code == 1 and err.startswith(f"error: {fake.target}: cannot be reached: ")
    assert err.endswith("[UNAVAILABLE]\n")
    code, _, err = probe(capsys, *where, "--watch", "--timeout", "0.2")
    assert code == 1 and "cannot be reached within 0.2 s [UNAVAILABLE]" in err


def test_health_knows_services_by_name(target, capsys):
    assert probe(capsys, "--target", target, "--service", "tessera.v1.TokenizerService")[0] == 0
    code, _, err = probe(capsys, "--target", target, "--service", "nobody")
    assert (code, err) == (1, f"error: {target}: has no service nobody [SERVICE_UNKNOWN]\n")


def test_health_is_part_of_the_command_and_refuses_nonsense(fake: FakeServer, capsys):
    assert CliRunner().invoke(app, ["health", "--target", fake.target]).exit_code == 0
    assert "health" in CliRunner().invoke(app, ["--help"]).stdout
    assert probe(capsys, "--client-cert", "a")[0] == probe(capsys, "--ca-file", "nowhere")[0] == 2
    for arguments in (["--timeout", "0"], ["--timeout", "soon"], ["--nonsense"]):
        with pytest.raises(SystemExit, match="2"):
            health(arguments)


def test_health_asks_this_machine_at_the_servers_port(target, capsys, monkeypatch):
    monkeypatch.setenv("TESSERA_PORT", target.rpartition(":")[2])
    assert probe(capsys)[0] == 0


def test_the_command_and_the_module_probe_alike_and_watch_tells_each_change(fake: FakeServer):
    command = [sys.executable, "-m", "serving", "health", "--watch", "--target", fake.target]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watch:
        assert watch.stdout.readline() == "SERVING\n"
        fake.set_serving(False)
        assert watch.stderr.readline().endswith("does not serve [NOT_SERVING]\n")
        fake.set_serving(True)
        assert watch.stdout.readline() == "SERVING\n"
        watch.send_signal(signal.SIGINT)
        assert watch.wait(10) == 0


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("serving.client", "numba onnxruntime pydantic structlog prometheus_client rich typer torch"),
        (
            "serving.cli.health",
            "numba numpy PIL onnxruntime pydantic structlog prometheus_client tessera torch",
        ),
        ("serving.cli.app", "numba onnxruntime pydantic torch"),
    ],
)
def test_client_probe_and_command_start_without_what_only_a_server_needs(module, never):
    code = f"import sys, {module}, grpc\nprint([name for name in {never.split()} if name in sys.modules])\n"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "[]"
