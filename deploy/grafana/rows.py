"""What the dashboard shows: every row, and the panels and queries of those on requests. Knows no JSON."""

from __future__ import annotations

from panels import (
    AT,
    ERRORS,
    METHOD,
    MODEL,
    RPC,
    Panel,
    Query,
    graph,
    mean,
    quantile,
    quantiles,
    stat,
    total,
)
from server_rows import models, process, security

HANDLED = "grpc_server_handled_total"
HANDLING = "grpc_server_handling_seconds"
STAGE = "tessera_stage_duration_seconds"
REJECTED = "tessera_rejected_requests_total"
# Draining and loading are meant to refuse.
SHED = METHOD + ', reason!~"draining|not_ready"'


def rows() -> dict[str, list[Panel]]:
    """Title of each row -> its panels, from what every reader needs to what few do."""
    return {
        "Overview": _overview(),
        "Traffic and errors": _traffic(),
        "Latency": _latency(),
        "Saturation": _saturation(),
        "Batching and stages": _batching(),
        "Pictures, tokens and rate": _rate(),
        "Streams": _streams(),
        "Bulk streams": _bulk(),
        "Models": models(),
        "Security": security(),
        "Process": process(),
    }


def _overview() -> list[Panel]:
    shed = f"{total(REJECTED, SHED)} / {total('grpc_server_started_total', RPC)}"
    ready = f"sum(tessera_model_ready{{{MODEL}}})"
    errors = f"{total(HANDLED, RPC + ', ' + ERRORS)} / {total(HANDLED, RPC)}"
    return [
        stat("Instances", "Replicas that answer scrapes.", f"sum(up{{{AT}}})", red_below=1),
        stat("Models ready", "Models that take requests.", ready, red_below=1),
        stat("RPCs", "Finished per second, whatever their end.", total(HANDLED, RPC), "reqps"),
        stat("Errors", "Share that the server is to blame for.", errors, "percentunit", red_above=0.01),
        stat("Shed", "Share refused because a limit was reached.", shed, "percentunit", red_above=0.05),
        stat("p99", "Of all selected methods.", quantile(0.99, HANDLING, RPC), "s", red_above=1),
    ]


def _traffic() -> list[Panel]:
    invalid = f"topk(10, {total('tessera_invalid_requests_total', METHOD, 'reason')})"
    bad = total(HANDLED, RPC + ', grpc_code!="OK"', "grpc_code")
    probes = total(HANDLED, AT + ', grpc_service="grpc.health.v1.Health"', "grpc_code")
    abandoned = total("tessera_abandoned_requests_total", METHOD, "cause", "stage")
    return [
        graph(
            "RPCs by method",
            "Finished per second.",
            total(HANDLED, RPC, "grpc_method"),
            "{{grpc_method}}",
            "reqps",
            stacked=True,
        ),
        graph(
            "RPCs by code",
            "The five most frequent per second, without the good ones.",
            f"topk(5, {bad})",
            "{{grpc_code}}",
            "reqps",
        ),
        graph("Invalid requests", "The ten most frequent reasons.", invalid, "{{reason}}", "reqps"),
        graph(
            "Abandoned requests",
            "Clients that left or whose time ran out, and where that found the request.",
            abandoned,
            "{{cause}}, {{stage}}",
            "reqps",
        ),
        graph(
            "Health checks",
            "Of probes and load balancers, by code.",
            f"topk(3, {probes})",
            "{{grpc_code}}",
            "reqps",
        ),
    ]


def _latency() -> list[Panel]:
    return [
        Panel("Latency", "Of all selected methods, failures included.", quantiles(HANDLING, RPC), "s"),
        graph(
            "p99 by method",
            "From the arrival of the request to the end of the RPC.",
            quantile(0.99, HANDLING, RPC, "grpc_method"),
            "{{grpc_method}}",
            "s",
        ),
        graph(
            "p99 by instance",
            "One slow replica is a slow machine; all slow ones are load.",
            quantile(0.99, HANDLING, RPC, "instance"),
            "{{instance}}",
            "s",
        ),
    ]


def _saturation() -> list[Panel]:
    items = f"tessera_queue_items{{{MODEL}}} / tessera_queue_limit_items{{{MODEL}}}"
    memory = (
        f"sum by (instance) (tessera_queue_bytes{{{MODEL}}})"
        f" / max by (instance) (tessera_queue_limit_bytes{{{MODEL}}})"
    )
    wasted = (
        f"{total('tessera_wasted_compute_seconds_total', MODEL, 'op')}"
        f" / {total('tessera_model_call_seconds_sum', MODEL, 'op')}"
    )
    return [
        graph("Queue", "Taken share of the places.", items, "{{instance}} {{op}}", "percentunit", max=1),
        graph(
            "Memory for pictures",
            "Taken share of what is set aside.",
            memory,
            "{{instance}}",
            "percentunit",
            max=1,
        ),
        graph(
            "In flight",
            "RPCs in work.",
            f"sum by (method) (tessera_in_flight_requests{{{METHOD}}})",
            "{{method}}",
            stacked=True,
        ),
        graph(
            "Shed by reason", "Refused per second.", total(REJECTED, METHOD, "reason"), "{{reason}}", "reqps"
        ),
        Panel(
            "Queue wait",
            "Until the model call begins.",
            quantiles("tessera_queue_wait_seconds", MODEL, "op"),
            "s",
        ),
        graph(
            "Model busy",
            "Share of the time in which a model call runs: at 1 there is nothing left to give.",
            total("tessera_model_call_seconds_sum", MODEL, "instance", "op"),
            "{{instance}} {{op}}",
            "percentunit",
        ),
        graph("Wasted model time", "Share whose result nobody read.", wasted, "{{op}}", "percentunit"),
    ]


