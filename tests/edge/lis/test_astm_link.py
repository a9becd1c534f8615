"""Every rule of E1381 by its own test; two ends joined in memory."""

import pytest

from edge.lis.astm_link import (
    _TABLE,
    BROKEN_S,
    BUSY_S,
    RECEIVE_S,
    REPLY_S,
    SETTLE_S,
    AstmLink,
    Role,
    Signal,
    State,
)
from edge.lis.frame import ACK, ENQ, EOT, LF, NAK, envelope, envelopes
from edge.lis.link import LONGEST_MESSAGE, Event, Outcome

MESSAGE = [b"H|\\^&|7\r", b"O|1|S-1\r", b"L|1|N\r"]
FRAMES = envelopes(MESSAGE)
A, N, E, Q = bytes([ACK]), bytes([NAK]), bytes([EOT]), bytes([ENQ])


class End:
    """A link with a clock that the test moves."""

    def __init__(self, **options: object) -> None:
        self.link = AstmLink(**options)  # type: ignore[arg-type]
        self.now_s = 1000.0
        self.events: list[Event] = []

    def send(self, message: list[bytes] = MESSAGE) -> bytes:
        return self._kept(self.link.send(message, "7", self.now_s))

    def hear(self, data: bytes) -> bytes:
        return self._kept(self.link.advance(data, self.now_s))

    def wait(self, seconds: float) -> bytes:
        self.now_s += seconds
        return self.hear(b"")

    def _kept(self, out: object) -> bytes:
        self.events += out.events  # type: ignore[attr-defined]
        return bytes(out.data)  # type: ignore[attr-defined]

    @property
    def outcomes(self) -> list[Outcome]:
        return [e.outcome for e in self.events if e.outcome]

    @property
    def messages(self) -> list[bytes]:
        return [e.message for e in self.events if e.message]


@pytest.fixture
def end() -> End:
    return End()


def opened(end: End) -> End:
    """The first frame is out."""
    assert end.send() == Q
    assert end.hear(A) == FRAMES[0]
    return end


def opened_again(end: End) -> End:
    """The first frame is out, after an attempt that failed."""
    assert end.send() == Q
    assert end.hear(A) == b""
    assert end.wait(SETTLE_S) == FRAMES[0]
    return end


def receiving(end: End) -> End:
    assert end.hear(Q) == A
    return end


# --- Sender.


def test_a_message_goes_out_frame_by_frame_and_ends_with_eot(end: End) -> None:
    opened(end)
    assert end.hear(A) == FRAMES[1]
    assert end.hear(A) == FRAMES[2]
    assert end.hear(A) == E
    assert end.outcomes == [Outcome.RECEIVED]
    assert end.link.ready(end.now_s)


def test_after_nak_to_enq_at_least_ten_seconds(end: End) -> None:
    end.send()
    assert end.hear(N) == b""
    assert end.outcomes == [Outcome.BUSY]
    assert not end.link.ready(end.now_s + 9.99)
    assert end.link.ready(end.now_s + 10)


@pytest.mark.parametrize(("role", "wait_s"), [(Role.INSTRUMENT, 1), (Role.HOST, 20)])
def test_contention_the_instrument_goes_first(role: Role, wait_s: float) -> None:
    end = End(role=role)
    end.send()
    assert end.hear(Q) == b""
    assert end.outcomes == [Outcome.CONTENTION]
    assert not end.link.ready(end.now_s + wait_s - 0.01)
    assert end.link.ready(end.now_s + wait_s)


def test_after_contention_the_host_takes_the_instruments_second_enq() -> None:
    host = End(role=Role.HOST)
    host.send()
    host.hear(Q)
    host.now_s += 1
    assert host.hear(Q) == A


def test_a_lis_that_asks_again_and_again_and_sends_nothing_does_not_hold_the_line(end: End) -> None:
    assert end.hear(Q) == A
    end.now_s += 12
    assert end.hear(Q) == A
    end.now_s += 12
    assert end.hear(Q + FRAMES[0]) == A + A
    end.now_s += 12
    assert end.hear(Q) == A, "a frame came: the time begins anew"
    end.now_s += 12
    assert end.hear(Q) == A
    assert end.wait(17.9) == b""
    assert not end.link.ready(end.now_s)
    end.wait(0.1)
    assert end.link.ready(end.now_s), "30 s after the first ENQ that no frame followed"


def test_no_reply_to_enq_within_15_s_ends_the_attempt(end: End) -> None:
    end.send()
    assert end.wait(14.99) == b""
    assert end.wait(0.01) == E
    assert end.outcomes == [Outcome.NO_ANSWER]


