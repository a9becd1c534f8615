import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge.errors import UserError
from edge.lis.content import Order
from edge.lis.link import Outcome
from edge.lis.outbox import ORDERS_KEPT, Outbox, State
from edge.report import Status
from tests.edge.lis.reports import begin, release, result


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "counts.sqlite"
    begin(path, "S-1", "S-2")
    return path


@pytest.fixture
def box(database: Path) -> Outbox:
    return Outbox(database)


def test_a_release_is_a_report_and_a_message(box: Outbox) -> None:
    entry = box.release(result("S-1"), operator="Dr A", wbc=7.5)
    assert (entry.id, entry.specimen, entry.version, entry.state) == (1, "S-1", 1, State.WAITING)
    report = box.report(entry)
    assert (report.operator, report.wbc, report.status) == ("Dr A", 7.5, Status.FINAL)
    assert report.result == {k: v for k, v in result("S-1").items() if k not in {"cells", "images"}}
    read_again = result("S-1") | {"images": [{"source": "a.png", "again": False}]}
    assert box.release(read_again, wbc=7.5) == entry, "nothing that is sent has changed"
    assert abs(report.released - datetime.now(UTC)) < timedelta(seconds=10)
    assert box.next() == entry


@pytest.mark.parametrize("table", ["report", "outbox"])
def test_report_and_message_are_written_together_or_not_at_all(
    database: Path, box: Outbox, table: str
) -> None:
    with sqlite3.connect(database) as db:
        db.execute(f"CREATE TRIGGER no BEFORE INSERT ON {table} BEGIN SELECT raise(ABORT, 'no'); END")
    db.close()
    with pytest.raises(UserError, match="no"):
        box.release(result("S-1"))
    with sqlite3.connect(database) as db:
        assert db.execute(
            "SELECT (SELECT count(*) FROM report) + (SELECT count(*) FROM outbox)"
        ).fetchone() == (0,)
    db.close()


def test_a_full_disk_refuses_the_release_and_keeps_the_rest(box: Outbox) -> None:
    box.release(result("S-1"))
    (pages,) = box._db.execute("PRAGMA page_count").fetchone()
    box._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(UserError, match="full"):
        box.release(result("S-2") | {"skipped": [{"source": "x" * 500_000, "reason": ""}]})
    assert [e.specimen for e in box.entries()] == ["S-1"]


def test_several_releases_in_one_second_never_share_a_control_id(tmp_path: Path) -> None:
    entries = release(tmp_path / "a.sqlite", *(f"S-{n}" for n in range(50)))
    others = release(tmp_path / "b.sqlite", "S-0")
    assert len({e.control_id for e in [*entries, *others]}) == 51
    assert all(len(e.control_id) <= 20 for e in entries)  # MSH-10 of HL7 2.5.1


def test_a_copied_database_shares_no_control_id_of_new_messages(tmp_path: Path) -> None:
    release(tmp_path / "a.sqlite", "S-1")
    shutil.copy(tmp_path / "a.sqlite", tmp_path / "b.sqlite")
    (a,), (b,) = release(tmp_path / "a.sqlite", "S-2"), release(tmp_path / "b.sqlite", "S-3")
    assert a.id == b.id
    assert a.control_id != b.control_id


def test_nothing_counted_is_no_result(box: Outbox) -> None:
    with pytest.raises(UserError, match="nothing has been counted"):
        box.release(result("S-1") | {"total": 0})


def test_the_same_result_is_not_sent_twice(box: Outbox) -> None:
    first = box.release(result("S-1"), wbc=7.0)
    assert box.release(result("S-1"), wbc=7.0) == first
    assert box.release(result("S-1"), wbc=8.0).id == 2
    assert box.release(result("S-1") | {"namings": 1}, wbc=8.0).id == 3
    early = {key: value for key, value in result("S-2").items() if key != "namings"}
    assert box.release(early).id == 4
    assert box.release(result("S-2")).id == 4, "an update of the program is no correction"


