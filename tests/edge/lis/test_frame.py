"""Wire tables of E1381 frames, both ways."""

import pytest

from edge.lis.frame import (
    ENVELOPE,
    LF,
    LONGEST_TEXT,
    RESTRICTED,
    SPOILT,
    STANDARD_TEXT,
    Frame,
    FrameReader,
    checksum,
    envelope,
    envelopes,
    parse,
)

WIRE = [
    # By hand: the sum of "1H|\^&" CR ETX is 0x31+0x48+0x7C+0x5C+0x5E+0x26+0x0D+0x03 = 0x1E5.
    (Frame(1, b"H|\\^&\r", True), b"\x021H|\\^&\r\x03E5\r\n"),
    (Frame(2, b"", True), b"\x022\x0335\r\n"),
    # The fourth of a run of frames cut at 240; 0x34 + 240 * 0x41 + 0x17 = 0x3D3B.
    (Frame(4, b"A" * 240, False), b"\x024" + b"A" * 240 + b"\x173B\r\n"),
    (Frame(0, b"\xe4\r", True), b"\x020\xe4\r\x0324\r\n"),
    # A sum below 16 keeps its zero: 0x37 + 0xC6 + 0x03 = 0x100.
    (Frame(7, b"\xc6", True), b"\x027\xc6\x0300\r\n"),
]


@pytest.mark.parametrize(("frame", "wire"), WIRE)
def test_the_table_both_ways(frame: Frame, wire: bytes) -> None:
    assert envelope(frame.number, frame.text, last=frame.last) == wire
    assert parse(wire) == frame


def test_the_checksum_is_two_upper_case_digits_of_the_sum_modulo_256() -> None:
    assert checksum(b"\xff\xff\xab") == b"A9"


def test_a_frame_of_the_standard_has_247_characters() -> None:
    (first, second) = envelopes([b"x" * 241])
    assert len(first) == 247 == STANDARD_TEXT + ENVELOPE
    assert parse(first) == Frame(1, b"x" * 240, False)
    assert parse(second) == Frame(2, b"x", True)


def test_each_record_begins_a_frame_and_ends_one() -> None:
    found = [parse(e) for e in envelopes([b"a" * 500 + b"\r", b"b\r"])]
    assert [(f.number, len(f.text), f.last) for f in found if f] == [
        (1, 240, False),
        (2, 240, False),
        (3, 21, True),
        (4, 2, True),
    ]


def test_numbers_begin_at_1_and_run_modulo_8() -> None:
    found = [parse(e) for e in envelopes([b"%d\r" % n for n in range(17)])]
    assert [f.number for f in found if f] == [1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1]


def test_long_frames_are_a_setting() -> None:
    assert len(envelopes([b"x" * 64_000], LONGEST_TEXT)) == 1
    assert len(envelopes([b"x" * 64_001], LONGEST_TEXT)) == 2
    with pytest.raises(ValueError, match="64001"):
        envelopes([b"x"], 64_001)


@pytest.mark.parametrize("byte", sorted(RESTRICTED))
def test_no_restricted_character_is_sent_or_taken(byte: int) -> None:
    with pytest.raises(ValueError, match=str(byte)):
        envelope(1, bytes([65, byte]), last=True)
    body = bytes([0x31, 65, byte, 66, 0x03])
    assert parse(b"\x02" + body + checksum(body) + b"\r\n") is None


def test_the_restricted_characters_are_those_of_the_standard() -> None:
    soh_to_ack = {0x01, 0x02, 0x03, 0x04, 0x05, 0x06}
    lf_dle_dc1_to_dc4_nak_syn_etb = {0x0A, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17}
    assert soh_to_ack | lf_dle_dc1_to_dc4_nak_syn_etb == RESTRICTED


@pytest.mark.parametrize(
    "raw",
    [
        b"\x021H\x03CF\r\n",  # wrong sum
        b"\x021H\x037c\r\n",  # right sum in lower case
        b"\x028H\x0383\r\n",  # no such number
        b"\x021H7C\r\n",  # neither ETX nor ETB
        b"\x021H\x037C\n",  # CR lost
        b"\x02\x0303\r\n",  # no number
        b"\x02\n",
        b"\n",
    ],
)
def test_a_spoilt_frame_is_none(raw: bytes) -> None:
    assert parse(raw) is None


def fed(reader: FrameReader, data: bytes, now_s: float = 0.0) -> list[Frame | int]:
    return [found for byte in data if (found := reader.feed(byte, now_s)) is not None]


def test_the_reader_parts_frames_and_control_characters() -> None:
    good = envelope(1, b"L|1\r", last=True)
    assert fed(FrameReader(), b"\x05" + good + b"\x04") == [0x05, Frame(1, b"L|1\r", True), 0x04]


def test_a_new_stx_begins_again() -> None:
    good = envelope(1, b"L\r", last=True)
    assert fed(FrameReader(), b"\x021H|cut" + good) == [Frame(1, b"L\r", True)]


def test_no_frame_over_the_limit_is_buffered() -> None:
    reader = FrameReader(size=10)
    assert fed(reader, b"\x02" + b"x" * 16) == [SPOILT]
    assert reader.deadline_s is None
    exact = envelope(1, b"x" * 10, last=True)
    assert fed(reader, exact) == [Frame(1, b"x" * 10, True)]
    assert SPOILT in fed(reader, envelope(1, b"x" * 11, last=True))


def test_a_frame_whose_rest_does_not_come_has_a_deadline() -> None:
    reader = FrameReader(gap_s=5)
    fed(reader, b"\x021H", now_s=7)
    assert reader.deadline_s == 12
    fed(reader, bytes([LF]), now_s=8)
    assert reader.deadline_s is None
