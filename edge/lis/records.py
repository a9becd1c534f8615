"""Records of E1394 (CLSI LIS02-A2): delimiters, escapes, fields. What they say is `edge.lis.astm`'s."""

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

from edge.lis.text import spell

Field: TypeAlias = str | tuple[str, ...] | list[tuple[str, ...]]
"""A value, its components, or its repeats of components; not escaped."""

_ESCAPE = {"field": "F", "component": "S", "repeat": "R", "escape": "E"}


@dataclass(frozen=True, slots=True)
class Delimiters:
    """What a header record declares, in the order in which it does."""

    field: str = "|"
    repeat: str = "\\"
    component: str = "^"
    escape: str = "&"

    def __post_init__(self) -> None:
        four = str(self)
        if len(set(four)) != 4 or not set(four) <= set(string.punctuation):
            raise ValueError(f"delimiters {four!r}; four different punctuation marks expected, as |\\^&")

    def __str__(self) -> str:
        return self.field + self.repeat + self.component + self.escape

    def escaped(self, text: str) -> str:
        """Return `text` so that neither delimiters nor control characters stand in it.

        `&F& &S& &R& &E&` for the delimiters, `&Xhh&` for a control character.
        """
        return text.translate(_escapes(self))

    def plain(self, text: str) -> str:
        """Return what `escaped` made, or another program's like; what is no escape stays as it is."""
        marks = {mark: getattr(self, name) for name, mark in _ESCAPE.items()}

        def read(found: re.Match[str]) -> str:
            body = found[1]
            return marks[body] if body in marks else bytes.fromhex(body[1:]).decode("latin-1")

        mark = re.escape(self.escape)
        return re.sub(f"{mark}([FSRE]|X(?:[0-9A-Fa-f]{{2}}){{1,32}}){mark}", read, text)


@lru_cache(maxsize=8)
def _escapes(marks: Delimiters) -> dict[int, str]:
    escape = marks.escape
    controls = {c: f"{escape}X{c:02X}{escape}" for c in (*range(0x20), *range(0x7F, 0xA0))}
    return controls | {ord(getattr(marks, name)): f"{escape}{c}{escape}" for name, c in _ESCAPE.items()}


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it came: fields still escaped; field 1 is its type."""

    fields: tuple[str, ...]
    delimiters: Delimiters = field(default_factory=Delimiters)

    @property
    def kind(self) -> str:
        """H, P, O, R, C, Q, M, L, ..."""
        return self.fields[0]

    def get(self, number: int, component: int = 1) -> str:
        """Return a component of a field (both count from 1), "" where it is not there."""
        parts = self.components(number)
        return parts[component - 1] if component <= len(parts) else ""

    def components(self, number: int) -> tuple[str, ...]:
        """Return the components of a field's first repeat."""
        return self.repeats(number)[0]

    def repeats(self, number: int) -> list[tuple[str, ...]]:
        """Return the repeats of a field, each by its components; at least one."""
        text = self.fields[number - 1] if number <= len(self.fields) else ""
        marks = self.delimiters
        if self.kind == "H" and number == 2:
            return [(text,)]
        return [
            tuple(marks.plain(part) for part in repeat.split(marks.component))
            for repeat in text.split(marks.repeat)
        ]


def build(kind: str, *fields: Field, delimiters: Delimiters, encoding: str) -> bytes:
    """Return a record with its CR; trailing empty fields are dropped.

    Args:
        kind: field 1.
        fields: from field 2; the header's field 2 is `delimiters` and not among them.
        delimiters: of the message.
        encoding: character set of the message; what it lacks is written in others (`edge.lis.text`).
    """
    parts = [_joined(f, delimiters, encoding) for f in fields]
    if kind == "H":
        # The delimiters themselves are written as they are.
        parts.insert(0, str(delimiters)[1:])
    text = delimiters.field.join([kind, *parts]).rstrip(delimiters.field)
    return f"{text}\r".encode(encoding)


def _joined(value: Field, marks: Delimiters, encoding: str) -> str:
    if isinstance(value, list):
        return marks.repeat.join(_joined(repeat, marks, encoding) for repeat in value)
    if isinstance(value, tuple):
        return marks.component.join(_joined(part, marks, encoding) for part in value).rstrip(marks.component)
    return marks.escaped(spell(value, encoding))


def parse(message: bytes, encoding: str) -> tuple[Record, ...]:
    """Return the records of an incoming message; none where it does not begin with a sound header.

    Bytes that `encoding` does not know become U+FFFD.
    """
    lines = [line for line in re.split("[\r\n]+", message.decode(encoding, "replace")) if line]
    if not lines or len(lines[0]) < 5 or lines[0][0] != "H":
        return ()
    try:
        marks = Delimiters(*lines[0][1:5])
    except ValueError:
        return ()
    header = ("H", lines[0][2:5], *lines[0][5:].removeprefix(marks.field).split(marks.field))
    others: Sequence[Record] = [Record(tuple(line.split(marks.field)), marks) for line in lines[1:]]
    return (Record(header, marks), *others)
