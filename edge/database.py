"""The one SQLite file: its schema, its settings, its errors in plain words."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from edge.errors import UserError

DEMO = "demo"
"""`specimen.source` of a drawn smear, whose count must never be taken for a patient's."""
MIGRATIONS = (
    """
    CREATE TABLE specimen (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        started TEXT NOT NULL,
        model TEXT NOT NULL,
        source TEXT NOT NULL,
        moving INTEGER NOT NULL,
        frames INTEGER NOT NULL DEFAULT 0,
        lost INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE cell (
        specimen INTEGER NOT NULL REFERENCES specimen (id),
        number INTEGER NOT NULL,
        counted TEXT NOT NULL,
        class TEXT NOT NULL,
        confidence REAL NOT NULL,
        probabilities TEXT NOT NULL,
        source TEXT NOT NULL,
        box TEXT NOT NULL,
        slide_x REAL NOT NULL,
        slide_y REAL NOT NULL,
        review INTEGER NOT NULL,
        crop BLOB NOT NULL,
        PRIMARY KEY (specimen, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE field (
        specimen INTEGER NOT NULL REFERENCES specimen (id),
        name TEXT NOT NULL,
        PRIMARY KEY (specimen, name)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE key_view (
        specimen INTEGER NOT NULL REFERENCES specimen (id),
        x REAL NOT NULL,
        y REAL NOT NULL,
        frame_width INTEGER NOT NULL,
        frame_height INTEGER NOT NULL,
        height INTEGER NOT NULL,
        thumb BLOB NOT NULL
    ) STRICT;
    CREATE TABLE skip (
        specimen INTEGER NOT NULL REFERENCES specimen (id),
        source TEXT NOT NULL,
        reason TEXT NOT NULL
    ) STRICT;
    """,
    "ALTER TABLE cell ADD COLUMN strangeness REAL NOT NULL DEFAULT 0;",
    """
    CREATE TABLE instrument (identity TEXT NOT NULL) STRICT;
    INSERT INTO instrument VALUES (lower(hex(randomblob(4))));
    CREATE TABLE report (
        id INTEGER PRIMARY KEY,
        specimen INTEGER NOT NULL REFERENCES specimen (id),
        version INTEGER NOT NULL,
        status TEXT NOT NULL,
        released TEXT NOT NULL,
        operator TEXT NOT NULL,
        wbc REAL,
        result TEXT NOT NULL,
        UNIQUE (specimen, version)
    ) STRICT;
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        control_id TEXT NOT NULL UNIQUE,
        report INTEGER REFERENCES report (id),
        query TEXT,
        state TEXT NOT NULL,
        created TEXT NOT NULL,
        changed TEXT NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        reason TEXT NOT NULL DEFAULT ''
    ) STRICT;
    CREATE INDEX outbox_state ON outbox (state, id);
    CREATE TABLE attempt (
        outbox INTEGER NOT NULL REFERENCES outbox (id),
        at TEXT NOT NULL,
        outcome TEXT NOT NULL,
        wire TEXT NOT NULL
    ) STRICT;
    CREATE INDEX attempt_outbox ON attempt (outbox);
    CREATE TABLE lis_order (
        specimen TEXT PRIMARY KEY,
        received TEXT NOT NULL,
        tests TEXT NOT NULL,
        patient_id TEXT NOT NULL,
        patient_name TEXT NOT NULL
    ) STRICT;
    CREATE TABLE line (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        changed TEXT NOT NULL,
        problem TEXT NOT NULL,
        due TEXT NOT NULL
    ) STRICT;
    INSERT INTO line VALUES (1, '', '', '');
    """,
    """
    ALTER TABLE key_view ADD COLUMN angle REAL NOT NULL DEFAULT 0;
    ALTER TABLE field ADD COLUMN again INTEGER NOT NULL DEFAULT 0;
    """,
    """
    CREATE TABLE gate (
        specimen INTEGER NOT NULL REFERENCES specimen (id),
        name TEXT NOT NULL,
        refused INTEGER NOT NULL,
        frames INTEGER NOT NULL,
        PRIMARY KEY (specimen, name, refused)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE map_tile (
        specimen INTEGER NOT NULL REFERENCES specimen (id),
        scale REAL NOT NULL,
        "column" INTEGER NOT NULL,
        "row" INTEGER NOT NULL,
        picture BLOB NOT NULL,
        PRIMARY KEY (specimen, "column", "row")
    ) STRICT, WITHOUT ROWID;
    """,
    """
    ALTER TABLE cell ADD COLUMN network TEXT NOT NULL DEFAULT '';
    UPDATE cell SET network = probabilities;
    """,
    """
    CREATE TABLE naming (
        id INTEGER PRIMARY KEY,
        specimen INTEGER NOT NULL,
        number INTEGER NOT NULL,
        named TEXT NOT NULL,
        class TEXT NOT NULL,
        FOREIGN KEY (specimen, number) REFERENCES cell (specimen, number)
    ) STRICT;
    CREATE INDEX naming_cell ON naming (specimen, number);
    """,
    "ALTER TABLE field ADD COLUMN shown TEXT NOT NULL DEFAULT '[]';",
)
"""Each brings the file from version i (PRAGMA user_version) to i + 1; never edited once released."""

