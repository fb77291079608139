"""`key=value` from the command line -> a changed config, typed by the config's own fields.

optim.learning_rate=3e-4   model.decoder_widths=64,128   canvases=256x256,320x208   data.limit=none
"""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, TypeVar

from tokenizer.canvas import Size

Config = TypeVar("Config")
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class OverrideError(ValueError):
    """A key that the config does not have, or a value that its field does not take."""


def override(config: Config, settings: list[str]) -> Config:
    """The config with every `key=value` applied, in order. Raises OverrideError."""
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise OverrideError(f"{setting!r} is not key=value")
        config = _with(config, key.strip().split("."), text.strip(), key.strip())
    return config


def _with(config: Any, path: list[str], text: str, key: str) -> Any:
    fields = typing.get_type_hints(type(config))
    name, *rest = path
    if name not in fields:
        raise OverrideError(f"there is no {key!r}; allowed here: {', '.join(_keys(config, key))}")
    value = getattr(config, name)
    if dataclasses.is_dataclass(value) and rest:
        new = _with(value, rest, text, key)
    elif dataclasses.is_dataclass(value):
        raise OverrideError(f"{key!r} is a group; set one of {', '.join(_keys(value, f'{key}.'))}")
    elif rest:
        raise OverrideError(f"there is no {key!r}; {name!r} is a single value")
    else:
        new = _parse(fields[name], text, key)
    try:
        return dataclasses.replace(config, **{name: new})
    except OverrideError:
        raise
    except ValueError as error:
        raise OverrideError(f"{key}={text}: {error}") from error


def _keys(config: Any, key: str) -> list[str]:
    """What could stand in place of the last part of the key, written as far as it was."""
    above = key.split(".")[:-1]
    return [".".join((*above, field.name)) for field in dataclasses.fields(config)]


def _parse(kind: Any, text: str, key: str) -> Any:
    """Text -> value of a field's type. Raises OverrideError naming what it takes."""
    try:
        return _value(kind, text)
    except (ValueError, KeyError) as error:
        raise OverrideError(f"{key} takes {_describe(kind)}, got {text!r}") from error


def _value(kind: Any, text: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        inner = next(argument for argument in arguments if argument is not types.NoneType)
        return None if text.lower() == "none" else _value(inner, text)
    if origin is tuple:
        return _values(arguments, text)
    if kind is bool:
        return _WORDS[text.lower()]
    if kind is Size:
        width, height = text.split("x")
        return Size(int(width), int(height))
    return kind(text)


def _values(kinds: tuple[Any, ...], text: str) -> tuple[Any, ...]:
    """`a,b,c`; nothing at all is the empty tuple."""
    parts = [part.strip() for part in text.split(",")] if text else []
    if kinds[-1] is Ellipsis:
        return tuple(_value(kinds[0], part) for part in parts)
    return tuple(_value(kind, part) for kind, part in zip(kinds, parts, strict=True))


def _describe(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return " or ".join("none" if part is types.NoneType else _describe(part) for part in arguments)
    if origin is tuple:
        count = "any number of" if arguments[-1] is Ellipsis else str(len(arguments))
        return f"{count} {_describe(arguments[0])} separated by commas"
    names = {
        bool: "true or false",
        Size: "WIDTHxHEIGHT",
        int: "a whole number",
        float: "a number",
        str: "text",
    }
    return names[kind]