def test_more_frames_that_bring_no_cell_correct_nothing(box: Outbox) -> None:
    first = box.release(result("S-1"))
    seen = {"frames": 8, "fields": 8, "gated": {"out of focus": 1}, "map": {"scale": 1}, "images": []}
    assert box.release(result("S-1") | seen) == first
    assert box.release(result("S-1") | {"lost_frames": 1}).status == "corrected", "the comments tell of these"

    other = {"model": {"name": "wbc", "sha256": "cd" * 32}}
    assert box.release(result("S-1") | {"skipped": [{"source": "a", "reason": "b"}]}).id == 3
    assert box.release(result("S-1") | other).id == 4


def test_a_correction_without_a_leukocyte_count_withdraws_absolute_counts(box: Outbox) -> None:
    plain = box.release(result("S-1"))
    assert not box.report(plain).withdrawn
    given = box.release(result("S-1"), wbc=7.0)
    assert not box.report(given).withdrawn
    removed = box.release(result("S-1"))
    assert (removed.id, box.report(removed).withdrawn) == (3, True)
    assert not box.report(plain).withdrawn, "what was released before stays the same message"
    box.cancel(given.id, "wrong count")
    assert box.report(removed).withdrawn, "a message never changes"


def test_what_all_wait_for_is_listed_with_what_is_new(box: Outbox) -> None:
    for number in range(60):
        box.release(result("S-1", neutrophils=60 + number))
    box.attempted(1, "received by the LIS", state=State.RECEIVED)
    for number in (2, 3):
        box.attempted(number, "refused by the LIS", state=State.REFUSED)
    assert [e.id for e in box.entries(4)] == [60, 59, 4, 2]
    assert [e.id for e in box.entries(-1)] == list(range(60, 0, -1))


@pytest.mark.parametrize(
    ("made", "status"),
    [
        (result("S-1"), Status.FINAL),
        (result("S-1", review=1), Status.PRELIMINARY),
        (result("S-1", complete=False), Status.PRELIMINARY),
    ],
)
def test_what_awaits_review_or_is_not_complete_is_never_final(
    box: Outbox, made: dict, status: Status
) -> None:
    assert box.release(made).status == status


def test_an_amendment_of_a_final_result_is_a_correction(box: Outbox) -> None:
    statuses = [
        box.release(result("S-1", neutrophils=n, review=r)).status
        for n, r in ((60, 3), (60, 0), (61, 0), (62, 2))
    ]
    assert statuses == [Status.PRELIMINARY, Status.FINAL, Status.CORRECTED, Status.CORRECTED]
    assert [e.version for e in box.entries(specimen="S-1")] == [4, 3, 2, 1]


def test_what_never_reached_the_lis_is_not_corrected(box: Outbox) -> None:
    box.cancel(box.release(result("S-1")).id, "wrong slide")
    again = box.release(result("S-1"))
    assert (again.version, again.status) == (2, Status.FINAL)


def test_what_reached_the_lis_is_corrected_even_where_its_repeat_was_cancelled(box: Outbox) -> None:
    box.release(result("S-1"))
    box.attempted(1, "received by the LIS", state=State.RECEIVED)
    box.resend(1)
    box.cancel(1, "it is there")
    again = box.release(result("S-1", neutrophils=61))
    assert (again.version, again.status) == (2, Status.CORRECTED)


@pytest.mark.parametrize("state", [State.RECEIVED, State.REFUSED])
def test_what_a_newer_result_replaces_is_not_sent_again(box: Outbox, state: State) -> None:
    box.release(result("S-1"))
    box.attempted(1, "its end", state=state)
    box.release(result("S-2"))
    box.release(result("S-1", neutrophils=61))
    with pytest.raises(UserError, match="message 1 is out of date: resend message 3"):
        box.resend(1)
    assert box.entry(1).state is state
    box.cancel(3, "counted twice")
    box.resend(1)
    assert box.entry(1).state is State.WAITING


@pytest.mark.parametrize("outcome", list(Outcome))
def test_what_may_be_at_the_lis_though_it_did_not_say_is_corrected(box: Outbox, outcome: Outcome) -> None:
    box.release(result("S-1"))
    box.attempted(1, f"{outcome.value} (words)", state=State.WAITING)
    box.cancel(1, "wrong slide")
    assert box.was_final("S-1") is (outcome.arrived is not False)
    again = box.release(result("S-1", neutrophils=61))
    assert again.status == (Status.FINAL if outcome.arrived is False else Status.CORRECTED)


