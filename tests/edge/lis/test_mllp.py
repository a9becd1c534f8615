import pytest

from edge.lis.link import LONGEST_MESSAGE, Event, Outcome
from edge.lis.mllp import REPLY_S, MllpLink, wrapped

MESSAGE = [b"MSH|^~\\&|W||L||1||ORU^R01^ORU_R01|7|P|2.5.1\r", b"OBR|1\r"]


def ack(code: str, number: str = "7", text: str = "") -> bytes:
    return wrapped([f"MSH|^~\\&|L||W||1||ACK|9|P|2.5.1\rMSA|{code}|{number}|{text}\r".encode()])


@pytest.fixture
def link() -> MllpLink:
    made = MllpLink("ascii")
    assert bytes(made.send(MESSAGE, "7", 0.0).data) == b"\x0b" + b"".join(MESSAGE) + b"\x1c\r"
    return made


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("AA", Outcome.RECEIVED),
        ("AE", Outcome.REFUSED),
        ("AR", Outcome.REFUSED),
        ("CE", Outcome.REFUSED),
        ("??", Outcome.REFUSED),
    ],
)
def test_the_acknowledgement_decides(link: MllpLink, code: str, outcome: Outcome) -> None:
    assert not link.ready(1.0)
    assert link.advance(ack(code, text="words"), 1.0).events == [Event(outcome, detail=f"{code} words")]
    assert link.ready(1.0)


def test_an_acknowledgement_of_another_message_decides_nothing(link: MllpLink) -> None:
    assert link.advance(ack("AA", "6") + ack("AA", ""), 1.0).events == []
    assert not link.ready(1.0)
    assert link.advance(ack("AA"), 1.0).events == [Event(Outcome.RECEIVED, detail="AA")]


def test_an_acknowledgement_that_names_no_message_may_refuse_it(link: MllpLink) -> None:
    out = link.advance(ack("AR", "", "unknown code"), 1.0)
    assert out.events == [Event(Outcome.REFUSED, detail="AR unknown code")]
    assert link.ready(1.0)


@pytest.mark.parametrize("answer", [b"MSA|AA\r", b"MSA\r", b"NTE|1\r", b"MSA|AA|6\r"])
def test_an_acknowledgement_is_never_answered_and_told_where_it_names_nothing(
    link: MllpLink, answer: bytes
) -> None:
    out = link.advance(wrapped([b"MSH|^~\\&|L||W||1||ACK^R01|9|P|2.5.1\r", answer]), 1.0)
    assert (out.data, out.events) == (b"", [])
    (event,) = link.advance(b"", REPLY_S).events
    assert event.outcome is Outcome.UNACKNOWLEDGED
    assert "does not name this message" in event.detail
    link.send(MESSAGE, "8", REPLY_S)
    assert link.advance(b"", 2 * REPLY_S).events == [Event(Outcome.UNACKNOWLEDGED)]


@pytest.mark.parametrize(("code", "outcome"), [("AA", Outcome.RECEIVED), ("AE", Outcome.REFUSED)])
def test_what_the_application_says_counts_where_it_was_only_kept_before(
    link: MllpLink, code: str, outcome: Outcome
) -> None:
    assert link.advance(ack("CA"), 1.0).events == []
    assert link.advance(ack(code), 2.0).events == [Event(outcome, detail=code)]


@pytest.mark.parametrize("closed", [True, False])
def test_a_message_that_was_kept_has_arrived_where_no_more_is_said(link: MllpLink, closed: bool) -> None:
    link.advance(ack("CA") + ack("AA", "6"), 1.0)
    out = link.lost() if closed else link.advance(b"", REPLY_S)
    assert out.events == [Event(Outcome.RECEIVED, detail="CA")]
    link.send(MESSAGE, "8", REPLY_S)
    assert link.lost().events == [Event(Outcome.UNANSWERED)]


def test_no_acknowledgement_in_time(link: MllpLink) -> None:
    assert link.advance(b"", REPLY_S - 0.1).events == []
    assert link.advance(b"", REPLY_S).events == [Event(Outcome.UNACKNOWLEDGED)]
    assert link.advance(ack("AA"), REPLY_S + 1).events == []


def test_bytes_may_come_in_any_pieces_and_with_noise(link: MllpLink) -> None:
    events = []
    for byte in b"\r\nnoise\x1c" + ack("AA") + b"\r\n":
        events += link.advance(bytes([byte]), 1.0).events
    assert events == [Event(Outcome.RECEIVED, detail="AA")]


def test_a_lost_port_loses_the_attempt(link: MllpLink) -> None:
    link.advance(b"\x0bMSH|half", 1.0)
    assert link.lost().events == [Event(Outcome.UNANSWERED)]
    assert link.lost().events == []
    assert link.ready(1.0)


def test_an_endless_message_is_not_gathered(link: MllpLink) -> None:
    link.advance(b"\x0b" + b"x" * (LONGEST_MESSAGE + 10), 1.0)
    assert link._buffer is None
    assert link.advance(ack("AA"), 1.0).events == [Event(Outcome.RECEIVED, detail="AA")]


@pytest.mark.parametrize(("accept", "code"), [(True, b"MSA|AA|7"), (False, b"MSA|AR|7")])
def test_incoming_messages_are_answered(accept: bool, code: bytes) -> None:
    out = MllpLink("ascii", accept=accept).advance(wrapped(MESSAGE), 1.0)
    assert code in out.data
    assert out.events == ([Event(message=b"".join(MESSAGE))] if accept else [])


def test_two_ends_joined_in_memory() -> None:
    instrument, host = MllpLink("ascii"), MllpLink("ascii", accept=True)
    for number in ("7", "7"):
        sent = instrument.send(MESSAGE, number, 0.0)
        answer = host.advance(bytes(sent.data), 0.0)
        assert instrument.advance(bytes(answer.data), 0.0).events[0].outcome is Outcome.RECEIVED
