"""What a program does before its imports: a missing package then ends it with one line, no traceback."""

import sys
from functools import partial
from types import TracebackType

ENVIRONMENT = (
    "start it with the Python of its environment (in a clone `make .venv/edge` makes one: "
    ".venv/bin/python -m ...; on a Raspberry Pi deploy/install.sh does: /opt/wbc/venv/bin/python -m ...)"
)
"""The remedy of the edge's programs."""


def begin(remedy: str) -> None:
    """Let Ctrl-C or a missing package end this process with one line from now on.

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
