"""How the programs of this package, of `convert` and of `benchmarks` begin."""

import os

from edge import startup


def begin() -> None:
    """Let TensorFlow start in silence, and Ctrl-C or a missing package end this process with one line."""
    # Without a GPU TensorFlow calls that an error; its own errors reach Python as exceptions anyhow.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    startup.begin("`make .venv/dev` installs all that this needs")
