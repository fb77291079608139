"""What a person sees: a bar that moves within a unit, lines that do not fill a log, what was done before."""

from __future__ import annotations

import io

import pytest
from batch_fakes import InProcess, fake_worker, job, run, write_tree
from rich.console import Console
from rich.progress import Progress

from serving.batch import progress
from serving.batch.live_counts import LiveCounts, tick_into
from serving.batch.progress import Pace
from serving.batch.reports import Totals
from serving.batch.units import Plan

PLAN = Plan(10, 1000, "")


@pytest.fixture
def clock(monkeypatch):
    """A list whose last entry is the time."""
    times = [0.0]
    monkeypatch.setattr(progress, "monotonic", lambda: times[-1])
    return times


def totals(units: int, errors: int = 0) -> Totals:
    return Totals(units=units, pictures=100 * units - errors, errors=errors, size_bytes=6400 * units)


def lines(capsys) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_the_rate_is_that_of_the_last_minute():
    pace = Pace(0, 0.0)
    for second in range(1, 301):
        pace.reach(min(second, 100) * 10 + max(0, second - 100), float(second))
    assert pace.rate == pytest.approx(1.0, rel=0.05)


def test_a_bar_never_goes_back():
    pace = Pace(100, 0.0)
    pace.reach(150, 1.0)
    pace.reach(120, 2.0)
    assert pace.done == 150


def test_what_earlier_runs_did_is_not_counted_as_speed():
    pace = Pace(900, 0.0)
    pace.reach(910, 5.0)
    assert pace.rate == 2.0
    assert "0:00:45 left" in pace.facts(PLAN, totals(9))


def test_a_log_gets_a_line_every_few_seconds_and_the_last(clock, capsys):
    with progress.progress(lambda: 0) as watch:
        for units in range(11):
            clock.append(units * 2.0)
            watch("encode", PLAN, totals(units))
    told = lines(capsys)
    assert [line.split(",")[0] for line in told] == [
        "tokenizing 100/1000", "tokenizing 400/1000", "tokenizing 700/1000", "tokenizing 1000/1000",
    ]  # fmt: skip
    assert told[1] == "tokenizing 400/1000, 50.0 pictures/s, 64 bytes each, 0:00:12 left"


@pytest.mark.parametrize(
    ("phase", "units", "told"),
    [
        ("encode", 3, ["goes on: 3 of 10 shards are done"]),
        ("decode", 10, ["nothing is left to do: 10 of 10 shards are done"]),
        ("whole", 3, ["goes on: 3 of 10 shards are done of 1/2 tokenizing"]),
        ("encode", 0, []),
    ],
)
def test_a_job_that_goes_on_says_what_is_done(phase, units, told, capsys):
    with progress.progress(lambda: 0) as watch:
        watch(phase, PLAN, totals(units))
    assert lines(capsys) == told


def test_the_bar_moves_within_a_unit(clock):
    out, in_work = io.StringIO(), [0]
    with Progress(console=Console(file=out, force_terminal=True), auto_refresh=False) as display:
        bars = progress._Bars(display, lambda: in_work[-1])
        bars.move()  # before the job has said anything
        bars.watch("encode", PLAN, totals(2))
        for count in (8, 16, 150, 20):
            clock.append(clock[-1] + 1)
            in_work.append(count)
            bars.move()
            assert display.tasks[0].completed == 200 + max(in_work)
        bars.watch("encode", PLAN, totals(10))
        assert display.tasks[0].completed == 1000
        assert len(display.tasks) == 1


def test_a_worker_tells_how_far_it_is_in_its_unit(tmp_path):
    one = job(tmp_path / "out", write_tree(tmp_path / "tree", 3))
    counts = LiveCounts(2)
    slots = [counts.take(), counts.take()]
    (unit,) = one.units()
    told: list[int] = []

    def tick(done: int) -> None:
        tick_into(counts.shared, slots[1])(done)
        told.append(counts.total())

    fake_worker(one.settings).run(unit, tick=tick)
    assert told == [1, 2, 3]
    counts.free(slots[1])
    assert counts.total() == 0 and counts.take() == slots[1]


def test_watchers_are_told_first_what_earlier_runs_did(tmp_path):
    source, told = write_tree(tmp_path / "tree", 9), []
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", source, InProcess(2))
    one = job(tmp_path / "out", source)
    type(one)(
        one.settings, one.plan, one.units, one.engine, watchers=[lambda *seen: told.append(seen[2].samples)]
    ).run()
    assert told == [6, 9]
