"""What the Dockerfile promises: little inside, nobody's root, a process that hears its signals."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from build_context import context_files
from dockerfile import Dockerfile, DockerfileError, Stage
from manifests import DEPLOY, ROOT, tool
from packaging.requirements import Requirement

from serving.config import ServingConfig
from serving.probes import Probes

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = {"cpu": ("cpu", "serve", "otel"), "gpu": ("gpu", "serve", "otel")}
PIN = re.compile(r"^([a-z0-9-]+)==([^ ;]+)[^\n]*((?:\n +--hash=sha256:[0-9a-f]{64}[ \\]*)*)", re.M)


@pytest.fixture(scope="module")
def dockerfile() -> Dockerfile:
    return Dockerfile.read(ROOT / "Dockerfile")


@pytest.fixture(scope="module")
def run_stage(dockerfile: Dockerfile) -> Stage:
    return dockerfile.stages[-1]


def environment(dockerfile: Dockerfile) -> dict[str, str]:
    texts = [step.text for stage in dockerfile.stages for step in stage.instructions if step.keyword == "ENV"]
    return dict(word.split("=", 1) for text in texts for word in text.split())


def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run([tool("hadolint"), str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_as_a_number_that_is_not_root(run_stage: Stage) -> None:
    user = run_stage.last("USER")
    assert user is not None
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user.text)


def test_the_server_is_process_1_and_gets_the_signal(run_stage: Stage) -> None:
    entrypoint, command, signal = (run_stage.last(name) for name in ("ENTRYPOINT", "CMD", "STOPSIGNAL"))
    assert entrypoint is not None and command is not None and signal is not None
    assert (entrypoint.argv, command.argv, signal.text) == (["tessera"], ["serve"], "SIGTERM")


def test_the_health_check_follows_readiness(run_stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    check = run_stage.last("HEALTHCHECK")
    assert check is not None
    shell_free = check.text.removeprefix("CMD ")
    argv = type(check)("CMD", {}, shell_free).argv
    assert argv is not None and argv[0] == "python"
    probes = Probes("127.0.0.1", 0, exposition=lambda accept: ("text/plain", b""))
    probes.start()
    monkeypatch.setenv("TESSERA_METRICS_PORT", str(probes.port))

    def verdict() -> int:
        return subprocess.run([sys.executable, *argv[1:]], stderr=subprocess.DEVNULL).returncode

    try:
        loading = verdict()
        probes.ready = True
        serving = verdict()
    finally:
        probes.stop()
    assert (loading, serving, verdict()) == (1, 0, 1)


def test_the_health_check_and_the_exposed_ports_are_the_defaults(run_stage: Stage) -> None:
    fields = ServingConfig.model_fields
    exposed, check = run_stage.last("EXPOSE"), run_stage.last("HEALTHCHECK")
    assert exposed is not None and check is not None
    assert exposed.text.split() == [str(fields["port"].default), str(fields["metrics_port"].default)]
    assert f"'TESSERA_METRICS_PORT', {fields['metrics_port'].default})" in check.text


def test_the_build_context_holds_what_is_copied_and_nothing_else(dockerfile: Dockerfile) -> None:
    files = set(context_files(ROOT))
    copies = [
        step
        for stage in dockerfile.stages
        for step in stage.instructions
        if step.keyword == "COPY" and "from" not in step.flags
    ]
    sources = [source for step in copies for source in step.text.split()[:-1]]
    assert sources
    unused = {path for path in files if not any(f"{path}/".startswith(f"{source}/") for source in sources)}
    missing = [source for source in sources if not any(f"{path}/".startswith(f"{source}/") for path in files)]
    assert (unused, missing) == (set(), [])


def test_data_tests_and_history_never_reach_the_builder(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_bytes((ROOT / ".dockerignore").read_bytes())
    wanted = {"serving/server.py", "tokenizer/pretrained/small/decoder.onnx", "deploy/requirements/cpu.txt"}
    unwanted = {
        ".git/config",
        ".venv/bin/python",
        "shared/data/train.tar",
        "runs/small/checkpoint.pt",
        "tests/conftest.py",
        "serving/__pycache__/server.cpython-313.pyc",
        "tokenizer/.env",
        "deploy/compose.yaml",
        "key.pem",
    }
    for path in wanted | unwanted:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert set(context_files(tmp_path)) == wanted


@pytest.mark.parametrize("kind", LOCKS)
def test_the_lock_pins_what_the_project_asks_for(kind: str) -> None:
    pins = {name: version for name, version, _ in PIN.findall(lock(kind))}
    extras = PROJECT["optional-dependencies"]
    asked = [*PROJECT["dependencies"], *(line for extra in LOCKS[kind] for line in extras[extra])]
    wrong = [
        line
        for line in asked
        if not Requirement(line).specifier.contains(pins.get(Requirement(line).name, "0"))
    ]
    assert wrong == []
    assert not {"torch", "pip", "setuptools"} & set(pins)


@pytest.mark.parametrize("kind", [*LOCKS, "build"])
def test_every_pin_has_hashes(kind: str) -> None:
    pins = PIN.findall(lock(kind))
    assert len(pins) == len(re.findall("^[a-z]", lock(kind), re.M))
    assert [name for name, _, hashes in pins if not hashes] == []
    assert "://" not in lock(kind)


def test_the_processor_and_the_gpu_image_differ_in_the_runtime_only() -> None:
    cpu, gpu = ({name: version for name, version, _ in PIN.findall(lock(kind))} for kind in LOCKS)
    assert {name for name in cpu if cpu[name] != gpu.get(name)} == {"onnxruntime"}
    only_gpu = set(gpu) - set(cpu)
    assert {name for name in only_gpu if not name.startswith("nvidia-")} == {"onnxruntime-gpu"}


def test_machine_code_is_made_for_any_processor_and_used_where_it_lies(dockerfile: Dockerfile) -> None:
    variables = environment(dockerfile)
    assert variables["NUMBA_CPU_NAME"] == "generic"
    assert variables["NUMBA_CACHE_DIR"].startswith("/opt/tessera/")
    # What the image keeps cannot be written to; the copy goes below the home folder, which is a tmpfs.
    assert variables["HOME"] == "/tmp"


def test_lines_are_joined_and_comments_between_them_dropped(tmp_path: Path) -> None:
    text = "ARG TAG=1\nFROM base:${TAG} AS last\n# why\nRUN one \\\n    # not this\n    two\n"
    (tmp_path / "Dockerfile").write_text(text + 'COPY --from=build /a /b\nCMD ["x", "y z"]\n')
    (stage,) = Dockerfile.read(tmp_path / "Dockerfile").stages
    run, copy, command = stage.instructions
    assert (stage.base, stage.name, run.text, run.argv) == ("base:1", "last", "one two", None)
    assert (copy.flags, copy.text) == ({"from": "build"}, "/a /b")
    assert command.argv == ["x", "y z"]


@pytest.mark.parametrize("text", ["ADD x y\n", "RUN true\nFROM a AS b\n"])
def test_what_the_replay_does_not_know_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "Dockerfile").write_text(text)
    with pytest.raises(DockerfileError):
        Dockerfile.read(tmp_path / "Dockerfile")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_replay_of_the_dockerfile_passes_all_checks() -> None:
    command = [sys.executable, str(DEPLOY / "replay_dockerfile.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 2:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all checks passed" in done.stdout


def lock(kind: str) -> str:
    return (DEPLOY / "requirements" / f"{kind}.txt").read_text()
