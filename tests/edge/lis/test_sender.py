"""The sender on real lines that fail. The standard's timers are short here; `test_astm_link` tests them."""

import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge.errors import UserError
from edge.lis import astm_link, frame, outbox, sender
from edge.lis.astm_link import AstmLink
from edge.lis.folder import FolderLink, FolderOpener
from edge.lis.hl7 import acknowledge
from edge.lis.link import Link, Outcome
from edge.lis.mapping import read_mapping
from edge.lis.mllp import MllpLink, wrapped
from edge.lis.outbox import Outbox, State
from edge.lis.port import Listener, Opener, SerialOpener, SocketOpener, Wiring
from edge.lis.sender import Patience, Sender
from edge.lis.service import composer
from tests.edge.lis.receiver import Lis, Receiver, TcpLis
from tests.edge.lis.reports import begin, release, result

ROOT = Path(__file__).parents[3]
ACK, NAK, ENQ = bytes([frame.ACK]), bytes([frame.NAK]), bytes([frame.ENQ])


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, seconds in (
        (astm_link, "REPLY_S", 0.5),
        (astm_link, "BUSY_S", 0.1),
        (astm_link, "BROKEN_S", 0.2),
        (astm_link, "SETTLE_S", 0.1),
        (astm_link, "INTERRUPT_S", 0.3),
        (sender, "FIRST_WAIT_S", 0.1),
        (sender, "LONGEST_WAIT_S", 0.3),
        (sender, "REOPEN_S", 0.05),
        (sender, "LONGEST_REOPEN_S", 0.1),
    ):
        monkeypatch.setattr(module, name, seconds)


class Running:
    """A sender in its thread."""

    def __init__(self, database: Path, opener: Opener, talk: Link | None = None, **options: object) -> None:
        self.notices: list[str] = []
        mapping = read_mapping("plain")
        self.stop, self.database = threading.Event(), database
        self.sender = Sender(
            database,
            opener,
            talk or AstmLink(),
            options.pop("compose", composer("astm", mapping)),  # type: ignore[arg-type]
            mapping=mapping,
            notice=self.notices.append,
            **options,  # type: ignore[arg-type]
        )
        self.thread = threading.Thread(target=self.sender.run, args=(self.stop,), daemon=True)
        self.thread.start()

    def end(self) -> None:
        self.stop.set()
        self.thread.join(15)
        assert not self.thread.is_alive()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "counts.sqlite"


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[Lis]:
    lis = Lis(tmp_path / "line", Receiver())
    lis.plug()
    yield lis
    lis.pull()


Start = Callable[..., Running]


@pytest.fixture
def start(database: Path) -> Iterator[Start]:
    running: list[Running] = []

    def begin_sender(opener: Opener, talk: Link | None = None, **options: object) -> Running:
        running.append(Running(database, opener, talk, **options))
        return running[-1]

    yield begin_sender
    for one in running:
        one.end()


def wire(lis: Lis) -> SerialOpener:
    return SerialOpener(str(lis._path), Wiring())


