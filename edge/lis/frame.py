"""Frames of E1381 (CLSI LIS01-A2): STX FN text ETB|ETX C1 C2 CR LF."""

from collections.abc import Sequence
from dataclasses import dataclass

STX, ETX, EOT, ENQ, ACK, LF, CR, NAK, ETB = 0x02, 0x03, 0x04, 0x05, 0x06, 0x0A, 0x0D, 0x15, 0x17

RESTRICTED = frozenset({0x01, STX, ETX, EOT, ENQ, ACK, 0x10, NAK, 0x16, ETB, LF, *range(0x11, 0x15)})
"""SOH STX ETX EOT ENQ ACK DLE NAK SYN ETB LF DC1-DC4: never inside text."""

STANDARD_TEXT = 240
"""Characters of text in a frame by E1381; 247 with its envelope."""
LONGEST_TEXT = 64_000
"""Characters of text in a frame by LIS01-A2."""
ENVELOPE = 7
"""STX, FN, ETB or ETX, two digits, CR, LF."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A sound frame."""

    number: int
    """0..7."""
    text: bytes
    last: bool
    """True where it ended with ETX: the record is complete."""


def checksum(body: bytes) -> bytes:
    """Return the sum of everything from FN to ETB or ETX, modulo 256, as two upper-case hex digits."""
    return b"%02X" % (sum(body) & 0xFF)


def envelope(number: int, text: bytes, *, last: bool) -> bytes:
    """Return one frame on the wire; `number` counts from 1 and is sent modulo 8.

    Raises:
        ValueError: the text holds a character that may not stand in a frame.
    """
    if bad := RESTRICTED.intersection(text):
        raise ValueError(f"a frame's text holds {sorted(bad)}; no {sorted(RESTRICTED)} expected")
    body = b"%d%s%c" % (number % 8, text, ETX if last else ETB)
    return b"%c%s%s\r\n" % (STX, body, checksum(body))


def envelopes(records: Sequence[bytes], size: int = STANDARD_TEXT) -> list[bytes]:
    """Return the frames of a message: each record begins a frame, a long one is cut at `size` characters.

    Args:
        records: each ends with CR.
        size: characters of text in a frame, 1 to `LONGEST_TEXT`.

    Raises:
        ValueError: `size` is out of range, or a record holds a character that may not stand in a frame.
    """
    if not 1 <= size <= LONGEST_TEXT:
        raise ValueError(f"{size} characters in a frame; 1 to {LONGEST_TEXT} expected")
    parts = [
        (record[start : start + size], start + size >= len(record))
        for record in records
        for start in range(0, len(record), size)
    ]
    return [envelope(number, text, last=last) for number, (text, last) in enumerate(parts, 1)]


def parse(raw: bytes) -> Frame | None:
    """Return the frame that `raw` (from STX to LF) holds; None where it is not sound."""
    body, digits, end = raw[1:-4], raw[-4:-2], raw[-2:]
    if len(body) < 2 or raw[0] != STX or end != b"\r\n" or digits != checksum(body):
        return None
    number, text, stop = body[0] - ord("0"), body[1:-1], body[-1]
    if not 0 <= number <= 7 or stop not in (ETX, ETB) or RESTRICTED.intersection(text):
        return None
    return Frame(number, text, stop == ETX)


SPOILT = -1
"""A frame that is not sound: wrong checksum, restricted character, too long."""


class FrameReader:
    """Cuts incoming bytes into frames and single control characters; holds at most one frame.

    Args:
        size: characters of text beyond which a frame is dropped.
        gap_s: a frame whose next byte is later than this is dropped.
    """

    def __init__(self, size: int = LONGEST_TEXT, gap_s: float = 5.0) -> None:
        self._longest, self._gap_s = size + ENVELOPE, gap_s
        self._raw = bytearray()
        self._last_s = 0.0

    @property
    def deadline_s(self) -> float | None:
        """When the frame begun is given up; None while there is none."""
        return self._last_s + self._gap_s if self._raw else None

    def clear(self) -> None:
        """Forget the frame begun."""
        self._raw.clear()

    def feed(self, byte: int, now_s: float) -> Frame | int | None:
        """Take one byte. Return a frame, a byte outside frames, `SPOILT`, or None where it goes on."""
        self._last_s = now_s
        if byte == STX:
            # Also inside a frame: the end of the one before was lost.
            self.clear()
        elif not self._raw:
            return byte
        self._raw.append(byte)
        if byte != LF and len(self._raw) < self._longest:
            return None
        frame = parse(bytes(self._raw))
        self.clear()
        return SPOILT if frame is None else frame