def test_no_reply_to_a_frame_within_15_s_ends_the_attempt(end: End) -> None:
    opened(end)
    assert end.wait(REPLY_S - 0.01) == b""
    assert end.wait(0.01) == E
    assert end.outcomes == [Outcome.FELL_SILENT]
    assert not end.link.ready(end.now_s + BROKEN_S - 0.1)


def test_a_slow_line_gets_the_time_to_carry_the_frame() -> None:
    end = opened(End(byte_s=0.1))
    assert end.wait(REPLY_S) == b""
    assert end.wait(len(FRAMES[0]) * 0.1) == E


def test_a_refused_frame_is_sent_again_with_its_number(end: End) -> None:
    opened(end)
    assert end.hear(N) == b""
    assert end.wait(SETTLE_S) == FRAMES[0]


@pytest.mark.parametrize("reply", [b"x", b"\r", Q, b"\x02", b"\x00\xff"])
def test_anything_else_counts_as_nak(end: End, reply: bytes) -> None:
    opened(end)
    end.hear(reply)
    assert end.wait(SETTLE_S) == FRAMES[0]


def test_a_frame_refused_six_times_ends_the_attempt_and_the_message_begins_anew(end: End) -> None:
    opened(end)
    end.hear(A)
    for _ in range(5):
        assert end.hear(N) == b""
        assert end.wait(SETTLE_S) == FRAMES[1]
    assert end.hear(N) == E
    assert end.outcomes == [Outcome.REFUSED_FRAME]
    assert end.wait(BROKEN_S - 0.1) == b""
    assert not end.link.ready(end.now_s)
    end.wait(0.1)
    opened_again(end)


def test_refusals_are_counted_for_each_frame(end: End) -> None:
    opened(end)
    for at in range(3):
        for _ in range(5):
            end.hear(N)
            assert end.wait(SETTLE_S) == FRAMES[at]
        end.hear(A)
        end.wait(SETTLE_S)
    assert end.outcomes == [Outcome.RECEIVED]


def test_refusals_of_an_attempt_that_ended_do_not_count_in_the_next(end: End) -> None:
    opened(end)
    for _ in range(5):
        end.hear(N)
        assert end.wait(SETTLE_S) == FRAMES[0]
    end.wait(REPLY_S)
    end.wait(BROKEN_S)
    opened_again(end)
    for _ in range(5):
        assert end.hear(N) == b""
        assert end.wait(SETTLE_S) == FRAMES[0]
    assert end.hear(N) == E
    assert end.outcomes == [Outcome.FELL_SILENT, Outcome.REFUSED_FRAME]


def test_an_interrupt_is_honoured_and_no_enq_follows_for_15_s(end: End) -> None:
    opened(end)
    assert end.hear(E) == E
    assert end.outcomes == [Outcome.INTERRUPTED]
    assert not end.link.ready(end.now_s + 14.99)
    assert end.hear(Q) == A  # the LIS now sends
    assert end.hear(E) == b""
    end.now_s += 15
    opened_again(end)


def test_eot_to_the_last_frame_accepts_the_message(end: End) -> None:
    opened(end)
    end.hear(A)
    end.hear(A)
    assert end.hear(E) == E
    assert end.outcomes == [Outcome.RECEIVED]
    assert not end.link.ready(end.now_s + 14.99)


def test_a_doubled_ack_in_one_read_answers_one_frame(end: End) -> None:
    end.send()
    assert end.hear(A + A) == FRAMES[0]
    assert end.hear(A + A) == FRAMES[1]


def test_late_replies_to_a_repeated_frame_pass_before_the_next_one(end: End) -> None:
    opened(end)
    end.hear(N)
    end.wait(SETTLE_S)
    assert end.hear(A) == b""
    assert end.hear(A) == b""
    assert end.wait(SETTLE_S) == FRAMES[1]


def test_after_a_repeated_last_frame_the_next_enq_waits(end: End) -> None:
    opened(end)
    end.hear(A)
    end.hear(A)
    end.hear(N)
    end.wait(SETTLE_S)
    end.hear(A)
    assert end.outcomes == [Outcome.RECEIVED]
    assert not end.link.ready(end.now_s)
    assert end.link.ready(end.now_s + SETTLE_S)


def test_a_reply_that_came_with_the_time_for_a_repeat_is_no_answer_to_it(end: End) -> None:
    opened(end)
    end.hear(N)
    end.now_s += SETTLE_S
    assert end.hear(A) == FRAMES[0]
    assert end.link.state is State.FRAME_SENT


def test_answers_to_an_attempt_that_failed_are_no_answers_to_the_next(end: End) -> None:
    end.send()
    end.wait(REPLY_S)
    end.wait(BUSY_S)
    end.send()
    assert end.hear(A) == b""  # the late one
    assert end.hear(A) == b""
    assert end.wait(SETTLE_S) == FRAMES[0]


