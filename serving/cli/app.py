"""The command tree of `tessera`, its exit codes, and how a failure of the whole run looks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import typer

from serving.batch.errors import BatchError
from serving.cli import admin, batch, batch_decode, bulk, client, health, keys, local, remote
from serving.cli.bench import bench
from serving.cli.closed_pipe import quiet_once_nobody_reads
from serving.cli.connection import ServerError, with_connection, with_server
from serving.cli.job_ends import resumable
from serving.cli.report import EXIT_FAILURE, OutputError, tell_error
from serving.cli.tune import tune
from tokenizer.errors import TokenizerError

EXIT_CODES = (
    "Exit codes: 0 all done; 1 the tool, the model or the server failed, or an output cannot be written; "
    "2 the command line makes no sense; 3 some inputs were bad (each is named on stderr, the others are "
    "written); 141 whoever read the output has gone."
)

app = typer.Typer(
    name="tessera",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog=EXIT_CODES,
)
app.add_typer(keys.keys, name="keys")
administration = typer.Typer(no_args_is_help=True, help="Change a running server.", epilog=EXIT_CODES)
app.add_typer(administration, name="admin")
client_app = typer.Typer(no_args_is_help=True, help="Let a server do it.", epilog=EXIT_CODES)
app.add_typer(client_app, name="client")
data_sets = typer.Typer(no_args_is_help=True, help="Whole data sets, resumable.", epilog=EXIT_CODES)
app.add_typer(data_sets, name="batch")


def run() -> None:
    """The whole command, as sys.argv says."""
    app(prog_name="tessera")


@app.callback()
def root(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=lambda on: _print_version(on), help="Say which one."
        ),
    ] = False,
) -> None:
    """Pictures as ordered one-byte tokens of which every prefix is a picture."""


def _print_version(asked: bool) -> None:
    if asked:
        print(f"tessera {version('tessera')}")
        raise typer.Exit()


def one_line_errors(command: Callable[..., None]) -> Callable[..., None]:
    """The command with failures of the whole run as one line and exit code 1. Bugs keep their traceback."""

    @functools.wraps(command)
    def run(*args: object, **kwargs: object) -> None:
        try:
            with quiet_once_nobody_reads():
                command(*args, **kwargs)
        except (TokenizerError, OutputError, BatchError, ServerError) as error:
            tell_error(error)
            raise typer.Exit(EXIT_FAILURE) from error

    return run


@app.command(
    "health",
    help=health.SUMMARY,
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
def probe(context: typer.Context) -> None:
    """Listed here; `serving.cli.main` runs it without loading this file."""
    raise typer.Exit(health.main(context.args))


for command in (local.encode, local.decode, local.truncate, local.info, remote.serve, tune):
    app.command()(one_line_errors(command))
app.command()(one_line_errors(with_server(bench)))
data_sets.command("encode")(one_line_errors(resumable(batch.batch_encode)))
data_sets.command("decode")(one_line_errors(resumable(batch_decode.batch_decode)))
keys.keys.command("new")(one_line_errors(keys.new))
keys.keys.command("check")(one_line_errors(keys.check))
for change in (admin.models, admin.load, admin.unload, admin.reload, admin.log_level):
    administration.command()(one_line_errors(change))
questions: dict[str, Callable[..., None]] = {
    "encode": client.encode,
    "decode": client.decode,
    "truncate": client.truncate,
    "info": client.info,
    "many": bulk.many,
    "models": client.models,
    "server-info": client.server_info,
}
for name, question in questions.items():
    client_app.command(name)(one_line_errors(with_connection(question)))