_PATIENCE_S = 10
"""So long another program may hold the file."""


class Database:
    """One connection to the file; each thread opens its own.

    Raises:
        UserError: the file cannot be opened, is not ours, or cannot be written (disk full).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self.explained():
            path.parent.mkdir(0o700, parents=True, exist_ok=True)  # identifiers are for this account alone
            # SQLite keeps no file for some names, as :memory:, but for every whole path.
            self._db = sqlite3.connect(path.absolute(), timeout=_PATIENCE_S, isolation_level=None)
            try:
                self._check_ours()
                self._db.execute("PRAGMA journal_mode = WAL")
                # FULL, not NORMAL: in WAL mode NORMAL may lose the last commits on power loss.
                self._db.execute("PRAGMA synchronous = FULL")
                self._db.execute("PRAGMA foreign_keys = ON")
                self._migrate()
            except BaseException:
                self._db.close()
                raise
        self.execute, self.executemany = self._db.execute, self._db.executemany

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; safe to call twice."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write all that the block writes, or nothing; durable on return.

        Raises:
            UserError: it cannot be written.
        """
        with self.explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # On a full disk SQLite may have rolled back by itself.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn errors of the file or the disk into a UserError."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            operational = isinstance(error, sqlite3.OperationalError)
            if isinstance(error, sqlite3.DatabaseError) and (not operational or "no such" in str(error)):
                raise self._damaged(error) from error
            if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
                raise UserError(
                    f"{self.path}: another program has held it for more than {_PATIENCE_S} s; all that was "
                    "shown before is saved. End that one, then go on with the same --specimen"
                ) from error
            told = error.strerror if isinstance(error, OSError) else error
            raise UserError(
                f"{self.path}: {told}; all that was shown before is saved. Make room, check the folder's "
                "permissions or give --database another file, then go on with the same --specimen"
            ) from error

    @contextmanager
    def understood(self) -> Iterator[None]:
        """Turn what a row holds and makes no sense (a worn memory card) into a UserError, too."""
        try:
            with self.explained():
                yield
        except (ValueError, TypeError, LookupError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> UserError:
        # What a row holds may be an identifier: of its content nothing is told.
        told = error if isinstance(error, sqlite3.Error) else "what is stored makes no sense"
        return UserError(
            f"{self.path}: {told}; it is damaged, or was not made by this program: give --database "
            "another file, or put back a copy of this one"
        )

    def _check_ours(self) -> None:
        # In one look: another program may just be making the file.
        version, tables, ours = self._db.execute(
            "SELECT (SELECT user_version FROM pragma_user_version), count(*), "
            "count(*) FILTER (WHERE name = 'specimen') FROM sqlite_master"
        ).fetchone()
        if version > len(MIGRATIONS):
            raise UserError(f"{self.path}: written by a newer version of this program; update the program")
        strange = not ours if version else tables > 0
        if strange:
            raise UserError(f"{self.path}: not made by this program; give --database another file")

    def _migrate(self) -> None:
        if self._version() < len(MIGRATIONS):
            with self.transaction():
                # Another program may have done it while this one waited for the lock.
                for statement in ";".join(MIGRATIONS[self._version() :]).split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])
