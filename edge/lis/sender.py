"""The thread that owns the port: it drains the outbox, takes orders, opens the port again when it is lost."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from edge.errors import UserError
from edge.lis.astm import orders
from edge.lis.link import Event, Link, Outcome
from edge.lis.mapping import SiteMapping
from edge.lis.outbox import Entry, Outbox, State
from edge.lis.port import Closed, HungUp, NotYet, Opener, Port, PortError
from edge.lis.records import parse
from edge.lis.trace import LONGEST, Broadcast, Trace, monitor_path

FIRST_WAIT_S, LONGEST_WAIT_S = 10.0, 300.0
"""After a failed attempt; doubled each time."""
REOPEN_S, LONGEST_REOPEN_S = 1.0, 15.0
"""After the port could not be had; doubled each time."""
POLL_S = 0.1
STOP_S = 3.0
"""At a stop a message under way gets this long."""
CONTENT_TRIES = 3
"""A message that the LIS itself refuses so often in a row is set aside; the others go on."""
COLLISIONS = 3
"""So often in a row a LIS may begin at our moment by chance: it then waits longer than we do."""
_ECHO = ", again and again: are the wires of the line joined, or does something on it echo?"
_IMPATIENT = frozenset({Outcome.CONTENTION, Outcome.INTERRUPTED})
"""The LIS only goes first: the link itself says when it is our turn."""
_DEAF = frozenset({Outcome.NO_ANSWER, Outcome.UNACKNOWLEDGED, Outcome.FELL_SILENT})
"""Opening the port anew may help."""

Compose = Callable[[Outbox, Entry], list[bytes]]
"""Writes a message of the outbox as bytes: the same each time."""


class Patience:
    """How long to wait after each failure in a row."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._failures = 0

    def next_s(self) -> float:
        """Return the wait after one more failure."""
        wait_s = min(self._longest_s, self._first_s * 2.0**self._failures)
        self._failures = min(self._failures + 1, 30)
        return wait_s

    def reset(self) -> None:
        """Something succeeded."""
        self._failures = 0


@dataclass(frozen=True, slots=True)
class _Note:
    """What an attempt brought, to be written into the outbox."""

    number: int
    outcome: str
    state: State
    wire: str


