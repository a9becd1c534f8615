import errno
import fcntl
import os
from pathlib import Path

import pytest

from edge.lock import FileLock


def test_one_holds_it_until_it_lets_go(tmp_path: Path) -> None:
    first, second = (FileLock(tmp_path / "a.lock") for _ in range(2))
    assert first.take()
    assert first.take()
    assert not second.take()
    first.free()
    first.free()
    assert not list(tmp_path.iterdir())
    assert second.take()
    second.free()


def test_a_file_that_was_left_is_no_lock(tmp_path: Path) -> None:
    file = tmp_path / "a.lock"
    file.touch(0o444)
    lock = FileLock(file)
    assert lock.take()
    lock.free()


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        FileLock(tmp_path / "none" / "a.lock").take()


def test_a_file_system_without_locks_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuses)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(OSError, match="locks"):
            FileLock(tmp_path / "a.lock").take()
    assert len(os.listdir("/proc/self/fd")) == before
