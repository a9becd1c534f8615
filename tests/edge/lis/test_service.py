import errno
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edge.cells import CellClass, Role
from edge.config import LisConfig
from edge.errors import UserError
from edge.lis.astm_link import AstmLink
from edge.lis.content import Order
from edge.lis.folder import FolderLink
from edge.lis.mapping import read_mapping
from edge.lis.mllp import MllpLink
from edge.lis.outbox import Outbox, State
from edge.lis.port import Listener, NotYet, Port, SerialOpener, SocketOpener
from edge.lis.service import LisService, SenderLock, composer, open_link, open_way
from tests.edge.lis.reports import begin, release, result

CLASSES = (CellClass("neutrophil", Role.COUNTED), CellClass("erythroblast", Role.PER_100))


def config(tmp_path: Path, **changes: object) -> LisConfig:
    return replace(LisConfig(database=tmp_path / "c.sqlite"), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"serial": "/dev/ttyUSB0"}, SerialOpener),
        ({"serial": "rfc2217://host:1"}, SerialOpener),
        ({"serial": "socket://host:1"}, SocketOpener),
        ({"lis_listen": "127.0.0.1:0"}, Listener),
    ],
)
def test_each_way_has_its_opener(tmp_path: Path, changes: dict, kind: type) -> None:
    assert isinstance(open_way(config(tmp_path, **changes)), kind)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"serial": "/dev/ttyUSB0"}, AstmLink),
        ({"serial": "socket://host:1", "lis_protocol": "oru"}, MllpLink),
        ({"lis_folder": Path(), "lis_protocol": "oul"}, FolderLink),
    ],
)
def test_each_way_has_its_link(tmp_path: Path, changes: dict, kind: type) -> None:
    assert isinstance(open_link(config(tmp_path, **changes), read_mapping("plain")), kind)


@pytest.mark.parametrize(("protocol", "begin_with"), [("astm", b"H|"), ("oru", b"MSH|"), ("oul", b"MSH|")])
def test_a_message_is_composed_from_the_outbox(tmp_path: Path, protocol: str, begin_with: bytes) -> None:
    (entry,) = release(tmp_path / "c.sqlite", "S-1")
    with Outbox(tmp_path / "c.sqlite") as box:
        message = composer(protocol, read_mapping("plain"))(box, entry)
    assert message[0].startswith(begin_with)
    assert entry.control_id.encode() in message[0]


def test_seven_bits_carry_ascii_alone(tmp_path: Path) -> None:
    seven = config(tmp_path, serial="/dev/ttyUSB0", serial_bits=7)
    assert isinstance(open_link(seven, read_mapping("plain")), AstmLink)
    wide = replace(read_mapping("plain"), encoding="iso8859-1")
    with pytest.raises(UserError, match="serial_bits = 7 carries ASCII alone"):
        open_link(seven, wide)
    assert isinstance(open_link(config(tmp_path, serial="socket://h:1", serial_bits=7), wide), AstmLink)


def test_a_query_is_composed(tmp_path: Path) -> None:
    with Outbox(tmp_path / "c.sqlite") as box:
        message = composer("astm", read_mapping("plain"))(box, box.query("S-7"))
    assert b"Q|1|^S-7" in message[1]


def test_one_program_sends_from_a_database(tmp_path: Path) -> None:
    said: list[str] = []
    folder = tmp_path / "out"
    folder.mkdir()
    begin(tmp_path / "c.sqlite", "S-1")
    first = LisService(config(tmp_path, lis_folder=folder), CLASSES, said.append)
    second = LisService(config(tmp_path, lis_folder=folder), CLASSES, said.append)
    first.start()
    second.start()
    assert said == ["another program sends from this database; it will send this one's results"]
    entry = second.release(result("S-1"))
    while second.entry(entry.id).state is State.WAITING:
        pass
    assert len(list(folder.iterdir())) == 1
    for service in (second, first, first):
        service.stop()
    lock = SenderLock(tmp_path / "c.sqlite")
    assert lock.take()
    lock.free()


def test_the_counter_sends_once_the_other_program_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.lis.service.LOCK_S", 0.05)
    begin(tmp_path / "c.sqlite", "S-1")
    folder = tmp_path / "out"
    folder.mkdir()
    other = SenderLock(tmp_path / "c.sqlite")
    assert other.take()
    service = LisService(config(tmp_path, lis_folder=folder), CLASSES, print)
    service.start()
    entry = service.release(result("S-1"))
    time.sleep(0.3)
    assert service.entry(entry.id).state is State.WAITING
    other.free()
    end_s = time.monotonic() + 10
    while service.entry(entry.id).state is State.WAITING and time.monotonic() < end_s:
        time.sleep(0.05)
    assert service.entry(entry.id).state is State.RECEIVED
    service.stop()


def test_a_folder_that_is_not_there_is_told_before_there_is_anything_to_send(tmp_path: Path) -> None:
    said: list[str] = []
    folder = tmp_path / "out"
    service = LisService(config(tmp_path, lis_folder=folder), CLASSES, said.append)
    service.start()
    service.stop()
    assert len(said) == 1
    assert said[0].startswith(f"the folder {folder} is not there")
    assert said[0].endswith("results wait until it is")


