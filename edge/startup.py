"""How a program begins, speaks and ends: what a person can mend is told in one line, without a traceback."""

import argparse
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, NoReturn, TextIO

from edge.errors import UserError

ENVIRONMENT = (
    "start it with the Python of its environment (in a clone `make .venv/edge` makes one: "
    ".venv/bin/python -m ...; on a Raspberry Pi deploy/install.sh does: /opt/wbc/venv/bin/python -m ...)"
)
"""The remedy of the edge's programs."""


class Parser(argparse.ArgumentParser):
    """A command line that says in one line what is wrong; its help says the rest. No option is shortened."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """End the program with exit code 2."""
        self.exit(2, f"error: {message}; --help lists the options\n")


def begin(remedy: str) -> None:
    """Let Ctrl-C or a missing package end this process with one line from now on; called before all imports.

    Args:
        remedy: what to do where a package is missing; told after its name.
    """
    sys.excepthook = partial(_tell, remedy)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file's name may hold letters that a log's character set lacks: no reason to end.
        sys.stdout.reconfigure(errors="replace")


def _tell(remedy: str, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, KeyboardInterrupt):
        complain("stopped")
        sys.exit(130)
    if isinstance(error, ModuleNotFoundError):
        complain(f"error: {error}; {remedy}")
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
    except BrokenPipeError:
        code = 141
    except (UserError, OSError) as error:
        file, told = getattr(error, "filename", None), getattr(error, "strerror", None)
        complain(f"error: {file}: {told}" if file and told else f"error: {error}")
        code = 1
    except KeyboardInterrupt:
        complain(stopped)
        code = 130
    return _flushed(code)


def _flushed(code: int) -> int:
    """Write out what was printed; return the exit code, another one than `code` 0 where that fails."""
    try:
        sys.stdout.flush()
    except OSError as error:
        # Of what nobody takes the rest must not fail once more when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return code or 141  # who read it has enough (`| head`)
        if not code:
            complain(f"error: standard output: {error.strerror}")
        return code or 1
    return code


def say(text: str) -> None:
    """Print a line of what goes on; where nobody can read it any more (a log that is full), go on."""
    _print(text, sys.stdout)


def complain(text: str) -> None:
    """Print a line to standard error; where nobody can read that, go on: what was counted must be kept."""
    _print(text, sys.stderr)


def _print(text: str, stream: TextIO) -> None:
    with suppress(OSError, ValueError):
        # In one piece: another thread may print at this moment.
        print(f"{text}\n", end="", file=stream, flush=True)
