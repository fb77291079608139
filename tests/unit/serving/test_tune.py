"""tessera tune: what is measured, and which settings follow from given speeds."""

from __future__ import annotations

import json
import threading
import time

import pytest
from typer.testing import CliRunner

from serving import tune
from serving.cli.app import app
from serving.cli.tune import print_speeds
from serving.config import ServingConfig
from serving.tune import OPS, Machine, Speed, Way, run_closed_loop, shapes, siblings
from serving.tuning_advice import advise, best_model, queue_items


def machine(
    rates: dict[tuple[int, int, int], float], processors: int = 2, pictures: tuple[float, ...] = (90.0, 91.0)
) -> Machine:
    """Speeds by (threads, instances, batch size), equal for both operations; else ten pictures per second."""
    speeds = {}
    for op in OPS:
        for shape in shapes(processors):
            rate = rates.get(shape, 10.0)
            threads, instances, size = shape
            call_ms = 1000 * size * instances / rate
            speeds[Way(op, "m", threads, instances, size)] = Speed(rate, call_ms, 2 * call_ms)
    for count, rate in enumerate(pictures, 1):
        speeds[Way("pictures", instances=count)] = Speed(rate, 1000 / rate, 2000 / rate)
    return Machine(processors, speeds, 300 * 2**20)


@pytest.mark.parametrize(
    ("processors", "expected"),
    [
        (1, {(1, 1)}),
        (2, {(1, 1), (2, 1), (1, 2)}),
        (6, {(1, 1), (2, 1), (4, 1), (6, 1), (1, 6), (2, 3)}),
    ],
)
def test_one_call_alone_and_all_processors_filled_are_tried(processors, expected):
    tried = shapes(processors)
    assert {(threads, instances) for threads, instances, size in tried if size == 1} == expected
    assert {size for _, _, size in tried} == {1, 2, 4, 8}
    assert len(set(tried)) == len(tried)


def test_many_pictures_want_instances_and_short_calls_want_threads():
    measured = machine({(1, 1, 1): 10, (2, 1, 1): 13, (1, 2, 1): 19, (1, 2, 4): 19.5})
    throughput = advise(measured, "m", "throughput", slo_s=1.0)
    assert throughput.settings == {
        "model": "m",
        "num_threads": 1,
        "num_instances": 2,
        "max_batch_size": 1,
        "image_threads": 1,
        "max_queue_items": 19,
    }
    assert throughput.pictures_per_s == {"encode": 19, "decode": 19}
    latency = advise(measured, "m", "latency", slo_s=0.5)
    assert (latency.settings["num_threads"], latency.settings["num_instances"]) == (2, 1)
    assert latency.settings["max_queue_items"] == 6
    assert latency.memory_bytes > 300 * 2**20


def test_differences_within_noise_choose_the_smaller_number():
    measured = machine({(1, 1, 1): 10, (2, 1, 1): 10.2, (1, 2, 1): 10.2})
    for profile in ("latency", "throughput"):
        settings = advise(measured, "m", profile, slo_s=1.0).settings
        assert (settings["num_threads"], settings["num_instances"]) == (1, 1)


@pytest.mark.parametrize(
    ("rates", "size"), [((20, 21, 21, 21), 1), ((20, 25, 30, 31), 4), ((20, 19, 19, 30), 8)]
)
def test_a_batch_must_earn_the_wait_that_it_costs(rates, size):
    measured = machine(dict(zip([(1, 2, n) for n in (1, 2, 4, 8)], rates, strict=True)))
    assert advise(measured, "m", "throughput", slo_s=1.0).settings["max_batch_size"] == size


def test_a_batch_is_as_good_as_the_operation_that_gains_less():
    measured = machine(dict(zip([(1, 2, n) for n in (1, 2, 4, 8)], (20, 30, 40, 40), strict=True)))
    for size, rate in ((2, 18.0), (4, 23.0), (8, 19.0)):
        measured.speeds[Way("decode", "m", 1, 2, size)] = Speed(rate, 1.0, 1.0)
    assert advise(measured, "m", "throughput", slo_s=1.0).settings["max_batch_size"] == 4
    measured.speeds[Way("decode", "m", 1, 2, 4)] = Speed(19.0, 1.0, 1.0)
    assert advise(measured, "m", "throughput", slo_s=1.0).settings["max_batch_size"] == 1


def test_the_table_is_whole_where_there_is_no_terminal(capsys):
    name = "a-model-with-a-name-of-" + 60 * "x"
    speeds = {Way(op, f"/models/{name}"): Speed(123456.7, 1234.5, 2345.6) for op in OPS}
    print_speeds(Machine(1, speeds, 0))
    out = capsys.readouterr().out
    assert out.count(name) == 2 and out.count("123456.7") == out.count("2345.6") == 2


