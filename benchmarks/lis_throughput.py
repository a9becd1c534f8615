"""Messages a second into the LIS, beside a sender that is only correct.

    python -m benchmarks.lis_throughput [--messages 200]

Both send the same messages (a differential in 14 frames) to the same receiver over a pseudo terminal and over
TCP on this machine, without a line's pace. Ours takes each from the outbox on disk and writes there that it
was received, before it takes the next. The other one has them ready in memory, keeps nothing, and knows no
state: it sends ENQ, each frame and EOT, and stops at anything but ACK. It is the limit of what the receiver
and the line can do; the ratio is the price of never losing a message.
"""

import argparse
import os
import socket
import sys
import tempfile
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from edge.lis.astm_link import AstmLink
from edge.lis.frame import ACK, ENQ, EOT, envelopes
from edge.lis.mapping import read_mapping
from edge.lis.outbox import Outbox
from edge.lis.port import Opener, Port, SerialOpener, SocketOpener, Wiring
from edge.lis.sender import Sender
from edge.lis.service import composer
from edge.report import NOTICE
from edge.store import Store

COUNTS = {"neutrophil": 60, "lymphocyte": 30, "monocyte": 6, "eosinophil": 3, "basophil": 1}


def result(specimen: str) -> dict[str, object]:
    """Return a result to release (see `edge.report.result`)."""
    shares = {name: {"count": n, "percent": float(n), "low": 0.0, "high": 99.0} for name, n in COUNTS.items()}
    return {
        "notice": NOTICE,
        "specimen": specimen,
        "model": {"name": "wbc", "sha256": "ab" * 32},
        "complete": True,
        "lost_frames": 0,
        "skipped": [],
        "total": 100,
        "review": 0,
        "per_100": {},
        "differential": shares,
    }


def fill(database: Path, messages: int) -> None:
    """Release results."""
    names = [f"S-{number}" for number in range(messages)]
    with Store(database) as store:
        for name in names:
            store.open_specimen(name, "ab" * 32, "images", moving=False)
    with Outbox(database) as box:
        for name in names:
            box.release(result(name))


def serve(read: Callable[[], bytes], write: Callable[[bytes], object]) -> None:
    """Acknowledge ENQ and every frame: a receiver as quick as one can be, the same for both senders."""
    rest = b""
    while data := read():
        rest += data
        count = rest.count(b"\n") + rest.count(bytes([ENQ]))
        rest = rest[rest.rfind(b"\n") + 1 :].replace(bytes([ENQ]), b"").replace(bytes([EOT]), b"")
        if count:
            write(bytes([ACK]) * count)


@contextmanager
def pty_line() -> Iterator[Opener]:
    """A pseudo terminal with the receiver on it."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)

    def read() -> bytes:
        try:
            return os.read(ours, 65536)
        except OSError:
            return b""

    threading.Thread(target=serve, args=(read, lambda data: os.write(ours, data)), daemon=True).start()
    yield SerialOpener(os.ttyname(theirs), Wiring())
    os.close(theirs)


@contextmanager
def tcp_line() -> Iterator[Opener]:
    """A TCP port with the receiver behind it."""
    server = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection:
                serve(partial(connection.recv, 65536), connection.sendall)

    threading.Thread(target=run, daemon=True).start()
    yield SocketOpener(f"socket://127.0.0.1:{server.getsockname()[1]}")
    server.close()


def ours(opener: Opener, database: Path, messages: int) -> float:
    """Return the seconds that our sender takes for the outbox of `database`."""
    stop, done = threading.Event(), threading.Event()
    mapping = read_mapping("plain")

    def notice(text: str) -> None:
        if text == f"message {messages}: received by the LIS":
            done.set()

    compose = composer("astm", mapping)
    sender = Sender(database, opener, AstmLink(), compose, mapping=mapping, notice=notice)
    thread = threading.Thread(target=sender.run, args=(stop,))
    started_s = time.perf_counter()
    thread.start()
    if not done.wait(600):
        sys.exit("error: the messages were not received within ten minutes")
    elapsed_s = time.perf_counter() - started_s
    stop.set()
    thread.join()
    return elapsed_s


def theirs(opener: Opener, prepared: list[list[bytes]]) -> float:
    """Return the seconds that the trivially correct sender takes."""
    with closing(opener.open()) as port:
        started_s = time.perf_counter()
        for frames in prepared:
            for part in (bytes([ENQ]), *frames):
                port.write(part)
                if _reply(port) != bytes([ACK]):
                    sys.exit("error: no ACK")
            port.write(bytes([EOT]))
        return time.perf_counter() - started_s


def _reply(port: Port) -> bytes:
    while not (data := port.read()):
        pass
    return data


def main() -> None:
    """Measure both on both lines; print messages a second and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--messages", type=int, default=200, help="sent on each line")
    messages = parser.parse_args().messages
    if messages < 1:
        parser.error(f"--messages {messages}: one at least")
    print(f"{messages} messages; messages a second")
    print(f"{'line':6}{'ours':>8}{'trivial':>10}{'ratio':>8}")
    for name, line in (("pty", pty_line), ("TCP", tcp_line)):
        with tempfile.TemporaryDirectory() as folder, line() as opener:
            database = Path(folder) / "c.sqlite"
            fill(database, messages)
            with Outbox(database) as box:
                compose = composer("astm", read_mapping("plain"))
                entries = reversed(box.entries(messages))
                prepared = [envelopes(compose(box, entry)) for entry in entries]
            trivial = messages / theirs(opener, prepared)
            own = messages / ours(opener, database, messages)
        print(f"{name:6}{own:8.0f}{trivial:10.0f}{own / trivial:8.2f}", flush=True)


if __name__ == "__main__":
    main()
