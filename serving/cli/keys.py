"""`tessera keys`: make a key, or check the file that lists them. Talks to no server."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

from serving.cli.remote import ServerError

keys = typer.Typer(no_args_is_help=True, help="Keys of those who may call a server.")


def new(
    name: Annotated[str, typer.Option(help="Who gets the key; the server's log shows it.")],
    scope: Annotated[
        list[str], typer.Option(help="What it opens: encode, decode, truncate or info. Repeat for more.")
    ],
    expires_in_days: Annotated[int | None, typer.Option(min=1, max=36_500, help="Else never.")] = None,
    pictures_per_s: Annotated[float | None, typer.Option(help="Else the server's default.")] = None,
    megapixels_per_s: Annotated[float | None, typer.Option(help="Else the server's default.")] = None,
    burst_s: Annotated[
        float | None, typer.Option(help="Seconds' worth of the rates that may be spent at once.")
    ] = None,
) -> None:
    """Make a key. Its entry for the keys file goes to stdout; the key itself is shown once, on stderr."""
    api_keys = _api_keys()
    key = api_keys.new_key()
    until = None
    if expires_in_days is not None:
        now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        until = now + datetime.timedelta(days=expires_in_days)
    try:
        entry = api_keys.make_entry(
            name=name,
            sha256=api_keys.hash_of(key),
            scopes=scope,
            expires=until,
            pictures_per_s=pictures_per_s,
            megapixels_per_s=megapixels_per_s,
            burst_s=burst_s,
        )
    except api_keys.SetupError as error:
        raise typer.BadParameter(str(error)) from error
    print(api_keys.entry_as_toml(entry))
    print(f"The key, shown only now: {key}", file=sys.stderr)


def check(file: Annotated[Path, typer.Argument(help="What auth_keys_file names.")]) -> None:
    """Say what a keys file means; exit code 1 if a server would not take it."""
    for entry in _read(file):
        scopes = ", ".join(sorted(scope.value for scope in entry.scopes))
        until = "no expiry" if entry.expires is None else f"expires {entry.expires.isoformat()}"
        print(f"{entry.name}: {scopes}; {'expired' if entry.has_expired else until}")


def _read(file: Path) -> tuple[Any, ...]:
    """The entries of the file. Raises ServerError."""
    api_keys = _api_keys()
    try:
        found: tuple[Any, ...] = api_keys.parse_keys((file.read_bytes(),))
    except OSError as error:
        raise ServerError(f"cannot read the keys file: {error}", "OS_ERROR") from error
    except api_keys.SetupError as error:
        raise ServerError(str(error), error.reason) from error
    return found


def _api_keys() -> ModuleType:
    """The module, whose libraries come with the extra `serve`. Raises ServerError without them."""
    try:
        from serving import api_keys
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "serving":
            raise
        raise ServerError(f"{error.name} is missing: install tessera[serve]", "NOT_INSTALLED") from error
    return api_keys
