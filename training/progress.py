"""How far a task is: one line on stderr that overwrites itself; in a log, a line now and then."""

import math
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

_LINE_EVERY_S = 15.0
"""In a log."""


def watch(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yield the items, and show how many of `total` are done; `what` names them in the plural."""
    meter = Meter(total, what)
    for done, item in enumerate(items, 1):
        yield item
        meter.show(done)


class Meter:
    """Shows how many of `total` are done since it was made; `what` names them in the plural."""

    def __init__(self, total: int, what: str) -> None:
        self._total, self._what = total, what
        self._begun = time.monotonic()
        self._due = self._begun + _LINE_EVERY_S

    def show(self, done: int) -> None:
        """Show that `done` are; the last clears a person's line."""
        now, seen = time.monotonic(), sys.stderr.isatty()
        if not seen and (now < self._due or done == self._total):
            return
        self._due = now + _LINE_EVERY_S
        told = f"{done} of {self._total} {self._what}, {remaining(done, self._total, self._begun)}"
        clear = "\r\033[K"
        line = f"{clear}{told}{clear if done == self._total else ''}" if seen else f"{told}\n"
        print(line, end="", file=sys.stderr, flush=True)


def remaining(done: float, total: float, begun: float) -> str:
    """Return in words how long the rest will take, at the pace since `begun`."""
    seconds = (time.monotonic() - begun) / done * (total - done)
    return f"{math.ceil(seconds / 60)} min remain" if seconds >= 60 else f"{math.ceil(seconds)} s remain"
