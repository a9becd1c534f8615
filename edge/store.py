"""The count on disk: one SQLite file that survives power loss at any moment.

A cell is committed before it is shown. Every specimen carries what is needed to go on counting it:
the cells with their places, the key views of the slide, the files already read.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import numpy as np

from edge.cells import Box, Cell, Skip
from edge.errors import UserError
from edge.stage import KeyView

_MIGRATIONS = (
    """
    CREATE TABLE specimen (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        started TEXT NOT NULL,
        model_sha256 TEXT NOT NULL,
        source TEXT NOT NULL,
        frames INTEGER NOT NULL DEFAULT 0
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
        height INTEGER NOT NULL,
        thumb BLOB NOT NULL
    ) STRICT;
    CREATE TABLE skip (
        specimen INTEGER NOT NULL REFERENCES specimen (id),
        source TEXT NOT NULL,
        reason TEXT NOT NULL
    ) STRICT;
    """,
)
"""Each brings the file from version i (PRAGMA user_version) to i + 1; never edited once released."""

_THUMB_UNIT = 24.0
"""Key views are kept as signed bytes, this many to one standard deviation of contrast."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """A specimen as the store knows it; all empty when it is new."""

    specimen: int
    """Row id."""
    cells: tuple[Cell, ...]
    frames: int
    fields: frozenset[str]
    """File names read already."""
    keys: tuple[KeyView, ...]
    skips: tuple[Skip, ...]


class Store:
    """One connection to the file; each thread opens its own.

    Raises:
        UserError: the file cannot be opened, is not ours, or cannot be written (disk full).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=10, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            # FULL, not NORMAL: in WAL mode NORMAL may lose the last commits on power loss.
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._migrate()

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; safe to call twice."""
        self._db.close()

    def open_specimen(self, name: str, model_sha256: str, source: str) -> Resumed:
        """Begin the specimen `name`, or resume it with all that was counted.

        Raises:
            UserError: it was counted by another model: the two counts must not be mixed.
        """
        with self._transaction():
            row = self._db.execute(
                "SELECT id, model_sha256, frames FROM specimen WHERE name = ?", (name,)
            ).fetchone()
            if row is None:
                cursor = self._db.execute(
                    "INSERT INTO specimen (name, started, model_sha256, source) VALUES (?, ?, ?, ?)",
                    (name, _now(), model_sha256, source),
                )
                return Resumed(int(cursor.lastrowid or 0), (), 0, frozenset(), (), ())
        specimen, counted_by, frames = row
        if counted_by != model_sha256:
            raise UserError(
                f"this specimen was counted by model {counted_by[:8]}, the model now is {model_sha256[:8]}; "
                "begin another specimen, or give --model the file it was begun with"
            )
        return Resumed(
            specimen,
            tuple(self._cells(specimen)),
            frames,
            frozenset(n for (n,) in self._select("SELECT name FROM field WHERE specimen = ?", specimen)),
            tuple(self._keys(specimen)),
            tuple(
                Skip(-1, json.loads(source), reason)
                for source, reason in self._select(
                    "SELECT source, reason FROM skip WHERE specimen = ?", specimen
                )
            ),
        )

    def add(
        self,
        specimen: int,
        *,
        cells: Sequence[Cell] = (),
        key: KeyView | None = None,
        field: str | None = None,
        skip: Skip | None = None,
        frames: int | None = None,
    ) -> None:
        """Write what one frame brought, all of it or nothing; durable on return.

        Args:
            specimen: row id, from `open_specimen`.
            cells: newly counted.
            key: a new key view of the slide.
            field: name of a file that has been read to its end.
            skip: a frame that could not be had.
            frames: number of frames of the specimen read so far.
        """
        with self._transaction():
            self._db.executemany(
                "INSERT INTO cell VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(specimen, *_cell_row(cell)) for cell in cells],
            )
            if key is not None:
                thumb = np.clip(np.round(key.thumb * _THUMB_UNIT), -127, 127).astype(np.int8)
                row = (specimen, key.x, key.y, thumb.shape[0], thumb.tobytes())
                self._db.execute("INSERT INTO key_view VALUES (?, ?, ?, ?, ?)", row)
            if field is not None:
                self._db.execute("INSERT INTO field VALUES (?, ?)", (specimen, field))
            if skip is not None:
                row_skip = (specimen, json.dumps(skip.source), skip.reason)
                self._db.execute("INSERT INTO skip VALUES (?, ?, ?)", row_skip)
            if frames is not None:
                self._db.execute("UPDATE specimen SET frames = ? WHERE id = ?", (frames, specimen))

    def _migrate(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > len(_MIGRATIONS):
            raise UserError(f"{self._path}: written by a newer version of this program; update the program")
        for number, script in enumerate(_MIGRATIONS[version:], version + 1):
            self._db.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number}; COMMIT;")

    def _cells(self, specimen: int) -> Iterator[Cell]:
        rows = self._select(
            "SELECT number, class, confidence, probabilities, source, box, slide_x, slide_y, review, crop "
            "FROM cell WHERE specimen = ? ORDER BY number",
            specimen,
        )
        for number, name, confidence, probabilities, source, box, x, y, review, crop in rows:
            yield Cell(
                number=number,
                name=name,
                confidence=confidence,
                probabilities=np.array(json.loads(probabilities), np.float32),
                source=json.loads(source),
                box=Box(*json.loads(box)),
                slide=(x, y),
                review=bool(review),
                crop=crop,
            )

    def _keys(self, specimen: int) -> Iterator[KeyView]:
        for x, y, height, thumb in self._select(
            "SELECT x, y, height, thumb FROM key_view WHERE specimen = ? ORDER BY rowid", specimen
        ):
            values = np.frombuffer(thumb, np.int8).reshape(height, -1).astype(np.float32)
            yield KeyView(x, y, values / _THUMB_UNIT)

    def _select(self, query: str, specimen: int) -> list[tuple]:  # type: ignore[type-arg]
        return self._db.execute(query, (specimen,)).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._explained():
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
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise UserError(
                f"{self._path}: {error}; all that was shown before is saved. Make room, check the folder's "
                "permissions or give --database another file, then go on with the same --specimen"
            ) from error


def _cell_row(cell: Cell) -> tuple[object, ...]:
    box = [cell.box.x, cell.box.y, cell.box.width, cell.box.height]
    return (
        cell.number,
        _now(),
        cell.name,
        cell.confidence,
        json.dumps([float(p) for p in cell.probabilities]),
        json.dumps(cell.source),
        json.dumps(box),
        *cell.slide,
        int(cell.review),
        cell.crop,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