def _batching() -> list[Panel]:
    stages = (("encode", "Time of an encode"), ("decode", "Time of a decode"))
    return [
        graph(
            "Batch size", "Mean pictures per model call.", mean("tessera_batch_size", MODEL, "op"), "{{op}}"
        ),
        graph(
            "Model calls",
            "Per second, by why the batch was closed.",
            total("tessera_batches_total", MODEL, "op", "trigger"),
            "{{op}} {{trigger}}",
            "ops",
        ),
        Panel("Model call", "Time of one call.", quantiles("tessera_model_call_seconds", MODEL, "op"), "s"),
        *(
            graph(
                title,
                "Mean time per stage and request; the sum is what the request spent.",
                mean(STAGE, f'{MODEL}, op="{op}"', "stage"),
                "{{stage}}",
                "s",
                stacked=True,
            )
            for op, title in stages
        ),
        graph(
            "p99 by stage",
            "Of both operations.",
            quantile(0.99, STAGE, MODEL, "op", "stage"),
            "{{op}} {{stage}}",
            "s",
        ),
    ]


def _rate() -> list[Panel]:
    met = total("tessera_rate_targets_total", MODEL + ', result="met"', "kind")
    asked = total("tessera_rate_targets_total", MODEL, "kind")
    return [
        graph(
            "Pictures",
            "Per second.",
            total("tessera_images_total", AT, "op", "format"),
            "{{op}} {{format}}",
        ),
        Panel("Pixels", "Of one picture.", quantiles("tessera_image_pixels", AT, "op")),
        Panel("File size", "Of one picture.", quantiles("tessera_image_size_bytes", AT, "op"), "bytes"),
        graph("Tokens", "Sent or read per second.", total("tessera_tokens_total", MODEL, "op"), "{{op}}"),
        Panel("Tokens per picture", "Of one stream.", quantiles("tessera_tokens_per_image", MODEL, "op")),
        Panel("Stream size", "Header included.", quantiles("tessera_codestream_size_bytes", MODEL), "bytes"),
        Panel(
            "Rate",
            "Bits per pixel of the source.",
            quantiles("tessera_codestream_bits_per_pixel", MODEL),
            "none",
        ),
        graph(
            "Targets kept",
            "Share of what was asked for that was reached.",
            f"{met} / {asked}",
            "{{kind}}",
            "percentunit",
            max=1,
        ),
        Panel(
            "Cuts",
            "Bytes that Truncate saved, and decodes of streams known to be cut, per second.",
            (
                Query(total("tessera_truncate_bytes_saved_total", MODEL), "bytes saved"),
                Query(total("tessera_decode_truncated_total", MODEL), "cut streams decoded"),
            ),
        ),
    ]


def _streams() -> list[Panel]:
    first, interval = "tessera_time_to_first_chunk_seconds", "tessera_chunk_interval_seconds"
    return [
        Panel("First chunk", "Since the request came.", quantiles(first, METHOD, "method"), "s"),
        Panel(
            "Between chunks",
            "The time that the client takes to read is included.",
            quantiles(interval, METHOD, "method"),
            "s",
        ),
        Panel(
            "Chunks and messages",
            "Per second.",
            (
                Query(total("tessera_stream_chunks_total", METHOD, "method"), "{{method}} chunks"),
                Query(total("grpc_server_msg_received_total", RPC), "messages received"),
                Query(total("grpc_server_msg_sent_total", RPC), "messages sent"),
            ),
        ),
    ]


def _bulk() -> list[Panel]:
    failed = f"topk(10, {total('tessera_batch_rpc_item_errors_total', METHOD, 'method', 'reason')})"
    return [
        Panel(
            "Items per stream",
            "Of EncodeMany and DecodeMany, counted when a stream ends.",
            quantiles("tessera_batch_rpc_items", METHOD, "method"),
        ),
        graph(
            "Items in work",
            "Read and not answered yet.",
            f"sum by (method) (tessera_batch_rpc_window_items{{{METHOD}}})",
            "{{method}}",
        ),
        graph(
            "Failed items",
            "The ten most frequent reasons; the stream goes on.",
            failed,
            "{{method}} {{reason}}",
            "ops",
        ),
    ]