def test_what_a_correction_of_which_nothing_is_known_replaced_is_released_again(box: Outbox) -> None:
    box.release(result("S-1"))
    box.attempted(1, Outcome.RECEIVED.value, state=State.RECEIVED)
    box.release(result("S-1", neutrophils=61))
    box.attempted(2, Outcome.UNACKNOWLEDGED.value, state=State.WAITING)
    box.cancel(2, "the first was right")
    assert box.entry(2).reason == (
        "cancelled, but the LIS did not say whether it has it: the first was right"
    )
    again = box.release(result("S-1"))
    assert (again.id, again.version, again.status) == (3, 3, Status.CORRECTED)


def test_what_was_cancelled_without_an_answer_is_sent_when_it_is_released_again(box: Outbox) -> None:
    box.release(result("S-1"))
    box.attempted(1, Outcome.UNACKNOWLEDGED.value, state=State.WAITING)
    box.cancel(1, "wrong slide")
    again = box.release(result("S-1"))
    assert (again.id, again.status, again.state) == (2, Status.CORRECTED, State.WAITING)
    assert box.next() == again


def test_a_query_is_not_sent_again(box: Outbox) -> None:
    box.query("S-1")
    with pytest.raises(UserError, match="is a query"):
        box.resend(1)


def test_order_is_kept_and_the_done_are_passed(box: Outbox) -> None:
    box.release(result("S-1"))
    box.release(result("S-2"))
    assert box.next() == box.entry(1)
    box.attempted(1, "received", state=State.RECEIVED)
    entry = box.next()
    assert entry is not None
    assert entry.id == 2


def test_attempts_are_logged(box: Outbox) -> None:
    box.release(result("S-1"))
    box.attempted(1, "no answer", state=State.WAITING, wire="> <ENQ>")
    box.attempted(1, "received", state=State.RECEIVED)
    assert [(o, w) for _, o, w in box.attempts(1)] == [("no answer", "> <ENQ>"), ("received", "")]
    entry = box.entry(1)
    assert (entry.attempts, entry.reason, entry.state) == (2, "received", State.RECEIVED)


def test_resend_keeps_the_control_id(box: Outbox) -> None:
    before = box.release(result("S-1"))
    box.attempted(1, "received", state=State.RECEIVED)
    box.resend(1)
    again = box.next()
    assert again is not None
    assert (again.id, again.control_id) == (1, before.control_id)


def test_cancel_needs_a_reason_and_a_message_that_has_not_arrived(box: Outbox) -> None:
    box.release(result("S-1"))
    with pytest.raises(UserError, match="reason"):
        box.cancel(1, "  ")
    box.cancel(1, "wrong slide")
    assert (box.next(), box.entry(1).reason) == (None, "cancelled: wrong slide")
    box.resend(1)
    box.attempted(1, "received", state=State.RECEIVED)
    with pytest.raises(UserError, match="received by the LIS"):
        box.cancel(1, "too late")


def test_a_repeat_that_is_called_off_leaves_the_message_received(box: Outbox) -> None:
    before = box.release(result("S-1"))
    box.attempted(1, "received by the LIS", state=State.RECEIVED)
    box.resend(1)
    box.cancel(1, "they found it")
    entry = box.entry(1)
    assert (entry.state, box.next()) == (State.RECEIVED, None)
    assert entry.reason == "received by the LIS before, not sent again: they found it"
    assert box.release(result("S-1")).id == before.id, "it has not changed since it arrived"


@pytest.mark.parametrize(
    ("state", "after"), [(State.WAITING, State.CANCELLED), (State.RECEIVED, State.RECEIVED)]
)
def test_a_cancellation_during_an_attempt(box: Outbox, state: State, after: State) -> None:
    box.release(result("S-1"))
    box.cancel(1, "wrong slide")
    box.attempted(1, "its end", state=state)
    assert box.entry(1).state is after


