"""The link of E1381 (CLSI LIS01-A2), both roles, without I/O: bytes and time in, bytes and events out.

A reply carries no number. A reply that was on its way before a frame was sent (a doubled ACK, say) must
not be taken for the answer to it: what came in the same read is dropped, and after any refusal or failed
attempt the link waits `SETTLE_S` before it sends the next frame.
"""

from collections.abc import Callable, Sequence
from enum import Enum, auto

from edge.lis.frame import ACK, CR, ENQ, EOT, LF, NAK, SPOILT, STANDARD_TEXT, Frame, FrameReader, envelopes
from edge.lis.link import LONGEST_MESSAGE, Event, Outcome, Output

REPLY_S = 15.0
"""A sender waits this long for the reply to ENQ and to each frame."""
RECEIVE_S = 30.0
"""A receiver waits this long for the next frame or EOT."""
BUSY_S = 10.0
"""After a NAK to ENQ, at least this long until the next ENQ."""
INTERRUPT_S = 15.0
"""After an interrupt by EOT, no ENQ for this long."""
BROKEN_S = RECEIVE_S
"""After a message broke off in the middle, until the next ENQ: by then the receiver has dropped its part.

Should that ENQ be lost and a late ACK be taken for its answer, our first frame could else be taken for a
continuation of that part, one time in eight.
"""
SETTLE_S = 1.0
"""How long late replies are let pass before the next frame is sent."""
REFUSALS = 6
"""The same frame refused this often ends the attempt."""


class Role(Enum):
    """Who we are; the value is the seconds to wait after both sent ENQ: the instrument goes first."""

    INSTRUMENT = 1.0
    HOST = 20.0


class State(Enum):
    """Where the link is."""

    IDLE = auto()
    ENQ_SENT = auto()
    FRAME_SENT = auto()
    SETTLING = auto()
    """After a refusal, a repeat or a failed attempt: late replies are let pass."""
    RECEIVING = auto()


class Signal(Enum):
    """What can happen, told apart as far as the table below needs it."""

    SEND = auto()
    ENQ = auto()
    ACK = auto()
    ACK_DOUBTFUL = auto()
    """To what was sent more than once, or after an attempt that failed: another ACK may follow."""
    ACK_LAST = auto()
    NAK = auto()
    NAK_SIXTH = auto()
    EOT = auto()
    EOT_LAST = auto()
    NOISE = auto()
    FRAME = auto()
    FRAME_AGAIN = auto()
    BAD_FRAME = auto()
    TIMEOUT = auto()


