"""What a terminal user sees: a live table with a progress bar, or plain lines when piped."""

import io
import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from edge.cells import Role
from edge.differential import shown
from edge.report import NOTICE

_LINE_EVERY_S = 5.0


class Display(Protocol):
    """Shows the state of the count while it runs."""

    def __enter__(self) -> "Display": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, state: dict[str, Any]) -> None:
        """Show the newest state (`Session.state`)."""
        ...


def console(**options: Any) -> Console:
    """Return a console that shows names as they are, also one as `a[b].jpg`."""
    return Console(markup=False, emoji=False, **options)


def open_display(length: int | None) -> Display:
    """Return the display that fits standard output; `length` is the number of frames, if known."""
    # Not what FORCE_COLOR makes rich believe: the table shows the identifier, which no log may hold.
    return LiveTable(console(), length) if sys.stdout.isatty() else PlainLines(console())


class LiveTable:
    """A table that is redrawn in place, with a progress bar where the end is known."""

    def __init__(self, terminal: Console, length: int | None) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=terminal,
        )
        self._task = self._progress.add_task("frames", total=length, visible=length is not None)
        self._live = Live(console=terminal, refresh_per_second=4)
        self._start: int | None = None

    def __enter__(self) -> "LiveTable":
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Of a terminal that is closed nobody reads the end, but the result is still to be written.
        with suppress(OSError):
            self._live.stop()

    def show(self, state: dict[str, Any]) -> None:
        """Redraw (at most four times a second)."""
        done = state["frames"] + state["skipped"]
        # A resumed specimen starts with frames of an earlier run.
        self._start = done - 1 if self._start is None else self._start
        self._progress.update(self._task, completed=done - self._start)
        self._live.update(Group(table(state, state["specimen"]), self._progress, Text(NOTICE, style="dim")))


class PlainLines:
    """A line every five seconds, and the table at the end: for pipes and logs."""

    def __init__(self, pipe: Console) -> None:
        self._pipe = pipe
        self._state: dict[str, Any] | None = None
        self._due = 0.0

    def __enter__(self) -> "PlainLines":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._state is not None:
            self._print(table(self._state))
            self._print(NOTICE)

    def _print(self, what: Table | str) -> None:
        # In the pipe's own letters: the frame of a table is drawn with those that it has.
        encoding, drawn = self._pipe.encoding, io.BytesIO()
        lines = io.TextIOWrapper(drawn, encoding, "replace", write_through=True)
        console(file=lines, width=self._pipe.width).print(what)
        # Where nobody can read it any more (a log that is full, `| head`) the count goes on.
        with suppress(OSError):
            self._pipe.file.write(drawn.getvalue().decode(encoding))
            self._pipe.file.flush()

    def show(self, state: dict[str, Any]) -> None:
        """Print a line if one is due."""
        self._state = state
        now = time.monotonic()
        if now >= self._due:
            self._due = now + _LINE_EVERY_S
            self._print(
                f"cells {state['total']}, frames {state['frames']}, skipped {state['skipped']}, "
                f"gated {sum(state['gated'].values())}  {state['message']}".rstrip()
            )


def table(state: dict[str, Any], specimen: str = "") -> Table:
    """Return the differential of a state as a table, under the specimen's name where it is given."""
    # A target that was lower in an earlier run may have been passed.
    within = state["target"] is not None and state["total"] <= state["target"]
    target = f" of {state['target']}" if within else ""
    caption = f"frames {state['frames']}, fields {state['fields']}, to review {state['review']}"
    if state["rim"]:
        caption += ", without the black rim of the picture"
    if state["empty"]:
        caption += f", images without a cell {state['empty']}"
    if state["skipped"]:
        caption += f", skipped {state['skipped']}"
    if refused := state["gated"] | ({"stage lost": state["lost"]} if state["lost"] else {}):
        reasons = ", ".join(f"{reason} {count}" for reason, count in refused.items())
        caption += f"\nnot counted from: {reasons}"
    if state["message"]:
        caption += f"\n{state['message']}"
    title = f"{state['total']}{target} {'cell' if state['total'] == 1 and not target else 'cells'}"
    sheet = Table(title=f"{specimen}: {title}" if specimen else title, caption=caption)
    sheet.add_column("class")
    for heading in ("count", "percent", "95 % limits"):
        sheet.add_column(heading, justify="right")
    for c in state["classes"]:
        name = c["name"].replace("_", " ")
        if c["percent"] is not None:
            percent, limits = shown(c["percent"]), f"{shown(c['low'])}-{shown(c['high'])}"
        elif c["per_100"] is not None:
            percent, limits = f"{shown(c['per_100'])} per 100", ""
        else:
            percent, limits = "", "not counted" if c["role"] == Role.REJECTED else ""
        sheet.add_row(name, str(c["count"]), percent, limits)
    return sheet
