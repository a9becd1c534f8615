"""Receivers written by others, on a real pty pair and over real TCP: they store exactly what was released.

`labmcp-astm-lis` lives in an environment of its own (`make .venv-peers/ready`): its forty dependencies stay
out of ours. Without it these tests are skipped, or fail where REQUIRE_PEERS is set.
"""

import contextlib
import json
import os
import pty
import select
import socket
import subprocess
import threading
import time
import tty
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hl7apy.mllp import AbstractHandler, MLLPServer
from hl7apy.parser import parse_message

from edge.config import LisConfig
from edge.lis.outbox import Outbox, State
from edge.lis.service import LisService
from edge.report import NOTICE
from tests.edge.lis.reports import SHA, begin, result

PEER = Path(__file__).parents[3] / ".venv-peers" / "bin" / "labmcp-astm-lis"
VALUES = {"NEUT%": "60.0", "LYMPH%": "30.0", "MONO%": "6.0", "EO%": "3.0", "BASO%": "1.0"}
VALUES |= {"NRBC%": "2.0", "CELLS": "100", "NEUT#": "4.35", "LYMPH#": "2.17", "MONO#": "0.43"}
VALUES |= {"EO#": "0.22", "BASO#": "0.07"}


@pytest.fixture
def peer() -> Path:
    if not PEER.exists():
        reason = "no labmcp-astm-lis: run make .venv-peers/ready"
        pytest.fail(reason) if os.environ.get("REQUIRE_PEERS") else pytest.skip(reason)
    return PEER


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def joined_ptys() -> Iterator[tuple[str, str]]:
    """Two pseudo terminals whose other ends are joined: a null-modem cable."""
    pairs = [pty.openpty() for _ in range(2)]
    for _, theirs in pairs:
        tty.setraw(theirs)
    ends = [ours for ours, _ in pairs]
    stop = threading.Event()

    def carry() -> None:
        while not stop.is_set():
            for end in select.select(ends, [], [], 0.05)[0]:
                os.write(ends[1 - ends.index(end)], os.read(end, 4096))

    thread = threading.Thread(target=carry, daemon=True)
    thread.start()
    yield os.ttyname(pairs[0][1]), os.ttyname(pairs[1][1])
    stop.set()
    thread.join(5)
    for handle in sum(pairs, ()):
        os.close(handle)


@contextlib.contextmanager
def listening(peer: Path, folder: Path, *options: str) -> Iterator[Path]:
    """Run the receiver; yield the file in which it stores."""
    store, http = folder / "store.jsonl", free_port()
    arguments = [peer, *options, "--option", f"store_path={store}", "--transport", "http"]
    with subprocess.Popen(
        [*arguments, "--host", "127.0.0.1", "--port", str(http)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "FASTMCP_CHECK_FOR_UPDATES": "off"},
    ) as running:
        try:
            end_s = time.monotonic() + 60
            while True:
                assert running.poll() is None
                assert time.monotonic() < end_s
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", http), 0.2):
                    break
                time.sleep(0.1)
            yield store
        finally:
            running.kill()


@contextlib.contextmanager
def sending(config: LisConfig) -> Iterator[LisService]:
    service = LisService(config, (), lambda text: None)
    service.start()
    yield service
    service.stop()


def release_all(config: LisConfig, *specimens: str) -> list[str]:
    """Release results and wait until they have been received; return their control IDs."""
    begin(config.database, *specimens)
    with sending(config) as service:
        entries = [service.release(result(s), operator="Dr A", wbc=7.25) for s in specimens]
        end_s = time.monotonic() + 60
        while any(service.entry(e.id).state is State.WAITING for e in entries):
            assert time.monotonic() < end_s, service.state(specimens[0])
            time.sleep(0.05)
        assert {service.entry(e.id).state for e in entries} == {State.RECEIVED}
    return [e.control_id for e in entries]


def check_stored(config: LisConfig, store: Path, specimens: list[str], ids: list[str]) -> None:
    """Compare what the receiver kept with what was released: values, codes, IDs, times, comments."""
    # Its own reader says what it stored.
    program = "import json, sys; from labmcp_astm_lis.driver import ResultStore, to_dict\n"
    program += "print(json.dumps([to_dict(m) for m in ResultStore(store_path=sys.argv[1])._messages]))"
    read = [PEER.with_name("python"), "-c", program, store]
    done = subprocess.run(read, capture_output=True, text=True, check=True)
    kept: list[dict[str, Any]] = json.loads(done.stdout)
    assert [m["records"][0].split("|")[2] for m in kept] == ids
    with Outbox(config.database) as box:
        reports = [box.report(e) for e in reversed(box.entries())]
    for message, report, specimen in zip(kept, reports, specimens, strict=True):
        assert (message["complete"], message["kind"], message["warnings"]) == (True, "results", [])
        rows = message["results"]
        assert {r["test_code"]: r["value"] for r in rows} == VALUES
        assert {r["sample_id"] for r in rows} == {specimen}
        assert {(r["result_status"], r["operator"]) for r in rows} == {("F", "Dr A")}
        assert rows[0]["universal_test_id"] == ["26511-6", "Neutrophils/100 leukocytes", "LN", "NEUT%"]
        assert rows[0]["units"] == "%"
        times = {(r["started_at"], r["completed_at"]) for r in rows}
        local = [
            at.astimezone().replace(microsecond=0, tzinfo=None) for at in (report.started, report.released)
        ]
        assert [(datetime.fromisoformat(a), datetime.fromisoformat(b)) for a, b in times] == [tuple(local)]
        assert rows[0]["order_comments"] == [NOTICE, f"Counted by model wbc sha256 {SHA}"]
        assert rows[0]["comments"] == ["95 % limits 1.3 to 98.8 (60 of 100 cells)"]


