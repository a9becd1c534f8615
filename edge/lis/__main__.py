"""The link to the LIS: what waits, what went wrong, whether the connection works."""

if __name__ == "__main__":
    from edge import startup

    startup.begin(startup.ENVIRONMENT)

import argparse
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from types import FrameType

from edge.config import LisConfig, add_options, check_specimen, read_lis_config
from edge.errors import UserError
from edge.lis.astm_link import AstmLink, Role
from edge.lis.check import check
from edge.lis.link import Link, Outcome
from edge.lis.mapping import read_mapping
from edge.lis.mllp import MllpLink
from edge.lis.outbox import Entry, Outbox
from edge.lis.port import Listener, Opener, PortError
from edge.lis.service import LisService, SenderLock, open_way
from edge.lis.simulate import Host, PtyOpener
from edge.lis.trace import LONGEST, monitor_path
from edge.startup import Parser, run, say

ANSWER_S = 60.0
"""A query waits this long for the order."""


def status(config: LisConfig, options: argparse.Namespace) -> int:
    """Print what waits and why; with a number, every attempt at that message. Exit code 4 while some wait."""
    with _existing(config) as box:
        if options.number is not None:
            return _attempts(box, options.number)
        line = box.line()
        for entry in reversed(box.entries(options.limit)):
            print(_described(entry))
        print(f"{line.waiting} waiting" + (f" since {_local(line.since)}" if line.waiting else ""), end="")
        print(f", {line.refused} refused" if line.refused else "")
        if line.problem:
            after = f"; next attempt {_local(line.due)}" if line.due else ""
            print(f"line, {_local(line.changed)}: {line.problem}{after}")
        lock = SenderLock(config.database)
        if lock.take():
            lock.free()
            if line.waiting:
                print(f"no program sends now: start the counter, or {sys.executable} -m edge.lis send")
        return 4 if line.waiting or line.refused else 0


def _existing(config: LisConfig) -> Outbox:
    if not config.database.is_file():
        raise UserError(
            f"{config.database}: no such file; --database or --config names the counter's database"
        )
    return Outbox(config.database)


def _local(stored: str) -> str:
    """Return a stored time (UTC, ISO 8601) as this machine's clock shows it, with its zone."""
    return f"{datetime.fromisoformat(stored).astimezone():%Y-%m-%d %H:%M:%S %Z}"


def _described(entry: Entry) -> str:
    # An identifier is for the person at the terminal, not for a log.
    specimen = f" {entry.specimen}" if sys.stdout.isatty() else " (specimen hidden)"
    version = f" version {entry.version}" if entry.version else ""
    words = f"{entry.state} {_local(entry.changed)}, {entry.attempts} attempt{'s' * (entry.attempts != 1)}"
    reason = f"; {_words(entry.reason)}" if entry.reason else ""
    return f"{entry.id:6}{specimen}{version} {entry.status}: {words}{reason}"


def _words(told: str) -> str:
    """Return what became of a message; what the LIS or a person said of it is for a terminal alone."""
    if not sys.stdout.isatty():
        ours = [outcome.value for outcome in Outcome if f"{told} (".startswith(f"{outcome.value} (")]
        return max(ours, key=len, default=told.partition(": ")[0].partition(" (")[0])
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in told)


def _attempts(box: Outbox, number: int) -> int:
    print(_described(box.entry(number)), f"[{box.entry(number).control_id}]")
    for at, outcome, wire in box.attempts(number):
        print(f"  {_local(at)} {_words(outcome)}")
        for line in wire.splitlines():
            print(f"      {line}")
    return 0


def resend(config: LisConfig, options: argparse.Namespace) -> int:
    """Let a message be sent again, under the same control ID."""
    with _existing(config) as box:
        box.resend(options.number)
    print(f"message {options.number} waits to be sent again")
    return 0


def cancel(config: LisConfig, options: argparse.Namespace) -> int:
    """Take a message out that has not arrived."""
    with _existing(config) as box:
        box.cancel(options.number, options.reason)
        print(_described(box.entry(options.number)))
    return 0


def send(config: LisConfig, options: argparse.Namespace) -> int:
    """Send what waits, until nothing does (or for good, with --forever)."""
    with _existing(config) as box, _Sending(config) as service:
        while not service.stopped.wait(0.2):
            line = box.line()
            if not options.forever and line.waiting == 0:
                told = f"; refused: {line.refused} (`status` tells)" if line.refused else ""
                print(f"nothing waits{told}")
                return 4 if line.refused else 0
    return 130


def query(config: LisConfig, options: argparse.Namespace) -> int:
    """Ask the LIS what is ordered for the specimen that standard input names; results that wait go too."""
    _needs_way(config)
    if config.lis_protocol != "astm" or config.lis_folder:
        raise UserError("a query needs lis_protocol = astm on a serial line or TCP")
    with _existing(config) as box:
        specimen = _ask_specimen()
        service = _Sending(config)
        entry = box.query(specimen)
        try:
            with service:
                print(f"asking; waiting up to {ANSWER_S:.0f} s for the order", flush=True)
                end_s = time.monotonic() + ANSWER_S
                while time.monotonic() < end_s and not box.orders(specimen, since=entry.created):
                    if service.stopped.wait(0.2):
                        break
            found = box.orders(specimen, since=entry.created)
            reason = box.entry(entry.id).reason or box.line().problem or "not sent"
        finally:
            # Nobody waits any more: a query that is still here must not go out later.
            box.give_up(entry.id, "nobody waits for the answer any more")
    if found:
        print(f"ordered: {' '.join(found[0].tests) or 'no test named'}")
        return 0
    print(f"no order came; the query: {reason}")
    return 130 if service.stopped.is_set() else 1


