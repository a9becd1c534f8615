"""From detections to cells where each image is a field of view of its own: each cell counted once.

Images may show the same place again, shifted or turned: then its cells are known (`edge.album`), and their
classes decided again by all that was seen of them.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import cv2
import numpy as np

from edge.album import Album, Photograph
from edge.cells import Box, Cell, Detection, Frame
from edge.imagefile import decode_crop
from edge.preprocess import CONTEXT
from edge.sightings import Decision, Sightings, weight_of
from edge.track import Tracked


class StillFields:
    """Each frame is a field of view of its own, or one of up to 300 earlier ones again.

    Args:
        decision: how a class is decided.
        known: numbers of cells counted earlier on images that are to be read again, by source and box.
        count: cells counted earlier, these too.
        fields: distinct ones read earlier.
    """

    def __init__(
        self,
        decision: Decision,
        known: Mapping[tuple[int | str, Box], int] | None = None,
        *,
        count: int = 0,
        fields: int = 0,
    ) -> None:
        self._decision = decision
        self._known: defaultdict[int | str, dict[Box, int]] = defaultdict(dict)
        """By source: what an earlier run had counted on it."""
        for (source, box), number in (known or {}).items():
            self._known[source][box] = number
        self._count = count
        self._album = Album()
        self._sightings: dict[int, Sightings] = {}
        """What was seen of each cell on the photographs of the album, by its number."""
        self.fields = fields

    def update(self, frame: Frame, detections: Sequence[Detection], *, refused: bool = False) -> Tracked:
        """Count every detection of the frame that is not known."""
        if not detections:
            self.fields += 1
            return Tracked((), (), lost=False, place=None)
        size = (frame.image.shape[1], frame.image.shape[0])
        boxes = [d.box for d in detections]
        picture = Photograph(frame.image, boxes)
        seen = self._album.known(picture, boxes)
        here = self._known.get(frame.source, {})
        cells: list[Cell] = []
        revised = [*self._decision.reconsidered()]
        numbers: list[int] = []
        for detection, before in zip(detections, seen, strict=True):
            number = here.get(frame.to_source(detection.box), before)
            centre, weight = detection.box.centre, weight_of(detection, size)
            if number is None:
                self._count += 1
                number = self._count
                sightings = Sightings(detection, frame.source, centre, weight)
                self._sightings[number] = sightings
                cells.append(self._decision.cell(number, sightings))
            elif number in self._sightings:
                sightings = self._sightings[number]
                sightings.add(detection, frame.source, centre, weight)
                revised.append(self._decision.cell(number, sightings, again=True))
            numbers.append(number)
        for number in self._sightings.keys() & set(numbers):  # one may have been seen as two lobes
            self._sightings[number].forget_picture()
        picture.cells = tuple((d.box, number) for d, number in zip(detections, numbers, strict=True))
        self._album.add(picture)
        kept = self._album.numbers
        self._sightings = {n: s for n, s in self._sightings.items() if n in kept}
        # What an earlier run had counted on this very image is known by its pictures too.
        again = any(
            n is not None and frame.to_source(box) not in here for box, n in zip(boxes, seen, strict=True)
        )
        self.fields += not again
        return Tracked(
            tuple(cells), tuple(numbers), lost=False, place=None, again=again, revised=tuple(revised)
        )

    def remember(self, cells: Iterable[Cell]) -> None:
        """Know cells that an earlier run counted by their stored pictures, whatever images come now."""
        for cell in cells:
            if (stored := decode_crop(cell.crop)) is None:
                continue
            side = max(2, round(CONTEXT * cell.box.side))
            view = cv2.resize(stored, (side, side), interpolation=cv2.INTER_AREA)
            picture = Photograph(np.asarray(view, np.uint8))
            left, top = (side - cell.box.width) / 2, (side - cell.box.height) / 2
            picture.cells = ((Box(left, top, cell.box.width, cell.box.height), cell.number),)
            self._album.add(picture)

    def recall(self, frame: Frame, shown: Sequence[tuple[Box, int]] = ()) -> None:
        """Take a frame that an earlier run has counted: its cells are known again on later ones."""
        if known := tuple(shown) or tuple(self._known.get(frame.source, {}).items()):
            cells = tuple((frame.from_source(box), number) for box, number in known)
            picture = Photograph(frame.image, [box for box, _ in cells])
            picture.cells = cells
            self._album.add(picture)

    @property
    def frame_size(self) -> None:
        """Images may be of any size."""

    def moved(self) -> dict[int, tuple[float, float]]:
        """A photograph has no place on a slide."""
        return {}

    def settle(self, *, paused: bool = False) -> tuple[Cell, ...]:
        """Nothing is ever pending."""
        return ()
