"""What is seen of one cell, frame after frame, and what is decided from it."""

import itertools
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from edge.cells import Box, Cell, CellClass, Detection, Probabilities, Role
from edge.imagefile import decode_crop, encode_crop
from edge.nucleus import Nuclei, density, reduced
from edge.sizes import Sizes

_LEAST_WEIGHT = 1e-6
"""Added to the weight of a sighting, so that a featureless one has one too."""
_LEAST_CENTRAL = 0.3
"""Weight of a sighting at the border of the frame beside one well inside."""
_WELL_INSIDE = 0.5
"""A cell is well inside a frame where this many box sides lie between it and the border."""
_LEAST_AGREEMENT = 0.6
"""Share (0..1, by weight) of the sightings that must by themselves have the class decided on."""

_keys = itertools.count(-1, -1)


class Decision:
    """How the cells of a specimen get their classes.

    Args:
        classes: of the model, in order.
        review_below: confidence (0..1) under which a person must look.
        counted: cells of the specimen that were counted earlier.
    """

    def __init__(
        self, classes: tuple[CellClass, ...], review_below: float, counted: Iterable[Cell] = ()
    ) -> None:
        self.classes, self.review_below = classes, review_below
        self._sizes, self._nuclei = Sizes(classes), Nuclei(classes)
        self._untold: list[tuple[Cell, float]] = []
        """Cells decided while nobody knew how dark nuclei are here, and the densities of theirs."""
        for cell in counted:
            stored = decode_crop(cell.crop)
            dark = math.nan if stored is None else density(stored)
            if not self._nuclei.known:
                self._untold.append((cell, dark))
            elif self._untold and cell.source != self._untold[-1][0].source:
                # Before the next image or frame they were looked at again, and are stored as they were seen.
                self._untold.clear()
            self._sizes.note(cell.network, cell.box.side)
            self._nuclei.note(cell.network, cell.strangeness, dark)

    def cell(self, number: int, sightings: "Sightings", *, again: bool = False) -> Cell:
        """Return the counted cell, its class decided by all its sightings, its size and its nucleus.

        It goes to review where the class is unsure, the cell strange, its sightings disagree, its size
        changed the class, or it lacks a nucleus; only where the network is unsure, this changes the class. A
        cell that is decided `again` is no example for others.
        """
        best, network = sightings.best, sightings.probabilities
        probabilities = self._sizes.weigh(network[None], [best.box.side])[0]
        dark = sightings.dark
        bare = self._nuclei.lacks(network, dark)
        if bare:
            probabilities = self._nuclei.without(probabilities)
        if not again:
            self._sizes.note(network, best.box.side)
            self._nuclei.note(network, sightings.strangeness, dark)
        top = int(np.argmax(probabilities))
        confidence = float(probabilities[top])
        doubtful = (
            bare
            or confidence < self.review_below
            or sightings.agreement(top) < _LEAST_AGREEMENT
            or top != int(network.argmax())
        )
        decided = Cell(
            number=number,
            name=self.classes[top].name,
            confidence=confidence,
            probabilities=probabilities,
            strangeness=sightings.strangeness,
            source=sightings.source,
            box=best.box,
            slide=(sightings.x, sightings.y),
            review=doubtful or sightings.strangeness > 1,
            crop=encode_crop(best.crop),
            network=network,
        )
        self._untold = [(cell, d) for cell, d in self._untold if cell.number != number]
        if not self._nuclei.known:
            self._untold.append((decided, dark))
        return self._looked_at(decided, dark)

    def reconsidered(self) -> tuple[Cell, ...]:
        """Return the cells that go to review now that it is known how dark nuclei are; their classes stay."""
        if not self._nuclei.known:
            return ()
        untold, self._untold = self._untold, []
        looked_at = ((cell, self._looked_at(cell, dark)) for cell, dark in untold)
        return tuple(now for before, now in looked_at if now is not before)

    def _looked_at(self, cell: Cell, dark: float) -> Cell:
        """Return a cell, to review where it is named one with a nucleus and is too pale to have one."""
        named = next(c for c in self.classes if c.name == cell.name)
        if cell.review or named.role is Role.REJECTED or not self._nuclei.doubts(dark):
            return cell
        return replace(cell, review=True)


