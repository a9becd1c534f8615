import fcntl
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from edge.cells import Box, Cell, Skip
from edge.database import MIGRATIONS
from edge.errors import UserError
from edge.gates import Gates
from edge.mosaic import StoredTile
from edge.stage import KeyView
from edge.store import Progress, Store

SHA = "a" * 64


def cell(number: int) -> Cell:
    probabilities = np.array([0.75, 0.25], np.float32)
    box = Box(1, 2, 3, 4)
    network = np.array([0.625, 0.375], np.float32)
    return Cell(
        number, "neutrophil", 0.75, probabilities, 0.5, number, box, (5.5, 6.5), True, b"jpeg", network
    )


def test_a_specimen_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "counts.sqlite"
    thumb = np.random.default_rng(0).integers(-127, 128, (12, 16), np.int8)
    with Store(path) as store:
        row = store.open_specimen("S-1", SHA, "images", moving=True).specimen
        store.add(
            row,
            cells=[cell(1), cell(2)],
            key=KeyView(1.5, -2.5, 0.25, (640, 480), thumb),
            file="ä.png",
            progress=Progress(7, 2, Gates()),
        )
        store.add(row, skip=Skip(3, "b.png", "truncated"))
        store.open_specimen("S-2", SHA, "images", moving=True)
    with Store(path) as store:
        found = store.open_specimen("S-1", SHA, "images", moving=True)
        assert store.open_specimen("S-2", SHA, "images", moving=True).cells == ()
    first = found.cells[0]
    assert (first.number, first.name, first.box, first.slide) == (
        1,
        "neutrophil",
        Box(1, 2, 3, 4),
        (5.5, 6.5),
    )
    assert first.crop == b"jpeg"
    assert np.array_equal(first.probabilities, cell(1).probabilities)
    assert (found.progress.frames, found.progress.lost, found.files) == (7, 2, {"ä.png": False})
    assert [(s.source, s.reason) for s in found.skips] == [("b.png", "truncated")]
    (key,) = found.keys
    assert (key.x, key.y, key.angle, key.size) == (1.5, -2.5, 0.25, (640, 480))
    assert np.array_equal(key.thumb, thumb)


def test_what_is_written_of_one_specimen_leaves_the_others_alone(tmp_path: Path) -> None:
    keys = [KeyView(x, 2.0, 0.0, (64, 48), np.full((12, 16), x, np.int8)) for x in (1, 2)]
    with Store(tmp_path / "counts.sqlite") as store:
        rows = [
            store.open_specimen(name, SHA, "video", moving=True).specimen for name in ("S-1", "S-2", "S-3")
        ]
        for row in rows:
            store.add(row, cells=[cell(1)], key=keys[0])
            store.add(row, key=keys[1])
            store.save_map(row, [StoredTile(2.0, 0, 0, b"png")])
        before = [store.open_specimen(name, SHA, "video", moving=True) for name in ("S-1", "S-3")]
        assert [key.x for key in before[0].keys] == [1, 2], "the oldest first"
        store.add(rows[1], revised=[replace(cell(1), name="monocyte")], moved={1: (7, 8)}, anew=True)
        changed = store.open_specimen("S-2", SHA, "video", moving=True)
        assert (changed.cells[0].name, changed.cells[0].slide) == ("monocyte", (7, 8))
        assert (changed.keys, changed.tiles) == ((), ())
        for name, was in zip(("S-1", "S-3"), before, strict=True):
            now = store.open_specimen(name, SHA, "video", moving=True)
            assert (now.cells[0].name, now.cells[0].slide) == (was.cells[0].name, was.cells[0].slide)
            assert [key.x for key in now.keys] == [1, 2]
            assert now.tiles == was.tiles != ()


def test_tiles_of_another_scale_go_and_the_others_stay(tmp_path: Path) -> None:
    with Store(tmp_path / "counts.sqlite") as store:
        row = store.open_specimen("S-1", SHA, "video", moving=True).specimen
        for tile in (StoredTile(2.0, 0, 0, b"a"), StoredTile(4.0, 1, 0, b"b"), StoredTile(4.0, 2, 0, b"c")):
            store.save_map(row, [tile])
        tiles = store.open_specimen("S-1", SHA, "video", moving=True).tiles
        assert [(tile.scale, tile.column) for tile in tiles] == [(4.0, 1), (4.0, 2)]


