"""Keys that callers present, and the file that names them. The file holds hashes, never a key.

    [[keys]]
    name = "shop"
    sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    scopes = ["encode", "decode"]
    expires = 2027-06-30T00:00:00Z      # optional, with its offset
    pictures_per_s = 20                 # optional, as are the next two
    megapixels_per_s = 40
    burst_s = 5

A plain SHA-256 is enough: a key has 256 random bits, so there is nothing to guess and no word to try.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
import tomllib
from collections import Counter
from enum import Enum

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from serving.invalid_settings import requirement
from serving.reloaded_files import SetupError

# A prefix of our own, so that secret scanners find keys that were committed or pasted by mistake.
KEY_PATTERN = re.compile(r"tsr_[0-9a-f]{64}")


class Scope(Enum):
    """What a key may be used for."""

    ENCODE = "encode"
    DECODE = "decode"
    TRUNCATE = "truncate"
    INFO = "info"


class ApiKey(BaseModel):
    """One entry of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)
    scopes: frozenset[Scope] = Field(min_length=1)
    expires: AwareDatetime | None = None
    pictures_per_s: float | None = Field(None, gt=0, allow_inf_nan=False)
    megapixels_per_s: float | None = Field(None, gt=0, allow_inf_nan=False)
    burst_s: float | None = Field(None, gt=0, le=3600, allow_inf_nan=False)

    @property
    def has_expired(self) -> bool:
        """True from the moment in `expires` on."""
        return self.expires is not None and self.expires.timestamp() <= time.time()


class _KeyFile(BaseModel):
    """The whole file. `keys` has no default: an empty file is half written, `keys = []` means nobody."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    keys: tuple[ApiKey, ...]


def new_key() -> str:
    """A key that nobody else has."""
    return f"tsr_{secrets.token_hex(32)}"


def hash_of(key: str) -> str:
    """What the file says of this key.

    >>> hash_of("tsr_" + 64 * "0")[:16]
    '9e9bd98a602754c2'
    """
    return hashlib.sha256(key.encode()).hexdigest()


def make_entry(**fields: object) -> ApiKey:
    """An entry with these fields. Raises SetupError."""
    try:
        return ApiKey.model_validate(fields)
    except ValidationError as error:
        raise SetupError(_places(error)) from None


def entry_as_toml(key: ApiKey) -> str:
    """The entry as it stands in the file; `parse_keys` reads it back."""
    scopes = ", ".join(f'"{scope.value}"' for scope in Scope if scope in key.scopes)
    lines = [f'name = "{key.name}"', f'sha256 = "{key.sha256}"', f"scopes = [{scopes}]"]
    if key.expires is not None:
        lines.append(f"expires = {key.expires.isoformat()}")
    for field in ("pictures_per_s", "megapixels_per_s", "burst_s"):
        if (value := getattr(key, field)) is not None:
            lines.append(f"{field} = {value}")
    return "\n".join(["[[keys]]", *lines, ""])


def parse_keys(files: tuple[bytes, ...]) -> tuple[ApiKey, ...]:
    """The entries of the file. Raises SetupError, which names the place and never quotes the file."""
    try:
        document = tomllib.loads(files[0].decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        # The text of the error might quote a key that was pasted where it does not belong.
        place = re.search(r"line \d+", str(error))
        raise SetupError(f"the keys file is no TOML{f', see {place[0]}' if place else ''}") from error
    try:
        keys = _KeyFile.model_validate(document).keys
    except ValidationError as error:
        raise SetupError(f"the keys file is not as it should be: {_places(error)}") from None
    for what, values in (("name", [key.name for key in keys]), ("sha256", [key.sha256 for key in keys])):
        twice = sum(count > 1 for count in Counter(values).values())
        if twice:
            raise SetupError(f"the keys file has {twice} {what} more than once")
    return keys


def _places(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_input=False)
    places = [
        (".".join(str(part) for part in problem["loc"]), requirement(problem)) for problem in problems[:5]
    ]
    # An unknown field is named by what the file holds, so its name is not shown either.
    return "; ".join(
        f"{place.rpartition('.')[0] or 'top level'}: a field that does not exist here"
        if problem["type"] == "extra_forbidden"
        else f"{place}: {text}"
        for problem, (place, text) in zip(problems, places, strict=False)
    )
