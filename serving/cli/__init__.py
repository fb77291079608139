"""The `tessera` command: pictures to streams and back, here or on a server. Imports no grpc, no torch.

app         the command tree, exit codes, what a failure looks like
local       encode, decode, info with the model in this process; truncate without any
remote      serve (grpc is imported when it runs)
client      client encode, decode, truncate, info, models, server-info
bulk        client many
health      health, which also runs without loading the others
connection  flags of all commands that ask a server; tls_files reads its certificates,
            tls_hints knows which of them may be missing
bench       load on a server
tune        measures this machine and prints settings
admin       changes to a running server; keys makes keys for one
files       what is read and what is written: plans, `-`, atomic files
report      what the user sees: lines, JSON, progress bar, exit code
closed_pipe what becomes of a command whose reader has gone
flags       flags that several commands share
"""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the `tessera` command."""
    if sys.argv[1:2] == ["health"]:
        from serving.cli.closed_pipe import quiet_once_nobody_reads
        from serving.cli.health import main as probe

        with quiet_once_nobody_reads():
            sys.exit(probe(sys.argv[2:]))
    from serving.cpu import keep_blas_single_threaded

    keep_blas_single_threaded()  # before anything imports numpy
    from serving.cli.app import run

    run()


__all__ = ["main"]
