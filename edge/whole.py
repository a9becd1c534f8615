"""Files that hold all of what was written to them or what they held before, also after a power loss."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from edge.errors import UserError


@contextmanager
def whole(path: Path, suffix: str = "") -> Iterator[Path]:
    """Give the block another path to write to; what it wrote takes the place of `path` when it is done.

    The other is hidden and in the same folder. Where the block fails it is removed.

    Args:
        path: of the file.
        suffix: of the other path, behind that of `path`, which some writers need to see.

    Raises:
        OSError: it cannot be written, or cannot take the place.
    """
    part = path.with_name(f".part-{path.name}{suffix}")
    try:
        yield part
        _sync(part)
        # Whoever closed it to others did so for what is in it. Some network shares know no modes.
        with suppress(OSError):
            before = path.stat()
            if before.st_uid == os.geteuid():
                part.chmod(before.st_mode & 0o777)
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    # Some network shares cannot, and a folder only for putting in may not be opened; the file is safe.
    with suppress(OSError):
        _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def named(path: Path) -> AbstractContextManager[Path]:
    """Give the block what to write to, as `whole` does, for a file that a person names.

    A link to a file stays one; a pipe or a device (/dev/stdout) is written to: only a file can be replaced.
    """
    replaced = path.is_file() or not path.exists()
    return whole(Path(os.path.realpath(path))) if replaced else nullcontext(path)


def may_replace(path: Path) -> bool:
    """Tell whether a result may be written to `path`: nothing else is destroyed by it."""
    if not path.is_file():
        return True
    with path.open("rb") as file:
        begins = file.read(200)
    return not begins or (begins.startswith(b"{") and b'"notice"' in begins)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` to a file as a whole.

    Raises:
        UserError: the file cannot be written.
    """
    text = json.dumps(content, indent=1, allow_nan=False)
    try:
        with named(path) as place:
            place.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; name another file") from None
