"""A load report for people: tables and a histogram in the terminal. Measures nothing."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from serving.load.summary import LoadReport, Percentiles

_BAR_COLUMNS = 40
# Above this the generator, not the server, makes the tail.
_LATE_MS = 20.0


def print_report(report: LoadReport, console: Console) -> None:
    """Counts, latencies, histogram, and a warning where the generator itself was too slow."""
    console.print(_heading(report), style="bold")
    console.print(_statuses(report))
    console.print(_latencies(report))
    if report.histogram:
        console.print(_histogram(report))
    lag = report.generator_lag
    if lag is not None and lag.p99_ms > _LATE_MS:
        console.print(
            f"Calls were sent up to {lag.p99_ms:.0f} ms late (p99): the load generator was short of "
            "processor time. Run it on another machine, with --processes, or with less load.",
            style="yellow",
        )


def _heading(report: LoadReport) -> str:
    plan = report.plan
    if plan["rate_per_s"] is None:
        loop = f"{plan['clients']} clients, closed loop"
    else:
        loop = f"{plan['rate_per_s']:g} calls/s, {plan['arrivals']} arrivals, open loop"
    part = " (stopped early)" if report.was_stopped else ""
    goodput = "" if report.goodput_per_s is None else f", {report.goodput_per_s:.1f}/s within the SLO"
    return (
        f"{loop}: {report.sent} calls in {report.observed_s:.1f} s{part}, "
        f"{report.throughput_per_s:.1f} answered/s{goodput}"
    )


def _statuses(report: LoadReport) -> Table:
    table = Table("status", "calls", "share", box=None, header_style="dim")
    table.columns[1].justify = table.columns[2].justify = "right"
    for label, count in report.statuses.items():
        table.add_row(label, str(count), f"{100 * count / report.sent:.1f} %")
    return table


def _latencies(report: LoadReport) -> Table:
    table = Table("latency, ms", "calls", "p50", "p90", "p99", "max", box=None, header_style="dim")
    for column in table.columns[1:]:
        column.justify = "right"
    _add(table, "answered", report.ok_latency)
    if len(report.ok_latency_by_kind) > 1:
        for kind, found in report.ok_latency_by_kind.items():
            _add(table, f"  {kind}", found)
    _add(table, "first message of a stream", report.first_message)
    _add(table, "refused", report.refusal_latency)
    _add(table, "sent late by", report.generator_lag)
    return table


def _add(table: Table, name: str, found: Percentiles | None) -> None:
    if found is not None:
        values = (found.p50_ms, found.p90_ms, found.p99_ms, found.max_ms)
        table.add_row(name, str(found.count), *(f"{value:.1f}" for value in values))


def _histogram(report: LoadReport) -> Table:
    table = Table("answered within, ms", "calls", "", box=None, header_style="dim")
    table.columns[0].justify = table.columns[1].justify = "right"
    most = max(report.histogram.values())
    for edge, count in report.histogram.items():
        # Whatever happened at all shows at least one block.
        blocks = -(-count * _BAR_COLUMNS // most)
        table.add_row(edge, str(count), "█" * blocks)
    return table
