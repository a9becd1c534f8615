"""A LIS for trying the link out: takes messages, shows them decoded, answers queries with an order."""

import json
import os
import select
import threading
import time
import tty
from collections import deque
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from edge.errors import UserError
from edge.lis.link import Event, Link, Outcome
from edge.lis.port import CHUNK, READ_S, NotYet, Opener, Port, PortError
from edge.lis.records import Delimiters, build, parse


class PtyOpener:
    """A pseudo terminal: a serial line between two programs of one machine; `name` is the other end."""

    def __init__(self) -> None:
        self._ours, self._theirs = os.openpty()
        tty.setraw(self._theirs)
        self.name = os.ttyname(self._theirs)

    def open(self) -> Port:
        """Return our end."""
        return FilePort(self._ours)

    def close(self) -> None:
        """Take both ends away, as one pulls a cable."""
        for handle in (self._ours, self._theirs):
            os.close(handle)


class FilePort:
    """A port on an open file descriptor."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def read(self) -> bytes:
        """Return what came in."""
        try:
            ready, _, _ = select.select([self._handle], [], [], READ_S)
            return os.read(self._handle, CHUNK) if ready else b""
        except (OSError, ValueError) as error:
            raise PortError(f"the line was lost ({error})") from None

    def write(self, data: bytes) -> None:
        """Send all of it."""
        try:
            while data:
                data = data[os.write(self._handle, data) :]
        except OSError as error:
            raise PortError(f"the line was lost ({error})") from None

    def close(self) -> None:
        """The opener owns the descriptor."""


class Host:
    """The LIS's side of a link.

    Args:
        opener: of its port.
        link: its role is the host's.
        encoding: of the messages.
        say: shown what comes, line by line.
        store: file that gets a JSON line for each message, None for none.
    """

    def __init__(
        self, opener: Opener, link: Link, encoding: str, say: Callable[[str], None], store: Path | None = None
    ) -> None:
        self._opener, self._link, self._encoding, self._say, self._store = opener, link, encoding, say, store
        self._answers = deque[list[bytes]]()
        self.received = 0

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop` is set; a lost port is opened again."""
        with closing(self._opener):
            while not stop.is_set():
                try:
                    with closing(self._opener.open()) as port:
                        self._serve(port, stop)
                except NotYet:
                    continue
                except PortError as error:
                    self._link.lost()
                    self._say(f"-- {error}")
                    stop.wait(1.0)

    def _serve(self, port: Port, stop: threading.Event) -> None:
        while not stop.is_set():
            out = self._link.advance(port.read(), time.monotonic())
            for event in out.events:
                self._take(event)
            port.write(bytes(out.data))
            if self._answers and self._link.ready(time.monotonic()):
                number = f"HOST-{self.received}"
                port.write(bytes(self._link.send(self._answers[0], number, time.monotonic()).data))

    def _take(self, event: Event) -> None:
        if event.outcome is not None:
            self._say(f"-- answer: {event.outcome.value}")
            if event.outcome is Outcome.RECEIVED:
                self._answers.popleft()
        if event.discarded:
            self._say(f"-- incomplete message dropped: {event.discarded}")
        if event.message:
            self.received += 1
            lines = event.message.decode(self._encoding, "replace").rstrip("\r").split("\r")
            self._say("\n".join((f"-- message {self.received} at {datetime.now():%H:%M:%S}", *lines)))
            if self._store:
                self._keep(self._store, lines)
            self._answer(event.message)

    @staticmethod
    def _keep(store: Path, lines: list[str]) -> None:
        content = json.dumps({"received": datetime.now(UTC).isoformat(), "records": lines})
        try:
            with store.open("a", encoding="utf-8") as file:
                file.write(f"{content}\n")
        except OSError as error:
            raise UserError(f"{store}: {error.strerror}; --store names another file") from None

    def _answer(self, message: bytes) -> None:
        for record in parse(message, self._encoding):
            if record.kind == "Q" and (specimen := record.get(3, 2)):
                self._answers.append(_order(specimen, self._encoding))


def _order(specimen: str, encoding: str) -> list[bytes]:
    """Return a message that orders a differential of a specimen."""

    def record(kind: str, *fields: str | tuple[str, ...]) -> bytes:
        return build(kind, *fields, delimiters=Delimiters(), encoding=encoding)

    times = f"{datetime.now():%Y%m%d%H%M%S}"
    return [
        record("H", "", "", "LIS", "", "", "", "", "", "", "P", "LIS2-A2", times),
        record("P", "1"),
        # O-12 Q: in answer to a query; O-26 O: an order.
        record("O", "1", specimen, "", ("", "", "", "DIFF"), "R", *[""] * 5, "Q", *[""] * 13, "O"),
        record("L", "1", "F"),
    ]