def until(true: Callable[[], object], timeout_s: float = 20.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end_s, "it did not come true"
        time.sleep(0.01)


def way_to(server: socket.socket) -> SocketOpener:
    return SocketOpener(f"socket://127.0.0.1:{server.getsockname()[1]}")


def all_received(database: Path) -> bool:
    with Outbox(database) as box:
        return all(e.state is State.RECEIVED for e in box.entries(1000))


@pytest.mark.usefixtures("fast")
def test_what_waits_is_sent_in_order(database: Path, cable: Lis, start: Start) -> None:
    entries = release(database, "S-3", "S-1", "S-2")
    running = start(wire(cable))
    until(lambda: all_received(database))
    assert cable.receiver.specimens == ["S-3", "S-1", "S-2"]
    assert cable.receiver.taken == [e.control_id for e in entries]
    assert cable.receiver.repeats == 0
    assert "message 1: received by the LIS" in running.notices
    assert not any("S-3" in notice for notice in running.notices)


@pytest.mark.usefixtures("fast")
def test_what_is_released_while_it_runs_is_sent(database: Path, cable: Lis, start: Start) -> None:
    begin(database, "S-1")
    start(wire(cable))
    with Outbox(database) as box:
        box.release(result("S-1"))
    until(lambda: cable.receiver.specimens == ["S-1"])


def pull_when(lis: Lis, needle: bytes, *, at_answer: bool = False, keep: bytes = b"") -> None:
    """Pull the cable once, when `needle` comes in (or goes back)."""
    once = [True]

    def change(data: bytes) -> bytes | None:
        if once and needle in data:
            once.clear()
            return None
        return data

    if at_answer:
        lis.answer = change
    else:
        lis.spoil = change


def pull_in_settling(lis: Lis) -> None:
    """Refuse the first frame, then pull the cable."""
    seen: list[bytes] = []

    def change(data: bytes) -> bytes | None:
        if b"\x021H" in data and not seen:
            seen.append(data)
            threading.Timer(0.05, lis._cut.set).start()
            return data.replace(b"LIS2", b"LIS3")
        return data

    lis.spoil = change


def pull_while_receiving(lis: Lis) -> None:
    """Begin to send, then pull the cable in the middle of the message."""
    once = [True]

    def change(data: bytes) -> bytes | None:
        if once and ACK in data:
            once.clear()
            lis.say(frame.envelope(1, b"H|\\^&\r", last=True))
            threading.Timer(0.3, lis._cut.set).start()
        return data

    time.sleep(0.5)  # what came before the port was opened is not heard
    lis.spoil = change
    lis.say(ENQ)


CUTS: dict[str, Callable[[Lis], None]] = {
    "idle": Lis.pull,
    "ENQ sent": lambda lis: pull_when(lis, ENQ),
    "ENQ answered": lambda lis: pull_when(lis, ACK, at_answer=True),
    "first frame sent": lambda lis: pull_when(lis, b"\x021H"),
    "frame in the middle sent": lambda lis: pull_when(lis, b"R|2|"),
    "last frame sent": lambda lis: pull_when(lis, b"L|1|N"),
    "settling": pull_in_settling,
    "EOT sent": lambda lis: pull_when(lis, bytes([frame.EOT])),
    "receiving": pull_while_receiving,
}


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("cut", list(CUTS))
def test_the_cable_is_pulled_in_every_state(database: Path, cable: Lis, start: Start, cut: str) -> None:
    begin(database, "S-1", "S-2")
    if cut != "receiving":
        CUTS[cut](cable)
    start(wire(cable))
    if cut == "receiving":
        until(lambda: all_received(database))
        CUTS[cut](cable)
    else:
        release(database, "S-1", "S-2")
    until(lambda: cable.pulled)
    cable.pull()
    cable.spoil = cable.answer = lambda data: data
    if cut == "receiving":
        release(database, "S-1", "S-2")
    time.sleep(0.2)
    cable.plug()
    until(lambda: all_received(database))
    assert cable.receiver.specimens == ["S-1", "S-2"]


@pytest.mark.usefixtures("fast")
def test_a_lost_last_ack_brings_a_repeat_that_is_recognised(database: Path, cable: Lis, start: Start) -> None:
    def change(data: bytes) -> bytes | None:
        return None if cable.receiver.messages and cable.receiver.repeats == 0 else data

    cable.answer = change
    release(database, "S-1", "S-2")
    start(wire(cable))
    until(lambda: cable.pulled)
    cable.answer = lambda data: data
    cable.plug()
    until(lambda: all_received(database))
    assert cable.receiver.specimens == ["S-1", "S-2"]
    assert cable.receiver.repeats == 1


@pytest.mark.usefixtures("fast")
def test_spoilt_bytes_are_sent_again(database: Path, cable: Lis, start: Start) -> None:
    dice = random.Random(1)

    def change(data: bytes) -> bytes:
        if len(data) > 20 and dice.random() < 0.15:
            at = dice.randrange(2, len(data) - 6)
            return data[:at] + b"~" + data[at + 1 :]
        return data

    cable.spoil = change
    release(database, "S-1", "S-2", "S-3")
    start(wire(cable))
    until(lambda: all_received(database), 60)
    assert cable.receiver.specimens == ["S-1", "S-2", "S-3"]


@pytest.mark.parametrize("baud", [300, 1200, 9600])
def test_slow_lines_get_their_time(database: Path, tmp_path: Path, start: Start, baud: int) -> None:
    lis = Lis(tmp_path / "line", Receiver(), baud)
    lis.plug()
    few = [b"H|\\^&|1\r", b"O|1|S-1\r", b"C|1|I|" + b"x" * 60 + b"\r", b"L|1|N\r"]
    release(database, "S-1")
    start(wire(lis), AstmLink(byte_s=Wiring(baud).byte_s), compose=lambda box, entry: few)
    until(lambda: all_received(database), 40)
    lis.pull()
    assert lis.receiver.specimens == ["S-1"]
    assert lis.receiver.repeats == 0


@pytest.mark.usefixtures("fast")
def test_a_day_of_500_reports_while_the_lis_is_down(database: Path, tmp_path: Path, start: Start) -> None:
    lis = Lis(tmp_path / "line", Receiver())
    running = start(wire(lis))
    names = [f"S-{n}" for n in range(500)]
    release(database, *names)
    with Outbox(database) as box:
        until(lambda: "no device" in box.line().problem)
        assert box.line().waiting == 500
    lis.plug()
    until(lambda: all_received(database), 60)
    lis.pull()
    assert lis.receiver.specimens == names
    assert lis.receiver.repeats == 0
    assert "the line is in order" in running.notices


@pytest.mark.usefixtures("fast")
def test_what_an_earlier_run_said_of_the_line_goes_when_the_line_is_open(
    database: Path, cable: Lis, start: Start
) -> None:
    with Outbox(database) as box:
        box.set_line("no device ttyNOPE; is the cable in?")
        start(wire(cable))
        until(lambda: box.line().problem == "")


@pytest.mark.usefixtures("fast")
def test_a_full_disk_repeats_nothing_and_loses_nothing(database: Path, cable: Lis, start: Start) -> None:
    full = threading.Event()
    attempted = Outbox.attempted

    def fails(self: Outbox, *arguments: object, **options: object) -> None:
        # SQLite itself says that the disk is full: no page may be added, and every page is taken.
        if full.is_set():
            (pages,) = self._db.execute("PRAGMA page_count").fetchone()
            self._db.execute(f"PRAGMA max_page_count = {pages}")
            options["wire"] = "x" * 1_000_000
        else:
            self._db.execute("PRAGMA max_page_count = 1000000")
        attempted(self, *arguments, **options)  # type: ignore[arg-type]

    release(database, "S-1", "S-2", "S-3")
    full.set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outbox.Outbox, "attempted", fails)
        running = start(wire(cable))
        until(lambda: any("full" in notice for notice in running.notices))
        time.sleep(1)
        assert cable.receiver.specimens == ["S-1"]
        full.clear()
        until(lambda: all_received(database))
        running.end()
    assert cable.receiver.specimens == ["S-1", "S-2", "S-3"]
    assert cable.receiver.repeats == 0


