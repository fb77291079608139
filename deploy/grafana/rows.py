"""What the dashboard shows: every row, panel and query. Knows no JSON."""

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
    rate,
    stat,
    total,
)

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
        "Models": _models(),
        "Process": _process(),
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


def _models() -> list[Panel]:
    info = f"tessera_model_info{{{MODEL}}}"
    build = f"tessera_build_info{{{AT}}}"
    return [
        Panel("Models", "What is served, and on what.", (Query(info),), kind="table", width=12),
        Panel("Builds", "What the processes are made of.", (Query(build),), kind="table", width=12),
        graph(
            "Ready",
            "1 while the model takes requests.",
            f"tessera_model_ready{{{MODEL}}}",
            "{{instance}} {{model}}@{{version}}",
            max=1,
            width=12,
        ),
        Panel(
            "Time to load and to warm up",
            "What a replica needs before it serves.",
            (
                Query(f"tessera_model_load_seconds{{{MODEL}}}", "{{instance}} {{model}} load"),
                Query(f"tessera_model_warmup_seconds{{{MODEL}}}", "{{instance}} {{model}} warm-up"),
            ),
            "s",
            width=12,
        ),
    ]


def _process() -> list[Panel]:
    descriptors = f"process_open_fds{{{AT}}} / process_max_fds{{{AT}}}"
    return [
        graph("Memory", "Resident.", f"process_resident_memory_bytes{{{AT}}}", "{{instance}}", "bytes"),
        graph("Processor", "Cores in use.", rate("process_cpu_seconds_total", AT), "{{instance}}"),
        graph("Descriptors", "Share of those allowed.", descriptors, "{{instance}}", "percentunit"),
        graph(
            "Event loop lag",
            "99th percentile of how late a timer fires.",
            quantile(0.99, "tessera_event_loop_lag_seconds", AT, "instance"),
            "{{instance}}",
            "s",
        ),
        graph(
            "Garbage collections",
            "Per second and generation.",
            total("python_gc_collections_total", AT, "generation"),
            "{{generation}}",
            "ops",
        ),
        graph(
            "Lost log lines",
            "Per second; stderr was too slow.",
            total("tessera_log_lines_dropped_total", AT, "instance"),
            "{{instance}}",
        ),
        graph(
            "Uptime",
            "Since the process began.",
            f"time() - process_start_time_seconds{{{AT}}}",
            "{{instance}}",
            "s",
        ),
    ]
