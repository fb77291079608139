"""`key=value` from the command line -> a changed config, typed by its own fields.

optim.learning_rate=3e-4   model.decoder_widths=64,128   canvases=256x256,320x208   data.limit=none
"""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, TypeVar

from tokenizer.canvas import Size

Config = TypeVar("Config")
Path = tuple[str, ...]
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class OverrideError(ValueError):
    """A key that the config does not have, or a value that its field does not take."""


def override(config: Config, settings: list[str]) -> Config:
    """The config with every `key=value` applied, all at once: some fields only make sense together.

    Raises OverrideError. Of two values for one key the later counts.

    >>> from training.config import OptimConfig
    >>> override(OptimConfig(), ["learning_rate=3e-4"]).learning_rate
    0.0003
    """
    texts: dict[Path, str] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise OverrideError(f"{setting!r} is not key=value")
        texts[tuple(key.strip().split("."))] = text.strip()
    return _changed(config, texts, ()) if texts else config


def _changed(config: Any, texts: dict[Path, str], above: Path) -> Any:
    kinds = typing.get_type_hints(type(config))
    changes = {}
    for name in dict.fromkeys(path[0] for path in texts):
        key = ".".join((*above, name))
        if name not in kinds:
            raise OverrideError(f"there is no {key!r}; allowed here: {_names(config, above)}")
        inner = {path[1:]: text for path, text in texts.items() if path[0] == name}
        value = getattr(config, name)
        if dataclasses.is_dataclass(value):
            if () in inner:
                raise OverrideError(f"{key!r} is a group; set one of {_names(value, (*above, name))}")
            changes[name] = _changed(value, inner, (*above, name))
        elif inner.keys() != {()}:
            raise OverrideError(f"{key!r} is a single value, with nothing below it")
        else:
            changes[name] = _parse(kinds[name], inner[()], key)
    try:
        return dataclasses.replace(config, **changes)
    except ValueError as error:
        raise OverrideError(str(error)) from error


def _names(config: Any, above: Path) -> str:
    return ", ".join(".".join((*above, field.name)) for field in dataclasses.fields(config))


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
    if origin is tuple and arguments[-1] is Ellipsis:
        return f"{_describe(arguments[0])}, any number of them separated by commas"
    if origin is tuple:
        return f"{len(arguments)} numbers separated by commas"
    names = {bool: "true or false", Size: "WIDTHxHEIGHT", int: "a whole number", float: "a number"}
    return names[kind]
