"""The rows of the dashboard on the server itself: models, security, process. Knows no JSON."""

from __future__ import annotations

from panels import AT, MODEL, Panel, Query, graph, quantile, rate, total


def models() -> list[Panel]:
    """What is served, and on what."""
    reloads = total("tessera_model_reloads_total", MODEL, "model", "result")
    fallbacks = f"sum by (instance, requested, actual) (tessera_provider_fallbacks_total{{{AT}}})"
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
        graph("Reloads", "Per second.", reloads, "{{model}} {{result}}", "ops", width=12),
        graph(
            "Provider fallbacks",
            "Models loaded on another execution provider than the one asked for, since the start.",
            fallbacks,
            "{{instance}} {{requested}} to {{actual}}",
            width=12,
        ),
    ]


def security() -> list[Panel]:
    """Keys, certificates and the processes that read hostile files."""
    not_after = f"min by (instance) (tessera_tls_certificate_not_after_timestamp_seconds{{{AT}}})"
    return [
        graph(
            "Turned away",
            "RPCs per second without a key that is good for them.",
            total("tessera_auth_failures_total", AT, "reason"),
            "{{reason}}",
            "reqps",
        ),
        graph(
            "Keys in force",
            "Only with keys; expired ones included.",
            f"tessera_auth_keys{{{AT}}}",
            "{{instance}}",
        ),
        Panel(
            "Changes of keys",
            "Only with keys: files taken over, and files that were no good, per second.",
            (
                Query(total("tessera_auth_keys_reloads_total", AT, "instance"), "{{instance}} taken"),
                Query(
                    total("tessera_auth_keys_reload_failures_total", AT, "instance"), "{{instance}} no good"
                ),
            ),
            "ops",
        ),
        graph(
            "Files in force",
            "1 while the files of keys and certificates are what is in force, 0 while they are no good.",
            f"min by (instance, files) (tessera_security_files_last_reload_successful{{{AT}}})",
            "{{instance}} {{files}}",
            red_below=1,
        ),
        graph(
            "Certificate ends in",
            "Only with TLS.",
            f"{not_after} - time()",
            "{{instance}}",
            "s",
        ),
        Panel(
            "Changes of certificates",
            "Only with TLS: files taken over, and files that were no good, per second.",
            (
                Query(total("tessera_tls_rotations_total", AT, "instance"), "{{instance}} taken"),
                Query(total("tessera_tls_rotation_failures_total", AT, "instance"), "{{instance}} no good"),
            ),
            "ops",
        ),
        graph(
            "Worker restarts",
            "Per second; a decoder died or hung.",
            total("tessera_worker_restarts_total", AT, "instance", "pool"),
            "{{instance}} {{pool}}",
            "ops",
        ),
    ]


def process() -> list[Panel]:
    """The process itself."""
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
