"""A program where a library is missing."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path


def run_without(
    folder: Path, program: str, libraries: Iterable[str], fault: str
) -> subprocess.CompletedProcess[str]:
    """Run `program` as `python -m` does, with `fault`, a line of Python, in place of the `libraries`."""
    for library in libraries:
        (folder / f"{library}.py").write_text(fault)
    run = (
        "import runpy, sys; sys.path.insert(0, sys.argv[1]); runpy.run_module(sys.argv[2], None, '__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", run, folder, program], capture_output=True, text=True, check=False
    )
