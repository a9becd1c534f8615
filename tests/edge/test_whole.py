import concurrent.futures
import errno
import json
import os
from pathlib import Path

import pytest

from edge.errors import UserError
from edge.whole import write_json


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text("old")
    write_json(file, {"a": [1, 2]})
    assert json.loads(file.read_text()) == {"a": [1, 2]}
    assert list(tmp_path.iterdir()) == [file]


def test_what_is_not_json_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text("old")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(file, {"a": float("nan")})
    assert file.read_text() == "old"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        write_json(tmp_path / "nowhere" / "result.json", {})


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file = tmp_path / "result.json"
    file.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device; name another file"):
        write_json(file, {"a": 1})
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        read = pool.submit(pipe.read_text)
        write_json(pipe, {"a": 1})
    assert json.loads(read.result()) == {"a": 1}
    assert pipe.is_fifo()


def test_a_link_to_a_file_stays_a_link(tmp_path: Path) -> None:
    file, link = tmp_path / "result.json", tmp_path / "latest"
    file.write_text("old")
    link.symlink_to(file)
    write_json(link, {"a": 1})
    assert link.is_symlink()
    assert json.loads(file.read_text()) == {"a": 1}
