import errno
import os
from pathlib import Path

import pytest

from edge.lis.folder import FolderLink, FolderOpener
from edge.lis.link import Event, Outcome
from edge.lis.port import PortError


def test_a_message_becomes_a_file_and_a_repeat_replaces_it(tmp_path: Path) -> None:
    port, link = FolderOpener(tmp_path, ".hl7").open(), FolderLink()
    for _ in range(2):
        out = link.send([b"a\r", b"b\0c\r"], "id-000001", 0.0)
        assert not link.ready(0.0)
        port.write(bytes(out.data))
        assert link.advance(port.read(), 0.0).events == [Event(Outcome.WRITTEN)]
        assert link.ready(0.0)
    assert [(f.name, f.read_bytes()) for f in tmp_path.iterdir()] == [("id-000001.hl7", b"a\rb\0c\r")]
    port.close()


def test_a_folder_that_is_only_for_putting_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refused(path: Path, *how: int) -> int:
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *how)

    # As for anybody but root on a folder of mode -wx.
    monkeypatch.setattr(os, "open", refused)
    port = FolderOpener(tmp_path, ".hl7").open()
    port.write(b"id\0a\r")
    assert (tmp_path / "id.hl7").read_bytes() == b"a\r"


def test_a_file_that_is_not_whole_yet_has_another_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[Path]] = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append(list(tmp_path.glob("*.hl7"))))
    FolderOpener(tmp_path, ".hl7").open().write(b"id\0a\r")
    assert seen[0] == []


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(PortError, match="is not there"):
        FolderOpener(tmp_path / "none", ".hl7").open()


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "share"
    folder.mkdir()
    port, link = FolderOpener(folder, ".hl7").open(), FolderLink()
    folder.rmdir()
    with pytest.raises(PortError, match="could not be written"):
        port.write(bytes(link.send([b"a\r"], "id", 0.0).data))
    assert link.lost().events == [Event(Outcome.UNWRITTEN)]
    assert link.ready(0.0)