def test_what_one_frame_brought_is_written_wholly_or_not_at_all(tmp_path: Path) -> None:
    with Store(tmp_path / "counts.sqlite") as store:
        row = store.open_specimen("S-1", SHA, "video", moving=True).specimen
        store.add(row, cells=[cell(1)])
        with pytest.raises(UserError, match="UNIQUE"):
            store.add(row, cells=[cell(2), cell(1)], progress=Progress(9, 0, Gates()))
        found = store.open_specimen("S-1", SHA, "video", moving=True)
    assert [c.number for c in found.cells] == [1]
    assert found.progress.frames == 0


def test_a_cell_has_the_last_name_that_a_person_gave_it(tmp_path: Path) -> None:
    with Store(tmp_path / "counts.sqlite") as store:
        for name in ("S-1", "S-2"):
            row = store.open_specimen(name, SHA, "images", moving=True).specimen
            store.add(row, cells=[cell(1), replace(cell(2), crop=name.encode())])
            for given in ("monocyte", "basophil" if name == "S-1" else "eosinophil"):
                store.name_cell(row, 2, given)
        first, second = store.open_specimen("S-1", SHA, "images", moving=True).cells
        assert (first.name, first.namings, first.review) == ("neutrophil", 0, True)
        assert (second.name, second.namings, second.review) == ("basophil", 2, False)
        assert store.named_cells("S-2") == [(2, "eosinophil", b"S-2")]
        assert store.named_cells(None) == [(1, "basophil", b"S-1"), (2, "eosinophil", b"S-2")]
        with pytest.raises(UserError, match="FOREIGN KEY"):
            store.name_cell(row, 3, "basophil")


def test_a_specimen_that_cannot_be_had_leaves_the_one_before_it_held(tmp_path: Path) -> None:
    path = tmp_path / "counts.sqlite"
    with Store(path) as store, Store(path) as other:
        store.open_specimen("S-1", SHA, "video", moving=True)
        store.open_specimen("S-1", SHA, "video", moving=True)
        other.open_specimen("S-2", SHA, "video", moving=True)
        with pytest.raises(UserError, match="another program"):
            store.open_specimen("S-2", SHA, "video", moving=True)
        with pytest.raises(UserError, match="another program"):
            other.open_specimen("S-1", SHA, "video", moving=True)
    assert not list(tmp_path.glob("*.lock"))


def test_two_models_never_share_a_specimen(tmp_path: Path) -> None:
    with Store(tmp_path / "counts.sqlite") as store:
        store.open_specimen("S-1", SHA, "video", moving=True)
        with pytest.raises(UserError, match="another specimen"):
            store.open_specimen("S-1", "b" * 64, "video", moving=True)


def test_images_and_a_moving_stage_never_share_a_specimen(tmp_path: Path) -> None:
    with Store(tmp_path / "counts.sqlite") as store:
        store.open_specimen("S-1", SHA, "video", moving=True)
        with pytest.raises(UserError, match="moving stage"):
            store.open_specimen("S-1", SHA, "images", moving=False)


@pytest.mark.parametrize("sources", [("demo", "video"), ("camera", "demo")])
def test_a_drawn_smear_and_real_cells_never_share_a_specimen(
    tmp_path: Path, sources: tuple[str, str]
) -> None:
    with Store(tmp_path / "counts.sqlite") as store:
        store.open_specimen("S-1", SHA, sources[0], moving=True)
        with pytest.raises(UserError, match=r"drawn smear.*another specimen"):
            store.open_specimen("S-1", SHA, sources[1], moving=True)
        store.open_specimen("S-1", SHA, sources[0], moving=True)


