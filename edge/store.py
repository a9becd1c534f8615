"""The count on disk: one SQLite file that survives power loss at any moment.

A cell is committed before it is shown. Every specimen carries what is needed to go on counting it:
the cells with their places, the key views of the slide, the files already read.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import numpy as np

from edge.cells import Box, Cell, Skip
from edge.database import DEMO, Database
from edge.errors import UserError
from edge.gates import Gates
from edge.lock import FileLock
from edge.mosaic import StoredTile
from edge.stage import KeyView

Shown = tuple[tuple[Box, int], ...]
"""The cells on one image: box, in its pixels, and number of each."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a specimen has been read, in all runs."""

    frames: int
    lost: int
    """Of these, frames that could not be laid on the slide."""
    gates: Gates
    """Frames that the quality gates refused or warned of."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """A specimen as the store knows it; all empty when it is new."""

    specimen: int
    """Row id."""
    cells: tuple[Cell, ...]
    progress: Progress
    files: Mapping[str, bool]
    """Images read already, by name and content; True for one that showed a place photographed before."""
    shown: Mapping[str, Shown]
    """The cells on each of these images; of those that an early version read none is known."""
    keys: tuple[KeyView, ...]
    skips: tuple[Skip, ...]
    tiles: tuple[StoredTile, ...]
    """Of the map."""


class Store:
    """One connection to the file; each thread opens its own.

    Raises:
        UserError: the file cannot be opened, is not ours, or cannot be written (disk full).
    """

    def __init__(self, path: Path) -> None:
        self._held: FileLock | None = None
        self._db = Database(path)

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection and let go of the specimen; safe to call twice."""
        self._release()
        self._db.close()

    def open_specimen(self, name: str, model: str, source: str, *, moving: bool) -> Resumed:
        """Begin the specimen `name`, or resume it with all that was counted; it is then held by this store.

        Args:
            name: identifier.
            model: identity of the model and its classes (`Card.identity`).
            source: kind of input, for the record; `edge.database.DEMO` for a drawn smear.
            moving: whether the input is a moving stage or fields of their own.

        Raises:
            UserError: another model or another kind of input began it (the two counts must not be
                mixed), another program is counting it, or what is stored of it is damaged.
        """
        with self._db.transaction():
            self._db.execute(
                "INSERT OR IGNORE INTO specimen (name, started, model, source, moving) "
                "VALUES (?, ?, ?, ?, ?)",
                (name, _now(), model, source, moving),
            )
            specimen, counted_by, was_moving, begun_from = self._db.execute(
                "SELECT id, model, moving, source FROM specimen WHERE name = ?", (name,)
            ).fetchone()
        if counted_by != model:
            raise UserError(
                "this specimen was counted by another model file, or by one whose card gave its classes "
                "other roles; begin another specimen, or give --model the file that it was begun with"
            )
        if was_moving != moving:
            begun, now = ("a moving stage", "single images")[:: 1 if was_moving else -1]
            raise UserError(
                f"this specimen was begun from {begun} and cannot go on from {now}; begin another specimen"
            )
        if (begun_from == DEMO) != (source == DEMO):
            begun, now = ("the drawn smear", "real cells")[:: 1 if begun_from == DEMO else -1]
            raise UserError(
                f"this specimen was begun from {begun} and cannot go on from {now}; begin another specimen"
            )
        self._hold(specimen)  # before the rest is read: another program may have counted on until now
        with self._db.understood():
            return self._resumed(specimen)

    def _resumed(self, specimen: int) -> Resumed:
        ((frames, lost),) = self._select("SELECT frames, lost FROM specimen WHERE id = ?", specimen)
        fields = self._select("SELECT name, again, shown FROM field WHERE specimen = ?", specimen)
        cells = tuple(self._cells(specimen))
        if [cell.number for cell in cells] != list(range(1, len(cells) + 1)):
            raise ValueError("a cell is missing")
        return Resumed(
            specimen,
            cells,
            Progress(frames, lost, self._gates(specimen)),
            {file: bool(again) for file, again, _ in fields},
            {
                file: tuple((Box(*_finite(box)), number) for number, *box in json.loads(shown))
                for file, _, shown in fields
            },
            tuple(self._keys(specimen)),
            tuple(
                Skip(-1, json.loads(source), reason)
                for source, reason in self._select(
                    "SELECT source, reason FROM skip WHERE specimen = ?", specimen
                )
            ),
            tuple(
                StoredTile(*row)
                for row in self._select(
                    'SELECT scale, "column", "row", picture FROM map_tile WHERE specimen = ?', specimen
                )
            ),
        )

    def _hold(self, specimen: int) -> None:
        """Let no other program count this specimen until this store closes or opens another one.

        Raises:
            UserError: another program does.
        """
        # The file's own name: a link to it is another one.
        database = self._db.path.resolve()
        lock = FileLock(database.with_name(f"{database.name}-specimen-{specimen}.lock"))
        if self._held is not None and self._held.path == lock.path:
            return
        with self._db.explained():
            if not lock.take():
                raise UserError(
                    "another program is counting this specimen; stop that one, or give another --specimen"
                )
        # Only now: a specimen that cannot be had leaves the one before it held.
        self._release()
        self._held = lock

    def _release(self) -> None:
        if self._held is not None:
            self._held.free()
            self._held = None

    def add(
        self,
        specimen: int,
        *,
        cells: Sequence[Cell] = (),
        revised: Sequence[Cell] = (),
        moved: Mapping[int, tuple[float, float]] | None = None,
        key: KeyView | None = None,
        file: str | None = None,
        again: bool = False,
        shown: Shown = (),
        anew: bool = False,
        skip: Skip | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Write what one frame brought, all of it or nothing; durable on return.

        Args:
            specimen: row id, from `open_specimen`.
            cells: newly counted.
            revised: counted earlier, and decided again; their places stay.
            moved: places on the slide, by number, of cells that lie elsewhere than was known.
            key: a new key view of the slide.
            file: an image that has been read, by name and content.
            again: whether it shows a place photographed before.
            shown: the cells on it.
            anew: whether the slide begins with this key view: earlier ones and the map go.
            skip: a frame that could not be had.
            progress: how far the specimen has been read by now.
        """
        with self._db.transaction():
            self._db.executemany(
                "INSERT INTO cell VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(specimen, *_cell_row(cell)) for cell in cells],
            )
            self._db.executemany(
                "UPDATE cell SET class = ?, confidence = ?, probabilities = ?, source = ?, box = ?, "
                "review = ?, crop = ?, strangeness = ?, network = ? WHERE specimen = ? AND number = ?",
                [(*_decision_row(cell), specimen, cell.number) for cell in revised],
            )
            self._db.executemany(
                "UPDATE cell SET slide_x = ?, slide_y = ? WHERE specimen = ? AND number = ?",
                [(x, y, specimen, number) for number, (x, y) in (moved or {}).items()],
            )
            if anew:
                self._db.execute("DELETE FROM key_view WHERE specimen = ?", (specimen,))
                self._db.execute("DELETE FROM map_tile WHERE specimen = ?", (specimen,))
            if key is not None:
                thumb = (key.thumb.shape[0], key.thumb.tobytes())
                row = (specimen, key.x, key.y, *key.size, *thumb, key.angle)
                self._db.execute("INSERT INTO key_view VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            if file is not None:
                boxes = json.dumps([(number, b.x, b.y, b.width, b.height) for b, number in shown])
                self._db.execute("INSERT INTO field VALUES (?, ?, ?, ?)", (specimen, file, again, boxes))
            if skip is not None:
                row_skip = (specimen, json.dumps(skip.source), skip.reason)
                self._db.execute("INSERT INTO skip VALUES (?, ?, ?)", row_skip)
            if progress is not None:
                values = (progress.frames, progress.lost, specimen)
                self._db.execute("UPDATE specimen SET frames = ?, lost = ? WHERE id = ?", values)
                rows = [(specimen, gate, 1, count) for gate, count in progress.gates.refused.items()]
                rows += [(specimen, gate, 0, count) for gate, count in progress.gates.warned.items()]
                self._db.executemany("INSERT OR REPLACE INTO gate VALUES (?, ?, ?, ?)", rows)

    def name_cell(self, specimen: int, number: int, name: str) -> None:
        """Write that a person gave a cell its class; durable on return. Its earlier names are kept too."""
        with self._db.transaction():
            self._db.execute(
                "INSERT INTO naming (specimen, number, named, class) VALUES (?, ?, ?, ?)",
                (specimen, number, _now(), name),
            )

    def named_cells(self, specimen: str | None) -> list[tuple[int, str, bytes]]:
        """Return specimen (row id), class and picture (JPEG) of each cell that a person named, oldest first.

        Those of a drawn smear are left out.

        Args:
            specimen: name of the one whose cells; None for all.
        """
        with self._db.explained():
            return self._db.execute(
                "SELECT s.id, n.class, c.crop FROM cell c JOIN specimen s ON s.id = c.specimen "
                "JOIN naming n ON n.id = "
                "(SELECT max(id) FROM naming WHERE specimen = c.specimen AND number = c.number) "
                "WHERE (?1 IS NULL OR s.name = ?1) AND s.source != 'demo' ORDER BY n.id",
                (specimen,),
            ).fetchall()

    def _gates(self, specimen: int) -> Gates:
        gates = Gates()
        query = "SELECT name, refused, frames FROM gate WHERE specimen = ?"
        for name, refused, frames in self._select(query, specimen):
            (gates.refused if refused else gates.warned)[name] = frames
        return gates

    def save_map(self, specimen: int, tiles: Sequence[StoredTile]) -> None:
        """Write the tiles of the map that have changed; durable on return. Those of another scale go."""
        if not tiles:
            return
        with self._db.transaction():
            self._db.execute(
                "DELETE FROM map_tile WHERE specimen = ? AND scale != ?", (specimen, tiles[0].scale)
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO map_tile VALUES (?, ?, ?, ?, ?)",
                [(specimen, tile.scale, tile.column, tile.row, tile.picture) for tile in tiles],
            )

    def _cells(self, specimen: int) -> Iterator[Cell]:
        rows = self._select(
            "SELECT number, cell.class, confidence, probabilities, source, box, slide_x, slide_y, review, "
            "crop, strangeness, network, n.class, coalesce(n.times, 0) "
            # Of a group with max() SQLite takes the other columns from the row that has it.
            "FROM cell LEFT JOIN (SELECT number, class, max(id), count(*) AS times FROM naming "
            "WHERE specimen = ?1 GROUP BY number) AS n USING (number) "
            "WHERE specimen = ?1 ORDER BY number",
            specimen,
        )
        for (
            number,
            name,
            confidence,
            probabilities,
            source,
            box,
            x,
            y,
            review,
            crop,
            strange,
            network,
            named,
            namings,
        ) in rows:
            yield Cell(
                number=number,
                name=named or name,
                confidence=confidence,
                probabilities=np.array(_finite(json.loads(probabilities)), np.float32),
                strangeness=strange,
                source=json.loads(source),
                box=Box(*_finite(json.loads(box))),
                slide=(x, y),
                review=bool(review) and not namings,
                crop=crop,
                network=np.array(_finite(json.loads(network)), np.float32),
                namings=namings,
            )

    def _keys(self, specimen: int) -> Iterator[KeyView]:
        for x, y, angle, width, height, rows, thumb in self._select(
            "SELECT x, y, angle, frame_width, frame_height, height, thumb FROM key_view "
            "WHERE specimen = ? ORDER BY rowid",
            specimen,
        ):
            yield KeyView(x, y, angle, (width, height), np.frombuffer(thumb, np.int8).reshape(rows, -1))

    def _select(self, query: str, specimen: int) -> list[tuple]:  # type: ignore[type-arg]
        with self._db.explained():
            return self._db.execute(query, (specimen,)).fetchall()


def _finite(numbers: list[float]) -> list[float]:
    """Return what was stored as numbers.

    Raises:
        ValueError, TypeError: they are none, or endless.
    """
    if not all(map(math.isfinite, numbers)):
        raise ValueError("endless numbers")
    return numbers


def _cell_row(cell: Cell) -> tuple[object, ...]:
    decision = _decision_row(cell)
    return (cell.number, _now(), *decision[:5], *cell.slide, *decision[5:])


def _decision_row(cell: Cell) -> tuple[object, ...]:
    box = [cell.box.x, cell.box.y, cell.box.width, cell.box.height]
    return (
        cell.name,
        cell.confidence,
        json.dumps([float(p) for p in cell.probabilities]),
        json.dumps(cell.source),
        json.dumps(box),
        int(cell.review),
        cell.crop,
        cell.strangeness,
        json.dumps([float(p) for p in cell.network]),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
