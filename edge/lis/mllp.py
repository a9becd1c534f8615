"""The link of HL7 (MLLP) without I/O: VT message FS CR, one message at a time, acknowledged."""

from collections.abc import Sequence
from datetime import UTC, datetime

from edge.lis.hl7 import Acknowledgement, acknowledge, read_acknowledgement
from edge.lis.link import LONGEST_MESSAGE, Event, Outcome, Output

VT, FS, CR = 0x0B, 0x1C, 0x0D
REPLY_S = 30.0
"""How long an acknowledgement is waited for."""
_REFUSALS = {"AE", "AR", "CE", "CR"}
"""Codes of MSA-1 (HL7 table 0008) that refuse a message."""


class MllpLink:
    """One end of an MLLP connection.

    Args:
        encoding: character set.
        accept: True takes incoming messages and answers AA (the LIS's side); False refuses them (AR).
    """

    def __init__(self, encoding: str, *, accept: bool = False) -> None:
        self._encoding, self._accept = encoding, accept
        self._waiting: str | None = None
        self._due_s = 0.0
        self._silent = Event(Outcome.UNACKNOWLEDGED)
        """What the message comes to if nothing more is said of it."""
        self._buffer: bytearray | None = None

    def ready(self, now_s: float) -> bool:
        """Tell whether a message may be sent: the one before was answered."""
        return self._waiting is None

    def send(self, message: Sequence[bytes], control_id: str, now_s: float) -> Output:
        """Send segments, each ended by CR; the acknowledgement must name `control_id`."""
        self._waiting, self._due_s = control_id, now_s + REPLY_S
        self._silent = Event(Outcome.UNACKNOWLEDGED)
        return Output(data=bytearray(wrapped(message)))

    def advance(self, data: bytes, now_s: float) -> Output:
        """Take incoming bytes (may be none) at a time of the monotonic clock."""
        out = Output()
        for part in self._messages(data):
            self._take(part, out)
        if self._waiting is not None and now_s >= self._due_s:
            self._waiting = None
            out.events.append(self._silent)
        return out

    def lost(self) -> Output:
        """Begin anew: the port is gone."""
        kept = self._silent.outcome is Outcome.RECEIVED
        lost = self._silent if kept else Event(Outcome.UNANSWERED)
        events = [lost] if self._waiting is not None else []
        self._waiting = self._buffer = None
        return Output(events=events)

    def _messages(self, data: bytes) -> list[bytes]:
        """Return the messages that `data` completes; what lies outside of VT and FS is dropped."""
        found = []
        for byte in data:
            if byte == VT:
                self._buffer = bytearray()
            elif self._buffer is not None and byte == FS:
                found.append(bytes(self._buffer))
                self._buffer = None
            elif self._buffer is not None and len(self._buffer) < LONGEST_MESSAGE:
                self._buffer.append(byte)
            else:
                self._buffer = None
        return found

    def _take(self, message: bytes, out: Output) -> None:
        answer = read_acknowledgement(message, self._encoding)
        if answer is None:
            if self._accept:
                out.events.append(Event(message=message))
            code = "AA" if self._accept else "AR"
            out.data += wrapped(acknowledge(message, code, self._encoding, datetime.now(UTC)))
        elif self._waiting is not None:
            self._answered(answer, out)

    def _answered(self, answer: Acknowledgement, out: Output) -> None:
        """Take an acknowledgement while one is waited for; a refusal need not name the message, there is one.

        One that names another message is late, and says nothing of this one.
        """
        words = f"{answer.code} {answer.text}".strip()
        ours = answer.control_id == self._waiting
        if ours and answer.code == "CA":
            self._silent = Event(Outcome.RECEIVED, detail=words)
        elif ours and answer.code == "AA":
            self._end(Event(Outcome.RECEIVED, detail=words), out)
        elif ours or (answer.code in _REFUSALS and not answer.control_id):
            self._end(Event(Outcome.REFUSED, detail=words), out)
        elif self._silent.outcome is not Outcome.RECEIVED:
            told = "an acknowledgement came that does not name this message"
            self._silent = Event(Outcome.UNACKNOWLEDGED, detail=told)

    def _end(self, event: Event, out: Output) -> None:
        self._waiting = None
        out.events.append(event)


def wrapped(message: Sequence[bytes]) -> bytes:
    """Return segments in an MLLP block."""
    return b"%c%s%c%c" % (VT, b"".join(message), FS, CR)