def test_two_programs_never_count_one_specimen(tmp_path: Path) -> None:
    path = tmp_path / "counts.sqlite"
    with Store(path) as store, Store(path) as other:
        store.open_specimen("S-1", SHA, "video", moving=True)
        other.open_specimen("S-2", SHA, "video", moving=True)
        with pytest.raises(UserError, match="another program is counting"):
            other.open_specimen("S-1", SHA, "video", moving=True)
        store.open_specimen("S-3", SHA, "video", moving=True)
        other.open_specimen("S-1", SHA, "video", moving=True)
    assert not list(tmp_path.glob("*.lock"))


def test_a_link_to_the_file_lets_nobody_in(tmp_path: Path) -> None:
    link = tmp_path / "link.sqlite"
    link.symlink_to(tmp_path / "counts.sqlite")
    with Store(tmp_path / "counts.sqlite") as store, Store(link) as other:
        store.open_specimen("S-1", SHA, "video", moving=True)
        with pytest.raises(UserError, match="another program is counting"):
            other.open_specimen("S-1", SHA, "video", moving=True)


def test_a_specimen_let_go_while_it_is_asked_for_is_held_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "counts.sqlite"
    first, second, third = Store(path), Store(path), Store(path)
    first.open_specimen("S-1", SHA, "video", moving=True)
    flock = fcntl.flock

    def slow_flock(file: IO[str], how: int) -> None:
        first.close()
        flock(file, how)

    with second, third:
        with monkeypatch.context() as slow:
            slow.setattr(fcntl, "flock", slow_flock)
            second.open_specimen("S-1", SHA, "video", moving=True)
        with pytest.raises(UserError, match="another program is counting"):
            third.open_specimen("S-1", SHA, "video", moving=True)


def test_a_file_that_is_not_ours_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "counts.sqlite"
    path.write_bytes(b"this is a letter, not a database\n" * 40)
    with pytest.raises(UserError, match=r"counts\.sqlite: .* was not made by this program"):
        Store(path)
    assert path.read_bytes().startswith(b"this is a letter")


@pytest.mark.parametrize("version", [0, 3])
def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path, version: int) -> None:
    path = tmp_path / "places.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(f"CREATE TABLE places (url); PRAGMA user_version = {version}")
    before = path.read_bytes()
    with pytest.raises(UserError, match="not made by this program"):
        Store(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE cell SET probabilities = '[0.1'",
        "UPDATE cell SET box = '[1]'",
        "UPDATE key_view SET height = 7",
        "UPDATE skip SET source = 'x'",
        "UPDATE cell SET probabilities = '[NaN, 1]'",
        "UPDATE cell SET box = '[0, 0, Infinity, 9]'",
        """UPDATE cell SET box = '[0, 0, "9", 9]'""",
        "UPDATE cell SET number = 2",
    ],
)
def test_a_row_that_makes_no_sense_is_told(tmp_path: Path, damage: str) -> None:
    key = KeyView(1.0, 2.0, 0.0, (64, 48), np.zeros((12, 16), np.int8))
    with Store(tmp_path / "c.sqlite") as store:
        row = store.open_specimen("S-1", SHA, "video", moving=True).specimen
        store.add(row, cells=[cell(1)], key=key, skip=Skip(1, "a.png", "cut short"))
    with closing(sqlite3.connect(tmp_path / "c.sqlite")) as db, db:
        db.execute(damage)
    with (
        Store(tmp_path / "c.sqlite") as store,
        pytest.raises(UserError, match="what is stored makes no sense"),
    ):
        store.open_specimen("S-1", SHA, "video", moving=True)


def test_a_file_without_one_of_its_tables_is_damaged(tmp_path: Path) -> None:
    Store(tmp_path / "c.sqlite").close()
    with closing(sqlite3.connect(tmp_path / "c.sqlite")) as db, db:
        db.execute("DROP TABLE skip")
    with Store(tmp_path / "c.sqlite") as store, pytest.raises(UserError, match=r"no such table.*is damaged"):
        store.open_specimen("S-1", SHA, "video", moving=True)


def test_a_name_that_sqlite_keeps_no_file_for_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Store(Path(":memory:")).close()
    assert (tmp_path / ":memory:").is_file()


