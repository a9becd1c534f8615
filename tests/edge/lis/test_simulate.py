import os
import threading
import time
from pathlib import Path

import pytest

from edge.errors import UserError
from edge.lis.astm_link import AstmLink, Role
from edge.lis.frame import ACK, ENQ, envelopes
from edge.lis.link import Event
from edge.lis.simulate import Host, PtyOpener


def test_a_query_is_answered_with_an_order(tmp_path: Path) -> None:
    opener, said, stop = PtyOpener(), list[str](), threading.Event()
    host = Host(opener, AstmLink(Role.HOST), "ascii", said.append, tmp_path / "store.jsonl")
    thread = threading.Thread(target=host.run, args=(stop,))
    handle = os.open(opener.name, os.O_RDWR | os.O_NOCTTY)
    thread.start()
    for part in [bytes([ENQ]), *envelopes([b"H|\\^&|1\r", b"Q|1|^S-9\r", b"L|1|N\r"])]:
        os.write(handle, part)
        assert os.read(handle, 1) == bytes([ACK])
    os.write(handle, b"\x04")
    assert os.read(handle, 1) == bytes([ENQ])
    order = b""
    for _ in range(4):
        os.write(handle, bytes([ACK]))
        time.sleep(0.2)
        order += os.read(handle, 4096)
    os.write(handle, bytes([ACK]))
    time.sleep(0.3)
    stop.set()
    thread.join(5)
    os.close(handle)
    assert b"O|1|S-9||^^^DIFF|R" in order
    assert said[-1] == "-- answer: received by the LIS"
    assert host.received == 1


def test_a_store_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    host = Host(PtyOpener(), AstmLink(Role.HOST), "ascii", print, tmp_path)
    with pytest.raises(UserError, match="--store names another file"):
        host._take(Event(message=b"H|\\^&\rL|1|N\r"))
