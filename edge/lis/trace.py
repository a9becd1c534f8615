"""The line made readable: control characters by name, identifiers masked."""

import os
import socket
from collections import deque
from pathlib import Path

_NAMES = {
    0x00: "NUL", 0x01: "SOH", 0x02: "STX", 0x03: "ETX", 0x04: "EOT", 0x05: "ENQ", 0x06: "ACK", 0x0A: "LF",
    0x0B: "VT", 0x0D: "CR", 0x10: "DLE", 0x11: "DC1", 0x12: "DC2", 0x13: "DC3", 0x14: "DC4", 0x15: "NAK",
    0x16: "SYN", 0x17: "ETB", 0x1C: "FS",
}  # fmt: skip
_OURS = frozenset({"H", "R", "C", "M", "L", "MSH", "OBX", "NTE", "MSA"})
_THEIRS = frozenset({"H", "L", "MSH", "MSA"})
"""Records without identifiers; a comment of the LIS may hold anything."""
LONGEST = 8192
"""Characters of a trace that are kept of one attempt."""
_KEPT = 500
"""Lines kept for a monitor that is slow."""


class Trace:
    """Reads one direction of a line; letters and digits of records with identifiers become `*`.

    Args:
        ours: True for what we send, False for what the LIS sends.
    """

    def __init__(self, *, ours: bool) -> None:
        self._safe_kinds = _OURS if ours else _THEIRS
        self.forget()

    def forget(self) -> None:
        """Bytes were not shown: the rest of their record has no known kind, so it is masked."""
        self._kind, self._fields, self._open = "", 0, False
        self._plain, self._cut = 0, False

    def show(self, data: bytes) -> str:
        """Return `data` as a person may read it."""
        return "".join(map(self._shown, data))

    def _shown(self, byte: int) -> str:
        if byte < 0x20 or byte == 0x7F:
            name = _NAMES.get(byte, f"{byte:02X}")
            # After ETB the record goes on in the next frame: the CR between them ends the frame alone.
            if name in {"ENQ", "VT"} or (name == "CR" and not self._cut):
                self._kind, self._fields, self._open = "", 0, True
            self._cut = name == "ETB" or (self._cut and name == "CR")
            # After STX comes the frame's number, after ETX and ETB the two digits of the checksum.
            self._plain = {"STX": 1, "ETX": 2, "ETB": 2}.get(name, 0)
            return f"<{name}>" + ("\n" if name == "LF" else "")
        character = chr(byte)
        if self._plain:
            self._plain -= 1
            return character
        return self._text(character)

    def _text(self, character: str) -> str:
        alphanumeric = character.isalnum() or not character.isascii()
        if self._open and alphanumeric and len(self._kind) < 3:
            self._kind += character
            return character if character.isascii() else "*"
        self._open = False
        self._fields += character == "|"
        # MSA-3 is free text.
        safe = self._kind in self._safe_kinds and (self._kind != "MSA" or self._fields < 3)
        return character if (safe and character.isascii()) or not alphanumeric else "*"


def monitor_path(database: Path) -> Path:
    """Return the socket on which `monitor` listens beside a database."""
    file = database.resolve()  # a link to it is another name
    return file.with_name(f"{file.name}-lis.monitor")


class Broadcast:
    """Sends lines to a monitor, if one is there, without waiting: what finds no room goes with the next."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._lines: deque[bytes] = deque(maxlen=_KEPT)

    @property
    def heard(self) -> bool:
        """True where a monitor is there."""
        return os.path.exists(self._path)

    def say(self, line: str) -> None:
        """Tell the monitor a line."""
        self._lines.append(line.encode("utf-8", "replace")[:LONGEST])
        try:
            while self._lines:
                self._socket.sendto(self._lines[0], self._path)
                self._lines.popleft()
        except BlockingIOError:
            pass
        except OSError:  # no monitor is there
            self._lines.clear()

    def close(self) -> None:
        """Let the socket go."""
        self._socket.close()
