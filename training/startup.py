"""What all programs of this package do before their `main` runs, while libraries are still imported."""

import os
import sys
from types import TracebackType


def begin() -> None:
    """Let TensorFlow start in silence, and Ctrl-C or a missing package end this process with one line."""
    # Without a GPU TensorFlow calls that an error; its own errors reach Python as exceptions anyhow.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.excepthook = _tell


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
        sys.exit(130)
    if isinstance(error, ModuleNotFoundError):
        print(f"error: {error}; `make .venv/dev` installs all that this needs", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
