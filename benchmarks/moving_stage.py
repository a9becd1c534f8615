"""Does the instrument count each cell of a moving stage exactly once? `python -m benchmarks.moving_stage`.

For every seed a film with known truth is made (`benchmarks.simulate_stage`) and counted by
`python -m edge.run`, as a user would. In the same run, beside it, the usual alternative: a tracker that
links boxes from frame to frame by their overlap and knows nothing of the stage, fed with the boxes of
the same locator. Exit code 1 where the pooled count is wrong by more than 3 %.
"""

import argparse
import dataclasses
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from benchmarks.real_slide import build_slide
from benchmarks.simulate_stage import StageScript, write
from edge.cells import Box, Frame, Role
from edge.classify import Classifier
from edge.errors import UserError
from edge.localise import Locator
from edge.preprocess import crop
from edge.replay import VideoFile
from training.locating import overlap

MOST_ERROR = 0.03
"""Greatest count error (share of the cells seen well) that passes."""
_EXIT_SKIPPED = 3
"""The instrument's exit code where all was read but some frames could not be."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What came of one film, or of several. Cells never seen well are left out of every figure."""

    truth: int = 0
    """Leukocytes seen well."""
    counted: int = 0
    """Cells in the instrument's total."""
    missed: int = 0
    """Cells seen well and not counted."""
    twice: int = 0
    """Counts of a cell that had been counted already."""
    false: int = 0
    """Counts where no leukocyte lies."""
    right: int = 0
    """Cells counted with the class that the experts gave them."""
    frames: int = 0
    seconds: float = 0.0
    """Wall time of the instrument, from its start to its end."""
    alternative: int = 0
    """Cells counted by the overlap tracker."""

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            *(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True))
        )

    @property
    def error(self) -> float:
        """Count error as a share of the truth, negative where too few were counted."""
        return (self.counted - self.truth) / self.truth

    @property
    def alternative_error(self) -> float:
        """The same for the overlap tracker."""
        return (self.alternative - self.truth) / self.truth

    def row(self, name: str) -> str:
        """Return a line of the table under `HEADING`."""
        right = 100 * self.right / max(self.truth - self.missed, 1)
        return (
            f"{name:8}{self.truth:10}{self.counted:9}{100 * self.error:+9.1f}{self.missed:8}{self.twice:7}"
            f"{self.false:7}{right:13.1f}{self.frames / self.seconds:10.1f}"
            f"{self.alternative:13}{100 * self.alternative_error:+9.1f}"
        )


HEADING = (
    f"{'seed':8}{'seen well':>10}{'counted':>9}{'error %':>9}{'missed':>8}{'twice':>7}{'false':>7}"
    f"{'class right %':>14}{'frames/s':>9}{'IoU tracker':>13}{'error %':>9}"
)


def score(truth: Mapping[str, Any], result: Mapping[str, Any], seconds: float) -> Tally:
    """Return the tally of one film.

    Args:
        truth: as `simulate_stage.write` returns it.
        result: the instrument's JSON (`edge.report.result`).
        seconds: what the instrument took.
    """
    cells = {cell["number"]: cell for cell in truth["cells"]}
    well = {number for number, cell in cells.items() if cell["seen_well"]}
    # The total holds the classes of the differential alone: rejected and per-100 cells do not count.
    counted = [cell for cell in result["cells"] if cell["class"] in result["differential"]]
    first: dict[int, str] = {}
    twice = false = 0
    for cell in counted:
        number = _true_cell(cell, truth)
        if number is None:
            false += 1
        elif number in first:
            twice += number in well
        else:
            first[number] = cell["class"]
    found = well & first.keys()
    return Tally(
        truth=len(well),
        counted=len(found) + twice + false,
        missed=len(well) - len(found),
        twice=twice,
        false=false,
        right=sum(first[number] == cells[number]["name"] for number in found),
        frames=len(truth["frames"]),
        seconds=seconds,
    )


def _true_cell(cell: Mapping[str, Any], truth: Mapping[str, Any]) -> int | None:
    """Return the number of the true cell under a counted cell's box; None where there is none."""
    frame = truth["frames"][cell["source"]]
    x, y = Box(*cell["box"]).centre
    distance, nearest = min(
        (math.hypot(frame["x"] + x - c["x"], frame["y"] + y - c["y"]), i)
        for i, c in enumerate(truth["cells"])
    )
    near = truth["cells"][nearest]
    return int(near["number"]) if distance < near["diameter"] / 2 else None


