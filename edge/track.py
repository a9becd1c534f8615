"""From detections to cells: each physical cell of the smear counted exactly once."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import cv2
import numpy as np

from edge.cells import Box, Cell, CellClass, Detection, Frame, Image, Probabilities
from edge.stage import KeyView, Place, Stage

_SAME_CELL = 0.5
"""Two sightings less than this many box sides apart on the slide are one cell."""
_MOST_OPEN = 200
"""Cells whose sightings gather at a time; the oldest, seen too seldom and left behind, are forgotten."""
_LEAST_WEIGHT = 1e-6
"""Added to the weight of a sighting, so that a featureless one has one too."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """What one frame added to the count."""

    cells: tuple[Cell, ...]
    """Newly counted."""
    numbers: tuple[int | None, ...]
    """For each detection of the frame, the number of its cell; None while it is not counted."""
    lost: bool
    """True where the frame could not be laid on the slide: nothing of it was counted."""
    place: Place | None
    """None where every frame is a field of its own, or lost."""


_OnSlide = TypeVar("_OnSlide", "Sightings", "Known")


class Counter(Protocol):
    """Counts cells once; one implementation for a moving stage, one for fields of their own."""

    @property
    def fields(self) -> int:
        """Distinct fields of view so far."""
        ...

    def update(self, frame: Frame, detections: Sequence[Detection]) -> Tracked:
        """Take the detections of the next frame."""
        ...

    def finish(self) -> tuple[Cell, ...]:
        """Return the cells seen well enough but not counted yet: the input has ended."""
        ...


@dataclass(frozen=True, slots=True)
class Decision:
    """How a cell gets its class."""

    classes: tuple[CellClass, ...]
    """Of the model, in order."""
    review_below: float
    """Confidence (0..1) under which a person must look."""

    def cell(self, number: int, sightings: "Sightings") -> Cell:
        """Return the counted cell, its class decided by all its sightings."""
        best, mean = sightings.best, sightings.probabilities
        top = int(np.argmax(mean))
        confidence = float(mean[top])
        return Cell(
            number=number,
            name=self.classes[top].name,
            confidence=confidence,
            probabilities=mean,
            strangeness=sightings.strangeness,
            source=sightings.source,
            box=best.box,
            slide=(sightings.x, sightings.y),
            review=confidence < self.review_below or sightings.strangeness > 1,
            crop=_jpeg(best.crop),
        )


class Sightings:
    """One cell while its sightings gather; sharper ones weigh more, in the class and in the place."""

    def __init__(self, first: Detection, source: int | str, x: float, y: float) -> None:
        self.best = first
        self.source = source
        """The frame of the best sighting."""
        self.x, self.y = x, y
        """Centre on the slide, pixels."""
        self.side = first.box.side
        self.number = 1
        self._weight = first.sharpness + _LEAST_WEIGHT
        self._sum = self._weight * first.probabilities.astype(np.float64)
        self.strangeness = first.strangeness
        """The weighted mean."""

    @property
    def probabilities(self) -> Probabilities:
        """The weighted mean, shape (classes,)."""
        return (self._sum / self._weight).astype(np.float32)

    def add(self, detection: Detection, source: int | str, x: float, y: float) -> None:
        """Take another sighting, at (x, y) on the slide."""
        weight = detection.sharpness + _LEAST_WEIGHT
        self._weight += weight
        self._sum += weight * detection.probabilities
        share = weight / self._weight
        self.x += share * (x - self.x)
        self.y += share * (y - self.y)
        self.side += share * (detection.box.side - self.side)
        self.strangeness += share * (detection.strangeness - self.strangeness)
        self.number += 1
        if detection.sharpness > self.best.sharpness:
            self.best, self.source = detection, source


@dataclass(frozen=True, slots=True)
class Known:
    """A cell that has been counted: from then on it is only recognised."""

    number: int
    x: float
    y: float
    """Centre on the slide, pixels."""
    side: float
    """Of its box, pixels."""


class StillFields:
    """Each frame is a field of view of its own: every detection is a cell.

    Args:
        decision: how a class is decided.
        known: numbers of the cells counted earlier, by source and box.
        fields: read earlier.
    """

    def __init__(
        self, decision: Decision, known: Mapping[tuple[int | str, Box], int] | None = None, *, fields: int = 0
    ) -> None:
        self._decision = decision
        self._known = dict(known or {})
        self.fields = fields

    def update(self, frame: Frame, detections: Sequence[Detection]) -> Tracked:
        """Count every detection of the frame that is not known."""
        self.fields += 1
        cells = []
        for detection in detections:
            key = (frame.source, detection.box)
            if key not in self._known:
                self._known[key] = len(self._known) + 1
                sightings = Sightings(detection, frame.source, *detection.box.centre)
                cells.append(self._decision.cell(self._known[key], sightings))
        numbers = tuple(self._known[frame.source, d.box] for d in detections)
        return Tracked(tuple(cells), numbers, lost=False, place=None)

    def finish(self) -> tuple[Cell, ...]:
        """Nothing is ever pending."""
        return ()


class MovingStage:
    """One stage under one camera: sightings are gathered in slide coordinates.

    Args:
        decision: how a class is decided.
        known: cells counted earlier.
        keys: key views of the slide stored earlier.
        decide_after: sightings that decide a cell while it is still in view, if its class is sure.
        most_sightings: sightings that decide an unsure cell while it is in view: the focus may get better.
        least_sightings: of a cell that left the view; one seen less often is not believed.
    """

    def __init__(
        self,
        decision: Decision,
        known: Iterable[Known] = (),
        keys: Iterable[KeyView] = (),
        *,
        decide_after: int = 8,
        most_sightings: int = 60,
        least_sightings: int = 3,
    ) -> None:
        self._decision = decision
        self._stage = Stage(keys)
        self._known = list(known)
        self._open: list[Sightings] = []
        self._decide_after, self._most_sightings = decide_after, most_sightings
        self._least_sightings = least_sightings

    @property
    def fields(self) -> int:
        """Distinct fields of view so far."""
        return self._stage.fields

    def update(self, frame: Frame, detections: Sequence[Detection]) -> Tracked:
        """Lay the frame on the slide, give its detections to their cells, count those decided."""
        place = self._stage.place(frame.image)
        if place is None:
            return Tracked((), (None,) * len(detections), lost=True, place=None)
        cells = []
        for detection in detections:
            self._see(detection, frame, place)
        self._open = self._open[-_MOST_OPEN:]
        for sightings in [s for s in self._open if self._decided(s, frame, place)]:
            cells.append(self._count(sightings))
        numbers = tuple(
            known.number if (known := self._find(self._known, d, place)) else None for d in detections
        )
        return Tracked(tuple(cells), numbers, lost=False, place=place)

    def finish(self) -> tuple[Cell, ...]:
        """Count what was seen often enough; the rest was never seen well."""
        return tuple(self._count(s) for s in list(self._open) if s.number >= self._least_sightings)

    def _see(self, detection: Detection, frame: Frame, place: Place) -> None:
        if self._find(self._known, detection, place):
            return
        x, y = _on_slide(detection, place)
        sightings = self._find(self._open, detection, place)
        if sightings:
            sightings.add(detection, frame.source, x, y)
        else:
            self._open.append(Sightings(detection, frame.source, x, y))

    @staticmethod
    def _find(cells: Iterable[_OnSlide], detection: Detection, place: Place) -> _OnSlide | None:
        """Return the nearest of `cells` that lies where the detection does, if any.

        Two detections may find the same cell: cells touch at a whole box side apart, not at half.
        """
        x, y = _on_slide(detection, place)
        near = [
            (distance, i, cell)
            for i, cell in enumerate(cells)
            if (distance := math.hypot(x - cell.x, y - cell.y))
            < _SAME_CELL * max(cell.side, detection.box.side)
        ]
        return min(near)[2] if near else None

    def _decided(self, sightings: Sightings, frame: Frame, place: Place) -> bool:
        height, width = frame.image.shape[:2]
        x, y = place.to_frame(sightings.x, sightings.y)
        in_view = 0 <= x < width and 0 <= y < height
        if not in_view:
            return sightings.number >= self._least_sightings
        sure = sightings.probabilities.max() >= self._decision.review_below
        return sightings.number >= (self._decide_after if sure else self._most_sightings)

    def _count(self, sightings: Sightings) -> Cell:
        cell = self._decision.cell(len(self._known) + 1, sightings)
        self._open.remove(sightings)
        self._known.append(Known(cell.number, *cell.slide, sightings.side))
        return cell


def _on_slide(detection: Detection, place: Place) -> tuple[float, float]:
    return place.to_slide(*detection.box.centre)


def _jpeg(crop: Image) -> bytes:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
    return data.tobytes()
