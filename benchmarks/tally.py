"""What came of counting a film, against its truth."""

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.real_slide import TrueCell
from benchmarks.stage_script import FrameTruth
from edge.cells import Box


@dataclass(frozen=True, slots=True)
class Counted:
    """One cell that a counter counted."""

    frame: int
    box: Box
    """Where it was seen, in that frame's pixels."""
    name: str
    """The class that it was counted as, one of all that the model knows."""
    five: str
    """The likeliest of the study's five classes, by all its sightings."""
    single: str
    """The same, by its sharpest sighting alone."""
    review: bool


@dataclass(frozen=True, slots=True)
class Tally:
    """Figures of one film, or of several. Cells never seen well are in `twice` and `others` alone."""

    truth: int = 0
    """Leukocytes seen well."""
    missed: int = 0
    """Of these, not counted."""
    twice: int = 0
    """Counts of a cell that had been counted already."""
    false: int = 0
    """Counts where no leukocyte lies."""
    right: int = 0
    """Cells counted whose class of the five is that which the experts gave them."""
    single_right: int = 0
    """Cells whose sharpest sighting alone has that class."""
    named_right: int = 0
    """Cells counted as that class, where any that the model knows might have been named."""
    sure: int = 0
    """Cells counted and not sent to review."""
    sure_right: int = 0
    """Of these, counted as the right class."""
    identity: int = 0
    """Names too many for a cell, and cells too many for a name."""
    cells: int = 0
    """Leukocytes on the slide."""
    others: int = 0
    """Of these counted though they were never seen well."""
    others_wrong: int = 0
    """Of `others`, counted as another class and not sent to review."""
    frames: int = 0
    seconds: float = 0.0
    """What linking took, and for ours the motion of the stage too."""

    def __add__(self, other: "Tally") -> "Tally":
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Tally(*(a + b for a, b in pairs))

    @property
    def found(self) -> int:
        """Leukocytes seen well and counted."""
        return self.truth - self.missed

    @property
    def counted(self) -> int:
        """Counts in all."""
        return self.found + self.twice + self.false

    @property
    def error(self) -> float:
        """Count error as a share of the truth, negative where too few were counted."""
        return (self.counted - self.truth) / max(self.truth, 1)

    @property
    def wrong(self) -> int:
        """How many were missed, counted twice, or none: these do not make up for each other."""
        return self.missed + self.twice + self.false

    def row(self, name: str) -> str:
        """Return a line of the table under `HEADING`."""

        def percent(part: int, of: int) -> str:
            return f"{100 * part / of:9.2f}" if of else f"{'-':>9}"

        return (
            f"{name:22}{self.truth:6}{self.counted:9}{100 * self.error:+9.2f}{self.missed:8}{self.twice:7}"
            f"{self.false:7}{self.identity:10}{percent(self.right, self.found)}"
            f"{percent(self.single_right, self.found)}{percent(self.named_right, self.found)}"
            f"{percent(self.sure, self.found)}{percent(self.sure_right, self.sure)}"
            f"{1e3 * self.seconds / max(self.frames, 1):10.2f}"
        )


HEADING = (
    f"{'':22}{'truth':>6}{'counted':>9}{'error %':>9}{'missed':>8}{'twice':>7}{'false':>7}{'identity':>10}"
    f"{'five %':>9}{'single %':>9}{'named %':>9}{'sure':>9}{'right %':>9}{'ms/frame':>10}"
)


def true_cell(box: Box, frame: FrameTruth, cells: Iterable[TrueCell]) -> int | None:
    """Return the number of the true cell under a box; None where there is none."""
    if frame.swapped:
        return None
    x, y = frame.pose.to_slide(*box.centre)
    distance, near = min(((math.hypot(x - c.x, y - c.y), c) for c in cells), key=lambda pair: pair[0])
    return near.number if distance < near.diameter / 2 else None


def score(
    counted: Sequence[Counted],
    names: Mapping[tuple[int, Box], int],
    frames: Sequence[FrameTruth],
    cells: Sequence[TrueCell],
    well: frozenset[int],
) -> Tally:
    """Return the tally of one film; its time is the caller's to add.

    Args:
        counted: what was counted, in order.
        names: the counter's name of every box that has one, by frame and box.
        frames: truth.
        cells: of the slide, at least one.
        well: numbers of the cells seen well.
    """
    first: dict[int, Counted] = {}
    twice = false = 0
    for one in counted:
        number = true_cell(one.box, frames[one.frame], cells)
        if number is None:
            false += 1
        elif number in first:
            twice += 1
        else:
            first[number] = one
    classes = {cell.number: cell.name for cell in cells}
    found = [(one, classes[number]) for number, one in first.items() if number in well]
    others = [(one, classes[number]) for number, one in first.items() if number not in well]
    return Tally(
        truth=len(well),
        missed=len(well) - len(found),
        twice=twice,
        false=false,
        right=sum(one.five == name for one, name in found),
        single_right=sum(one.single == name for one, name in found),
        named_right=sum(one.name == name for one, name in found),
        sure=sum(not one.review for one, _ in found),
        sure_right=sum(one.name == name and not one.review for one, name in found),
        identity=_identity_errors(names, frames, cells),
        cells=len(cells),
        others=len(others),
        others_wrong=sum(one.name != name and not one.review for one, name in others),
        frames=len(frames),
    )


def _identity_errors(
    names: Mapping[tuple[int, Box], int], frames: Sequence[FrameTruth], cells: Sequence[TrueCell]
) -> int:
    """Return how many names too many cells have, and cells too many names have."""
    pairs = Counter((true_cell(box, frames[frame], cells), name) for (frame, box), name in names.items())
    of_cell, of_name = defaultdict(set), defaultdict(set)
    for cell, name in pairs:
        if cell is not None:
            of_cell[cell].add(name)
            of_name[name].add(cell)
    return sum(len(group) - 1 for groups in (of_cell, of_name) for group in groups.values())
