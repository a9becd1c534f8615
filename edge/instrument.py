"""The main thread's work: count one specimen after another, store, then show."""

import dataclasses
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np

from edge.camera import FrameSource, open_camera
from edge.cells import Cell, Frame, Image, Skip
from edge.classify import Classifier
from edge.config import Config, flat_field_place
from edge.errors import UserError
from edge.flatfield import FlatField, read_flat_field
from edge.lis.outbox import Entry
from edge.lis.service import LisService
from edge.live import Label, Latest, View, Wishes
from edge.live_map import LiveMap
from edge.localise import Locator
from edge.pipeline import Step, labels, run
from edge.quality import Inspector
from edge.release import Releases
from edge.rim import within_rim
from edge.session import Session
from edge.stage import Place
from edge.store import Store
from edge.terminal import open_display
from edge.whole import write_json

_READABLE_S = 1.5
"""A message is shown so long at least."""
_STANDS_S = 10.0
"""A live picture that stays the same so long is told: a server of single pictures may change them seldom."""
_STANDS = "the camera gives the same picture again and again: connect or start it anew"


class _Unwanted(Exception):
    """No more is wanted of an input that goes on: what waits for its next images is left for later."""


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


def open_flat_field(config: Config) -> FlatField | None:
    """Return the flat field that the settings name; that beside the database is for a camera or stream alone.

    Raises:
        UserError: it is named and missing, or not a flat field.
    """
    path = flat_field_place(config)
    wanted = config.flat_field_file or ((config.camera or config.url) and path.exists())
    return read_flat_field(path) if wanted else None


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """How the count of a specimen ended; all of it is stored."""

    session: Session
    ended: bool
    """True where the whole input was read."""
    error: UserError | None
    """What broke the input off, if something did."""
    unwritten: UserError | None = None
    """Why a file that was asked for could not be written."""
    unbegun: UserError | None = None
    """Why the specimen that was asked for next could not be begun, or kept."""

    @property
    def complete(self) -> bool:
        """True where the whole input was read, or the target is reached; a person's names may change that."""
        return self.ended or self.session.complete