def test_the_folder_that_is_made_for_the_counts_is_for_this_account_alone(tmp_path: Path) -> None:
    Store(tmp_path / "counts" / "c.sqlite").close()
    assert (tmp_path / "counts").stat().st_mode & 0o777 == 0o700


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "counts.sqlite"
    with Store(path) as store:
        row = store.open_specimen("S-1", SHA, "video", moving=True).specimen
        store.add(row, cells=[cell(number) for number in range(1, 100)])
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'cell'"
        (page,) = store._db.execute(query).fetchone()
    with path.open("r+b") as file:
        file.seek(4096 * (page - 1))
        file.write(bytes(4096))
    with Store(path) as store, pytest.raises(UserError, match="malformed"):
        store.open_specimen("S-1", SHA, "video", moving=True)


def test_a_file_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "counts.sqlite"
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    with pytest.raises(UserError, match="newer version"):
        Store(path)


def test_a_full_disk_is_said_and_what_was_saved_stays(tmp_path: Path) -> None:
    path = tmp_path / "counts.sqlite"
    with Store(path) as store:
        row = store.open_specimen("S-1", SHA, "video", moving=True).specimen
        store.add(row, cells=[cell(1)])
        (pages,) = store._db.execute("PRAGMA page_count").fetchone()
        store._db.execute(f"PRAGMA max_page_count = {pages}")
        big = KeyView(0, 0, 0, (640, 480), np.zeros((1000, 1000), np.int8))
        with pytest.raises(UserError, match="full"):
            store.add(row, cells=[cell(2)], key=big)
    with Store(path) as store:
        assert [c.number for c in store.open_specimen("S-1", SHA, "video", moving=True).cells] == [1]


def test_a_killed_writer_leaves_whole_frames_alone(tmp_path: Path) -> None:
    path = tmp_path / "counts.sqlite"
    program = (
        "import sys; from pathlib import Path; from edge.store import Progress, Store; "
        "from edge.gates import Gates; "
        "from tests.edge.test_store import SHA, cell\n"
        "store = Store(Path(sys.argv[1]))\n"
        "row = store.open_specimen('S', SHA, 'video', moving=True).specimen\n"
        "for n in range(1, 100000, 2):\n"
        "    store.add(row, cells=[cell(n), cell(n + 1)], progress=Progress(n, 0, Gates()))\n"
        "    print(n + 1, flush=True)\n"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, cwd=root) as writer:
        assert writer.stdout is not None
        shown = [int(writer.stdout.readline()) for _ in range(20)][-1]
        writer.send_signal(signal.SIGKILL)
    with Store(path) as store:
        numbers = [c.number for c in store.open_specimen("S", SHA, "video", moving=True).cells]
        (verdict,) = store._db.execute("PRAGMA integrity_check").fetchone()
    assert verdict == "ok"
    assert len(numbers) >= shown
    assert len(numbers) % 2 == 0
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_file_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    with sqlite3.connect(path) as db:
        db.executescript(MIGRATIONS[0] + "PRAGMA user_version = 1;")
        db.execute(
            "INSERT INTO specimen (name, started, model, source, moving) VALUES ('S', '', 'm', 'x', 1)"
        )
        db.execute(
            "INSERT INTO cell VALUES "
            "(1, 1, '', 'neutrophil', 0.9, '[1]', '0', '[1, 2, 3, 4]', 5, 6, 0, x'00')"
        )
    db.close()
    with Store(path) as store:
        (cell,) = store.open_specimen("S", "m", "x", moving=True).cells
        assert (cell.name, cell.strangeness) == ("neutrophil", 0)
        assert cell.network == [1], "what was stored as probabilities then"


def test_key_views_of_an_old_file_are_not_turned(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    with sqlite3.connect(path) as db:
        db.executescript(";".join(MIGRATIONS[:3]) + "; PRAGMA user_version = 3")
        db.execute(
            "INSERT INTO specimen (name, started, model, source, moving) VALUES ('S', '', 'm', 'x', 1)"
        )
        db.execute("INSERT INTO key_view VALUES (1, 3, 4, 64, 48, 2, x'18e80018')")
    db.close()
    with Store(path) as store:
        (key,) = store.open_specimen("S", "m", "x", moving=True).keys
        assert (key.x, key.y, key.angle) == (3, 4, 0)
