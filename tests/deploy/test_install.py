"""The parts of the installer that can run without a Raspberry Pi."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from edge.database import MIGRATIONS
from edge.store import Store

INSTALLER = Path(__file__).parents[2] / "deploy" / "install.sh"


def copy_counts(settings: Path, home: Path) -> subprocess.CompletedProcess[str]:
    """Run what the installer does with the counts, as it runs it."""
    program = INSTALLER.read_text().partition("<<'COPY' ||\n")[2].partition("COPY\n")[0]
    command = [sys.executable, "-I", "-", str(settings), str(home)]
    return subprocess.run(command, input=program, text=True, capture_output=True, check=False)


@pytest.mark.parametrize(
    "chosen", [None, "counts/counts.sqlite", "card/mine.sqlite", "{home}/card/mine.sqlite"]
)
def test_the_counts_as_they_were_are_kept_for_each_version_of_the_file(
    tmp_path: Path, chosen: str | None
) -> None:
    settings, home = tmp_path / "edge.toml", tmp_path / "home"
    if chosen:
        settings.write_text(f'database = "{chosen.format(home=home)}"')
    counts = home / (chosen or "counts/counts.sqlite").format(home=home)
    counts.parent.mkdir(parents=True)
    assert copy_counts(settings, home).returncode == 0, "nothing was counted yet"
    with closing(sqlite3.connect(counts)) as db:
        db.executescript(";".join(MIGRATIONS[:7]) + "; PRAGMA user_version = 7")
    assert copy_counts(settings, home).returncode == 0
    with Store(counts) as store:  # the newer program was started, and the update is run again
        store.open_specimen("S-1", "m", "video", moving=True)
    for _ in range(2):
        assert copy_counts(settings, home).returncode == 0
    copies = sorted(counts.parent.glob("before-update*"))
    assert {copy.stat().st_mode & 0o777 for copy in copies} == {0o600}, "identifiers are in them"
    assert [copy.name for copy in copies] == [f"before-update-{v}.sqlite" for v in (7, len(MIGRATIONS))]
    with closing(sqlite3.connect(copies[0])) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (7,)
    with closing(sqlite3.connect(copies[1])) as db:
        assert db.execute("SELECT name FROM specimen").fetchone() == ("S-1",)


@pytest.mark.parametrize(
    ("settings", "counts", "told"),
    [("", b"this is a letter", "counts.sqlite: file is not a database"), ("database =", b"", "edge.toml: ")],
)
def test_counts_that_cannot_be_copied_are_told(
    tmp_path: Path, settings: str, counts: bytes, told: str
) -> None:
    (tmp_path / "edge.toml").write_text(settings)
    (tmp_path / "counts").mkdir()
    (tmp_path / "counts" / "counts.sqlite").write_bytes(counts)
    done = copy_counts(tmp_path / "edge.toml", tmp_path)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_the_installer_is_sound_bash() -> None:
    assert subprocess.run(["bash", "-n", INSTALLER], check=False).returncode == 0
