"""What is wrong with a value, in our words instead of pydantic's. Knows no setting."""

from __future__ import annotations

from pydantic import ValidationError
from pydantic_core import ErrorDetails

# Longer values are paths and lists; their begin tells which.
_MAX_SHOWN_CHARS = 60
_A_NUMBER, _A_WHOLE_NUMBER = "must be a number", "must be a whole number"
_REQUIREMENTS = {
    "missing": "must be given",
    "extra_forbidden": "there is no such setting",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "finite_number": "must be finite",
    "int_type": _A_WHOLE_NUMBER,
    "int_parsing": _A_WHOLE_NUMBER,
    "int_parsing_size": _A_WHOLE_NUMBER,
    "int_from_float": _A_WHOLE_NUMBER,
    "float_type": _A_NUMBER,
    "float_parsing": _A_NUMBER,
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "tuple_type": "must be a list",
    "frozen_set_type": "must be a list",
    "too_short": "must have at least {min_length}",
    "path_type": "must be a path",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "timezone_aware": "must have a time zone",
}
"""Type of pydantic's error -> what we say, with what pydantic knows of the limit."""


def describe_invalid(error: ValidationError) -> str:
    """One line per wrong setting: its name, what is allowed, and what it is. No setting is a secret."""
    return "\n".join(_line(problem) for problem in error.errors(include_url=False))


def requirement(problem: ErrorDetails) -> str:
    """What the value must be; never what it is.

    >>> from pydantic import TypeAdapter
    >>> try:
    ...     TypeAdapter(int).validate_python("many")
    ... except ValidationError as error:
    ...     requirement(error.errors()[0])
    'must be a whole number'
    """
    context = problem.get("ctx", {})
    if problem["type"] == "value_error":  # one of our own
        return str(context["error"])
    if problem["type"] == "string_pattern_mismatch":
        return _pattern(context["pattern"])
    known = _REQUIREMENTS.get(problem["type"])
    return problem["msg"] if known is None else known.format(**{k: _plain(v) for k, v in context.items()})


def _plain(limit: object) -> object:
    """0 instead of 0.0."""
    return int(limit) if isinstance(limit, float) and limit.is_integer() else limit


def _line(problem: ErrorDetails) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] in ("value_error", "missing", "extra_forbidden"):  # ours say what they saw
        return f"{name}: {requirement(problem)}" if name else requirement(problem)
    shown = repr(problem["input"])
    if len(shown) > _MAX_SHOWN_CHARS:
        shown = f"{shown[:_MAX_SHOWN_CHARS]}..."
    return f"{name}: {requirement(problem)}, got {shown}"


def _pattern(pattern: str) -> str:
    if pattern.startswith("^(") and pattern.endswith(")$"):
        return f"must be one of {', '.join(pattern[2:-2].split('|'))}"
    return f"must match {pattern}"