class Sightings:
    """One cell while its sightings gather; sharp, central ones weigh more, in the class and in the place.

    Args:
        first: sighting.
        source: its frame.
        at: centre on the slide, (x, y) pixels.
        weight: of the sighting (`weight_of`).
    """

    def __init__(
        self, first: Detection, source: int | str, at: tuple[float, float], weight: float = 1.0
    ) -> None:
        self.best = first
        self.source = source
        """The frame of the best sighting."""
        self.x, self.y = at
        """Centre on the slide, pixels."""
        self.side = first.box.side
        self.number = 1
        self.absences = 0
        """Frames that showed its place, and no cell there."""
        self.strangeness = first.strangeness
        """The weighted mean."""
        self.dark = density(first.crop)
        """Density (`edge.nucleus.density`), the most that a sighting shows: blur takes of it, 8 to 20 % of
        validation cells', and nothing adds to it."""
        self.key = next(_keys)
        """What other cells' notes call this one, below 0; a counted one they call by its number."""
        self.beside: set[int] = set()
        """Cells so near that they might be this one, but seen in the same frame."""
        self.instead = Counter[int]()
        """Frames that show this cell, and none at the place of another one so near."""
        self.on_dust = True
        """True while no sighting was beside the dust that stays in its place."""
        self.sure = first.sure
        """True where one sighting at least is surely of a leukocyte."""
        self._best_weight = self._weight = weight
        self._sum = weight * first.probabilities.astype(np.float64)
        self._votes = np.zeros(len(first.probabilities))
        self._votes[first.probabilities.argmax()] = weight

    @property
    def weight(self) -> float:
        """What all of it counts for."""
        return self._weight

    @property
    def probabilities(self) -> Probabilities:
        """The weighted mean, shape (classes,)."""
        return (self._sum / self._weight).astype(np.float32)

    def agreement(self, number: int) -> float:
        """Return the share (0..1, by weight) of the sightings whose own class is that of this `number`."""
        return float(self._votes[number] / self._weight)

    def add(self, detection: Detection, source: int | str, at: tuple[float, float], weight: float) -> None:
        """Take another sighting."""
        self._weight += weight
        self._sum += weight * detection.probabilities
        self._votes[detection.probabilities.argmax()] += weight
        share = weight / self._weight
        self.x += share * (at[0] - self.x)
        self.y += share * (at[1] - self.y)
        self.side += share * (detection.box.side - self.side)
        self.strangeness += share * (detection.strangeness - self.strangeness)
        self.dark = float(np.fmax(self.dark, density(detection.crop)))  # nan where the glass is burnt out
        self.number += 1
        self.sure |= detection.sure
        if weight > self._best_weight:
            self.best, self.source, self._best_weight = detection, source, weight

    def forget_picture(self) -> None:
        """Keep the best crop reduced: it is stored, and hundreds would fill the memory."""
        self.best = replace(self.best, crop=reduced(self.best.crop), heat=None)

    def join(self, other: "Sightings") -> None:
        """Take the sightings of another one that turned out to be this cell; its place stays."""
        share = other._weight / (self._weight + other._weight)
        self.side += share * (other.side - self.side)
        self.strangeness += share * (other.strangeness - self.strangeness)
        self.dark = float(np.fmax(self.dark, other.dark))
        self._weight += other._weight
        self._sum += other._sum
        self._votes += other._votes
        self.number += other.number
        # Where it was seen beside its place, it was not absent.
        self.absences = max(0, self.absences - other.instead[self.key])
        self.sure |= other.sure
        if other._best_weight > self._best_weight:
            self.best, self.source, self._best_weight = other.best, other.source, other._best_weight


def weight_of(detection: Detection, size: tuple[int, int]) -> float:
    """Return what a sighting counts for in a frame of `size` (width, height): sharp and central is best.

    Sightings of one cell differ by blur above all, which hides granules and lobes each time alike: a mean
    does not undo that. So they weigh by the square of how sharp and central they are.
    """
    box = detection.box
    right, bottom = size[0] - box.x - box.width, size[1] - box.y - box.height
    inside = min(box.x, box.y, right, bottom) / max(_WELL_INSIDE * box.side, 1)
    central = _LEAST_CENTRAL + (1 - _LEAST_CENTRAL) * min(max(inside, 0), 1)
    return ((detection.sharpness + _LEAST_WEIGHT) * central) ** 2


@dataclass(slots=True)
class Known:
    """A cell that has been counted: from then on it is only recognised."""

    number: int
    x: float
    y: float
    """Centre on the slide, pixels."""
    side: float
    """Of its box, pixels."""


def one_cell(a: Box, b: Box) -> bool:
    """Return whether two boxes of one frame show the same cell: they overlap, or one lies in the other."""
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    smaller = min(a.width * a.height, b.width * b.height)
    return max(width, 0) * max(height, 0) > 0.5 * smaller