def test_what_another_program_sent_meanwhile_is_not_given_up(box: Outbox) -> None:
    box.query("S-1")
    box.attempted(1, Outcome.RECEIVED.value, state=State.RECEIVED)
    box.give_up(1, "nobody waits for it")
    assert (box.entry(1).state, box.entry(1).reason) == (State.RECEIVED, Outcome.RECEIVED.value)


def cancel(path: Path) -> None:
    with Outbox(path) as box:
        box.cancel(1, "wrong slide")


def test_a_cancellation_never_overwrites_an_arrival(box: Outbox) -> None:
    box.release(result("S-1"))
    with Outbox(box._db.path) as sender, ThreadPoolExecutor(1) as thread:
        sender._db.execute("BEGIN IMMEDIATE")
        # The cancellation now waits for the sender, which writes that the message has arrived.
        late = thread.submit(cancel, box._db.path)
        with pytest.raises(TimeoutError):
            late.result(0.5)
        sender._db.execute("UPDATE outbox SET state = 'received'")
        sender._db.execute("COMMIT")
        with pytest.raises(UserError, match="received by the LIS"):
            late.result(10)
    assert box.entry(1).state is State.RECEIVED


@pytest.mark.parametrize("call", ["entry", "resend"])
@pytest.mark.parametrize("number", [7, -1, 10**30])
def test_an_unknown_message_is_told(box: Outbox, call: str, number: int) -> None:
    with pytest.raises(UserError, match=f"message {number} is not in the outbox"):
        getattr(box, call)(number)


def test_the_line_tells_what_waits(box: Outbox) -> None:
    first = box.release(result("S-1"))
    box.release(result("S-2"))
    box.query("S-9")
    due = datetime(2026, 1, 2, tzinfo=UTC)
    box.set_line("no answer", due)
    line = box.line()
    assert (line.problem, line.waiting, line.since, line.refused) == ("no answer", 2, first.created, 0)
    assert datetime.fromisoformat(line.due) == due
    box.attempted(1, "AE", state=State.REFUSED)
    assert (box.line().waiting, box.line().refused) == (1, 1)


def test_a_query_grows_old_and_the_next_one_replaces_it(box: Outbox) -> None:
    box.query("S-8")
    box.query("S-9")
    entry = box.next()
    assert entry is not None
    assert (entry.specimen, entry.version) == ("S-9", None)
    box._db.execute("UPDATE outbox SET created = '2020-01-01T00:00:00.000+00:00'")
    assert box.next() is None


def test_orders_are_kept_replaced_cancelled_and_forgotten(box: Outbox) -> None:
    box.keep_orders([Order("S-1", ("DIFF",), "P7", "Doe^J"), Order("S-2", ("DIFF",))], patient=False)
    assert box.orders("S-1") == [Order("S-1", ("DIFF",))]
    box.keep_orders(
        [Order("S-1", ("DIFF", "CBC"), "P7", "Doe^J"), Order("S-2", cancelled=True)], patient=True
    )
    assert box.orders() == [Order("S-1", ("DIFF", "CBC"), "P7", "Doe^J")]
    box.keep_orders([Order("S-1", ("CBC", "RET"), cancelled=True)], patient=True)
    assert box.orders() == [Order("S-1", ("DIFF",), "P7", "Doe^J")], "the other test is still wanted"
    box.keep_orders([Order("S-1", ("DIFF",), cancelled=True)], patient=True)
    assert box.orders() == []
    box.keep_orders([Order("S-1", ("DIFF",))], patient=True)
    old = (datetime.now(UTC) - ORDERS_KEPT - timedelta(days=1)).isoformat(timespec="milliseconds")
    box._db.execute("UPDATE lis_order SET received = ?", (old,))
    assert box.orders() == [], "they are not told"
    box.keep_orders([], patient=True)
    assert box._db.execute("SELECT count(*) FROM lis_order").fetchone() == (0,), "and go"


def test_two_threads_of_two_programs_share_the_file(database: Path, box: Outbox) -> None:
    with Outbox(database) as other:
        box.release(result("S-1"))
        other.attempted(1, "received", state=State.RECEIVED)
        assert box.entry(1).state is State.RECEIVED
