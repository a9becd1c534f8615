"""The outbox: released results that the LIS must get, in the file of the counts, in the order of release."""

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edge.database import DEMO, Database
from edge.errors import UserError
from edge.lis.content import Order
from edge.lis.link import Outcome
from edge.report import Report, Status, status

ORDERS_KEPT = timedelta(days=90)
_SAID = ("model", "complete", "lost_frames", "skipped", "counts", "total", "review", "namings")
"""What of a result a message tells (`edge.lis.content`), what follows from these left out; and namings, by
which the page tells that a released result was changed."""
QUERY_LIVES = timedelta(minutes=2)
"""A query that could not be sent for so long has lost its purpose."""


class State(StrEnum):
    """Where a message stands."""

    WAITING = "waiting"
    RECEIVED = "received"
    """The LIS has it; whether it imported it, no protocol tells."""
    REFUSED = "refused"
    """The LIS read it and refused it; it is sent again when a person says so."""
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Entry:
    """One message, waiting or done."""

    id: int
    """From 1, in the order of release; logs name a message by it."""
    control_id: str
    """The same each time that it is sent, and no other message's."""
    specimen: str
    version: int | None
    """Of the report; None for a query."""
    status: str
    """Of the report ("final", ...); "query" for a query."""
    total: int | None
    """Cells of the report; None for a query."""
    namings: int | None
    """How often persons had given its cells their classes; None for a query and for an early report."""
    counts: dict[str, int] | None
    """Cells of the report by class; None for a query."""
    wbc: float | None
    """Leukocytes that were released with it, 10^9/L; None for a query, too."""
    state: State
    created: str
    """UTC, ISO 8601."""
    changed: str
    attempts: int
    reason: str
    """What became of the last attempt, or why it was cancelled."""


@dataclass(frozen=True, slots=True)
class Line:
    """How the line to the LIS is, as its owner last wrote it."""

    problem: str
    """"" where all is well."""
    due: str
    """When the next attempt begins, UTC; "" where none is planned."""
    waiting: int
    """Messages that have not arrived."""
    since: str
    """When the oldest of these was released; "" without one."""
    refused: int
    """Messages that the LIS refused and nobody has dealt with."""
    changed: str
    """When that began, or when the last attempt failed so, UTC; "" before the first time."""


_ENTRY = (
    "SELECT o.id, o.control_id, coalesce(s.name, o.query), r.version, coalesce(r.status, 'query'), "
    "json_extract(r.result, '$.total'), json_extract(r.result, '$.namings'), "
    "json_extract(r.result, '$.counts'), r.wbc, o.state, o.created, o.changed, o.attempts, o.reason "
    "FROM outbox o LEFT JOIN report r ON r.id = o.report "
    "LEFT JOIN specimen s ON s.id = r.specimen "
)


def _tried(outcomes: Iterable[Outcome]) -> str:
    """Return the condition that an attempt at a message `o` had one of these outcomes."""
    one = " OR ".join(f"outcome LIKE '{outcome.value}%'" for outcome in outcomes)
    return f"EXISTS (SELECT * FROM attempt WHERE outbox = o.id AND ({one}))"


_ARRIVED = _tried(outcome for outcome in Outcome if outcome.arrived)
_MAY_BE_THERE = _tried(outcome for outcome in Outcome if outcome.arrived is not False)
"""Whatever the message's state is now: the LIS took it once, or was sent it and did not say."""