def test_long_frames(end: End) -> None:
    long = End(size=64_000)
    long.send([b"x" * 63_999 + b"\r"])
    assert len(long.hear(A)) == 64_007


def test_send_needs_a_ready_link(end: End) -> None:
    end.send()
    with pytest.raises(ValueError, match="ready"):
        end.send()


# --- Receiver.


def test_a_message_comes_in_and_is_told_before_its_ack(end: End) -> None:
    receiving(end)
    for frame in FRAMES:
        assert end.hear(frame) == A
    assert end.messages == [b"".join(MESSAGE)]
    assert end.hear(E) == b""
    assert end.events == [Event(message=b"".join(MESSAGE))]


def test_a_message_may_come_byte_by_byte_or_at_once(end: End) -> None:
    receiving(end)
    for byte in b"".join(FRAMES):
        end.hear(bytes([byte]))
    assert End.hear(receiving(other := End()), b"".join(FRAMES)) == A * 3
    assert end.messages == other.messages == [b"".join(MESSAGE)]


def test_a_cut_record_is_joined(end: End) -> None:
    receiving(end)
    for frame in envelopes([b"H|" + b"x" * 600 + b"\r", b"L|1\r"]):
        assert end.hear(frame) == A
    assert end.messages == [b"H|" + b"x" * 600 + b"\rL|1\r"]


def test_a_cut_last_record_ends_the_message_where_it_ends(end: End) -> None:
    receiving(end)
    record = b"L|1|" + b"x" * 600 + b"\r"
    for frame in envelopes([b"H|\r", record]):
        assert end.messages == []
        assert end.hear(frame) == A
    assert end.messages == [b"H|\r" + record]


def test_several_messages_in_one_session(end: End) -> None:
    receiving(end)
    for frame in envelopes(MESSAGE * 4):
        end.hear(frame)
    assert end.messages == [b"".join(MESSAGE)] * 4


def test_a_repeat_of_the_last_frame_is_acknowledged_and_dropped(end: End) -> None:
    receiving(end)
    for frame in FRAMES:
        assert end.hear(frame) == A
        assert end.hear(frame) == A
    assert end.messages == [b"".join(MESSAGE)]


def test_a_number_neither_last_nor_next_is_refused(end: End) -> None:
    receiving(end)
    assert end.hear(FRAMES[1]) == N
    assert end.hear(envelope(0, b"H\r", last=True)) == N
    assert end.hear(FRAMES[0]) == A
    assert end.hear(FRAMES[2]) == N
    assert end.hear(FRAMES[1]) == A


@pytest.mark.parametrize("at", range(1, len(FRAMES[0]) - 1))
def test_a_character_error_anywhere_is_refused(end: End, at: int) -> None:
    receiving(end)
    wrong = bytearray(FRAMES[0])
    wrong[at] ^= 0x20
    assert end.hear(bytes(wrong)) == N
    assert end.hear(FRAMES[0]) == A


def test_frames_that_were_refused_and_never_came_whole_are_told(end: End) -> None:
    receiving(end)
    wrong = FRAMES[0][:-4] + b"00\r\n"
    assert end.hear(wrong) + end.hear(wrong) == N + N
    end.hear(bytes([EOT]))
    (told,) = end.events
    assert "2 frames refused: damaged, or not the next number" in told.discarded
    receiving(end)
    assert end.hear(wrong) + end.hear(FRAMES[0]) == N + A
    end.hear(bytes([EOT]))
    assert [e.discarded for e in end.events[1:]] == ["it ended without its last record"]


@pytest.mark.parametrize("frames", [0, 1, len(FRAMES)])
@pytest.mark.parametrize("lost", [True, False])
def test_only_what_was_sent_to_its_end_may_have_arrived(end: End, frames: int, lost: bool) -> None:
    end.send()
    for _ in range(frames):
        end.hear(A)
    if lost:
        (event,) = end.link.lost().events
    else:
        end.wait(REPLY_S)
        (event,) = end.events
    assert event.outcome is not None
    assert event.outcome.arrived is (None if frames == len(FRAMES) else False)


def test_a_last_frame_that_was_not_sent_has_not_arrived(end: End) -> None:
    opened(end)
    end.hear(A)
    end.hear(N)
    assert end.wait(SETTLE_S) == FRAMES[1]
    assert end.hear(A) == b""  # the last one is due, but late replies are let pass first
    (event,) = end.link.lost().events
    assert event.outcome is Outcome.LINE_LOST
    end.wait(BROKEN_S)
    end.send([b"L|1|N\r"])
    (event,) = end.link.lost().events
    assert event.outcome is Outcome.LINE_LOST


def test_a_line_that_is_ended_behind_eot_too_is_no_noise(end: End) -> None:
    receiving(end)
    for frame in FRAMES:
        end.hear(frame)
    end.hear(bytes([EOT]) + b"\r\n")
    assert [e.discarded for e in end.events if e.discarded] == []


