"""What all ways of talking on a port have in common: messages in, outcomes and incoming messages out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

LONGEST_MESSAGE = 1 << 20
"""Bytes of text in an incoming message; a longer one is refused."""


class Outcome(Enum):
    """What became of a message; the value is what a person reads."""

    RECEIVED = "received by the LIS"
    WRITTEN = "written into the folder (nothing acknowledges it)"
    NO_ANSWER = "the LIS does not answer (no reply to ENQ)"
    BUSY = "the LIS is busy (NAK to ENQ)"
    CONTENTION = "the LIS began to send at the same moment"
    UNACKNOWLEDGED = "the LIS does not answer (no acknowledgement)"
    FELL_SILENT = "the LIS fell silent in the middle of a message"
    REFUSED_FRAME = "the LIS refused a frame six times (NAK): noise on the line, or other settings"
    INTERRUPTED = "the LIS interrupted, to send first"
    LINE_LOST = "the line was lost in the middle of a message"
    UNANSWERED = "the line was lost before the LIS answered"
    UNWRITTEN = "the file could not be written into the folder"
    REFUSED = "the LIS refused the message"

    @property
    def arrived(self) -> bool | None:
        """Whether the LIS has the message; None where it may have it, and its answer was lost."""
        if self in {Outcome.UNACKNOWLEDGED, Outcome.UNANSWERED}:
            return None
        return self in {Outcome.RECEIVED, Outcome.WRITTEN}


@dataclass(frozen=True, slots=True)
class Event:
    """Something the owner must know: the `outcome` of its message, or an incoming message."""

    outcome: Outcome | None = None
    message: bytes = b""
    """Incoming: records, each ended by CR."""
    discarded: str = ""
    """Why an incomplete incoming message was dropped."""
    detail: str = ""
    """Of the outcome, in the other side's own words."""


@dataclass(slots=True)
class Output:
    """What a step of a link brought. Handle the events before the bytes are sent: an ACK is a promise."""

    data: bytearray = field(default_factory=bytearray)
    events: list[Event] = field(default_factory=list)


class Link(Protocol):
    """A way of talking on a port, without I/O."""

    def ready(self, now_s: float) -> bool:
        """Tell whether `send` may be called."""
        ...

    def send(self, message: Sequence[bytes], control_id: str, now_s: float) -> Output:
        """Begin to send a message; one event with its outcome will follow."""
        ...

    def advance(self, data: bytes, now_s: float) -> Output:
        """Take what came in (may be nothing) and the time."""
        ...

    def lost(self) -> Output:
        """Begin anew: the port is gone."""
        ...
