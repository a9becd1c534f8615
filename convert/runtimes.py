"""Does every supported runtime take the integer file, and say the same? `python -m convert.runtimes`.

Each runtime gets a virtual environment of its own and is asked, in a child process, about real and random
crops, with its delegate and without. A refusal or an abort is told with its last line. --aarch64 FOLDER asks
an emulated ARM processor too; convert/aarch64.sh fills the folder.
"""

import argparse
import os
import subprocess
import sys
import time
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.classify import DEFAULT_MODEL
from edge.errors import UserError
from edge.startup import Parser, run
from training import data
from training.predict import Predictor, look, open_model

_ROOT = Path(__file__).parents[1]
WITHOUT = "without delegate"
RUNTIMES = (
    ("ai-edge-litert==1.4.0",),
    ("ai-edge-litert==2.1.0",),
    ("ai-edge-litert",),
    ("tflite-runtime==2.14.0", "numpy<2"),
)
"""What pip is given: the oldest supported, the oldest of the second series, the newest; and the one before
them all, whose wheels end with Python 3.11."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A way to run the file."""

    name: str
    command: Sequence[str]
    """Starts Python with the runtime."""
    path: Sequence[Path] = ()
    """More places to import from."""


def environments(folder: Path) -> list[Asked]:
    """Make the virtual environment of each runtime in `folder`, where it is not there yet.

    Raises:
        UserError: pip cannot install one.
    """
    found = []
    for packages in RUNTIMES:
        if "tflite-runtime" in packages[0] and sys.version_info >= (3, 12):
            print(f"{packages[0]}: left out, it has no wheel for this Python", flush=True)
            continue
        place = folder / packages[0].replace("==", "-")
        python = place / "bin" / "python"
        if not (place / "complete").exists():
            print(f"installing {packages[0]}", flush=True)
            venv.create(place, with_pip=True, clear=True)
            needed = ["-m", "pip", "install", "--quiet", *packages, "numpy"]
            done = subprocess.run([python, *needed], capture_output=True, text=True, check=False)
            if done.returncode:
                raise UserError(f"{packages[0]} cannot be installed: {_last_line(done.stderr)}")
            (place / "complete").touch()
        found.append(Asked(_version(python, packages[0]), (str(python),)))
    return found


def _version(python: Path, package: str) -> str:
    name = package.partition("==")[0]
    program = f"from importlib.metadata import version; print(version({name!r}))"
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True)
    return f"{name} {done.stdout.strip()}"


def emulated(folder: Path) -> Asked:
    """Return how to ask the emulated ARM processor whose system and packages are in `folder`.

    Raises:
        UserError: the folder was not filled.
    """
    python = folder / "root" / "usr" / "bin" / "python3.11"
    if not python.exists():
        raise UserError(f"{folder}: no emulated system; run convert/aarch64.sh {folder}")
    command = ("qemu-aarch64-static", "-L", str(folder / "root"), str(python))
    return Asked("aarch64, emulated", command, (folder / "site",))


def ask(asked: Asked, file: Path, crops: Path, random: int, *, delegate: bool) -> NDArray[np.float32] | str:
    """Return the probabilities, shape (crops, classes), or why there are none.

    Args:
        asked: how to run it.
        file: the .tflite file.
        crops: .npy file of crops; the answers are written beside it.
        random: number of random crops to ask about as well.
        delegate: run with the runtime's delegate.
    """
    output = crops.with_name("answers.npy")
    given = [str(file), str(crops), str(random), str(output), "default" if delegate else "none"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(p) for p in (_ROOT, *asked.path))}
    done = subprocess.run(
        [*asked.command, "-m", "convert.ask", *given],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    if done.returncode:
        return f"exit {done.returncode}: {_last_line(done.stderr)}"
    return np.asarray(np.load(output), np.float32)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]


def compare(answers: Mapping[str, NDArray[np.float32] | str], real: int) -> tuple[list[str], bool]:
    """Return a line for each way, against the first that answered, and whether all say the same.

    They do where each answers and, with its delegate, gives each of the first `real` crops the same class:
    without one a runtime rounds elsewhere, and on noise that shows.
    """
    reference = next((a for a in answers.values() if not isinstance(a, str)), None)
    lines, agreed = [], True
    for name, answer in answers.items():
        if isinstance(answer, str) or reference is None:
            lines.append(f"{name:40} FAILED  {answer}")
            agreed = False
            continue
        number = min(len(answer), len(reference))
        same = answer[:number].argmax(axis=1) == reference[:number].argmax(axis=1)
        agreed &= bool(same[:real].all()) or WITHOUT in name
        gap = np.abs(answer[:number] - reference[:number]).max()
        lines.append(
            f"{name:40} {number:6d} crops, {100 * same.mean():6.2f} % the same class "
            f"({int((~same).sum())} differ), probabilities within {gap:.4f}"
        )
    return lines, agreed


def _write_crops(file: Path, samples: Sequence[data.Sample], predictor: Predictor) -> int:
    crops = np.lib.format.open_memmap(
        file, mode="w+", dtype=np.uint8, shape=(len(samples), predictor.size, predictor.size, 3)
    )
    for i, sample in enumerate(samples):
        crops[i] = look(sample, predictor)
    crops.flush()
    return len(samples)


def _run(options: argparse.Namespace) -> int:
    # What can be missing comes before the environments, which take minutes.
    samples = data.of_split(data.load(options.data), options.split)[: options.crops]
    arm = emulated(options.aarch64) if options.aarch64 else None
    predictor = open_model(options.file)
    options.work.mkdir(parents=True, exist_ok=True)
    ways = environments(options.work)
    crops = options.work / "crops.npy"
    print(f"cutting the crops of {len(samples)} images", flush=True)
    real = _write_crops(crops, samples, predictor)
    random = max(0, options.crops - real)
    print(f"{real} real crops of split {options.split}, {random} random ones", flush=True)
    tasks = [(way, delegate, random) for way in ways for delegate in (True, False)]
    if arm:
        tasks.append((arm, True, 0))
    answers = {}
    for way, delegate, number in tasks:
        name = f"{way.name}, {'with delegate' if delegate else WITHOUT}"
        begun = time.monotonic()
        answers[name] = ask(way, options.file, crops, number, delegate=delegate)
        print(f"{name}: {time.monotonic() - begun:.0f} s", flush=True)
    lines, agreed = compare(answers, real)
    print("\n".join(lines))
    return int(not agreed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = Parser(prog="python -m convert.runtimes", description=__doc__)
    parser.add_argument("--file", type=Path, default=DEFAULT_MODEL, help="the .tflite file")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with cells.csv")
    parser.add_argument("--split", default="test", help="whose crops are asked about")
    parser.add_argument(
        "--crops", type=int, default=10_000, help="in all; the split's first, then random ones"
    )
    parser.add_argument("--aarch64", type=Path, help="folder that convert/aarch64.sh filled")
    parser.add_argument("--work", type=Path, default=Path("runs/runtimes"), help="folder of the environments")
    options = parser.parse_args(arguments)
    return run(lambda: _run(options))


if __name__ == "__main__":
    sys.exit(main())
