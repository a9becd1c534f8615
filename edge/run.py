"""The instrument: `python -m edge.run --camera`. Command line, wiring, threads, stop."""

import signal

if __name__ == "__main__":
    # While the imports run there is nothing to keep: Ctrl-C then ends the program without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import dataclasses
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from edge.camera import FrameSource, open_camera
from edge.cells import Frame, Skip
from edge.classify import Classifier
from edge.config import HELP, Config, read_config, value_type
from edge.errors import UserError
from edge.live import Latest, View, Wishes
from edge.localise import Locator
from edge.pipeline import Step, labels, run
from edge.report import NOTICE, write_json
from edge.session import Session
from edge.store import Store
from edge.terminal import open_display

if TYPE_CHECKING:
    from edge.web.server import PageServer

EXIT_ERROR, EXIT_SKIPPED = 1, 3
"""Exit codes beside 0 (the whole input was read): an error; some frames were skipped. A stop by a
signal gives 128 + its number."""


class Stop:
    """One event that every thread waits on, set by SIGINT and SIGTERM."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.signal = 0

    def install(self) -> None:
        """Catch the first signal; a second one ends the program at once (the store stays whole)."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._caught)

    def _caught(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self.event.set()
        signal.signal(number, signal.SIG_DFL)


def open_source(config: Config) -> FrameSource:
    """Open the input that the settings name.

    Raises:
        UserError: it is missing, busy or not readable.
    """
    # Each kind brings its own imports: a camera needs no renderer, a file no network.
    if config.camera:
        return open_camera(config.camera, (config.width, config.height))
    if config.url:
        from edge.stream import UrlSource

        return UrlSource(config.url)
    if config.demo:
        from edge.demo import DemoSource

        return DemoSource(pace=not config.headless)
    from edge.replay import ImageFolder, VideoFile

    return VideoFile(config.video) if config.video else ImageFolder(config.images or Path())


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """How the count of a specimen ended; all of it is stored."""

    session: Session
    complete: bool
    """True where the whole input was read, or the target reached."""
    error: UserError | None
    """What broke the input off, if something did."""


class Instrument:
    """The main thread's work: count one specimen after another until stopped."""

    def __init__(self, config: Config, store: Store, classifier: Classifier, stop: threading.Event) -> None:
        self.latest, self.wishes = Latest(), Wishes()
        self._config, self._store, self._classifier, self._stop = config, store, classifier, stop

    def count(self, specimen: str) -> Outcome:
        """Count a specimen until the input ends, the target is reached, or somebody interrupts.

        Whatever happens, what was counted is stored, and --json gets the result.

        Raises:
            UserError: the count could not begin, or could not be stored.
        """
        complete, error = False, None
        with closing(open_source(self._config)) as source:
            session = self._begin(specimen, source)
            with open_display(source.length) as display:
                try:
                    complete = self._read(session, source, display.show)
                except UserError as broken:
                    error = broken
                session.finish()
                display.show(session.state("finished"))
        if self._config.json:
            try:
                write_json(self._config.json, session.result(complete))
            except UserError as problem:
                again = "the count itself is saved: run again with the same --specimen and another --json"
                raise UserError(f"{problem}; {again}") from None
        return Outcome(session, complete, error)

    def idle(self, outcome: Outcome) -> str | None:
        """Keep the ended count on the page; return the next specimen asked for, None when stopped."""
        if outcome.error:
            state = outcome.session.state("failed", str(outcome.error))
        else:
            state = outcome.session.state("finished", "target reached" if outcome.session.complete else "")
        self.latest.put(View(None, (), state))
        while not self._stop.wait(0.2):
            specimen = self.wishes.take_specimen()
            if specimen:
                return specimen
        return None

    def _begin(self, specimen: str, source: FrameSource) -> Session:
        card, review_below = self._classifier.card, self._config.review_below
        session = Session(
            self._store,
            card,
            specimen,
            self._config.source,
            moving=source.moving,
            review_below=card.review_below if review_below is None else review_below,
            target=self._config.target,
        )
        self.latest.put(View(None, (), session.state("starting")))
        return session

    def _read(self, session: Session, source: FrameSource, show: Callable[[dict[str, Any]], None]) -> bool:
        """Take the source to its end; return True there or at the target, False when interrupted."""
        locator = Locator(self._config.um_per_px, steady=source.moving)
        pace = _Pace()
        frames = self._wanted(session, source)
        for step in run(frames, locator, self._classifier, session.counter):
            session.take(step)
            if isinstance(step, Step):
                state = session.state("counting", _message(step), fps=pace.tick(), step=step)
                self.latest.put(View(step.frame.image, labels(step, self._classifier), state))
            else:
                state = session.state("counting", f"skipped {step.source}: {step.reason}")
            show(state)
            if session.complete:
                return True
        return session.complete or not self._interrupted

    def _wanted(self, session: Session, source: FrameSource) -> Iterator[Frame | Skip]:
        """Yield the frames to count from: none while paused, none after an interruption."""
        for frame in source.frames():
            paused = self._hold(session, frame, source.live)
            if self._interrupted or session.complete:
                return
            if not paused and session.wants(frame):
                yield frame

    def _hold(self, session: Session, frame: Frame | Skip, live: bool) -> bool:
        """Show the frame while paused: once for a live source, else until somebody goes on.

        Returns True where the frame is not to be counted.
        """
        while self.wishes.paused and not self._interrupted:
            image = frame.image if isinstance(frame, Frame) else None
            self.latest.put(View(image, (), session.state("paused")))
            if live:
                return True
            self._stop.wait(0.2)
        return False

    @property
    def _interrupted(self) -> bool:
        return self._stop.is_set() or self.wishes.specimen_asked


class _Pace:
    """Frames per second over about the last two seconds."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=200)

    def tick(self) -> float:
        now = time.monotonic()
        self._times.append(now)
        while now - self._times[0] > 2:
            self._times.popleft()
        span = now - self._times[0]
        return (len(self._times) - 1) / span if span > 0 else 0.0


def _message(step: Step) -> str:
    if step.tracked.lost:
        return "stage lost, nothing is counted: move slowly back to a place already seen"
    return ""


def _serve(config: Config, instrument: Instrument, stop: threading.Event) -> "PageServer":
    from edge.web.server import PageServer, build_app

    password = _read_password(config.password_file) if config.password_file else None
    app = build_app(instrument.latest, instrument.wishes, stop, password)
    server = PageServer(app, config.host, config.port)
    server.start()
    print(f"live page: {server.url}", flush=True)
    return server


def _read_password(file: Path) -> str:
    try:
        password = file.read_text(encoding="utf-8").split("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: {error}; --password-file names a text file") from None
    if len(password) < 8:
        raise UserError(f"{file}: the first line must be a password of 8 characters or more")
    return password


def _count_until_stopped(config: Config, stop: Stop) -> int:
    with ExitStack() as stack:
        store = stack.enter_context(Store(config.database))
        instrument = Instrument(config, store, Classifier(config.model), stop.event)
        if not config.headless:
            stack.callback(_serve(config, instrument, stop.event).stop)
        specimen = config.specimen or f"{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}"
        outcome: Outcome | None = None
        while True:
            try:
                outcome = instrument.count(specimen)
            except UserError as error:
                # The first count that cannot begin ends the program; a later one is told on the page.
                if outcome is None:
                    raise
                outcome = dataclasses.replace(outcome, error=error)
            if outcome.error:
                print(f"error: {outcome.error}", file=sys.stderr)
            following = instrument.wishes.take_specimen()
            if following is None and not config.headless:
                following = instrument.idle(outcome)
            if following is None:
                return _exit_code(outcome, stop)
            specimen = following


def _exit_code(outcome: Outcome, stop: Stop) -> int:
    if outcome.error:
        return EXIT_ERROR
    if not outcome.complete:
        # An identifier is for the person at the terminal, not for a log.
        name = f"--specimen '{outcome.session.specimen}'" if sys.stderr.isatty() else "the same --specimen"
        print(f"stopped before the end; {name} goes on", file=sys.stderr)
        return 128 + stop.signal
    if outcome.session.skipped:
        print(f"{outcome.session.skipped} frames were skipped; see 'skipped' in the result", file=sys.stderr)
        return EXIT_SKIPPED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m edge.run",
        description=f"Count white blood cells, live. {NOTICE}",
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--config", type=Path, default=None, help="settings file, see deploy/edge.toml")
    for field in dataclasses.fields(Config):
        kind: Any = value_type(field.type)
        extra: dict[str, Any] = {"action": "store_true"} if kind is bool else {"type": kind}
        if field.name == "camera":
            extra |= {"nargs": "?", "const": "pi", "metavar": "DEVICE"}
        parser.add_argument("--" + field.name.replace("_", "-"), help=HELP[field.name], **extra)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    options = vars(_parser().parse_args(arguments))
    stop = Stop()
    stop.install()
    try:
        return _count_until_stopped(read_config(options.pop("config"), options), stop)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_ERROR


if __name__ == "__main__":
    sys.exit(main())
