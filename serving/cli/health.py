"""health: whether a server serves, as a probe asks. Imports only grpc and argparse, since probes run often.

stdout   SERVING, or with --watch each state as it changes
stderr   `error: HOST:PORT: what is wrong [REASON]`
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from serving.cli.tls_files import client_tls
from serving.cli.tls_hints import with_hint

if TYPE_CHECKING:
    import grpc

    from serving.health_wire import HealthState

EXIT_SERVING, EXIT_NOT_SERVING, EXIT_USAGE = 0, 1, 2
SUMMARY = "Ask whether a server serves: exit code 0 if it does, 1 if it does not or cannot be reached."
_UNANSWERED = {"UNAVAILABLE": "cannot be reached", "DEADLINE_EXCEEDED": "does not answer in time"}


def main(arguments: Sequence[str]) -> int:
    """Run `tessera health` with these arguments; returns the exit code."""
    given = _parser().parse_args(arguments)
    try:
        from serving.client_credentials import access_to

        files = (given.ca_file, given.client_cert, given.client_key, given.server_name)
        access = access_to(given.target, tls=client_tls(given.tls, *files))
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return EXIT_USAGE
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except ModuleNotFoundError:
        return _failed(given.target, "grpc is missing: install tessera[serve]", "NOT_INSTALLED")
    ask = _watch if given.watch else _check
    with access.channel(given.target) as channel:
        return ask(channel, given.target, given.service, given.timeout)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("tessera health", description=SUMMARY)
    here = f"127.0.0.1:{os.environ.get('TESSERA_PORT') or 50051}"
    parser.add_argument(
        "--target",
        metavar="HOST:PORT",
        default=os.environ.get("TESSERA_TARGET") or here,
        help="where the server is; else TESSERA_TARGET, else this machine at TESSERA_PORT",
    )
    parser.add_argument("--service", default="", help="full name of one service; else the whole server")
    parser.add_argument("--watch", action="store_true", help="tell each change until the server goes")
    parser.add_argument("--timeout", type=_seconds, default=5.0, help="longest wait in seconds (5)")
    parser.add_argument("--tls", action="store_true", help="encrypt, and trust what this system trusts")
    parser.add_argument("--ca-file", type=Path, help="encrypt, and trust these authorities (PEM)")
    parser.add_argument("--client-cert", type=Path, help="certificate chain to show (PEM)")
    parser.add_argument("--client-key", type=Path, help="its private key (PEM)")
    parser.add_argument("--server-name", help="name in its certificate, where it is not the target's")
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return value


def _check(channel: grpc.Channel, target: str, service: str, timeout_s: float) -> int:
    import grpc

    from serving.health_wire import HealthStub, health_request

    try:
        state = HealthStub(channel).check(health_request(service), timeout=timeout_s)
    except grpc.RpcError as error:
        return _unanswered(error, target, service)
    return _tell(state, target, service)


def _watch(channel: grpc.Channel, target: str, service: str, timeout_s: float) -> int:
    import grpc

    from serving.health_wire import HealthStub, health_request

    code = EXIT_NOT_SERVING
    try:
        # Only the connection has a deadline: a healthy server says nothing more for days.
        grpc.channel_ready_future(channel).result(timeout_s)
        for state in HealthStub(channel).watch(health_request(service)):
            # Before it is told: whoever reads it may interrupt at once.
            code = _code(state)
            _tell(state, target, service)
    except grpc.FutureTimeoutError:
        return _failed(target, f"cannot be reached within {timeout_s:g} s", "UNAVAILABLE")
    except grpc.RpcError as error:
        return _unanswered(error, target, service)
    except KeyboardInterrupt:
        pass
    return code


def _code(state: HealthState) -> int:
    return EXIT_SERVING if state.name == "SERVING" else EXIT_NOT_SERVING


def _tell(state: HealthState, target: str, service: str) -> int:
    if _code(state) == EXIT_SERVING:
        print("SERVING", flush=True)
    elif state.name == "SERVICE_UNKNOWN":
        _unknown(target, service)
    else:
        _failed(target, "is there and does not serve", state.name)
    return _code(state)


def _unanswered(error: grpc.RpcError, target: str, service: str) -> int:
    code = error.code().name
    if code == "NOT_FOUND":
        return _unknown(target, service)
    text = _UNANSWERED.get(code, "failed")
    return _failed(target, f"{text}: {with_hint(' '.join(str(error.details()).split()))}", code)


def _unknown(target: str, service: str) -> int:
    return _failed(target, f"has no service {service}", "SERVICE_UNKNOWN")


def _failed(target: str, text: str, reason: str) -> int:
    print(f"error: {target}: {text} [{reason}]", file=sys.stderr, flush=True)
    return EXIT_NOT_SERVING
