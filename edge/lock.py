"""A lock that one program at a time holds, and that a crash or a power cut cannot leave behind."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path


class FileLock:
    """An advisory lock (flock) on a file that is there while it is held.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def take(self) -> bool:
        """Try to take it, where it is not held yet; return False where another program has it.

        Raises:
            OSError: its file cannot be opened.
        """
        while self._handle is None:
            handle = self._open()
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(handle)
                if isinstance(error, BlockingIOError):
                    return False
                raise
            # Who let go of it in between has removed it: a lock that nobody else would find.
            if os.fstat(handle).st_nlink:
                self._handle = handle
            else:
                os.close(handle)
        return True

    def _open(self) -> int:
        try:
            return os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)  # NFS locks no file that is only read
        except PermissionError:
            if not self.path.exists():
                raise
            return os.open(self.path, os.O_RDONLY)  # another user's, as after `sudo ... status`

    def free(self) -> None:
        """Let it go; safe to call twice."""
        if self._handle is not None:
            with suppress(OSError):  # another user's, in a folder that is not ours
                self.path.unlink()
            os.close(self._handle)
            self._handle = None