def test_bytes_of_another_protocol_are_told_once(end: End) -> None:
    for _ in range(3):
        assert end.hear(b"\x0bMSH|^~\\&\r\x1c\r") == b""
    (told,) = end.events
    assert "bytes that are not of the standard" in told.discarded
    receiving(end)
    end.hear(bytes([EOT]))
    end.hear(b"?")
    assert len(end.events) == 2


def test_thirty_silent_seconds_drop_the_incomplete_message(end: End) -> None:
    receiving(end)
    end.hear(FRAMES[0])
    end.wait(RECEIVE_S - 0.01)
    assert end.events == []
    end.wait(0.01)
    assert [e.discarded for e in end.events] == ["nothing came for 30 s in the middle of it"]
    assert end.link.state is State.IDLE
    assert end.hear(FRAMES[1]) == b""


def test_each_frame_starts_the_thirty_seconds_again(end: End) -> None:
    receiving(end)
    for frame in FRAMES:
        end.wait(29)
        assert end.hear(frame) == A


def test_a_frame_that_stops_half_way_is_refused_and_then_taken(end: End) -> None:
    receiving(end)
    end.hear(FRAMES[0][:5])
    assert end.wait(4.9) == b""
    assert end.wait(0.1) == N
    assert end.hear(FRAMES[0]) == A


def test_eot_before_the_last_record_drops_the_message(end: End) -> None:
    receiving(end)
    end.hear(FRAMES[0])
    end.hear(E)
    assert end.messages == []
    assert end.events[0].discarded


def test_enq_in_a_session_begins_anew(end: End) -> None:
    receiving(end)
    end.hear(FRAMES[0])
    assert end.hear(Q) == A
    for frame in FRAMES:
        assert end.hear(frame) == A
    assert end.messages == [b"".join(MESSAGE)]


def test_bytes_without_enq_are_let_pass(end: End) -> None:
    assert end.hear(FRAMES[0] + A + N + E + b"noise") == b""
    assert end.link.ready(end.now_s)


def test_no_endless_message_is_gathered(end: End) -> None:
    receiving(end)
    number, reply = 0, A
    while reply == A:
        number += 1
        reply = end.hear(envelope(number, b"x" * 64_000, last=True))
    assert reply == N
    assert LONGEST_MESSAGE - 64_000 < (number - 1) * 64_000 <= LONGEST_MESSAGE


def test_an_endless_frame_is_refused_at_its_limit(end: End) -> None:
    receiving(end)
    assert end.hear(b"\x021" + b"x" * 100_000) == N
    assert end.hear(bytes([LF])) == b""
    assert end.hear(FRAMES[0]) == A


def test_no_enq_goes_out_while_receiving(end: End) -> None:
    receiving(end)
    assert not end.link.ready(end.now_s)


# --- The port, and the table.


@pytest.mark.parametrize("state", list(State))
def test_a_lost_port_leaves_any_state_for_rest(state: State) -> None:
    end = End()
    {
        State.IDLE: lambda: None,
        State.ENQ_SENT: end.send,
        State.FRAME_SENT: lambda: opened(end),
        State.SETTLING: lambda: opened(end).hear(N),
        State.RECEIVING: lambda: receiving(end).hear(FRAMES[0]),
    }[state]()
    assert end.link.state is state
    events = end.link.lost().events
    sending = state in {State.ENQ_SENT, State.FRAME_SENT, State.SETTLING}
    assert [e.outcome for e in events if e.outcome] == ([Outcome.LINE_LOST] if sending else [])
    assert end.link.state is State.IDLE
    assert end.link.ready(end.now_s + BROKEN_S - 0.1) is not sending, "the receiver may still hold a part"
    assert end.wait(60) == b""
    assert (opened_again if sending else opened)(end).link.state is State.FRAME_SENT


def test_of_a_frame_that_the_port_cut_nothing_is_left(end: End) -> None:
    receiving(end).hear(FRAMES[0][:5])
    end.link.lost()
    receiving(end).hear(E)
    assert end.link.state is State.IDLE


@pytest.mark.parametrize("state", [s for s in State if s is not State.IDLE])
def test_no_state_lasts_without_a_timer(state: State) -> None:
    assert (state, Signal.TIMEOUT) in _TABLE


def test_two_ends_joined_in_memory_pass_messages_both_ways() -> None:
    instrument, host = End(), End(role=Role.HOST)
    for sender, receiver in ((instrument, host), (host, instrument)) * 2:
        data = sender.send()
        while data:
            answer = receiver.hear(data)
            data = sender.hear(answer) if answer else b""
        assert receiver.messages.pop() == b"".join(MESSAGE)
        receiver.events.clear()