def test_a_lock_that_another_user_made_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def not_ours(path: Path, flags: int, *mode: int) -> int:
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, flags, *mode)

    (tmp_path / "c.sqlite-lis.lock").touch()
    monkeypatch.setattr(os, "open", not_ours)
    lock = SenderLock(tmp_path / "c.sqlite")
    assert lock.take()
    lock.free()


def test_two_names_of_a_database_have_one_sender(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    lock, other = (SenderLock(tmp_path / name / "c.sqlite") for name in ("folder", "link"))
    assert lock.take()
    assert not other.take()
    lock.free()
    assert other.take()
    other.free()


def test_old_orders_go_when_the_service_starts(tmp_path: Path) -> None:
    begin(tmp_path / "c.sqlite", "S-1")
    (tmp_path / "out").mkdir()
    with Outbox(tmp_path / "c.sqlite") as box:
        box.keep_orders([Order("S-1", ("DIFF",), "P7", "Doe^J")], patient=True)
        box._db.execute("UPDATE lis_order SET received = '2020-01-01T00:00:00.000+00:00'")
        service = LisService(config(tmp_path, lis_folder=tmp_path / "out"), CLASSES, print)
        service.start()
        service.stop()
        assert box._db.execute("SELECT count(*) FROM lis_order").fetchone() == (0,)


def test_a_lock_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"c\.sqlite-lis\.lock: No such file"):
        SenderLock(tmp_path / "none" / "c.sqlite").take()


def test_a_class_without_a_code_stops_the_start(tmp_path: Path) -> None:
    blast = CellClass("blast", Role.COUNTED)
    with pytest.raises(UserError, match="no code for blast"):
        LisService(config(tmp_path, serial="/dev/x"), (*CLASSES, blast), print)
    smudge = CellClass("smudge", Role.REJECTED)
    LisService(config(tmp_path, serial="/dev/x"), (*CLASSES, smudge), print).stop()


def test_absolute_counts_alone_need_a_leukocyte_count(tmp_path: Path) -> None:
    begin(tmp_path / "c.sqlite", "S-1")
    (tmp_path / "lis.toml").write_text('profile = "plain"\nsend = ["absolute"]\n', encoding="utf-8")
    mapping = str(tmp_path / "lis.toml")
    service = LisService(config(tmp_path, serial="/dev/none", lis_mapping=mapping), CLASSES, print)
    with pytest.raises(UserError, match="give the leukocyte count"):
        service.release(result("S-1"))
    assert service.release(result("S-1"), wbc=7.2).id == 1
    service.stop()


def test_the_state_tells_the_page_what_waits(tmp_path: Path) -> None:
    begin(tmp_path / "c.sqlite", "S-1", "S-2")
    service = LisService(config(tmp_path, serial="/dev/none"), CLASSES, print)
    assert service.state("S-1")["released"] is None
    entry = service.release(result("S-1", review=2))
    state = service.state("S-1")
    assert (state["way"], state["waiting"], state["since"]) == ("/dev/none", 1, entry.created)
    assert (state["released"]["status"], state["released"]["state"]) == ("preliminary", "waiting")
    assert state["released"]["counts"] == result("S-1", review=2)["counts"]
    assert (state["wbc"], state["was_final"]) == (None, False)
    final = service.release(result("S-1"), wbc=7.2)
    state = service.state("S-1")
    assert (state["wbc"], state["was_final"]) == (7.2, True)
    mistyped = service.release(result("S-1"), wbc=72)
    assert service.messages("S-1") == {entry.id, final.id, mistyped.id}
    with Outbox(tmp_path / "c.sqlite") as box:
        box.cancel(mistyped.id, "wrong count")
    assert service.state("S-1")["wbc"] == 7.2
    assert service.state("S-2")["released"] is None
    service.stop()


def test_a_fault_in_the_link_is_told_and_the_link_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = [RuntimeError("R|1|S-SECRET"), RuntimeError("again"), UserError("disk full; make room")]

    def breaks(*_: object) -> Port:
        if faults:
            raise faults.pop(0)
        raise NotYet("nobody has come")

    monkeypatch.setattr("edge.lis.port.SerialOpener.open", breaks)
    monkeypatch.setattr("edge.lis.service.FAULT_S", 0.2)
    said: list[str] = []
    service = LisService(config(tmp_path, serial="/dev/none"), CLASSES, said.append)
    service.start()
    end_s = time.monotonic() + 10
    while service.state("S-1")["problem"] != "nobody has come" and time.monotonic() < end_s:
        time.sleep(0.05)
    service.stop()
    assert [line.split(",")[0] for line in said[:2]] == ["fault in the LIS link (RuntimeError"] * 2
    assert "SECRET" not in "".join(said)
    assert said[2:4] == ["disk full; make room", "nobody has come"]