class Sender:
    """Sends what waits, in order, one message at a time.

    Args:
        database: file of the outbox.
        opener: of the port.
        link: how to talk on it.
        compose: writes a message as bytes.
        mapping: of the site: how incoming messages are read, whether patients are kept with their orders.
        lazy: True opens the port only while something waits; False listens all the time.
        keep_trace: whether the line is kept with each attempt, identifiers masked.
        notice: told of every change in plain words, without identifiers.
    """

    def __init__(
        self,
        database: Path,
        opener: Opener,
        link: Link,
        compose: Compose,
        *,
        mapping: SiteMapping,
        lazy: bool = False,
        keep_trace: bool = False,
        notice: Callable[[str], None],
    ) -> None:
        self._database, self._opener, self._link, self._compose = database, opener, link, compose
        self._mapping, self._lazy, self._keep_trace = mapping, lazy, keep_trace
        self._notice = notice
        self._patience = Patience(FIRST_WAIT_S, LONGEST_WAIT_S)
        self._reopening = Patience(REOPEN_S, LONGEST_REOPEN_S)
        self._due_s = 0.0
        self._current: Entry | None = None
        self._tried: Entry | None = None
        self._note: _Note | None = None
        self._problem, self._port_problem = "", False
        self._answered = False
        self._ended_as: tuple[int, Outcome] | None = None
        self._row = 0
        """The last attempts in a row that were at this message and ended so."""
        self._wire = ""
        self._ours, self._theirs = Trace(ours=True), Trace(ours=False)

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; errors of the port or the disk are told and waited out, never fatal."""
        # After a fault this is called again: the message under way then begins anew.
        self._current = None
        with ExitStack() as stack:
            stack.callback(self._opener.close)
            self._box = stack.enter_context(Outbox(self._database))
            # What an earlier run said of the line holds until the line is opened.
            self._problem = self._box.line().problem
            self._port_problem = bool(self._problem)
            self._broadcast = stack.enter_context(closing(Broadcast(monitor_path(self._database))))
            while not stop.is_set():
                try:
                    self._work(stop)
                except UserError as error:
                    self._broken(str(error))
                    stop.wait(self._reopening.next_s())

    def _work(self, stop: threading.Event) -> None:
        """Have the port once, until it is lost."""
        self._write_note()
        if self._lazy and not self._turn():
            stop.wait(POLL_S)
            return
        try:
            port = self._opener.open()
        except PortError as error:
            self._broken(str(error))
            if not isinstance(error, NotYet):
                stop.wait(self._reopening.next_s())
            return
        self._link.lost()
        self._answered = False
        if self._port_problem:
            self._say("")
        with closing(port):
            try:
                self._serve(port, stop)
                # A message that a stop cut off: what the LIS may have of it must be known later.
                self._settle(self._link.lost().events)
            except PortError as error:
                well = self._ends_well(error)
                if not well:
                    self._broken(str(error))
                # A LIS that comes to us is waited for where it knocks.
                if not well or (isinstance(error, Closed) and not self._lazy):
                    stop.wait(self._reopening.next_s())

    def _ends_well(self, error: PortError) -> bool:
        """Tell whether the lost port is no failure: many a LIS hangs up after each message, or idle.

        A message that was begun behind the answer to the one before, as the port was closing, was not tried.
        """
        idle, answered = self._current is None, self._answered
        # Where something is due, a LIS that ends each connection at once is told of.
        unasked = isinstance(error, Closed) and (answered or self._turn() is None)
        left = self._lazy or isinstance(error, HungUp) or unasked
        events = self._link.lost().events
        if left and answered:
            events = [e for e in events if e.outcome is None or e.outcome.arrived]
        self._settle(events)
        well = left and (idle or answered or self._answered)
        if well:
            self._current = None
        return well

    def _turn(self) -> Entry | None:
        """Return the message that may be sent now; a person who touches it ends the patience with it."""
        entry = self._box.next()
        if entry != self._tried:
            self._due_s, self._tried = 0.0, entry
        return entry if time.monotonic() >= self._due_s else None

    def _broken(self, problem: str) -> None:
        try:
            self._settle(self._link.lost().events)
        except UserError as error:
            problem = f"{problem}; {error}"
        self._say(problem)
        self._port_problem = True

    def _serve(self, port: Port, stop: threading.Event) -> None:
        """Talk on an open port until it had better be opened anew, or `stop` is set."""
        end_s = float("inf")
        while time.monotonic() < end_s:
            if stop.is_set():
                # A message under way is brought to its end.
                end_s = min(end_s, time.monotonic() + STOP_S if self._current else 0.0)
            elif self._current is None:
                self._begin(port)
                if self._lazy and self._current is None:
                    return
            data = port.read()
            self._seen(self._theirs, "<", data)
            if data and self._current:
                self._answered = False  # the port outlived the answer before: what is sent may arrive
            out = self._link.advance(data, time.monotonic())
            deaf = self._settle(out.events)
            # Only now: an ACK promises that the message is kept.
            self._send(port, bytes(out.data))
            if deaf:
                return

    def _begin(self, port: Port) -> None:
        if not self._link.ready(time.monotonic()) or (entry := self._turn()) is None:
            return
        message = self._compose(self._box, entry)
        self._current, self._wire = entry, ""
        out = self._link.send(message, entry.control_id, time.monotonic())
        self._send(port, bytes(out.data))

    def _send(self, port: Port, data: bytes) -> None:
        if data:
            self._seen(self._ours, ">", data)
            port.write(data)

    def _seen(self, trace: Trace, arrow: str, data: bytes) -> None:
        if not (self._keep_trace or self._broadcast.heard):
            trace.forget()
        elif data:
            line = f"{arrow} {trace.show(data)}"
            self._broadcast.say(line)
            if self._keep_trace and self._current and len(self._wire) < LONGEST:
                self._wire += line.rstrip() + "\n"

    def _settle(self, events: list[Event]) -> bool:
        """Handle events; return True where the port had better be opened anew."""
        deaf = False
        for event in events:
            if event.message:
                self._take(event.message)
            if event.discarded:
                self._notice(f"what came from the LIS was dropped: {event.discarded}")
            if event.outcome and self._current:
                self._ended(self._current, event.outcome, event.detail)
                deaf = event.outcome in _DEAF
        return deaf

    def _ended(self, entry: Entry, outcome: Outcome, detail: str) -> None:
        self._current = None
        self._answered = bool(outcome.arrived)
        state = State.RECEIVED if self._answered else State.WAITING
        self._row = self._row + 1 if self._ended_as == (entry.id, outcome) else 1
        self._ended_as = (entry.id, outcome)
        if outcome is Outcome.REFUSED and self._row >= CONTENT_TRIES:
            state, self._row = State.REFUSED, 0
        echo = outcome is Outcome.CONTENTION and self._row > COLLISIONS
        words = f"{outcome.value} ({detail})" if detail else f"{outcome.value}{_ECHO if echo else ''}"
        self._note = _Note(entry.id, words, state, self._wire)
        if state is State.WAITING and (echo or outcome not in _IMPATIENT):
            self._due_s = time.monotonic() + self._patience.next_s()
        else:
            self._due_s = 0.0
            self._patience.reset()
        self._reopening.reset()
        self._write_note()
        self._notice(f"message {entry.id}: {outcome.value}")
        self._say("" if state is not State.WAITING else f"{outcome.value}{_ECHO if echo else ''}")

    def _write_note(self) -> None:
        """Write what the last attempt brought; nothing else is sent before it is written."""
        if self._note is not None:
            note = self._note
            self._box.attempted(note.number, note.outcome, state=note.state, wire=note.wire)
            self._note, self._tried = None, self._box.next()

    def _say(self, problem: str) -> None:
        """Keep how the line is, where that has changed."""
        wait_s = self._due_s - time.monotonic() if problem else 0.0
        if problem != self._problem:
            self._notice(problem or "the line is in order")
        elif wait_s <= 0:
            return
        self._problem, self._port_problem = problem, False
        with suppress(UserError):
            self._box.set_line(problem, datetime.now(UTC) + timedelta(seconds=wait_s) if wait_s > 0 else None)

    def _take(self, message: bytes) -> None:
        """Keep the orders of an incoming message."""
        records = parse(message, self._mapping.encoding)
        found = orders(records, self._mapping)
        self._box.keep_orders(found, patient=self._mapping.patient)
        self._notice(f"a message of the LIS came, with {len(found)} order{'s' if len(found) != 1 else ''}")
