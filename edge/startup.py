"""How a program begins, speaks and ends: what a person can mend is told in one line, without a traceback."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import TracebackType

from edge.errors import UserError

ENVIRONMENT = (
    "start it with the Python of its environment (in a clone `make .venv/edge` makes one: "
    ".venv/bin/python -m ...; on a Raspberry Pi deploy/install.sh does: /opt/wbc/venv/bin/python -m ...)"
)
"""The remedy of the edge's programs."""


def begin(remedy: str) -> None:
    """Let Ctrl-C or a missing package end this process with one line from now on; called before all imports.

    Args:
        remedy: what to do where a package is missing; told after its name.
    """
    sys.excepthook = partial(_tell, remedy)


def _tell(remedy: str, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
        sys.exit(130)
    if isinstance(error, ModuleNotFoundError):
        print(f"error: {error}; {remedy}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def run(work: Callable[[], int | None], stopped: str = "stopped") -> int:
    """Do a program's work; return its exit code, which is that of the work, or 0 where it gives none.

    Args:
        work: what a person can mend ends it with a UserError or an OSError, and exit code 1.
        stopped: what Ctrl-C leaves, in words; exit code 130.
    """
    try:
        code = work() or 0
        sys.stdout.flush()
    except BrokenPipeError:
        # Who read our output has enough (`| head`). What is left of it must not fail once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (UserError, OSError) as error:
        file, told = getattr(error, "filename", None), getattr(error, "strerror", None)
        print(f"error: {file}: {told}" if file and told else f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return 130
    return code


def say(text: str) -> None:
    """Print a line of what goes on; where nobody can read it any more (a log that is full), go on."""
    with suppress(OSError, ValueError):
        print(text, flush=True)
