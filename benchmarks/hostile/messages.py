"""Random but well-formed messages of any kind, walked from its descriptor: every field at its limits.

A new RPC or field is attacked without a change here. Bytes of pictures and streams come from the caller, by
the name of the field; everything else is drawn.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

INT32 = (0, 1, 2, 3, 16, 24, 255, 256, 4096, 65_535, 65_536, 2**31 - 1, -1, -(2**31))
INT64 = (*INT32, 2**31, 2**63 - 1, -(2**63))
UINT64 = (0, 1, 2**31, 2**63, 2**64 - 1)
DOUBLES = (0.0, -0.0, 0.5, 0.9, 1.0, 1.5, 24.0, 1e-300, 1e300, -1.0, math.nan, math.inf, -math.inf)
TEXTS = ("", "default", "fake", "x@1", "@", "x\r\ny: z", "é" * 400, "../../etc/passwd", "\0", "0011aabb")
UNKNOWN_ENUMS = (-1, 7, 99, 2**31 - 1)

_IS_SET_SHARE = 0.6
# With every field hostile, the first check would end nearly every request.
_BENIGN_SHARE = 0.9
_LONG_LIST_SHARE = 0.05

_VALUES: dict[int, tuple[Sequence[object], Sequence[object]]] = {
    FieldDescriptor.TYPE_STRING: (("",), TEXTS),
    FieldDescriptor.TYPE_BOOL: ((False, True), (False, True)),
    FieldDescriptor.TYPE_INT32: ((0, 1, 24), INT32),
    FieldDescriptor.TYPE_INT64: ((0, 1, 24), INT64),
    FieldDescriptor.TYPE_UINT64: ((0, 1), UINT64),
    FieldDescriptor.TYPE_DOUBLE: ((0.0, 0.5, 1.0, 24.0), DOUBLES),
}
"""Benign and hostile values."""

Source = Callable[[random.Random], bytes]


class MessageMaker:
    """Draws messages; `sources` gives bytes for fields of these names."""

    def __init__(self, draw: random.Random, sources: Mapping[str, Source]) -> None:
        self._draw = draw
        self._sources = sources

    def make(self, kind: Descriptor) -> Message:
        """One message, each field set or not."""
        message: Message = GetMessageClass(kind)()
        chosen = {oneof.name: self._draw.choice([*oneof.fields, None]) for oneof in kind.oneofs}
        for field in kind.fields:
            oneof = field.containing_oneof
            is_wanted = chosen[oneof.name] is field if oneof else self._draw.random() < _IS_SET_SHARE
            if is_wanted:
                self._fill(message, field)
        return message

    def _fill(self, message: Message, field: FieldDescriptor) -> None:
        is_message = field.type == FieldDescriptor.TYPE_MESSAGE
        if field.is_repeated:
            values = getattr(message, field.name)
            for _ in range(self._list_length()):
                if is_message:
                    values.add().CopyFrom(self.make(field.message_type))
                else:
                    values.append(self._value(field))
        elif is_message:
            getattr(message, field.name).CopyFrom(self.make(field.message_type))
        else:
            setattr(message, field.name, self._value(field))

    def _list_length(self) -> int:
        return 200 if self._draw.random() < _LONG_LIST_SHARE else self._draw.randrange(5)

    def _value(self, field: FieldDescriptor) -> object:
        draw, kind = self._draw, field.type
        if kind == FieldDescriptor.TYPE_BYTES:
            source = self._sources.get(field.name)
            return source(draw) if source else draw.randbytes(draw.randrange(300))
        if kind == FieldDescriptor.TYPE_ENUM:
            return self._pick(tuple(value.number for value in field.enum_type.values), UNKNOWN_ENUMS)
        if kind not in _VALUES:
            raise NotImplementedError(f"{field.full_name}: no values for type {kind} yet")
        return self._pick(*_VALUES[kind])

    def _pick(self, benign: Sequence[object], hostile: Sequence[object]) -> object:
        return self._draw.choice(benign if self._draw.random() < _BENIGN_SHARE else hostile)
