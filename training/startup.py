"""How the programs of this package, and of `convert`, begin and end: in one line, never with a traceback."""

import os
import sys
from collections.abc import Callable

from edge import startup
from edge.errors import UserError


def begin() -> None:
    """Let TensorFlow start in silence, and Ctrl-C or a missing package end this process with one line."""
    # Without a GPU TensorFlow calls that an error; its own errors reach Python as exceptions anyhow.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    startup.begin("`make .venv/dev` installs all that this needs")


def run(work: Callable[[], int | None], stopped: str = "stopped") -> int:
    """Do a program's work; return its exit code, which is that of the work, or 0 where it gives none.

    Args:
        work: what a person can mend ends it with a UserError or an OSError, and exit code 1.
        stopped: what Ctrl-C leaves, in words; exit code 130.
    """
    try:
        return work() or 0
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return 130
