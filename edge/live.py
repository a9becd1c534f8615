"""What the threads share: the newest view for the page, and the person's wishes for the count."""

import threading
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.cells import Box, Cell, Image
from edge.errors import UserError
from edge.mosaic import MapView


@dataclass(frozen=True, slots=True)
class Label:
    """One box on the picture of the page."""

    box: Box
    name: str
    """Class that this frame shows, or the one that a person gave the cell."""
    confidence: float | None
    """Probability of the class, 0..1; None where a person gave it."""
    number: int | None
    """The number of the counted cell; None while it is not counted yet."""
    heat: NDArray[np.float32] | None = None
    """How much each place of the crop speaks for the class, 0..1, shape (side, side); None without a map."""


@dataclass(frozen=True, slots=True)
class View:
    """One moment of the count, complete in itself."""

    image: Image | None
    """None before the first frame."""
    labels: tuple[Label, ...]
    state: Mapping[str, Any]
    """Ready for JSON: the object that `edge.session.Session.state` documents."""
    map: MapView | None = None
    """None where there is no map."""
    cells: tuple[Cell, ...] = ()
    """All that were counted, in their order."""


class Latest:
    """A slot for the newest view: the writer never waits, a slow reader misses views."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._version = 0
        self._view: View | None = None

    def put(self, view: View) -> None:
        """Replace the view and wake every reader."""
        with self._changed:
            self._view = view
            self._version += 1
            self._changed.notify_all()

    def get(self, seen: int, timeout_s: float) -> tuple[int, View | None]:
        """Wait for a view newer than version `seen` (0: any); return its version and it.

        After `timeout_s` seconds without one, return (`seen`, None).
        """
        with self._changed:
            self._changed.wait_for(lambda: self._version > seen, timeout_s)
            if self._version > seen:
                return self._version, self._view
            return seen, None


@dataclass(frozen=True, slots=True)
class Release:
    """A person's wish to release the result."""

    specimen: str
    """What the person saw: another page may have begun the next one meanwhile, or gone on with this one."""
    counts: Mapping[str, int]
    """By class, as the person saw them; so are `review`, the number of cells that await it, and `status`,
    with which the result was to leave (`edge.report.Status`)."""
    review: int
    status: str
    operator: str
    wbc: float | None
    answer: Future[Any]
    """Gets the outbox's entry, or the UserError that refuses."""


@dataclass(frozen=True, slots=True)
class Naming:
    """A person's wish to give a counted cell its class."""

    specimen: str
    """What the person saw: another page may have begun the next one meanwhile."""
    number: int
    name: str
    namings: int
    """How often the cell had been named when the person looked at it."""
    answer: Future[Any]
    """Gets None when it is stored, or the UserError that refuses."""


class Wishes:
    """What a person asked of the running count: written by the page, read by the main loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paused = False
        self._specimen: str | None = None
        self._release: Release | None = None
        self._namings: deque[Naming] = deque()

    @property
    def paused(self) -> bool:
        """True while frames are shown but nothing is counted."""
        return self._paused

    def pause(self, paused: bool) -> None:
        """Hold the count, or go on with it."""
        self._paused = paused

    def ask_specimen(self, specimen: str) -> None:
        """Ask the main loop to close this specimen and begin (or resume) another."""
        with self._lock:
            self._specimen = specimen

    @property
    def specimen_asked(self) -> bool:
        """True while another specimen has been asked for and not been taken."""
        return self._specimen is not None

    def take_specimen(self) -> str | None:
        """Return the specimen asked for, once; None when nobody asked."""
        with self._lock:
            asked, self._specimen = self._specimen, None
            return asked

    def ask_release(
        self,
        specimen: str,
        counts: Mapping[str, int],
        review: int,
        status: str,
        *,
        operator: str,
        wbc: float | None,
    ) -> Future[Any]:
        """Ask the main loop to release the result of this specimen; the answer comes in the future.

        A wish that nobody has taken yet is refused in favour of the next.
        """
        wish = Release(specimen, counts, review, status, operator, wbc, Future())
        with self._lock:
            before, self._release = self._release, wish
        if before is not None and before.answer.set_running_or_notify_cancel():
            told = "another release was asked for at the same moment; look at it, then release"
            before.answer.set_exception(UserError(told))
        return wish.answer

    def take_release(self) -> Release | None:
        """Return the release asked for, once; None when nobody asked."""
        with self._lock:
            asked, self._release = self._release, None
        return asked if asked and asked.answer.set_running_or_notify_cancel() else None

    def ask_naming(self, specimen: str, number: int, name: str, namings: int) -> Future[Any]:
        """Ask the main loop to give a cell of this specimen its class; the answer comes in the future."""
        wish = Naming(specimen, number, name, namings, Future())
        self._namings.append(wish)
        return wish.answer

    def take_naming(self) -> Naming | None:
        """Return the oldest naming asked for, once; None when nobody asked."""
        while self._namings:
            asked = self._namings.popleft()
            if asked.answer.set_running_or_notify_cancel():
                return asked
        return None
