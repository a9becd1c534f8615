"""What `test` says of lines that are wrong in one way each."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.config import LisConfig
from edge.lis import astm_link
from edge.lis import check as module
from edge.lis.check import check
from edge.lis.frame import ACK, ENQ, NAK
from edge.lis.service import SenderLock
from tests.edge.lis.receiver import Lis, Receiver


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(astm_link, "REPLY_S", 0.5)
    monkeypatch.setattr(astm_link, "SETTLE_S", 0.05)
    monkeypatch.setattr(module, "LISTEN_S", 0.3)
    monkeypatch.setattr(module, "SCAN_S", 0.3)


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[Lis]:
    lis = Lis(tmp_path / "line", Receiver())
    lis.plug()
    yield lis
    lis.pull()


def told(cable: Lis, tmp_path: Path, **options: bool) -> tuple[bool, str]:
    said: list[str] = []
    config = LisConfig(database=tmp_path / "c.sqlite", serial=str(cable._path))
    return check(config, said.append, **options), "\n".join(said)


def test_a_good_line(cable: Lis, tmp_path: Path) -> None:
    good, words = told(cable, tmp_path)
    assert good
    assert "the connection works" in words
    assert len(cable.receiver.messages) == 1


def test_silence(cable: Lis, tmp_path: Path) -> None:
    cable.spoil = lambda data: b""
    good, words = told(cable, tmp_path)
    assert not good
    assert "WRONG  ENQ gets no answer. Is the cable a null-modem cable" in words


def test_garbage_before_anything_is_sent(cable: Lis, tmp_path: Path) -> None:
    import threading

    threading.Timer(0.15, cable.say, [b"\xf8\x00\xe6"]).start()
    good, words = told(cable, tmp_path)
    assert not good
    assert "bytes come that are not of the standard: f8 00 e6" in words
    assert "wrong speed or parity looks like (ours: 9600 baud, 8 bits, parity none)" in words


def test_garbage_as_an_answer(cable: Lis, tmp_path: Path) -> None:
    cable.answer = lambda data: b"\xfe\x80"
    good, words = told(cable, tmp_path)
    assert not good
    assert "ENQ gets no answer" in words
    assert "fe 80" in words


def test_nak_to_enq(cable: Lis, tmp_path: Path) -> None:
    cable.answer = lambda data: bytes([NAK])
    good, words = told(cable, tmp_path)
    assert not good
    assert "its interface is busy or switched off" in words


def test_a_line_that_echoes(cable: Lis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    cable.answer = lambda data: bytes([ENQ])
    good, words = told(cable, tmp_path)
    assert not good
    assert "WRONG  each ENQ comes back" in words


def test_a_lis_that_only_began_at_the_same_moment(
    cable: Lis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    first = [bytes([ENQ])]
    cable.answer = lambda data: first.pop() if first else data
    good, words = told(cable, tmp_path)
    assert good, words


def test_a_lis_that_began_first_and_answers_the_second_bid_alone(cable: Lis, tmp_path: Path) -> None:
    import threading

    bids = []

    def answer(data: bytes) -> bytes:
        bids.extend(byte for byte in cable_heard.pop() if byte == ENQ)
        return b"" if len(bids) == 1 else data

    cable_heard: list[bytes] = []
    cable.spoil = lambda data: cable_heard.append(data) or data  # type: ignore[func-returns-value]
    cable.answer = answer
    threading.Timer(0.15, cable.say, [bytes([ENQ])]).start()
    good, words = told(cable, tmp_path)
    assert good, words


def test_a_lis_that_began_first_and_answers_our_bid_at_once(cable: Lis, tmp_path: Path) -> None:
    import threading

    threading.Timer(0.15, cable.say, [bytes([ENQ])]).start()
    good, words = told(cable, tmp_path)
    assert good, words
    assert len(cable.receiver.messages) == 1


def test_nak_to_every_frame(cable: Lis, tmp_path: Path) -> None:
    cable.spoil = lambda data: data.replace(b"H|", b"h|")
    good, words = told(cable, tmp_path)
    assert not good
    assert "frames are refused six times (NAK: wrong checksum there)" in words


def test_a_lis_that_is_not_astm(cable: Lis, tmp_path: Path) -> None:
    cable.answer = lambda data: data if data == bytes([ACK]) and len(cable.heard) == 1 else b""
    good, words = told(cable, tmp_path)
    assert not good
    assert "the first frame is not: is the LIS set to ASTM E1381?" in words


def test_what_is_heard_names_no_patient() -> None:
    assert module._shown(b"\x02P|1||471") == "02 ** ** ** ** ** ** ** ** = <STX>P|*||***"


def test_a_missing_device(tmp_path: Path) -> None:
    good, words = told(Lis(tmp_path / "line", Receiver()), tmp_path)
    assert not good
    assert "WRONG  no device" in words


def test_an_address_that_is_not_ours_is_told_at_once(tmp_path: Path) -> None:
    said: list[str] = []
    before_s = time.monotonic()
    settings = LisConfig(database=tmp_path / "c.sqlite", lis_listen="192.0.2.1:5000")
    assert not check(settings, said.append)
    assert "cannot be listened on" in said[-1]
    assert time.monotonic() - before_s < 10


def test_a_counter_that_runs(cable: Lis, tmp_path: Path) -> None:
    lock = SenderLock(tmp_path / "c.sqlite")
    assert lock.take()
    good, words = told(cable, tmp_path)
    lock.free()
    assert not good
    assert "the counter runs and holds the port" in words


def test_the_other_speeds_are_tried(cable: Lis, tmp_path: Path) -> None:
    began_s = time.monotonic()
    cable.spoil = lambda data: b"" if time.monotonic() < began_s + 2.2 else data
    good, words = told(cable, tmp_path, scan=True)
    assert not good
    assert "300 baud: no answer" in words
    assert "FOUND" in words


@pytest.mark.parametrize("protocol", ["astm", "oru"])
def test_a_folder(tmp_path: Path, protocol: str) -> None:
    said: list[str] = []
    config = LisConfig(database=tmp_path / "c.sqlite", lis_folder=tmp_path, lis_protocol=protocol)
    assert check(config, said.append)
    assert "files can be written there" in said[-1]