def test_more_threads_for_pictures_only_where_they_help():
    assert advise(machine({}, pictures=(90, 170)), "m", "throughput", 1.0).settings["image_threads"] == 2
    assert advise(machine({}, pictures=(90, 70)), "m", "throughput", 1.0).settings["image_threads"] == 1


def test_a_model_is_preferred_only_for_more_than_noise():
    speeds = {}
    for name, rate in (("a", 10.0), ("b", 10.2), ("c", 20.0)):
        for op in OPS:
            speeds[Way(op, name)] = Speed(rate, 1.0, 1.0)
    measured = Machine(1, speeds, 0)
    assert best_model(measured, ["a"]) == "a"
    assert best_model(measured, ["a", "b"]) == "a"
    assert best_model(measured, ["a", "b", "c"]) == "c"


def test_a_queue_is_never_shorter_than_a_batch():
    assert queue_items(0.001, 1.0, batch_size=4) == 4
    assert queue_items(0.001, 1.0, batch_size=1) == 1


def test_what_is_advised_is_a_legal_configuration():
    for profile in ("latency", "throughput"):
        for slo_s in (0.001, 10.0):
            advice = advise(machine({(1, 2, 8): 40}), "m", profile, slo_s)
            assert ServingConfig(**advice.settings).max_queue_items == advice.settings["max_queue_items"]


def test_the_lines_are_what_the_server_reads(monkeypatch):
    advice = advise(machine({(1, 2, 1): 30}), "m", "throughput", slo_s=1.0)
    for line in advice.env_lines():
        monkeypatch.setenv(*line.split("=", 1))
    config = ServingConfig()
    assert {name: getattr(config, name) for name in advice.settings} == advice.settings


def test_clients_of_a_closed_loop_call_at_the_same_time_and_each_at_least_once():
    both = threading.Barrier(2)
    calls = run_closed_loop(lambda: both.wait(10), clients=2, window_s=0.0)
    assert [len(one) for one in calls] == [1, 1]


def test_a_closed_loop_calls_again_until_its_window_ends():
    ((*calls,),) = run_closed_loop(lambda: time.sleep(0.002), clients=1, window_s=0.05)
    assert len(calls) > 1 and min(calls) >= 0.002


def test_siblings_are_shipped_models_that_make_the_same_tokens():
    assert siblings("tessera-small") == ["tessera-small", "tessera-small-int8"]
    assert siblings("default") == ["default", "tessera-small"]


def test_memory_is_read_where_the_system_tells(tmp_path):
    status = tmp_path / "status"
    status.write_text("Name:\tx\nVmRSS:\t   2048 kB\n")
    assert tune.resident_bytes(status) == 2 * 2**20
    assert tune.resident_bytes(tmp_path / "missing") == 0


@pytest.fixture
def quick_machine(monkeypatch, tiny_artifact):
    """One processor and windows of no length, so that each way runs once a round."""
    monkeypatch.setattr("serving.cli.tune.available_cpu_count", lambda: 1)
    monkeypatch.setattr("serving.cli.tune._QUICK_WINDOW_S", 0.0)
    monkeypatch.setattr(tune, "SIDE_PX", 64)
    monkeypatch.setattr(tune, "BATCH_SIZES", (1, 2))
    return str(tiny_artifact)


def test_tune_measures_prints_and_writes(quick_machine, tmp_path, monkeypatch):
    env = tmp_path / "tessera.env"
    arguments = ["tune", "--quick", "--model", quick_machine, "--out", str(env), "--slo-ms", "100"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "profile latency" in result.stdout and "TESSERA_NUM_THREADS=1" in result.stdout
    comment, *lines = env.read_text().splitlines()
    assert comment == "# tessera tune, profile throughput"
    for line in lines:
        monkeypatch.setenv(*line.split("=", 1))
    assert ServingConfig().model == quick_machine


def test_tune_tells_everything_as_json(quick_machine):
    result = CliRunner().invoke(app, ["tune", "--quick", "--json", "--model", quick_machine])
    facts = json.loads(result.stdout)
    assert facts["processors"] == 1
    assert {speed["op"] for speed in facts["speeds"]} == {"encode", "decode", "pictures"}
    assert set(facts["profiles"]) == {"latency", "throughput"}
    assert all(speed["pictures_per_s"] > 0 for speed in facts["speeds"])


def test_a_profile_that_is_none_is_refused():
    assert CliRunner().invoke(app, ["tune", "--profile", "fast"]).exit_code == 2


def test_tune_tells_in_one_line_that_a_model_is_missing():
    result = CliRunner().invoke(app, ["tune", "--model", "nonsense"])
    assert result.exit_code == 1
    assert "MODEL_NOT_FOUND" in result.stderr
