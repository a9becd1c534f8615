"""What ends a program before its `main` runs, while libraries are imported: one line, no traceback."""

import sys
from types import TracebackType


def tell_in_one_line() -> None:
    """Let Ctrl-C, and a package that is missing, end this process with a line on stderr."""
    sys.excepthook = _tell


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
        sys.exit(130)
    if isinstance(error, ModuleNotFoundError):
        print(f"error: {error}; `make .venv/dev` installs all that this needs", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