class Instrument:
    """Counts until stopped; `lis` is None where no way to the LIS is set."""

    def __init__(
        self,
        config: Config,
        store: Store,
        classifier: Classifier,
        stop: threading.Event,
        lis: LisService | None,
    ) -> None:
        self.latest, self.wishes = Latest(), Wishes()
        self._config, self._store, self._classifier, self._stop = config, store, classifier, stop
        self._map, self._releases = LiveMap(), Releases(lis)
        self._shown = View(None, (), {})
        self._written = False
        self._held = self._taken = False
        self._place: Place | None = None
        self._flat_field = open_flat_field(config)

    def count(self, specimen: str, *, asked: bool = False) -> Outcome:
        """Count a specimen until the input ends, the target is reached, or somebody interrupts.

        Whatever happens, what was counted is stored, and --json gets the result.

        Args:
            specimen: its identifier.
            asked: True where a person asked for it on the page. A live source is then paused until that
                person goes on: the slide of the specimen before may lie there still.

        Raises:
            UserError: the count could not begin, or could not be stored.
        """
        ended, error = False, None
        with closing(open_source(self._config)) as source:
            # Before the specimen is begun: without a locator there is no count.
            locator = Locator(self._config.um_per_px, steady=source.moving)
            if asked and source.live:
                self.wishes.pause(True)
            session = self._begin(specimen, source)
            before = session.frames, session.skipped
            with open_display(source.length) as display:
                try:
                    ended = self._read(session, source, locator, display.show)
                except UserError as broken:
                    error = broken
                try:
                    session.settle(paused=self._held)
                except UserError as broken:
                    error, ended = error or broken, False
                self._map.refresh(session, at_once=True)
                nothing = before[0] > 0 and before == (session.frames, session.skipped)
                again = nothing and ended and not source.moving
                message = "nothing new: this specimen's images were read before" if again else ""
                display.show(self._state(session, "finished", message))
        outcome = Outcome(session, ended, error)
        return dataclasses.replace(outcome, unwritten=self._write(outcome))

    def _write(self, outcome: Outcome) -> UserError | None:
        """Write the files that the settings name; return why one could not be written."""
        session, chart = outcome.session, self._config.map
        if self._written and not session.frames and not outcome.complete:
            return None  # stopped before its first picture: the files are those of the specimen before
        self._written = True
        try:
            if self._config.json:
                write_json(self._config.json, session.result(outcome.complete))
            if chart and session.map_view() is None:
                return UserError(f"{chart}: no map: no frame fit to count from was laid on the slide")
            if chart:
                session.write_map(chart)
        except UserError as problem:
            again = "the count itself is saved: run again with the same --specimen and another file"
            return UserError(f"{problem}; {again}")
        return None

    def idle(self, outcome: Outcome) -> tuple[str | None, Outcome]:
        """Keep the ended count on the page; return the next specimen asked for, None when stopped.

        With it comes the outcome, its files written anew where a person has named cells meanwhile.
        """
        session, shown = outcome.session, dict[str, Any]()
        following: str | None = None
        counted, namings = "failed" if outcome.error else "finished", session.namings
        phase = "failed" if outcome.unbegun else counted
        while not self._stop.is_set():
            problem = outcome.unbegun or outcome.error or outcome.unwritten
            broken = outcome.error is not None
            state = self._state(session, phase, str(problem or _ending(outcome)), broken=broken)
            if state != shown:
                shown = state
                self._show(session, state)
            self._answer_release(session, counted)
            if self._answer_namings(session) and self._rewritable:
                outcome = dataclasses.replace(outcome, unwritten=self._write(outcome))
            if following := self.wishes.take_specimen():
                break
            self._stop.wait(0.2)
        if session.namings != namings:
            with open_display(None) as display:
                display.show(self._state(session, phase))
        return following, outcome

    @property
    def _rewritable(self) -> bool:
        # Who read a pipe has gone: to open it again would wait for ever.
        files = (self._config.json, self._config.map)
        return all(path is None or not path.exists() or path.is_file() for path in files)

    def _answer_release(self, session: Session, phase: str) -> None:
        """Release the result if somebody has asked for it."""
        if asked := self.wishes.take_release():
            self._releases.answer(asked, session, phase)

    def _answer_namings(self, session: Session) -> bool:
        """Give the cells the classes that somebody has asked for; return whether there was one."""
        named = False
        while asked := self.wishes.take_naming():
            try:
                if asked.specimen != session.specimen:
                    raise UserError(f"the count is now that of {session.specimen}")
                session.name_cell(asked.number, asked.name, asked.namings)
                asked.answer.set_result(None)
                named = True
            except UserError as error:
                asked.answer.set_exception(error)
        return named

    def release(self, session: Session, complete: bool, operator: str, wbc: float | None) -> Entry:
        """Release the result of a count: see `Releases.release`."""
        return self._releases.release(session, complete, operator, wbc)

    def _state(
        self, session: Session, phase: str, message: str = "", *, broken: bool = False, **rest: Any
    ) -> dict[str, Any]:
        """Return `Session.state` with `Releases.state` under "lis" and the map's under "map".

        `broken` where the input broke off.
        """
        self._map.refresh(session)
        state = session.state(phase, message, **rest)
        if broken:
            state["unsettled"].append("the input broke off")
        return state | {"lis": self._releases.state(session, broken=broken), "map": self._map.state}

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
            um_per_px=self._config.um_per_px,
        )
        self._map = LiveMap()
        self._releases.renew()
        self._taken, self._place = False, None
        self._shown = View(None, (), {})
        self._show(session, self._state(session, "starting"))
        return session

    def _show(self, session: Session, state: dict[str, Any]) -> None:
        """Put a new state on the page; the last picture stays."""
        cells = tuple(session.cells)
        marks = tuple(_named(label, cells) for label in self._shown.labels)
        self._shown = dataclasses.replace(
            self._shown, state=state, labels=marks, map=self._map.view, cells=cells
        )
        self.latest.put(self._shown)

    def _read(
        self, session: Session, source: FrameSource, locator: Locator, show: Callable[[dict[str, Any]], None]
    ) -> bool:
        """Take the source to its end or to the target; return True at its end."""
        pace, notice, frozen = _Pace(), _Notice(), _Frozen()
        frames = self._wanted(session, source, show)
        inspector = Inspector(self._config.um_per_px, steady=source.moving)
        with suppress(_Unwanted):
            for step in run(frames, locator, self._classifier, session.counter, inspector):
                session.take(step)
                self._map.store(session)
                self._taken = True
                if isinstance(step, Step):
                    self._place = step.tracked.place
                    stands = source.live and frozen.tick(step.frame.image)
                    message = notice.tick(_message(step) or (_STANDS if stands else ""))
                    state = self._state(session, "counting", message, fps=pace.tick(), step=step)
                    self._shown = View(step.frame.image, labels(step, self._classifier), {})
                else:
                    state = self._state(session, "counting", f"skipped {step.source}: {step.reason}")
                self._show(session, state)
                show(state)
                if session.complete or self._interrupted:
                    return False
        return not (session.complete or self._interrupted)

    def _wanted(
        self, session: Session, source: FrameSource, show: Callable[[dict[str, Any]], None]
    ) -> Iterator[Frame | Skip | None]:
        """Yield the frames to count from: none while paused (None before it), nor images read before.

        Raises:
            _Unwanted: somebody interrupts, or the target is reached.
        """
        frames = source.frames()
        passed = 0
        if source.moving:
            size = session.counter.frame_size or (self._flat_field.size if self._flat_field else None)
            frames = within_rim(frames, size)
        for frame in self._flat_field.corrected(frames) if self._flat_field else frames:
            paused = self.wishes.paused  # once for each frame: it may change at any moment
            if not paused:
                if self._held and not self._taken:  # the slide was put in place meanwhile
                    source.settle()
                self._answer_release(session, "counting")
                self._answer_namings(session)
            elif not self._held:
                yield None
                if not self._interrupted:
                    self._settle(session)
            self._held = paused
            if paused and not session.complete:
                self._hold(session, frame, source.live)
            if self._interrupted or session.complete:
                raise _Unwanted
            if self._held:
                continue
            if session.wants(frame):
                yield frame
                continue
            passed += 1
            state = self._state(session, "counting", f"images read before: {passed}")
            self._show(session, state)
            show(state)

    def _hold(self, session: Session, frame: Frame | Skip, live: bool) -> None:
        """Show the frame while paused: once for a live source, else until somebody goes on.

        What was seen before the pause has been counted, so that what is released is what the count ends with.
        """
        message = "" if self._taken else "paused: put the slide in place, then continue"
        if live and isinstance(frame, Skip):
            message = f"no picture: {frame.reason}"
        while self._held and not self._interrupted:
            if isinstance(frame, Frame) and (live or self._shown.image is None):
                self._shown = View(frame.image, (), {})
            self._show(session, self._state(session, "paused", message))
            self._answer_release(session, "paused")
            self._answer_namings(session)
            if live:
                return
            self._stop.wait(0.2)
            self._held = self.wishes.paused

    def _settle(self, session: Session) -> None:
        """Count what is pending; on the picture that stays shown it gets its numbers."""
        settled, place = session.settle(paused=True), self._place

        def numbered(label: Label) -> Label:
            if place is None or label.number is not None:
                return label
            here, reach = place.to_slide(*label.box.centre), label.box.side / 2
            near = [(math.dist(here, c.slide), c.number) for c in settled]
            found = [number for away, number in sorted(near) if away < reach]
            return dataclasses.replace(label, number=found[0]) if found else label

        self._shown = dataclasses.replace(self._shown, labels=tuple(map(numbered, self._shown.labels)))

    @property
    def _interrupted(self) -> bool:
        return self._stop.is_set() or self.wishes.specimen_asked


