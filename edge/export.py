"""Cells that a person named, as images for `training.adapt`: `python -m edge.export FOLDER`."""

if __name__ == "__main__":
    from edge import startup

    startup.begin(startup.ENVIRONMENT)

import argparse
import csv
import hashlib
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from edge.config import HELP, path_of, read_lis_config
from edge.errors import UserError
from edge.imagefile import decode_crop
from edge.preprocess import CONTEXT
from edge.startup import Parser, run
from edge.store import Store
from edge.whole import whole

_COLUMNS = ("file", "class", "film", "x", "y", "w", "h")


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote."""

    classes: Counter[str]
    """Pictures of each class."""
    films: int
    """Specimens that they come from."""
    contradicted: int
    """Pictures that were left out, because they were named differently in two specimens."""


class _Row(NamedTuple):
    file: str
    name: str
    film: int
    x: float
    y: float
    width: float
    height: float


def export(database: Path, folder: Path, specimen: str | None = None) -> Exported:
    """Write the picture of each cell that a person named.

    `folder` gets the pictures in `cells/` and a list of them, `cells.csv`, which replaces that of an earlier
    export: file, class, film (an opaque number of the specimen) and the cell's box in pixels. A file is named
    by its content: no specimen's name leaves with it, and the same picture is written once.

    Args:
        database: of the counts.
        folder: where to.
        specimen: of whose cells; None for those of all. Cells of the demo are left out.

    Raises:
        UserError: the database is missing or damaged, nothing was named, `folder` has another list, or the
            files cannot be written.
    """
    try:
        if not database.exists():
            raise UserError(f"{database}: there is no such file; --database names that of the counts")
    except OSError as error:
        raise UserError(f"{database}: {error.strerror}; --database names the file of the counts") from None
    with Store(database) as store:
        named = store.named_cells(specimen)
    if not named:
        whose = "of a specimen of this name" if specimen else "of a real smear"
        raise UserError(f"{database}: no cell {whose} was named by a person; name some on the page first")
    rows: dict[str, _Row] = {}
    pictures: dict[str, bytes] = {}
    contradicted = set()
    table = folder / "cells.csv"
    try:
        if table.exists() and not table.read_bytes().startswith(",".join(_COLUMNS).encode()):
            raise UserError(f"{table}: there already, and no export's; name another folder")
        (folder / "cells").mkdir(parents=True, exist_ok=True)
        for film, name, crop in named:
            file = f"{hashlib.blake2b(crop, digest_size=8).hexdigest()}.jpg"
            row = _Row(file, name, film, *_box(crop))
            pictures[file] = crop
            if rows.setdefault(file, row).name != name:
                contradicted.add(file)
        kept = [row for file, row in rows.items() if file not in contradicted]
        for row in kept:
            (folder / "cells" / row.file).write_bytes(pictures[row.file])
        with whole(table) as part, part.open("w", newline="", encoding="utf-8") as written:
            csv.writer(written, lineterminator="\n").writerows([_COLUMNS, *kept])
    except OSError as error:
        raise UserError(f"{error.filename or folder}: {error.strerror}; name another folder") from None
    return Exported(Counter(row.name for row in kept), len({row.film for row in kept}), len(contradicted))


def _box(crop: bytes) -> tuple[float, float, float, float]:
    """Return where the cell lies in its picture, as `edge.preprocess` cut it: x, y, width, height, pixels."""
    if (picture := decode_crop(crop)) is None:
        raise UserError("the picture of a named cell is damaged: export the others by --specimen")
    side = picture.shape[0]
    length = side / CONTEXT
    return (side - length) / 2, (side - length) / 2, length, length


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = Parser(
        prog="python -m edge.export",
        description="Write the cells that a person named on the page as images, and a list of their classes.",
    )
    parser.add_argument("folder", type=path_of, help="where to; training.adapt --images reads it")
    parser.add_argument("--config", type=path_of, default=None, help="settings file, see deploy/edge.toml")
    parser.add_argument("--database", type=path_of, default=None, help=HELP["database"])
    parser.add_argument("--specimen", default=None, help="cells of this one alone; else of all")
    options = parser.parse_args(arguments)
    return run(lambda: _work(options))


def _work(options: argparse.Namespace) -> None:
    given = {"database": options.database} if options.database else {}
    database = read_lis_config(options.config, given).database
    written = export(database, options.folder, options.specimen)
    for name, number in sorted(written.classes.items()):
        print(f"{name}: {number}")
    if written.contradicted:
        print(f"left out, as they were named differently in two specimens: {written.contradicted}")
    print(f"{written.classes.total()} cells, specimens {written.films}: written to {options.folder}")
    if written.films < 2:
        print("note: training.adapt needs cells of two specimens at least")


if __name__ == "__main__":
    sys.exit(main())
