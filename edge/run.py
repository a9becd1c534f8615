"""The instrument: `python -m edge.run --camera`. Command line, wiring, threads, stop."""

import os

if __name__ == "__main__":
    from edge import startup

    startup.begin(startup.ENVIRONMENT)
    # OpenCV reads these when it is imported. What is wrong with a film is told in our words, not in its.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import dataclasses
import secrets
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from edge.cells import Frame, Skip
from edge.classify import Classifier
from edge.config import Config, add_options, flat_field_place, read_config
from edge.errors import UserError
from edge.flatfield import FRAMES, take_flat_field, write_flat_field
from edge.instrument import Instrument, Outcome, open_source
from edge.lis.mapping import read_mapping
from edge.lis.outbox import Outbox, State
from edge.lis.service import LisService
from edge.report import NOTICE, Status
from edge.rim import within_rim
from edge.session import REASONS
from edge.startup import Parser, complain, run, say
from edge.store import Store

if TYPE_CHECKING:
    from edge.web.server import PageServer

EXIT_ERROR, EXIT_SKIPPED, EXIT_UNSENT = 1, 3, 4
"""Exit codes beside 0 (the whole input was read): an error; some frames were skipped; the result waits in
the outbox. A stop by a signal gives 128 + its number."""
_WAITS_TOLD_S = 5.0
"""Between two lines that tell how long a result is still waited for."""
_TOLD_S = 2.0
"""Seconds between two words on how far the flat field is."""


