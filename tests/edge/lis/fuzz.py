"""What the fuzzer runs: every parser of bytes that come from the LIS, with what must always hold.

    python -m tests.edge.lis.fuzz [libFuzzer options] CORPUS...

needs `pip install atheris` and runs until it is stopped, or for -max_total_time=SECONDS. The small corpus
in `tests/edge/lis/corpus` runs with the tests.
"""

import json
import sys
from datetime import UTC, datetime

from edge.lis import hl7
from edge.lis.astm import orders
from edge.lis.astm_link import AstmLink, Role, State
from edge.lis.frame import ENVELOPE, LONGEST_TEXT, FrameReader, envelopes
from edge.lis.link import LONGEST_MESSAGE, Output
from edge.lis.mapping import read_mapping
from edge.lis.mllp import MllpLink
from edge.lis.records import Delimiters, build, parse
from edge.lis.trace import Trace

MESSAGE = [b"H|\\^&|1\r", b"O|1|S-1\r", b"R|1|^^^NEUT%|60\r" * 20, b"L|1|N\r"]
STEPS_S = (0.0, 0.01, 0.5, 1.0, 4.0, 5.0, 10.0, 15.0, 16.0, 30.0, 31.0)
PLAIN = read_mapping("plain")
ENCODINGS = ("ascii", "utf-8", "iso8859-1", "cp1252")


def astm_link(data: bytes) -> None:
    """Drive a link: the first byte chooses, then pieces of a length and a pause each."""
    link = AstmLink(Role.HOST if data[:1] > b"\x80" else Role.INSTRUMENT, size=16)
    now_s, rest = 100.0, data[1:]
    while rest:
        length, pause, rest = rest[0] & 63, rest[0] >> 6, rest[1:]
        now_s += STEPS_S[(pause * 3 + length) % len(STEPS_S)]
        if length % 3 == 0 and link.ready(now_s):
            _sound(link.send(MESSAGE, "1", now_s))
        _sound(link.advance(rest[:length], now_s))
        _bounded(link)
        rest = rest[length:]
    # Silence always leads back to rest: no timer chain is longer than six refusals.
    for _ in range(8):
        now_s += 31.0
        _sound(link.advance(b"", now_s))
    assert link.state is State.IDLE, link.state
    assert link.ready(now_s)


def _bounded(link: AstmLink) -> None:
    assert len(link._reader._raw) < LONGEST_TEXT + ENVELOPE
    assert len(link._text) <= LONGEST_MESSAGE


def _sound(out: Output) -> None:
    for event in out.events:
        if event.message:
            records = parse(event.message, "iso8859-1")
            assert all(order.specimen for order in orders(records, PLAIN))


def frames(data: bytes) -> None:
    """Cut bytes into frames."""
    reader = FrameReader(size=240)
    for byte in data:
        reader.feed(byte, 0.0)
        assert len(reader._raw) < 240 + ENVELOPE


def mllp_link(data: bytes) -> None:
    """Drive both ends of MLLP."""
    for accept in (False, True):
        link = MllpLink("utf-8", accept=accept)
        link.send([b"MSH|^~\\&\r"], data[:3].decode("latin-1"), 0.0)
        for start in range(0, len(data), 7):
            link.advance(data[start : start + 7], float(start))
            assert len(link._buffer or b"") <= LONGEST_MESSAGE
        link.advance(b"", 1e9)
        assert link.ready(1e9)


def records(data: bytes) -> None:
    """Read E1394 records, and write again what was read."""
    for encoding in ENCODINGS:
        found = parse(b"H|\\^&" + data, encoding) + parse(data, encoding)
        for order in orders(found, PLAIN):
            # What the LIS named goes back to it, with the result.
            patient = (order.patient_id, tuple(order.patient_name.split("^")))
            made = build("O", order.specimen, *patient, delimiters=Delimiters(), encoding=encoding)
            assert all(len(e) <= 16 + ENVELOPE for e in envelopes([made], 16))
        for record in found:
            for number in range(1, len(record.fields) + 2):
                record.repeats(number)
    text = data.decode("iso8859-1")
    marks = Delimiters()
    kept = marks.plain(marks.escaped(text))
    assert kept == text, (kept, text)


def messages(data: bytes) -> None:
    """Read HL7, and acknowledge it."""
    for encoding in ENCODINGS:
        for content in (data, b"MSH|^~\\&|" + data, b"MSH|^~\\&|a|b\rMSA|AA|" + data):
            hl7.read_acknowledgement(content, encoding)
            answer = hl7.acknowledge(content, "AA", encoding, datetime(2026, 1, 2, tzinfo=UTC))
            assert len(b"".join(answer)) < 4 * len(content) + 200


def traces(data: bytes) -> None:
    """Show bytes: a specimen in them is never shown."""
    for ours in (True, False):
        shown = Trace(ours=ours).show(b"\r" + b"O|1|SECRET" + data)
        assert "SECRET" not in shown
        json.dumps(shown)


TARGETS = {t.__name__: t for t in (astm_link, frames, mllp_link, records, messages, traces)}


def one(data: bytes) -> None:
    """Run the target that the first byte names on the rest."""
    if data:
        names = sorted(TARGETS)
        TARGETS[names[data[0] % len(names)]](data[1:])


def main() -> None:
    """Fuzz, guided by coverage."""
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