class AstmLink:
    """One end of an E1381 line.

    Args:
        role: who goes first when both begin.
        size: characters of text in the frames that are sent.
        byte_s: time that a byte takes on the line; the wait for a reply begins when a frame is out.
    """

    def __init__(self, role: Role = Role.INSTRUMENT, size: int = STANDARD_TEXT, byte_s: float = 0.0) -> None:
        self.state = State.IDLE
        self._role, self._size, self._byte_s = role, size, byte_s
        self._timer_s: float | None = None
        self._hold_s = 0.0
        self._now_s = 0.0
        self._out = Output()
        self._reader = FrameReader()
        # Sending: frames of the message, place in it, times the present one was sent and refused.
        self._frames: list[bytes] = []
        self._at = self._sent = self._refused = 0
        self._failed = False
        # Receiving: number of the last frame accepted, text of the message so far.
        self._accepted: int | None = None
        self._text = bytearray()
        self._frame: Frame | None = None
        self._spoilt = 0
        """Frames refused since the last one that was accepted."""
        self._noisy = False
        """Bytes have come that are not of the standard, and nothing since that is."""

    def ready(self, now_s: float) -> bool:
        """Tell whether ENQ may be sent: idle, and not holding back after NAK, contention or interrupt."""
        return self.state is State.IDLE and now_s >= self._hold_s

    @property
    def deadline_s(self) -> float | None:
        """When `advance` must be called even if nothing comes in."""
        gap_s = self._reader.deadline_s
        return self._timer_s if gap_s is None else gap_s

    def send(self, message: Sequence[bytes], control_id: str, now_s: float) -> Output:
        """Bid for the line.

        Args:
            message: records, each ended by CR.
            control_id: for other links; here it lies in the header record.
            now_s: monotonic clock.

        Raises:
            ValueError: the link is not `ready`, or the message cannot be framed.
        """
        if not self.ready(now_s) or not message:
            raise ValueError("a ready link and a message expected")
        frames = envelopes(message, self._size)
        self._now_s, self._out = now_s, Output()
        self._frames, self._at, self._sent, self._refused = frames, 0, 0, 0
        self._signal(Signal.SEND)
        return self._out

    def advance(self, data: bytes, now_s: float) -> Output:
        """Take incoming bytes (may be none) at a time of the monotonic clock."""
        self._now_s, self._out = now_s, Output()
        deadline_s = self.deadline_s
        if deadline_s is not None and now_s >= deadline_s and not self._late_frame():
            self._signal(Signal.TIMEOUT)
        for byte in data:
            if self.state is State.FRAME_SENT and self._out.data:
                # The rest was on its way before the frame that we have just sent: no answer to it.
                break
            self._take(byte)
        return self._out

    def lost(self) -> Output:
        """Begin anew: the port is gone. A message being sent or received is dropped."""
        self._out = Output()
        if self.state in {State.ENQ_SENT, State.FRAME_SENT, State.SETTLING}:
            self._out.events.append(Event(Outcome.UNANSWERED if self._all_sent else Outcome.LINE_LOST))
            self._failed, self._hold_s = True, self._now_s + BROKEN_S
        self._drop("the line was lost")
        self.state, self._timer_s = State.IDLE, None
        return self._out

    @property
    def _all_sent(self) -> bool:
        """True once the last frame is out: without it a receiver has no message."""
        return self._at == len(self._frames) - 1 and self._sent > 0

    def _take(self, byte: int) -> None:
        if self.state is State.IDLE and byte in (CR, LF):
            return  # some end a transmission as they end a frame
        if self.state is not State.RECEIVING:
            self._signal(_CONTROLS.get(byte, Signal.NOISE))
            return
        found = self._reader.feed(byte, self._now_s)
        if found == SPOILT:
            self._signal(Signal.BAD_FRAME)
        elif isinstance(found, Frame):
            self._frame = found
            self._signal(self._judged(found))
        elif found is not None:
            self._signal(_CONTROLS.get(found, Signal.NOISE))

    def _late_frame(self) -> bool:
        """Give up a frame whose rest does not come; return True where that was what was due."""
        deadline_s = self._reader.deadline_s
        if deadline_s is None or self._now_s < deadline_s:
            return False
        self._reader.clear()
        self._signal(Signal.BAD_FRAME)
        return True

    def _judged(self, frame: Frame) -> Signal:
        if frame.number == self._accepted:
            return Signal.FRAME_AGAIN
        expected = 1 if self._accepted is None else (self._accepted + 1) % 8
        fits = len(self._text) + len(frame.text) <= LONGEST_MESSAGE
        return Signal.FRAME if frame.number == expected and fits else Signal.BAD_FRAME

    def _signal(self, signal: Signal) -> None:
        """Follow the table; what it does not list is let pass."""
        if self.state is State.ENQ_SENT and signal is Signal.ACK and self._failed:
            signal = Signal.ACK_DOUBTFUL
        elif self.state is State.FRAME_SENT:
            signal = self._as_reply(signal)
        if (self.state, signal) in _TABLE:
            act, self.state = _TABLE[self.state, signal]
            act(self)

    def _as_reply(self, signal: Signal) -> Signal:
        """Tell replies to the last frame, the sixth refusal and the like apart."""
        last = self._at == len(self._frames) - 1
        if signal is Signal.ACK:
            repeated = Signal.ACK_DOUBTFUL if self._sent > 1 else Signal.ACK
            return Signal.ACK_LAST if last else repeated
        if signal is Signal.EOT:
            return Signal.EOT_LAST if last else Signal.EOT
        if signal is Signal.TIMEOUT:
            return signal
        # Anything else counts as NAK.
        self._refused += 1
        return Signal.NAK_SIXTH if self._refused == REFUSALS else Signal.NAK

    # --- What the table does.

    def _bid(self) -> None:
        self._write(ENQ, REPLY_S)

    def _transmit(self) -> None:
        self._sent += 1
        frame = self._frames[self._at]
        self._out.data += frame
        self._timer_s = self._now_s + REPLY_S + len(frame) * self._byte_s

    def _transmit_next(self) -> None:
        self._step()
        self._transmit()

    def _step(self) -> None:
        self._at, self._sent, self._refused = self._at + 1, 0, 0

    def _settle(self) -> None:
        self._timer_s = self._now_s + SETTLE_S

    def _settle_next(self) -> None:
        self._step()
        self._settle()

    def _end(self, outcome: Outcome, hold_s: float = 0.0, *, terminate: bool = True) -> None:
        if terminate:
            self._out.data.append(EOT)
        self._timer_s, self._hold_s = None, self._now_s + hold_s
        self._failed = outcome is not Outcome.RECEIVED
        self._out.events.append(Event(outcome))

    def _give_up(self) -> None:
        self._end(Outcome.UNACKNOWLEDGED if self._all_sent else Outcome.FELL_SILENT, BROKEN_S)

    def _delivered(self) -> None:
        # After a repeat, a late ACK to it must not answer the next ENQ.
        self._end(Outcome.RECEIVED, SETTLE_S if self._sent > 1 else 0.0)

    def _write(self, control: int, timer_s: float) -> None:
        self._out.data.append(control)
        self._timer_s = self._now_s + timer_s

    def _open(self) -> None:
        self._accepted, self._noisy = None, False
        self._drop("the LIS began anew in the middle of a message")
        self._write(ACK, RECEIVE_S)

    def _open_again(self) -> None:
        """Begin anew; a LIS that only asks, and sends nothing, must not hold the line for ever."""
        empty, timer_s = self._accepted is None, self._timer_s
        self._open()
        if empty:
            self._timer_s = timer_s

    def _keep(self) -> None:
        assert self._frame is not None
        self._accepted, self._spoilt = self._frame.number, 0
        self._text += self._frame.text
        if self._frame.last:
            # L ends a message: a receiver has it once its last frame is accepted, EOT or not.
            record_at = self._text.rfind(b"\r", 0, len(self._text) - 1) + 1
            if self._text[record_at : record_at + 1] == b"L":
                self._out.events.append(Event(message=bytes(self._text)))
                self._text.clear()
        self._write(ACK, RECEIVE_S)

    def _refuse(self) -> None:
        self._spoilt += 1
        self._write(NAK, RECEIVE_S)

    def _hear_noise(self) -> None:
        if not self._noisy:
            told = "bytes that are not of the standard (another speed or parity, or another protocol?)"
            self._out.events.append(Event(discarded=told))
        self._noisy = True

    def _drop(self, why: str) -> None:
        if self._spoilt:
            number = f"{self._spoilt} frame{'s' * (self._spoilt > 1)}"
            why = f"{why}; {number} refused: damaged, or not the next number"
        if self._text or self._spoilt:
            self._out.events.append(Event(discarded=why))
        self._spoilt = 0
        self._text.clear()
        self._reader.clear()

    def _close(self, why: str) -> None:
        self._drop(why)
        self._timer_s = None