class Stop:
    """One event that every thread waits on, set by SIGINT, SIGTERM and a terminal that is closed."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.signal = 0

    def install(self) -> None:
        """Catch the first signal; a second one ends the program at once (the store stays whole)."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # nohup asks for a program that goes on when its terminal is closed.
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._caught)

    def _caught(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        # First of all: where the event is just being waited for, it may be that it can never be set.
        signal.signal(number, signal.SIG_DFL)
        self.event.set()


def _serve(config: Config, instrument: Instrument, stop: threading.Event) -> "PageServer":
    from edge.web.server import PageServer, build_app

    password = _read_password(config.password_file) if config.password_file else None
    database = config.database if config.lis else None
    app = build_app(instrument.latest, instrument.wishes, stop, password, database)
    server = PageServer(app, config.host, config.port)
    server.start()
    say(f"live page: {server.url}")
    return server


def _read_password(file: Path) -> str:
    try:
        password = file.read_text(encoding="utf-8-sig").split("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        told = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{file}: {told}; --password-file names a text file") from None
    if file.stat().st_mode & stat.S_IROTH:
        complain(f"note: {file}: everybody on this computer can read the password; chmod 400")
    if len(password) < 8:
        raise UserError(f"{file}: the first line must be a password of 8 characters or more")
    return password


def _count_until_stopped(config: Config, stop: Stop) -> int:
    for need, names in config.unused.items():
        complain(f"note: {', '.join(names)}: of use with {need} alone")
    read_mapping(config.lis_mapping)  # a fault in it is told now, not on the day that a way to the LIS is set
    with ExitStack() as stack:
        store = stack.enter_context(Store(config.database))
        classifier = Classifier(config.model)
        lis = _open_lis(config, classifier, stack) if config.lis else None
        instrument = Instrument(config, store, classifier, stop.event, lis)
        if not config.headless:
            stack.callback(_serve(config, instrument, stop.event).stop)
        # A Pi's clock may begin again where it stood at the last shutdown.
        made_up = "" if config.specimen else f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        specimen = config.specimen or made_up
        if made_up:
            say(f"specimen {made_up}, by date and time; --specimen names it")
        outcome: Outcome | None = None
        following: str | None = None
        while True:
            try:
                outcome = instrument.count(specimen, asked=following is not None)
            except UserError as error:
                # The first count that cannot begin ends the program; a later one is told on the page.
                if outcome is None:
                    raise
                outcome = dataclasses.replace(outcome, unbegun=error)
            _tell(*([outcome.unbegun] if outcome.unbegun else [outcome.error, outcome.unwritten]))
            following = instrument.wishes.take_specimen()
            if following is None and not config.headless:
                if not stop.event.is_set():
                    say("the page stays open; Ctrl-C ends")
                told = outcome.unwritten
                following, outcome = instrument.idle(outcome)
                _tell(outcome.unwritten if str(outcome.unwritten) != str(told) else None)
            if following is None:
                code = _exit_code(config, outcome, stop, made_up)
                return _deliver(config, instrument, lis, outcome, stop) or code if lis else code
            specimen = following


def _tell(*problems: UserError | None) -> None:
    for problem in filter(None, problems):
        complain(f"error: {problem}")


def _open_lis(config: Config, classifier: Classifier, stack: ExitStack) -> LisService:
    lis = LisService(config, classifier.card.classes, lambda text: say(f"LIS: {text}"))
    stack.callback(lis.stop)
    with Outbox(config.database) as box:
        if waiting := box.line().waiting:
            say(f"LIS: results that wait from before, sent to {lis.name} too: {waiting}")
    lis.start()
    return lis


def _deliver(config: Config, instrument: Instrument, lis: LisService, outcome: Outcome, stop: Stop) -> int:
    """Release the result of a headless count and wait for the LIS to take it; return 0, or the exit code."""
    if not config.headless or outcome.error or outcome.unwritten or not outcome.complete:
        return 0
    try:
        entry = instrument.release(outcome.session, True, config.operator, config.wbc)
    except UserError as error:
        complain(f"error: not released: {error}")
        return EXIT_ERROR
    if entry.state is State.RECEIVED:
        say(f"LIS: message {entry.id} was released before, unchanged, and has arrived")
        return 0
    wait = f"waiting up to {config.lis_wait_s:.0f} s for it to arrive at {lis.name}"
    why = f" ({', '.join(outcome.session.unsettled)})" if entry.status == Status.PRELIMINARY else ""
    say(f"LIS: message {entry.id} released as {entry.status}{why}; {wait}")
    now_s = time.monotonic()
    end_s, told_s = now_s + config.lis_wait_s, now_s
    while entry.state is State.WAITING and now_s < end_s and not stop.event.wait(0.1):
        entry, now_s = lis.entry(entry.id), time.monotonic()
        if entry.state is State.WAITING and now_s >= told_s + _WAITS_TOLD_S:
            told_s, problem = now_s, lis.state(entry.specimen)["problem"]
            say(f"LIS: {max(0, end_s - now_s):.0f} s left{problem and f'; {problem}'}")
    if entry.state is State.RECEIVED:
        return 0
    # The LIS's own words may name the specimen: they are for the person at the terminal, not for a log.
    said = entry.reason if sys.stderr.isatty() else ""
    problem = said or lis.state(entry.specimen)["problem"] or "not tried yet"
    complain(
        f"the result is kept in the outbox (message {entry.id}, {entry.state}: {problem}); "
        f"`{sys.executable} -m edge.lis status` shows it, and `... send` sends it, with the same --config, "
        "or the same --database and way to the LIS"
    )
    return 128 + stop.signal if stop.signal else EXIT_UNSENT


def _exit_code(config: Config, outcome: Outcome, stop: Stop, made_up: str) -> int:
    if outcome.error or outcome.unwritten or outcome.unbegun:
        return EXIT_ERROR
    if not outcome.complete:
        specimen = outcome.session.specimen
        # A laboratory's identifier is for the person at the terminal, not for a log.
        told = sys.stderr.isatty() or specimen == made_up
        same = (
            "the same --specimen" if specimen == config.specimen else "--specimen with the page's identifier"
        )
        name = f"--specimen '{specimen}'" if told else same
        complain(f"stopped before the end; {name} goes on")
        return 128 + stop.signal
    if skipped := outcome.session.skipped:
        where = "see 'skipped' in the result" if config.json else "--json FILE keeps which"
        reasons = [
            f"{count} times {reason}" if count > 1 else reason
            for reason, count in skipped.most_common(REASONS)
        ]
        more = "; and others" if len(skipped) > REASONS else ""
        told = "; ".join(reasons) + more
        complain(f"skipped frames: {skipped.total()} ({told}); {where}")
        return EXIT_SKIPPED
    return 0


def _take_flat_field(config: Config, stop: Stop) -> int:
    """Take a flat field, store it and say where; return the exit code."""
    path = flat_field_place(config)

    def told(frames: Iterable[Frame | Skip]) -> Iterator[Frame | Skip]:
        due = time.monotonic()
        for number, frame in enumerate(frames):
            if stop.event.is_set():
                raise UserError("stopped: no flat field was taken")
            if time.monotonic() >= due:
                due = time.monotonic() + _TOLD_S
                say(f"flat field: picture {number + 1} of {FRAMES} of the empty spot")
            yield frame

    try:
        with closing(open_source(config)) as source:
            write_flat_field(path, take_flat_field(told(within_rim(source.frames()))))
    except UserError as problem:
        if not stop.event.is_set():
            raise
        complain(str(problem))
        return 128 + stop.signal
    print(f"flat field: written to {path}")
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="python -m edge.run",
        description=f"Count white blood cells, live. {NOTICE}",
    )
    add_options(parser, Config)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    options = vars(_parser().parse_args(arguments))
    stop = Stop()
    stop.install()

    def work() -> int:
        config = read_config(options.pop("config"), options)
        return _take_flat_field(config, stop) if config.flat_field else _count_until_stopped(config, stop)

    return run(work)


if __name__ == "__main__":
    sys.exit(main())
