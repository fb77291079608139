"""A keys file, and what a caller with a key sends. For tests only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from serving.api_keys import hash_of, new_key

ALL_SCOPES = ("encode", "decode", "truncate", "info")


@dataclass(frozen=True)
class Caller:
    """A key and its entry."""

    name: str
    key: str
    entry: str

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return bearer(self.key)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def caller(name: str, *, scopes: tuple[str, ...] = ALL_SCOPES, **fields: str | float) -> Caller:
    """A new key; `fields` are further lines of its entry, as TOML."""
    key = new_key()
    listed = ", ".join(f'"{scope}"' for scope in scopes)
    lines = [f'name = "{name}"', f'sha256 = "{hash_of(key)}"', f"scopes = [{listed}]"]
    lines += [f"{field} = {value}" for field, value in fields.items()]
    return Caller(name, key, "\n".join(["[[keys]]", *lines, ""]))


def write_keys(path: Path, *callers: Caller) -> Path:
    """The file with these entries, replaced at once."""
    draft = path.with_suffix(".tmp")
    draft.write_text("\n".join(entry.entry for entry in callers) or "keys = []")
    draft.replace(path)
    return path
