"""A folder (drop box) from which the LIS takes a file for each message."""

import os
from collections.abc import Sequence
from pathlib import Path

from edge.lis.link import Event, Outcome, Output
from edge.lis.port import Port, PortError
from edge.whole import whole


class FolderOpener:
    """Opens the folder; a message becomes a file named by its control ID, so a repeat replaces itself."""

    def __init__(self, folder: Path, suffix: str) -> None:
        self.name, self._folder, self._suffix = str(folder), folder, suffix

    def open(self) -> Port:
        """Check that files can be written there."""
        if not os.access(self._folder, os.W_OK | os.X_OK):
            known = "may not be written" if self._folder.is_dir() else "is not there"
            raise PortError(f"the folder {self._folder} {known}; is it mounted, and this program allowed?")
        return FolderPort(self._folder, self._suffix)

    def close(self) -> None:
        """Nothing is held."""


class FolderPort:
    """Writes a file for each message, whole or not at all; nothing is ever read."""

    def __init__(self, folder: Path, suffix: str) -> None:
        self._folder, self._suffix = folder, suffix

    def read(self) -> bytes:
        """Return b"": a folder does not answer."""
        return b""

    def write(self, data: bytes) -> None:
        """Write `data` of a `FolderLink`: the file's name, NUL, the file."""
        name, _, content = data.partition(b"\0")
        path = self._folder / f"{name.decode('ascii')}{self._suffix}"
        # Hidden, and of another kind, until it is whole: a LIS that looks for files finds none half written.
        try:
            with whole(path, ".part") as part:
                part.write_bytes(content)
        except OSError as error:
            raise PortError(f"{self._folder}: {error.strerror}; the file could not be written") from None

    def close(self) -> None:
        """Nothing is held."""


class FolderLink:
    """The link of a folder: a message is out of our hands once its file is written."""

    def __init__(self) -> None:
        self._written: bool = False

    def ready(self, now_s: float) -> bool:
        """Tell whether the file before is written."""
        return not self._written

    def send(self, message: Sequence[bytes], control_id: str, now_s: float) -> Output:
        """Hand a message to the port."""
        self._written = True
        return Output(data=bytearray(control_id.encode("ascii") + b"\0" + b"".join(message)))

    def advance(self, data: bytes, now_s: float) -> Output:
        """The port has returned from its write: the message is there."""
        written, self._written = self._written, False
        return Output(events=[Event(Outcome.WRITTEN)] if written else [])

    def lost(self) -> Output:
        """The file could not be written."""
        lost, self._written = self._written, False
        return Output(events=[Event(Outcome.UNWRITTEN)] if lost else [])
