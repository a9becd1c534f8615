"""The map of one specimen while it grows: drawn for the page and stored, as often as the count can bear."""

import time
from typing import Any

from edge.mosaic import MapView
from edge.session import Session

_DRAWN_S = 1.0
"""Seconds between two pictures of the map, at least."""
_REST = 20
"""At least so many times what the last one took: a long map on a small computer must not slow the count."""
_STORED_S = 5.0
"""Seconds between two times that the map and the numbers of frames are stored: a power cut costs no more."""


class LiveMap:
    """Keeps the newest picture of a specimen's map; begun anew with each specimen."""

    def __init__(self) -> None:
        self.view: MapView | None = None
        """None while there is no map."""
        self.state: dict[str, Any] | None = None
        """What the page says of it, ready for JSON: `Session.map_facts` and the picture's version."""
        self._version, self._due_s, self._stored_s = 0, 0.0, time.monotonic()

    def refresh(self, session: Session, *, at_once: bool = False) -> None:
        """Draw the map anew where it has changed and the last time is a while ago, or `at_once`."""
        now = time.monotonic()
        if session.map_version != self._version and (at_once or now >= self._due_s):
            self._version = session.map_version
            self.view = session.map_view()
            done = time.monotonic()
            self._due_s = done + max(_DRAWN_S, _REST * (done - now))
            facts = session.map_facts(self.view)
            self.state = facts and facts | {"version": self._version}

    def store(self, session: Session) -> None:
        """Store the map, and the numbers of frames with it, where the last time is a while ago.

        Raises:
            UserError: it cannot be stored.
        """
        now = time.monotonic()
        if now >= self._stored_s + _STORED_S:
            self._stored_s = now
            session.save()