_CONTROLS = {ENQ: Signal.ENQ, ACK: Signal.ACK, NAK: Signal.NAK, EOT: Signal.EOT}

_TABLE: dict[tuple[State, Signal], tuple[Callable[[AstmLink], None], State]] = {
    (State.IDLE, Signal.SEND): (AstmLink._bid, State.ENQ_SENT),
    (State.IDLE, Signal.ENQ): (AstmLink._open, State.RECEIVING),
    (State.IDLE, Signal.NOISE): (AstmLink._hear_noise, State.IDLE),
    (State.ENQ_SENT, Signal.ACK): (AstmLink._transmit, State.FRAME_SENT),
    (State.ENQ_SENT, Signal.ACK_DOUBTFUL): (AstmLink._settle, State.SETTLING),
    (State.ENQ_SENT, Signal.NAK): (lambda k: k._end(Outcome.BUSY, BUSY_S, terminate=False), State.IDLE),
    (State.ENQ_SENT, Signal.ENQ): (
        lambda k: k._end(Outcome.CONTENTION, k._role.value, terminate=False),
        State.IDLE,
    ),
    (State.ENQ_SENT, Signal.TIMEOUT): (lambda k: k._end(Outcome.NO_ANSWER, BUSY_S), State.IDLE),
    (State.FRAME_SENT, Signal.ACK): (AstmLink._transmit_next, State.FRAME_SENT),
    (State.FRAME_SENT, Signal.ACK_DOUBTFUL): (AstmLink._settle_next, State.SETTLING),
    (State.FRAME_SENT, Signal.ACK_LAST): (AstmLink._delivered, State.IDLE),
    (State.FRAME_SENT, Signal.NAK): (AstmLink._settle, State.SETTLING),
    (State.FRAME_SENT, Signal.NAK_SIXTH): (lambda k: k._end(Outcome.REFUSED_FRAME, BROKEN_S), State.IDLE),
    (State.FRAME_SENT, Signal.EOT): (lambda k: k._end(Outcome.INTERRUPTED, INTERRUPT_S), State.IDLE),
    (State.FRAME_SENT, Signal.EOT_LAST): (lambda k: k._end(Outcome.RECEIVED, INTERRUPT_S), State.IDLE),
    (State.FRAME_SENT, Signal.TIMEOUT): (AstmLink._give_up, State.IDLE),
    (State.SETTLING, Signal.TIMEOUT): (AstmLink._transmit, State.FRAME_SENT),
    (State.RECEIVING, Signal.FRAME): (AstmLink._keep, State.RECEIVING),
    (State.RECEIVING, Signal.FRAME_AGAIN): (lambda k: k._write(ACK, RECEIVE_S), State.RECEIVING),
    (State.RECEIVING, Signal.BAD_FRAME): (AstmLink._refuse, State.RECEIVING),
    (State.RECEIVING, Signal.ENQ): (AstmLink._open_again, State.RECEIVING),
    (State.RECEIVING, Signal.EOT): (lambda k: k._close("it ended without its last record"), State.IDLE),
    (State.RECEIVING, Signal.TIMEOUT): (
        lambda k: k._close("nothing came for 30 s in the middle of it"),
        State.IDLE,
    ),
}