def _named(label: Label, cells: Sequence[Cell]) -> Label:
    """Return the label with the class that a person gave its cell, if one did."""
    # A frame may show more numbered cells than the target took.
    if label.number is None or label.number > len(cells) or not cells[label.number - 1].namings:
        return label
    return dataclasses.replace(label, name=cells[label.number - 1].name, confidence=None)


def _ending(outcome: Outcome) -> str:
    """Return in words why the count of a specimen is over."""
    if outcome.session.complete:
        return "target reached"
    if outcome.ended:
        return "the input has ended"
    return "fewer cells than the target, as some were named otherwise: begin the same specimen to go on"


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


class _Notice:
    """Holds a message long enough to be read, though the fault may last for one frame alone."""

    def __init__(self) -> None:
        self._message, self._until_s = "", 0.0

    def tick(self, message: str) -> str:
        """Return what to show now that a frame came with this message ("" for none)."""
        now = time.monotonic()
        if message:
            self._message, self._until_s = message, now + _READABLE_S
        return self._message if now < self._until_s else ""


class _Frozen:
    """Knows a live picture that stands still: no sensor gives the same noise twice."""

    def __init__(self) -> None:
        self._image: Image | None = None
        self._since_s = 0.0

    def tick(self, image: Image) -> bool:
        """Tell whether this picture and all of the last seconds are the same."""
        now = time.monotonic()
        if self._image is None or not np.array_equal(image, self._image):
            self._image, self._since_s = image, now
        return now - self._since_s > _STANDS_S


def _message(step: Step) -> str:
    if step.tracked.map_size is not None:
        now, before = (f"{w} x {h}" for w, h in (step.frame.image.shape[1::-1], step.tracked.map_size))
        return (
            f"frames are {now} pixels, this specimen was begun with {before}, nothing is counted: "
            "set the camera as it was, or begin another specimen"
        )
    if step.tracked.lost and not step.verdict.refused:
        return "stage lost, nothing is counted: move slowly back to a place already seen"
    return step.verdict.message