class Outbox:
    """One connection to the file; each thread opens its own.

    Raises:
        UserError: the file cannot be opened or written, by any method.
    """

    def __init__(self, path: Path) -> None:
        self._db = Database(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; safe to call twice."""
        self._db.close()

    def release(self, result: Mapping[str, Any], *, operator: str = "", wbc: float | None = None) -> Entry:
        """Keep a result as released and put it into the outbox: both, or neither; durable on return.

        A result of which all that is told has stayed as it was released is not sent twice: its entry is
        returned.

        Args:
            result: of `edge.report.result`; its cells and images are left out.
            operator: who released it; may be empty.
            wbc: leukocytes of the specimen, 10^9/L; None withdraws the absolute counts of earlier releases.

        Raises:
            UserError: nothing was counted.
        """
        if not result["total"]:
            raise UserError("nothing has been counted yet: there is no result to release")
        content = json.dumps(
            {k: v for k, v in result.items() if k not in {"cells", "images"}}, sort_keys=True
        )
        with self._db.understood(), self._db.transaction():
            (specimen,) = self._db.execute(
                "SELECT id FROM specimen WHERE name = ?", (result["specimen"],)
            ).fetchone()
            before = self._db.execute(
                f"SELECT r.version, r.result, r.wbc, o.id, o.state, {_MAY_BE_THERE} FROM report r "
                "JOIN outbox o ON o.report = r.id WHERE r.specimen = ? ORDER BY r.version",
                (specimen,),
            ).fetchall()
            sent = {State.WAITING, State.RECEIVED}
            known = [row for row in before if row[4] in sent or row[5]]
            # Early results have no namings: an update of the program corrects nothing.
            same = known and _said(json.loads(known[-1][1])) == _said(json.loads(content))
            if same and known[-1][2] == wbc and known[-1][4] in sent:
                return self.entry(known[-1][3])
            settled = bool(result["complete"]) and not result["review"]
            level = status(settled, was_final=self.was_final(result["specimen"]))
            version = before[-1][0] + 1 if before else 1
            row = (specimen, version, level, _now(), operator, wbc, content)
            report = self._db.execute(
                "INSERT INTO report (specimen, version, status, released, operator, wbc, result) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                row,
            ).lastrowid
            number = self._put(report=report)
        return self.entry(number)

    def was_final(self, specimen: str) -> bool:
        """Return whether a final result of a specimen is on its way, has arrived, or may have.

        One that arrived, was sent again and then cancelled is at the LIS all the same; one that was sent
        without an answer, and then cancelled, may be.
        """
        with self._db.understood():
            found = self._db.execute(
                "SELECT * FROM report r JOIN specimen s ON s.id = r.specimen "
                "JOIN outbox o ON o.report = r.id WHERE s.name = ? AND r.status != 'preliminary' "
                f"AND (o.state IN ('waiting', 'received') OR {_MAY_BE_THERE})",
                (specimen,),
            ).fetchone()
            return found is not None

    def query(self, specimen: str) -> Entry:
        """Ask the LIS what is ordered for a specimen: put a query into the outbox; older ones go."""
        with self._db.understood(), self._db.transaction():
            self._db.execute(
                "UPDATE outbox SET state = 'cancelled', reason = 'another query came' "
                "WHERE state = 'waiting' AND query IS NOT NULL"
            )
            number = self._put(query=specimen)
        return self.entry(number)

    def _put(self, *, report: int | None = None, query: str | None = None) -> int:
        (identity,) = self._db.execute("SELECT identity FROM instrument").fetchone()
        (last,) = self._db.execute(
            "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'outbox'"
        ).fetchone()
        now = _now()
        # Chance: a copied card or a restored backup has the same identity and counts on from the same number.
        control_id = f"{identity}-{last + 1:06}{secrets.token_hex(2)}"
        row = (last + 1, control_id, report, query, State.WAITING, now, now)
        self._db.execute(
            "INSERT INTO outbox (id, control_id, report, query, state, created, changed) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            row,
        )
        return int(last) + 1

    def next(self) -> Entry | None:
        """Return the oldest message that waits; None where all is done."""
        with self._db.understood():
            row = self._db.execute(
                _ENTRY
                + "WHERE o.state = 'waiting' AND (o.query IS NULL OR o.created > ?) ORDER BY o.id LIMIT 1",
                (_iso(datetime.now(UTC) - QUERY_LIVES),),
            ).fetchone()
            return _entry(row) if row else None

    def entry(self, number: int) -> Entry:
        """Return a message by its number.

        Raises:
            UserError: there is none.
        """
        with self._db.understood():
            # As text: SQLite raises OverflowError for a mistyped number beyond its integers.
            row = self._db.execute(_ENTRY + "WHERE o.id = ?", (str(number),)).fetchone()
            if row is None:
                raise UserError(f"message {number} is not in the outbox; status lists them")
            return _entry(row)

    def entries(self, limit: int = 50, specimen: str | None = None) -> list[Entry]:
        """Return the newest messages (-1: all), newest first; of one specimen where given.

        The oldest result that waits, for which all others do, and the oldest that was refused are among them.
        """
        with self._db.understood():
            rows = self._db.execute(
                _ENTRY + "WHERE ?1 IS NULL OR s.name = ?1 ORDER BY o.id IN (SELECT min(id) FROM outbox "
                "WHERE state IN ('waiting', 'refused') AND query IS NULL GROUP BY state) DESC, o.id DESC "
                "LIMIT ?2",
                (specimen, limit),
            ).fetchall()
            return sorted(map(_entry, rows), key=lambda entry: -entry.id)

    def report(self, entry: Entry) -> Report:
        """Return the report that a message carries."""
        with self._db.understood():
            row = self._db.execute(
                "SELECT s.name, r.version, r.status, s.started, r.released, r.operator, r.wbc, "
                "r.wbc IS NULL AND EXISTS (SELECT * FROM report earlier WHERE earlier.specimen = r.specimen "
                "AND earlier.version < r.version AND earlier.wbc IS NOT NULL), s.source, r.result "
                "FROM report r JOIN specimen s ON s.id = r.specimen "
                "JOIN outbox o ON o.report = r.id WHERE o.id = ?",
                (entry.id,),
            ).fetchone()
            name, version, level, started, released, operator, wbc, withdrawn, source, result = row
            return Report(
                name,
                version,
                Status(level),
                datetime.fromisoformat(started),
                datetime.fromisoformat(released),
                operator,
                wbc,
                withdrawn=bool(withdrawn),
                demo=source == DEMO,
                result=json.loads(result),
            )

    def attempted(self, number: int, outcome: str, *, state: State, wire: str = "") -> None:
        """Log an attempt to send a message.

        Args:
            number: of the message.
            outcome: plain words.
            state: what it is now; a message that was cancelled meanwhile stays so, unless it was received.
            wire: what went over the line, identifiers masked; "" where that is not wanted.
        """
        now = _now()
        with self._db.transaction():
            self._db.execute("INSERT INTO attempt VALUES (?, ?, ?, ?)", (number, now, outcome, wire))
            self._db.execute(
                "UPDATE outbox SET attempts = attempts + 1, changed = ?2, reason = ?3, state = ?4 "
                "WHERE id = ?1 AND (state = 'waiting' OR ?4 = 'received')",
                (number, now, outcome, state),
            )

    def attempts(self, number: int) -> list[tuple[str, str, str]]:
        """Return the attempts at a message, oldest first: time (UTC), outcome, what went over the line."""
        with self._db.explained():
            return self._db.execute(
                "SELECT at, outcome, wire FROM attempt WHERE outbox = ? ORDER BY rowid", (number,)
            ).fetchall()

    def resend(self, number: int) -> None:
        """Let a message wait again, under the same control ID.

        Raises:
            UserError: there is no such message, it is a query, for whose answer nobody waits any more, or a
                newer result of the specimen has taken its place: the LIS would file the old values last.
        """
        with self._db.transaction():
            if self.entry(number).version is None:
                raise UserError(f"message {number} is a query, no result: ask again with `query`")
            newer = self._db.execute(
                "SELECT max(o.id) FROM outbox o JOIN report r ON r.id = o.report JOIN report old "
                "ON old.specimen = r.specimen AND old.version < r.version JOIN outbox mine "
                "ON mine.report = old.id WHERE mine.id = ? AND o.state IN ('waiting', 'received')",
                (number,),
            ).fetchone()[0]
            if newer is not None:
                raise UserError(f"message {number} is out of date: resend message {newer}, which replaces it")
            self._set(number, State.WAITING, "to be sent again, as a person asked")

    def cancel(self, number: int, reason: str) -> None:
        """Take a message out that has not arrived; one that had, and was to be sent again, is not sent again.

        Raises:
            UserError: there is none, no reason is given, or one with control characters, or the LIS has it
                already.
        """
        if not reason.strip() or not reason.isprintable():
            raise UserError("a cancellation needs a reason, in words without control characters")
        with self._db.transaction():
            # Within the transaction: the sender may write at this very moment that it has arrived.
            if self.entry(number).state is State.RECEIVED:
                raise UserError(f"message {number} was received by the LIS; release a correction instead")
            arrived, may_be = self._db.execute(
                f"SELECT {_ARRIVED}, {_MAY_BE_THERE} FROM outbox o WHERE id = ?", (number,)
            ).fetchone()
            told = "cancelled, but the LIS did not say whether it has it" if may_be else "cancelled"
            told = "received by the LIS before, not sent again" if arrived else told
            self._set(number, State.RECEIVED if arrived else State.CANCELLED, f"{told}: {reason.strip()}")

    def give_up(self, number: int, reason: str) -> None:
        """Take a message out if it still waits; another program may have sent it meanwhile."""
        with self._db.transaction():
            self._db.execute(
                "UPDATE outbox SET state = 'cancelled', changed = ?, reason = ? "
                "WHERE id = ? AND state = 'waiting'",
                (_now(), reason, number),
            )

    def _set(self, number: int, state: State, reason: str) -> None:
        now = _now()
        self._db.execute("INSERT INTO attempt VALUES (?, ?, ?, '')", (number, now, reason))
        self._db.execute(
            "UPDATE outbox SET state = ?, changed = ?, reason = ? WHERE id = ?", (state, now, reason, number)
        )

    def keep_orders(self, orders: Iterable[Order], *, patient: bool) -> None:
        """Keep what the LIS ordered; the patient only where `patient`. Old orders go."""
        now = datetime.now(UTC)
        with self._db.transaction():
            for order in orders:
                if order.cancelled:
                    self._cancel_order(order)
                    continue
                self._db.execute("DELETE FROM lis_order WHERE specimen = ?", (order.specimen,))
                known = (order.patient_id, order.patient_name) if patient else ("", "")
                row = (order.specimen, _iso(now), json.dumps(order.tests), *known)
                self._db.execute("INSERT INTO lis_order VALUES (?, ?, ?, ?, ?)", row)
            self._db.execute("DELETE FROM lis_order WHERE received < ?", (_iso(now - ORDERS_KEPT),))

    def _cancel_order(self, order: Order) -> None:
        """Take the tests that are named off an order: all of it where none is, or none is left."""
        left = [t for o in self.orders(order.specimen) for t in o.tests if t not in order.tests]
        if order.tests and left:
            row = (json.dumps(left), order.specimen)
            self._db.execute("UPDATE lis_order SET tests = ? WHERE specimen = ?", row)
        else:
            self._db.execute("DELETE FROM lis_order WHERE specimen = ?", (order.specimen,))

    def orders(self, specimen: str | None = None, limit: int = 200, *, since: str = "") -> list[Order]:
        """Return the orders kept, newest first; of one specimen, or `since` a time (UTC), where given."""
        since = max(since, _iso(datetime.now(UTC) - ORDERS_KEPT))
        with self._db.understood():
            rows = self._db.execute(
                "SELECT specimen, tests, patient_id, patient_name FROM lis_order "
                "WHERE (?1 IS NULL OR specimen = ?1) AND received >= ?3 "
                "ORDER BY received DESC, specimen LIMIT ?2",
                (specimen, limit, since),
            ).fetchall()
            return [Order(name, tuple(json.loads(tests)), *patient) for name, tests, *patient in rows]

    def set_line(self, problem: str, due: datetime | None = None) -> None:
        """Write how the line is, for whoever asks."""
        with self._db.transaction():
            row = (_now(), problem, _iso(due) if due else "")
            self._db.execute("UPDATE line SET changed = ?, problem = ?, due = ? WHERE id = 1", row)

    def line(self) -> Line:
        """Return how the line is, and what waits."""
        with self._db.understood():
            row = self._db.execute(
                "SELECT problem, due, "
                "(SELECT count(*) FROM outbox WHERE state = 'waiting' AND query IS NULL), "
                "(SELECT coalesce(min(created), '') FROM outbox WHERE state = 'waiting' AND query IS NULL), "
                "(SELECT count(*) FROM outbox WHERE state = 'refused'), changed FROM line"
            ).fetchone()
            return Line(*row)


def _said(result: Mapping[str, Any]) -> list[Any]:
    # Early results have no namings: an update of the program corrects nothing.
    return [result.get(key, 0 if key == "namings" else None) for key in _SAID]


def _entry(row: tuple[Any, ...]) -> Entry:
    number, control_id, specimen, version, level, total, namings, counts, wbc, state, *rest = row
    created, changed, attempts, reason = rest
    whose = (number, control_id, specimen, version, level, total, namings)
    counted = counts and json.loads(counts)
    return Entry(*whose, counted, wbc, State(state), created, changed, attempts, reason)


def _now() -> str:
    return _iso(datetime.now(UTC))


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds")
