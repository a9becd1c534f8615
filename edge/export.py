"""Cells that a person named, as images for `training.adapt`: `python -m edge.export FOLDER`."""

import hashlib
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from edge.config import HELP, Parser, read_lis_config
from edge.errors import UserError
from edge.store import Store


def export(database: Path, folder: Path, specimen: str | None = None) -> Counter[str]:
    """Write the picture of each cell that a person named; return how many there are of each class.

    A file is named by its content: no specimen's name leaves with it, and the same cell is written once. One
    that was named again since an earlier export leaves its folder for the new one.

    Args:
        database: of the counts.
        folder: gets a folder for each class, with JPEG files.
        specimen: of whose cells; None for those of all.

    Raises:
        UserError: the database is missing or damaged, nothing was named, or the files cannot be written.
    """
    if not database.is_file():
        raise UserError(f"{database}: there is no such file; --database names that of the counts")
    with Store(database) as store:
        named = store.named_cells(specimen)
    if not named:
        whose = "of this specimen" if specimen else "here"
        raise UserError(f"{database}: no cell {whose} was named by a person; name some on the page first")
    try:
        for name, crop in named:
            file = f"{hashlib.blake2b(crop, digest_size=8).hexdigest()}.jpg"
            for other in folder.glob(f"*/{file}"):
                other.unlink()
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / name / file).write_bytes(crop)
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}; name another folder") from None
    return Counter(name for name, _ in named)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = Parser(
        prog="python -m edge.export",
        description="Write the cells that a person named on the page as images, a folder for each class.",
    )
    parser.add_argument("folder", type=Path, help="where to; training.adapt --images reads it")
    parser.add_argument("--config", type=Path, default=None, help="settings file, see deploy/edge.toml")
    parser.add_argument("--database", type=Path, default=None, help=HELP["database"])
    parser.add_argument("--specimen", default=None, help="cells of this one alone; else of all")
    options = parser.parse_args(arguments)
    given = {"database": options.database} if options.database else {}
    try:
        database = read_lis_config(options.config, given).database
        written = export(database, options.folder, options.specimen)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for name, number in sorted(written.items()):
        print(f"{name}: {number}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