def _ask_specimen() -> str:
    # Not on the command line: sudo and the shell keep those.
    print("specimen: ", end="" if sys.stdin.isatty() else "\n", flush=True)
    try:
        specimen = sys.stdin.readline().strip()
    except UnicodeDecodeError:
        raise UserError(f"the specimen came in another character set than {sys.stdin.encoding}") from None
    check_specimen(specimen)
    return specimen


class _Sending:
    """The sender while a command runs; Ctrl-C ends it."""

    def __init__(self, config: LisConfig) -> None:
        _needs_way(config)
        self.stopped = _stop_event()
        self._service = LisService(config, (), say)

    def __enter__(self) -> "_Sending":
        self._service.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._service.stop()


def test(config: LisConfig, options: argparse.Namespace) -> int:
    """Try the connection step by step."""
    _needs_way(config)
    return 0 if check(config, say, scan=options.scan) else 1


def simulate(config: LisConfig, options: argparse.Namespace) -> int:
    """Be a LIS: take messages and show them; without a port, on a pseudo terminal of its own."""
    mapping = read_mapping(config.lis_mapping)
    opener: Opener = open_way(config) if config.lis else PtyOpener()
    link: Link = AstmLink(Role.HOST, config.lis_frame)
    if config.lis_protocol != "astm":
        link = MllpLink(mapping.encoding, accept=True)
    if config.lis_folder:
        raise UserError("a folder needs no simulator: look into it")
    if isinstance(opener, Listener):
        _listen(opener)
    print(f"a LIS for trying out ({config.lis_protocol}); connect to {opener.name}", flush=True)
    Host(opener, link, mapping.encoding, say, options.store).run(_stop_event())
    return 0


def _listen(opener: Listener) -> None:
    """Begin to listen: whoever is told to connect must find it."""
    try:
        opener.listen()
    except PortError as error:
        raise UserError(str(error)) from None


def monitor(config: LisConfig, options: argparse.Namespace) -> int:
    """Show the line live, decoded, identifiers masked, while the counter (or `send`) runs."""
    path, stop = monitor_path(config.database), _stop_event()
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listening:
        try:
            if _is_heard(path):
                raise UserError("another monitor shows this line; end that one")
            path.unlink(missing_ok=True)
            listening.bind(str(path))
            os.chmod(path, 0o600)
        except OSError as error:
            why = error.strerror or error
            raise UserError(f"{path}: {why}; run it as the counter's user: sudo -u wbc") from None
        listening.settimeout(0.2)
        print("the line to the LIS (> ours, < theirs); Ctrl-C ends", flush=True)
        while not stop.is_set():
            with suppress(TimeoutError):
                print(f"{time.strftime('%H:%M:%S')} {listening.recv(LONGEST).decode().rstrip()}", flush=True)
    path.unlink(missing_ok=True)
    return 0


def _is_heard(path: Path) -> bool:
    """Tell whether a monitor reads from its socket; one that was killed leaves it behind."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as trying:
        return trying.connect_ex(str(path)) == 0


def _stop_event() -> threading.Event:
    stop = threading.Event()

    def caught(number: int, frame: FrameType | None) -> None:
        # First of all: where the event is just being waited for, it may be that it can never be set.
        signal.signal(number, signal.SIG_DFL)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, caught)
    return stop


def _needs_way(config: LisConfig) -> None:
    if not config.lis:
        raise UserError("no way to the LIS is set: give --serial, --lis-listen or --lis-folder, or --config")


Command = Callable[[LisConfig, argparse.Namespace], int]


def whole_number(text: str) -> int:
    """Return a number of messages; more than a database can count are all of them."""
    return max(0, min(int(text), 2**62))


def _parser() -> Parser:
    common = Parser(add_help=False)
    add_options(common, LisConfig)
    parser = Parser(prog="python -m edge.lis", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(action: Command) -> Parser:
        made = commands.add_parser(action.__name__, parents=[common], help=(action.__doc__ or "").rstrip("."))
        made.set_defaults(action=action)
        return made

    listing = command(status)
    listing.add_argument("number", type=int, nargs="?", help="a message: show every attempt at it")
    listing.add_argument("--limit", type=whole_number, default=50, help="messages listed")
    command(send).add_argument("--forever", action="store_true", help="go on when nothing waits")
    command(resend).add_argument("number", type=int)
    cancelling = command(cancel)
    cancelling.add_argument("number", type=int)
    cancelling.add_argument("--reason", required=True)
    command(query)
    command(test).add_argument("--scan", action="store_true", help="try other speeds where nothing answers")
    command(simulate).add_argument("--store", type=Path, help="file that gets a JSON line for each message")
    command(monitor)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    options = _parser().parse_args(arguments)
    return run(lambda: options.action(read_lis_config(options.config, vars(options)), options))


if __name__ == "__main__":
    # A script starts what it puts into the background with Ctrl-C ignored; `kill -INT` must end it too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
