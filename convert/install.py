"""Put a converted file in place with its card: nothing half-written, nothing that does not run."""

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edge.errors import UserError
from edge.whole import write_json


def install(
    content: bytes,
    card: Mapping[str, Any],
    output: Path,
    program: str,
    judge: Callable[[Path], Mapping[str, Any]],
) -> dict[str, Any]:
    """Write a .tflite file and its card to `output`, whole or not at all; return the whole card.

    A power cut between the two moves of the end leaves a pair that does not fit: the instrument refuses it.

    Args:
        content: of the file.
        card: what is said of it, but for its hash and size.
        output: place of the file; the card is beside it, ending in .json.
        program: Python code that loads and runs the file of its first argument.
        judge: given the file, with its card beside it, tells what the card says besides; may take minutes.

    Raises:
        UserError: the runtime refuses the file or dies of it; or as `judge` does.
    """
    told = {**card, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as folder:
        part = Path(folder) / output.name
        part.write_bytes(content)
        write_json(part.with_suffix(".json"), told)
        print("running the file once", flush=True)
        _run_in_a_child(program, part)
        told |= judge(part)
        write_json(part.with_suffix(".json"), told)
        part.with_suffix(".json").replace(output.with_suffix(".json"))
        part.replace(output)
    return told


def _run_in_a_child(program: str, file: Path) -> None:
    """Run a file once in a process of its own: a bad file can abort the process that loads it.

    Args:
        program: Python code that loads and runs the file of its first argument.
        file: of TFLite, its card beside it.

    Raises:
        UserError: the runtime refuses the file or dies of it.
    """
    done = subprocess.run([sys.executable, "-c", program, file], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"the runtime does not run the converted file (exit {done.returncode}): {last}")
