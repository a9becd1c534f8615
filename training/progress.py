"""How far a task is: one line on stderr that overwrites itself, where a person looks on."""

import math
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def watch(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yield the items, and show how many of `total` are done; `what` names them in the plural."""
    begun = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        show(done, total, what, begun)


def show(done: int, total: int, what: str, begun: float) -> None:
    """Show that `done` of `total` are, since the time `begun` (time.monotonic); the last clears the line."""
    if sys.stderr.isatty():
        end = "\r\033[K" if done == total else ""
        line = f"\r\033[K{done} of {total} {what}, {remaining(done, total, begun)}{end}"
        print(line, end="", file=sys.stderr, flush=True)


def remaining(done: float, total: float, begun: float) -> str:
    """Return in words how long the rest will take, at the pace since `begun`."""
    seconds = (time.monotonic() - begun) / done * (total - done)
    return f"{math.ceil(seconds / 60)} min remain" if seconds >= 60 else f"{math.ceil(seconds)} s remain"
