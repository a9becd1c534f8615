import sqlite3
import threading
from pathlib import Path

import pytest

from edge.database import MIGRATIONS, Database
from edge.errors import UserError


def test_a_new_file_has_the_newest_schema(tmp_path: Path) -> None:
    with Database(tmp_path / "folder" / "c.sqlite") as database:
        assert database.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("PRAGMA synchronous").fetchone() == (2,), (
            "FULL: no commit is lost on power loss"
        )
        assert len(database.execute("SELECT identity FROM instrument").fetchone()[0]) == 8


def test_two_files_are_two_instruments(tmp_path: Path) -> None:
    identities = set()
    for name in ("a.sqlite", "b.sqlite"):
        with Database(tmp_path / name) as database:
            identities.add(database.execute("SELECT identity FROM instrument").fetchone())
    assert len(identities) == 2


@pytest.mark.parametrize("version", range(len(MIGRATIONS)))
def test_programs_that_open_an_old_file_at_once_all_succeed(tmp_path: Path, version: int) -> None:
    path = tmp_path / "c.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(";".join(MIGRATIONS[:version]) + f"; PRAGMA user_version = {version}")
    db.close()
    failed: list[Exception] = []

    def open_it() -> None:
        try:
            Database(path).close()
        except UserError as error:
            failed.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_a_transaction_is_written_wholly_or_not_at_all(tmp_path: Path) -> None:
    with Database(tmp_path / "c.sqlite") as database:
        row = "INSERT INTO outbox VALUES (1, 'x', NULL, 'q', 'waiting', '', '', 0, '')"

        def write_twice() -> None:
            with database.transaction():
                database.execute(row)
                database.execute(row)

        with pytest.raises(UserError, match="UNIQUE"):
            write_twice()
        assert database.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