SPECIMENS = ["S-1", "A.b_c 9", "2026-03-01"]


@pytest.mark.parametrize("frame", [240, 64_000])
def test_a_strict_receiver_on_a_serial_line(
    peer: Path, joined_ptys: tuple[str, str], tmp_path: Path, frame: int
) -> None:
    ours, theirs = joined_ptys
    config = LisConfig(database=tmp_path / "c.sqlite", serial=ours, lis_frame=frame)
    with listening(peer, tmp_path, "-a", f"serial://{theirs}") as store:
        ids = release_all(config, *SPECIMENS)
        check_stored(config, store, SPECIMENS, ids)


def test_a_strict_receiver_over_tcp(peer: Path, tmp_path: Path) -> None:
    port = free_port()
    options = ("--option", "listen_host=127.0.0.1", "--option", f"listen_port={port}")
    config = LisConfig(database=tmp_path / "c.sqlite", serial=f"socket://127.0.0.1:{port}")
    with listening(peer, tmp_path, *options) as store:
        check_stored(config, store, SPECIMENS, release_all(config, *SPECIMENS))


def test_a_strict_receiver_that_connects_to_us(peer: Path, tmp_path: Path) -> None:
    port = free_port()
    config = LisConfig(database=tmp_path / "c.sqlite", lis_listen=f"127.0.0.1:{port}")
    begin(config.database, *SPECIMENS)
    with (
        sending(config),
        listening(peer, tmp_path, "-a", f"tcp://127.0.0.1:{port}") as store,
        Outbox(config.database) as box,
    ):
        entries = [box.release(result(s), operator="Dr A", wbc=7.25) for s in SPECIMENS]
        end_s = time.monotonic() + 60
        while any(e.state is State.WAITING for e in box.entries()):
            assert time.monotonic() < end_s, box.line()
            time.sleep(0.05)
        check_stored(config, store, SPECIMENS, [e.control_id for e in entries])


class Mllp:
    """hl7apy's MLLP server, answering with a code; it closes the connection after each message."""

    def __init__(self, code: str) -> None:
        self.messages: list[str] = []
        seen = self.messages

        class Handler(AbstractHandler):  # type: ignore[misc]
            def reply(self) -> str:
                seen.append(self.incoming_message)
                number = parse_message(self.incoming_message).msh.msh_10.value
                answer = f"MSH|^~\\&|L||W||1||ACK|9|P|2.5.1\rMSA|{code}|{number}|said\r"
                return f"\x0b{answer}\x1c\r"

        handlers = {"ORU^R01^ORU_R01": (Handler,), "OUL^R22^OUL_R22": (Handler,)}
        self.server = MLLPServer("127.0.0.1", 0, handlers)
        self.url = f"socket://127.0.0.1:{self.server.server_address[1]}"
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join(5)


@pytest.mark.parametrize("protocol", ["oru", "oul"])
def test_an_mllp_server_of_others_acknowledges(tmp_path: Path, protocol: str) -> None:
    server = Mllp("AA")
    config = LisConfig(database=tmp_path / "c.sqlite", serial=server.url, lis_protocol=protocol)
    ids = release_all(config, *SPECIMENS)
    server.close()
    assert [m.split("|")[9] for m in server.messages] == ids
    for message, specimen in zip(server.messages, SPECIMENS, strict=True):
        rows = [segment.split("|") for segment in message.split("\r")]
        assert {r[3].split("^")[3]: r[5] for r in rows if r[0] == "OBX"} == VALUES
        assert [r[2] for r in rows if r[0] == "SPM"] == [specimen]


def test_a_refusal_is_shown_in_the_servers_words_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.lis.sender.FIRST_WAIT_S", 0.1)
    server = Mllp("AE")
    config = LisConfig(database=tmp_path / "c.sqlite", serial=server.url, lis_protocol="oru")
    begin(config.database, "S-1", "S-2")
    with sending(config) as service:
        entries = [service.release(result(s)) for s in ("S-1", "S-2")]
        end_s = time.monotonic() + 30
        while any(service.entry(e.id).state is not State.REFUSED for e in entries):
            assert time.monotonic() < end_s
            time.sleep(0.05)
        entry = service.entry(1)
        # A busy computer may not even get an answer in time; that is an attempt too.
        assert entry.attempts >= 3
        assert entry.reason == "the LIS refused the message (AE said)"
        assert service.state("S-1")["refused"] == 2
    server.close()