class OverlapTracker:
    """Links each box to the track that it overlaps most; greedy, without any stage motion.

    Args:
        least_overlap: intersection over union (0..1) from which a box may belong to a track.
        most_missed: frames without a box after which a track has ended.
        hits: boxes that make a track count.
    """

    def __init__(self, least_overlap: float = 0.3, most_missed: int = 15, hits: int = 3) -> None:
        self._least_overlap, self._most_missed, self._hits = least_overlap, most_missed, hits
        self._tracks: list[_Track] = []

    def update(self, boxes: Sequence[Box]) -> list[Box]:
        """Take the boxes of the next frame; return those that make a track count just now."""
        for one in self._tracks:
            one.missed += 1
        pairs = sorted(
            (
                (overlap(one.box, box), i, j)
                for i, one in enumerate(self._tracks)
                for j, box in enumerate(boxes)
            ),
            reverse=True,
        )
        linked: dict[int, int] = {}
        for value, i, j in pairs:
            if value >= self._least_overlap and i not in linked.values() and j not in linked:
                linked[j] = i
        fresh = []
        for j, box in enumerate(boxes):
            if j in linked:
                self._tracks[linked[j]].see(box)
                if self._tracks[linked[j]].hits == self._hits:
                    fresh.append(box)
        self._tracks += [_Track(box) for j, box in enumerate(boxes) if j not in linked]
        self._tracks = [one for one in self._tracks if one.missed <= self._most_missed]
        return fresh


class _Track:
    def __init__(self, box: Box) -> None:
        self.box, self.hits, self.missed = box, 1, 0

    def see(self, box: Box) -> None:
        self.box, self.hits, self.missed = box, self.hits + 1, 0


def count_by_overlap(video: Path, frames: int) -> int:
    """Return how many leukocytes the overlap tracker counts, fed by the instrument's locator.

    Its tracks are classified once, when they count, so that platelets are left out here too.
    """
    locator, classifier, tracker, count = Locator(), Classifier(), OverlapTracker(), 0
    card = classifier.card
    for frame in track(
        VideoFile(video).frames(), "overlap tracker", total=frames, console=Console(stderr=True)
    ):
        if not isinstance(frame, Frame):
            continue
        fresh = tracker.update([found.box for found in locator.locate(frame.image) if found.whole])
        for p in classifier.classify([crop(frame.image, box, card.size) for box in fresh]).probabilities:
            count += card.classes[int(p.argmax())].role is Role.COUNTED
    return count


def run_instrument(video: Path, folder: Path) -> tuple[dict[str, Any], float]:
    """Count `video` with `edge.run`; return its JSON and the seconds that it took.

    Raises:
        UserError: the program failed.
    """
    output = folder / "out.json"
    command = [sys.executable, "-m", "edge.run", "--video", str(video), "--headless", "--specimen", "bench"]
    command += ["--json", str(output), "--database", str(folder / "db.sqlite")]
    start = time.monotonic()
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, cwd=root, stdout=sys.stderr, check=False)
    seconds = time.monotonic() - start
    if done.returncode not in (0, _EXIT_SKIPPED):
        raise UserError(f"edge.run ended with code {done.returncode}; its message stands above")
    return json.loads(output.read_text(encoding="utf-8")), seconds


def measure(data: Path, split: str, seed: int) -> Tally:
    """Make one film, count it both ways, and return what came of it.

    Raises:
        UserError: the images are missing, or the instrument failed.
    """
    print(f"seed {seed}: building the slide", file=sys.stderr, flush=True)
    slide = build_slide(data, split, seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        truth = write(slide, StageScript(), seed, folder)
        video = folder / "stage.avi"
        tally = score(truth, *run_instrument(video, folder))
        return dataclasses.replace(tally, alternative=count_by_overlap(video, tally.frames))


def write_figures(file: Path, tallies: Mapping[str, Tally]) -> None:
    """Write every tally (the fields of `Tally`, by seed and "pooled") as JSON.

    Raises:
        UserError: the file cannot be written.
    """
    figures = {name: dataclasses.asdict(tally) for name, tally in tallies.items()}
    try:
        file.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}; --json names a file to write to") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.moving_stage", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with cells.csv")
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args(arguments)
    try:
        tallies = {str(seed): measure(options.data, options.split, seed) for seed in options.seeds}
        pooled = sum(tallies.values(), Tally())
        tallies["pooled"] = pooled
        print(HEADING, *(tally.row(name) for name, tally in tallies.items()), sep="\n")
        # Our error counts as one cell at least: a ratio to nothing says nothing.
        ratio = abs(pooled.alternative_error) / max(abs(pooled.error), 1 / pooled.truth)
        print(f"the overlap tracker's count error is {ratio:.1f} times ours")
        if options.json:
            write_figures(options.json, tallies)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return int(abs(pooled.error) > MOST_ERROR)


if __name__ == "__main__":
    sys.exit(main())
