"""The LIS's side, written without our link: a receiver that keeps the standard, and real lines to it."""

import contextlib
import os
import select
import socket
import threading
import time
import tty
from collections.abc import Callable
from pathlib import Path

from edge.lis.frame import ACK, ENQ, EOT, ETB, ETX, LF, NAK, STX


class Receiver:
    """A standard-keeping receiver: takes a message once its L record is accepted, knows repeats by H-3."""

    def __init__(self) -> None:
        self.messages: list[list[bytes]] = []
        """Records of each message taken, without their CRs."""
        self.repeats = 0
        self.open, self.last = False, -1
        self.raw: bytearray | None = None
        self.text = b""
        self.heard_s = 0.0

    def hear(self, data: bytes, now_s: float) -> bytes:
        reply = self.late(now_s)
        for byte in data:
            self.heard_s = now_s
            reply += self._byte(byte)
        return reply

    def late(self, now_s: float) -> bytes:
        """10 s for the rest of a frame, 30 s for the next one."""
        if self.raw is not None and now_s - self.heard_s >= 10:
            self.raw = None
            return bytes([NAK])
        if self.open and now_s - self.heard_s >= 30:
            self.open, self.text = False, b""
        return b""

    @property
    def deadline_s(self) -> float | None:
        """When `late` must be called."""
        if self.raw is None and not self.open:
            return None
        return self.heard_s + (10 if self.raw is not None else 30)

    def _byte(self, byte: int) -> bytes:
        if self.open and byte == STX:
            self.raw = bytearray()
            return b""
        if self.raw is not None:
            self.raw.append(byte)
            if byte != LF:
                return b""
            raw, self.raw = bytes(self.raw), None
            return bytes([self._frame(raw)])
        if byte == ENQ:
            self.open, self.last, self.text = True, -1, b""
            return bytes([ACK])
        if byte == EOT:
            self.open, self.text = False, b""
        return b""

    def _frame(self, raw: bytes) -> int:
        body, tail = raw[:-4], raw[-4:]
        if len(body) < 2 or tail != b"%02X\r\n" % (sum(body) % 256) or body[-1] not in (ETX, ETB):
            return NAK
        number = body[0] - 48
        if number == self.last:
            return ACK
        if number != (1 if self.last < 0 else (self.last + 1) % 8):
            return NAK
        self.last = number
        self.text += body[1:-1]
        records = self.text.split(b"\r")
        if body[-1] == ETX and records[-2][:1] == b"L":
            self._message(records)
            self.text = b""
        return ACK

    def _message(self, records: list[bytes]) -> None:
        assert records[0].startswith(b"H|"), records
        names = [message[0].split(b"|")[2] for message in self.messages]
        if records[0].split(b"|")[2] in names:
            self.repeats += 1
        else:
            self.messages.append(records[:-1])

    @property
    def taken(self) -> list[str]:
        """Control IDs of the messages taken."""
        return [message[0].split(b"|")[2].decode() for message in self.messages]

    @property
    def specimens(self) -> list[str]:
        """Specimens of the messages taken (O-3)."""
        return [next(r for r in m if r[:2] == b"O|").split(b"|")[2].decode() for m in self.messages]


class Lis:
    """A receiver on a real pseudo terminal, whose cable can be pulled and put in again.

    Args:
        path: a symbolic link that names the line, as /dev/serial/by-id does.
        receiver: keeps what comes, over all cables.
        baud: paces both directions; None does not.
    """

    def __init__(self, path: Path, receiver: Receiver, baud: int | None = None) -> None:
        self._path, self.receiver, self._baud = path, receiver, baud
        self.spoil: Callable[[bytes], bytes | None] = lambda data: data
        """Changes what comes in; None pulls the cable before it is heard."""
        self.answer: Callable[[bytes], bytes | None] = lambda data: data
        """Changes what goes back; None pulls the cable instead."""
        self.heard: list[bytes] = []
        self._stop, self._cut = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._say = b""

    def plug(self) -> None:
        """Put the cable in."""
        self._cut.clear()
        ours, theirs = os.openpty()
        tty.setraw(theirs)
        part = self._path.with_suffix(".new")
        part.symlink_to(os.ttyname(theirs))
        part.replace(self._path)
        self._thread = threading.Thread(target=self._run, args=(ours, theirs), daemon=True)
        self._thread.start()

    def pull(self) -> None:
        """Take the cable out: the device is gone."""
        self._cut.set()
        if self._thread and self._thread is not threading.current_thread():
            self._thread.join(5)

    def say(self, data: bytes) -> None:
        """Send of our own accord."""
        self._say += data

    @property
    def pulled(self) -> bool:
        return self._cut.is_set()

    def _run(self, ours: int, theirs: int) -> None:
        try:
            while not self._cut.is_set():
                ready, _, _ = select.select([ours], [], [], 0.02)
                data = os.read(ours, 1 if self._baud else 4096) if ready else b""
                if self._baud:
                    time.sleep(10 * len(data) / self._baud)
                self._step(ours, data)
        finally:
            self._path.unlink(missing_ok=True)
            os.close(ours)
            os.close(theirs)

    def _step(self, ours: int, data: bytes) -> None:
        if data:
            self.heard.append(data)
        heard = self.spoil(data) if data else data
        if heard is None:
            self._cut.set()
            return
        reply = self.receiver.hear(heard, time.monotonic())
        back = self.answer(reply) if reply else reply
        if back is None:
            self._cut.set()
            return
        back, self._say = self._say + back, b""
        if back:
            os.write(ours, back)


class TcpLis:
    """A receiver behind a TCP port of this machine, for one connection after another."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"socket://127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5)

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                with connection:
                    while data := connection.recv(65536):
                        if reply := self.receiver.hear(data, time.monotonic()):
                            connection.sendall(reply)