def test_a_program_killed_while_sending_goes_on_where_it_was(database: Path, cable: Lis) -> None:
    names = [f"S-{n}" for n in range(120)]
    release(database, *names)
    arguments = [
        sys.executable,
        "-m",
        "edge.lis",
        "send",
        "--serial",
        str(cable._path),
        "--database",
        str(database),
    ]
    dice = random.Random(2)
    for _ in range(5):
        before = len(cable.receiver.messages)
        with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.DEVNULL) as program:
            until(lambda at=before: len(cable.receiver.messages) > at + 3)  # type: ignore[misc]
            time.sleep(dice.uniform(0, 0.05))
            program.send_signal(signal.SIGKILL)
    assert len(cable.receiver.messages) < 120
    done = subprocess.run(arguments, cwd=ROOT, timeout=120, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert cable.receiver.specimens == names
    assert cable.receiver.repeats <= 5
    with sqlite3.connect(database) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


def idle(database: Path, folder: Path) -> Sender:
    """Return a sender that does not run."""
    mapping = read_mapping("plain")
    opener, compose = FolderOpener(folder, ".hl7"), composer("oru", mapping)
    return Sender(database, opener, FolderLink(), compose, mapping=mapping, notice=lambda _: None)


def test_only_refusals_in_a_row_set_a_message_aside(database: Path, tmp_path: Path) -> None:
    release(database, "S-1")
    made = idle(database, tmp_path)
    deaf, refused = [Outcome.UNACKNOWLEDGED], [Outcome.REFUSED]
    with Outbox(database) as made._box:
        states = []
        # A LIS that was down for a day may refuse once or twice while it starts.
        for outcome in 5 * deaf + 2 * refused + deaf + 3 * refused:
            made._ended(made._box.entry(1), outcome, "")
            states.append(made._box.entry(1).state)
    assert states == 10 * [State.WAITING] + [State.REFUSED]


def test_refusals_of_one_message_do_not_count_for_the_next(database: Path, tmp_path: Path) -> None:
    release(database, "S-1", "S-2")
    made = idle(database, tmp_path)
    with Outbox(database) as made._box:
        for number in (1, 1, 2, 2):
            made._ended(made._box.entry(number), Outcome.REFUSED, "")
            assert made._box.entry(number).state is State.WAITING
        made._ended(made._box.entry(2), Outcome.REFUSED, "")
        assert made._box.entry(2).state is State.REFUSED


def test_a_line_that_echoes_is_told_and_not_tried_without_a_rest(database: Path, tmp_path: Path) -> None:
    release(database, "S-1")
    made = idle(database, tmp_path)
    with Outbox(database) as made._box:
        waits = []
        for _ in range(5):
            made._ended(made._box.entry(1), Outcome.CONTENTION, "")
            waits.append(made._due_s > time.monotonic())
        assert waits == [False, False, False, True, True]
        assert "does something on it echo?" in made._box.line().problem
        assert "echo" in made._box.entry(1).reason


def answer(peer: socket.socket, code: str = "AA") -> bytes:
    """Take a message, answer it unless the `code` is empty, and return it; b"" where none came."""
    heard = b""
    while not heard.endswith(b"\x1c\r"):
        if not (data := peer.recv(4096)):
            return b""
        heard += data
    if code:
        peer.sendall(wrapped(acknowledge(heard[1:-2], code, "ascii", datetime.now(UTC))))
    return heard


@pytest.mark.usefixtures("fast")
def test_a_lis_that_comes_to_us_is_heard_at_once_and_its_dead_connections_hold_nothing_up(
    database: Path, start: Start
) -> None:
    begin(database)
    listener = Listener("127.0.0.1", 0)
    compose = composer("oru", read_mapping("plain"))
    running = start(listener, MllpLink("ascii"), compose=compose)
    until(lambda: listener._server)
    for _ in range(20):
        # A LIS that gives a silent connection up, and comes again.
        socket.create_connection(("127.0.0.1", listener.port)).close()
    with socket.create_connection(("127.0.0.1", listener.port)) as peer:
        release(database, "S-1")
        answer(peer)
        until(lambda: all_received(database))
    assert not any("lost" in notice for notice in running.notices), running.notices


def called(start: Start) -> tuple[Running, socket.socket]:
    """Return a sender that has something to send, and the connection on which it called an HL7 server."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        way = way_to(server)
        running = start(way, MllpLink("ascii"), compose=composer("oru", read_mapping("plain")), lazy=True)
        return running, server.accept()[0]


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("listening", [True, False])
def test_a_lis_that_hangs_up_after_each_answer_gets_all_and_nothing_is_told(
    database: Path, start: Start, listening: bool
) -> None:
    release(database, "S-1", "S-2", "S-3", "S-4")
    compose, messages = composer("oru", read_mapping("plain")), []
    with socket.create_server(("127.0.0.1", 0)) as server:
        listener = Listener("127.0.0.1", 0)
        way = listener if listening else way_to(server)
        running = start(way, MllpLink("ascii"), compose=compose, lazy=not listening)
        until(lambda: listener._server or not listening)
        while len(messages) < 4:
            address = ("127.0.0.1", listener.port)
            with socket.create_connection(address) if listening else server.accept()[0] as peer:
                messages += [heard] if (heard := answer(peer)) else []
        until(lambda: all_received(database))
    assert [m for m in running.notices if "lost" in m or "closed" in m] == []
    with Outbox(database) as box:
        assert [entry.attempts for entry in box.entries()] == [1] * 4


@pytest.mark.usefixtures("fast")
def test_a_lis_that_ends_connections_on_which_nothing_comes_is_called_again_without_a_word(
    database: Path, start: Start
) -> None:
    begin(database)
    with socket.create_server(("127.0.0.1", 0)) as server:
        running = start(way_to(server), AstmLink())
        for _ in range(3):
            server.accept()[0].close()
        with server.accept()[0] as peer:
            release(database, "S-1")
            assert peer.recv(1) == ENQ
            assert running.notices == []
        for _ in range(3):  # with a message that waits it is told
            server.accept()[0].close()
            with Outbox(database) as box:
                until(lambda: box.line().problem)
    assert any("lost" in notice for notice in running.notices)


@pytest.mark.usefixtures("fast")
def test_what_a_lis_took_whole_and_did_not_answer_on_the_line_of_an_earlier_answer_is_known(
    database: Path, start: Start
) -> None:
    begin(database)
    with socket.create_server(("127.0.0.1", 0)) as server:
        start(way_to(server), AstmLink())
        with server.accept()[0] as peer, peer.makefile("rb") as lines:
            release(database, "S-1")
            assert peer.recv(1) == ENQ
            peer.sendall(ACK)
            for line in lines:
                peer.sendall(ACK)
                if b"L|1|N" in line:
                    break
            assert lines.read(1) == bytes([frame.EOT])
            release(database, "S-2")
            assert lines.read(1) == ENQ
            peer.sendall(ACK)
            while b"L|1|N" not in (line := lines.readline()):
                peer.sendall(ACK)
        with Outbox(database) as box:
            until(lambda: box.attempts(2))
            assert box.attempts(2)[0][1] == Outcome.UNANSWERED.value


def test_why_a_result_waits_is_not_hidden_by_a_lis_that_hangs_up(
    database: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "REOPEN_S", 0.05)
    release(database, "S-1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        running = start(way_to(server), AstmLink())
        with server.accept()[0] as peer:
            assert peer.recv(1) == ENQ
            peer.sendall(NAK)
            until(lambda: any(Outcome.BUSY.value in notice for notice in running.notices))
        for _ in range(3):
            server.accept()[0].close()
    with Outbox(database) as box:
        assert box.line().problem == Outcome.BUSY.value
    assert not any("closed" in notice for notice in running.notices)


def test_a_connection_that_is_ended_at_once_is_not_opened_in_haste(database: Path, start: Start) -> None:
    begin(database)
    with socket.create_server(("127.0.0.1", 0)) as server:
        start(way_to(server), AstmLink())
        end_s, opened = time.monotonic() + 1.5, 0
        server.settimeout(0.1)
        while time.monotonic() < end_s:
            with suppress(TimeoutError):
                server.accept()[0].close()
                opened += 1
    assert 1 <= opened <= 2


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(("code", "state"), [("CA", State.RECEIVED), ("", State.WAITING)])
def test_what_a_stop_cuts_off_is_kept_as_far_as_the_lis_may_have_it(
    database: Path, start: Start, monkeypatch: pytest.MonkeyPatch, code: str, state: State
) -> None:
    monkeypatch.setattr(sender, "STOP_S", 0.2)
    release(database, "S-1")
    running, peer = called(start)
    answer(peer, code)
    time.sleep(0.3)
    running.end()
    peer.close()
    with Outbox(database) as box:
        assert box.entry(1).state is state
        assert box.was_final("S-1")
        if state is State.WAITING:
            box.cancel(1, "wrong slide")
            assert box.was_final("S-1"), "the LIS may have it"


@pytest.mark.usefixtures("fast")
def test_a_lis_that_hangs_up_after_its_commit_has_the_message(database: Path, start: Start) -> None:
    release(database, "S-1")
    running, peer = called(start)
    answer(peer, "CA")
    peer.close()
    until(lambda: all_received(database))
    assert running.notices == ["message 1: received by the LIS"]


@pytest.mark.usefixtures("fast")
def test_a_lis_that_hangs_up_after_the_commit_of_a_later_message_has_that_too(
    database: Path, start: Start
) -> None:
    release(database, "S-1", "S-2")
    _, peer = called(start)
    answer(peer)
    answer(peer, "CA")
    peer.close()
    until(lambda: all_received(database), 5)
    with Outbox(database) as box:
        assert [entry.attempts for entry in box.entries()] == [1, 1]


@pytest.mark.usefixtures("fast")
def test_a_silent_lis_is_told_and_tried_again(database: Path, cable: Lis, start: Start) -> None:
    cable.spoil = lambda data: b""
    release(database, "S-1")
    start(wire(cable), keep_trace=True)
    with Outbox(database) as box:
        until(lambda: box.entry(1).attempts >= 2)
        assert box.line().problem == Outcome.NO_ANSWER.value
        until(lambda: box.line().due)
        assert box.entry(1).reason == Outcome.NO_ANSWER.value
        cable.spoil = lambda data: data
        until(lambda: all_received(database))
        until(lambda: box.line().problem == "")
        traces = [wire for _, _, wire in box.attempts(1)]
    assert traces[0] == "> <ENQ>\n"
    assert "H|\\^&|" in traces[-1]
    assert "S-1" not in "".join(traces)


@pytest.mark.usefixtures("fast")
def test_a_person_ends_the_patience(
    database: Path, cable: Lis, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "FIRST_WAIT_S", 1000.0)
    monkeypatch.setattr(sender, "LONGEST_WAIT_S", 1000.0)
    cable.spoil = lambda data: b""
    release(database, "S-1", "S-2")
    start(wire(cable))
    with Outbox(database) as box:
        until(lambda: box.entry(1).attempts == 1)
        cable.spoil = lambda data: data
        time.sleep(0.3)
        assert cable.receiver.specimens == []
        box.resend(1)
        until(lambda: cable.receiver.specimens == ["S-1", "S-2"])


@pytest.mark.usefixtures("fast")
def test_a_cancelled_message_lets_the_others_pass(database: Path, cable: Lis, start: Start) -> None:
    cable.spoil = lambda data: b"" if b"S-1" in data else data
    release(database, "S-1", "S-2")
    start(wire(cable))
    with Outbox(database) as box:
        until(lambda: box.entry(1).attempts >= 1)
        box.cancel(1, "wrong slide")
        until(lambda: box.entry(2).state is State.RECEIVED)
    assert cable.receiver.specimens == ["S-2"]


@pytest.mark.usefixtures("fast")
def test_orders_of_the_lis_are_kept(database: Path, cable: Lis, start: Start) -> None:
    begin(database)
    replies: list[bytes] = []
    cable.spoil = lambda data: replies.append(data) or b""  # type: ignore[func-returns-value]
    start(wire(cable))
    time.sleep(0.5)
    message = [b"H|\\^&|1||LIS\r", b"P|1||7||Doe^J\r", b"O|1|S-9||^^^DIFF|R\r", b"L|1|N\r"]
    for part in [ENQ, *frame.envelopes(message)]:
        before = len(replies)
        cable.say(part)
        until(lambda at=before: len(replies) > at)  # type: ignore[misc]
    assert b"".join(replies) == ACK * 5
    with Outbox(database) as box:
        (order,) = box.orders()
    assert (order.specimen, order.tests, order.patient_name) == ("S-9", ("DIFF",), "")


@pytest.mark.usefixtures("fast")
def test_an_order_that_cannot_be_kept_is_not_acknowledged(
    database: Path, cable: Lis, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise UserError("disk full")

    begin(database)
    monkeypatch.setattr(outbox.Outbox, "keep_orders", fails)
    replies: list[bytes] = []
    cable.spoil = lambda data: replies.append(data) or b""  # type: ignore[func-returns-value]
    running = start(wire(cable))
    time.sleep(0.5)
    for part in [ENQ, *frame.envelopes([b"H|\\^&|1\r", b"O|1|S-9\r"])]:
        before = len(replies)
        cable.say(part)
        until(lambda at=before: len(replies) > at)  # type: ignore[misc]
    cable.say(frame.envelope(3, b"L|1|N\r", last=True))
    until(lambda: "disk full" in running.notices)
    assert b"".join(replies) == ACK * 3


@pytest.mark.usefixtures("fast")
def test_over_tcp(database: Path, start: Start) -> None:
    lis = TcpLis(Receiver())
    names = [f"S-{n}" for n in range(20)]
    release(database, *names)
    start(SocketOpener(lis.url))
    until(lambda: all_received(database))
    lis.close()
    assert lis.receiver.specimens == names


@pytest.mark.usefixtures("fast")
def test_into_a_folder_that_comes_and_goes(database: Path, tmp_path: Path, start: Start) -> None:
    folder = tmp_path / "share"
    entries = release(database, "S-1", "S-2")
    start(FolderOpener(folder, ".astm"), FolderLink(), lazy=True)
    with Outbox(database) as box:
        until(lambda: "is not there" in box.line().problem)
    folder.mkdir()
    until(lambda: all_received(database))
    assert sorted(f.name for f in folder.iterdir()) == [f"{e.control_id}.astm" for e in entries]
    assert b"O|1|S-1|" in (folder / f"{entries[0].control_id}.astm").read_bytes()


def test_patience_doubles_up_to_its_end_and_begins_anew() -> None:
    patience = Patience(10, 300)
    assert [patience.next_s() for _ in range(7)] == [10, 20, 40, 80, 160, 300, 300]
    patience.reset()
    assert patience.next_s() == 10
