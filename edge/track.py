"""From detections to cells on a moving stage: each physical cell of the smear counted exactly once."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from edge.cells import Box, Cell, Detection, Frame
from edge.grid import Grid
from edge.sightings import Decision, Known, Sightings, one_cell, weight_of
from edge.stage import KeyView, Place, Stage

_SAME_CELL = 0.5
"""Two sightings less than this many box sides apart on the slide are one cell."""
_MOST_LARGER = 1.5
"""A box this many times the other's side counts as no larger: it may hold two cells."""
_LEAST_PRESENCE, _DOUBTED_PRESENCE = 0.5, 0.75
"""Share of the frames showing its place that must show a cell: a clump of platelets or a fold of the smear is
taken for one now and then only. Of 324 cells of the validation split's films each had over 0.9. What the
locator doubts each time, a dark clump of red cells say, must be there more steadily: of 222 whole cells in
validation fields, each moved, blurred and lit otherwise 14 times, it doubts one so, which had 0.86."""
_STEADY = 16
"""Sightings, in three of four frames at least, after which no frame speaks against a cell that is surely one:
the lamp was turned down, a hand lay in the light."""
_TWIN, _TWIN_LARGER, _LEAST_INSTEAD = 1.0, 1.35, 0.5
"""Box sides up to which a cell beside the place of another one may be that one, how many times one may be as
large as the other, and the share of its sightings in which that place must be empty. A rolling shutter bends
the frames of a fast stage, and they the map: what comes back then lies up to 0.7 sides from its place."""
_CLEAR = 0.65
"""A frame shows a cell's place where this many box sides lie between its middle and the border."""
_MOST_OPEN = 200
"""Cells whose sightings gather at a time; the oldest, seen too seldom and left behind, are forgotten."""
_PATIENCE = 15
"""Frames, one after the other, that a map without a cell does not hold, before it gives way to a new one."""


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
    again: bool = False
    """True for a photograph that shows cells of an earlier one: no field of its own."""
    map_size: tuple[int, int] | None = None
    """(width, height) of the frames that the map is made of, where a lost frame has another size."""
    revised: tuple[Cell, ...] = ()
    """Counted earlier, and decided again by what was seen since; their places and pictures do not count."""
    anew: bool = False
    """True where the map begins with this frame: what was seen before showed no cell, and is forgotten."""


class Counter(Protocol):
    """Counts cells once; one implementation for a moving stage, one for fields of their own."""

    @property
    def fields(self) -> int:
        """Distinct fields of view so far."""
        ...

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """(width, height) that all frames must have; None where any size will do."""
        ...

    def update(self, frame: Frame, detections: Sequence[Detection], *, refused: bool = False) -> Tracked:
        """Take the detections of the next frame: none where the gates `refused` it."""
        ...

    def recall(self, frame: Frame, shown: Sequence[tuple[Box, int]] = ()) -> None:
        """Take a frame that an earlier run has counted: the cells `shown` on it are known on later ones."""
        ...

    def moved(self) -> dict[int, tuple[float, float]]:
        """Return the places (x, y) on the slide, by number, of cells that turned out to lie elsewhere."""
        ...

    def settle(self, *, paused: bool = False) -> tuple[Cell, ...]:
        """Return the cells seen well enough but not counted yet: the input has ended, or makes a pause.

        What was seen once or twice may yet be seen better, or be nothing, after a pause.
        """
        ...


class MovingStage:
    """One stage under one camera: sightings are gathered in slide coordinates.

    Args:
        decision: how a class is decided.
        known: cells counted earlier.
        keys: key views of the slide stored earlier.
        decide_after: sightings that decide a cell while it is still in view, if its class is sure. Of 437
            cells of the validation split's films two were misnamed after 8, one after 24, none after 32.
        most_sightings: sightings that decide an unsure cell while it is in view: the focus may get better.
        least_sightings: of a cell that left the view. One seen less often goes to review, or is not believed
            where its place was seen without it.
    """

    def __init__(
        self,
        decision: Decision,
        known: Iterable[Known] = (),
        keys: Iterable[KeyView] = (),
        *,
        decide_after: int = 32,
        most_sightings: int = 60,
        least_sightings: int = 3,
    ) -> None:
        self._decision = decision
        self._stage = Stage(keys)
        self._earlier = list(known)
        self._known: Grid[Known] | None = None
        self._count = max((cell.number for cell in self._earlier), default=0)
        self._open: list[Sightings] = []
        self._decide_after, self._most_sightings = decide_after, most_sightings
        self._least_sightings = least_sightings
        self._astray = 0
        self._moved: dict[int, tuple[float, float]] = {}
        self._gathering: dict[int, tuple[Sightings, int, float]] = {}
        """Counted cells, by number, and from how many sightings or what weight they are decided again."""

    @property
    def fields(self) -> int:
        """Distinct fields of view so far."""
        return self._stage.fields

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """(width, height) of the frames that the slide is known by; None before the first."""
        return self._stage.frame_size

    def update(self, frame: Frame, detections: Sequence[Detection], *, refused: bool = False) -> Tracked:
        """Lay the frame on the slide, give its detections to their cells, count those decided."""
        size = (frame.image.shape[1], frame.image.shape[0])
        place = self._stage.place(frame.image)
        self._astray = 0 if place else self._astray + 1
        anew = self._astray >= _PATIENCE and not self._has_cells()
        if anew:
            place = self._begin_anew(frame)
        if place is None:
            other = self.frame_size if self.frame_size != size else None
            return Tracked((), (None,) * len(detections), lost=True, place=None, map_size=other)
        revised = self._decision.reconsidered()
        known = self._near(place, size)
        found = self._give(frame, detections, place, [*known, *self._open])
        self._forget_oldest(found)
        for detection, cell in zip(detections, found, strict=True):
            if isinstance(cell, Sightings):
                cell.on_dust &= self._stage.on_dust(detection.box, size)
        if not refused:
            self._note_absences(found, place, size)
            self._note_neighbours(found, known, place, size)
        cells, numbered = [], {}
        for sightings in [s for s in self._open if self._decided(s, size, place)]:
            twin = self._twin(sightings)
            if twin is None:
                cells.append(self._count_in(sightings))
                numbered[id(sightings)] = self._count
            elif (number := self._join(twin, sightings)) is not None:
                numbered[id(sightings)] = number
        numbers = tuple(cell.number if isinstance(cell, Known) else numbered.get(id(cell)) for cell in found)
        revised += self._revise([*numbered.values(), *(n for n in numbers if n is not None)])
        return Tracked(tuple(cells), numbers, lost=False, place=place, anew=anew, revised=revised)

    def moved(self) -> dict[int, tuple[float, float]]:
        """Return where cells lie that turned out to lie elsewhere since this was last asked."""
        moved, self._moved = self._moved, {}
        return moved

    def recall(self, frame: Frame, shown: Sequence[tuple[Box, int]] = ()) -> None:
        """Nothing to do: the cells and the key views were given at the beginning."""

    def settle(self, *, paused: bool = False) -> tuple[Cell, ...]:
        """Count what is believed or was glimpsed; the rest was never seen well."""
        if not paused:
            for sightings in [s for s in self._open if _glimpsed(s)]:
                if (twin := self._twin(sightings)) is not None:
                    self._join(twin, sightings)
        cells = []
        for sightings in [s for s in self._open if self._believed(s) or (_glimpsed(s) and not paused)]:
            if self._twin(sightings) is None:
                cells.append(self._count_in(sightings))
        return tuple(cells)

    def _has_cells(self) -> bool:
        return self._count > 0 or any(self._believed(s) for s in self._open)

    def _begin_anew(self, frame: Frame) -> Place | None:
        """Let the slide begin with this frame: before it a hand, dust or another slide lay there."""
        stage = Stage()
        place = stage.place(frame.image)
        if place is not None:
            self._stage, self._open, self._astray = stage, [], 0
        return place

    def _near(self, place: Place, size: tuple[int, int]) -> list[Known]:
        """Return the counted cells that a frame may show."""
        if self._known is None:
            self._known = Grid(max(size))
            for cell in self._earlier:
                self._known.add(cell, cell.x, cell.y)
        return self._known.near(*place.to_slide(size[0] / 2, size[1] / 2))

    def _give(
        self, frame: Frame, detections: Sequence[Detection], place: Place, cells: list[Known | Sightings]
    ) -> list[Known | Sightings]:
        """Give every detection to its cell, a new one where there is none; return the cells.

        The nearest pairs come first, and a cell takes one detection. One that is left over beside a
        cell that was taken is another cell, unless the two boxes cover each other.
        """
        size = (frame.image.shape[1], frame.image.shape[0])
        places = [place.to_slide(*d.box.centre) for d in detections]
        pairs = sorted(
            (
                (distance, i, j)
                for i, detection in enumerate(detections)
                for j, cell in enumerate(cells)
                if (distance := math.dist(places[i], (cell.x, cell.y))) < _reach(detection, cell)
            ),
        )
        taken: dict[int, int] = {}
        given: dict[int, Known | Sightings] = {}
        for _, i, j in pairs:
            if i in given:
                continue
            if j not in taken:
                taken[j] = i
                self._add(cells[j], detections[i], frame.source, places[i], weight_of(detections[i], size))
            elif not one_cell(detections[i].box, detections[taken[j]].box):
                continue
            given[i] = cells[j]
        for i, detection in enumerate(detections):
            if i in given:
                continue
            twin = next((j for j in given if one_cell(detection.box, detections[j].box)), None)
            if twin is None:
                new = Sightings(detection, frame.source, places[i], weight_of(detection, size))
                self._open.append(new)
                given[i] = new
            else:
                given[i] = given[twin]
        return [given[i] for i in range(len(detections))]

    def _forget_oldest(self, found: Sequence[Known | Sightings]) -> None:
        """Let go of the oldest open cells, where they are too many, but of none that the frame shows."""
        excess = len(self._open) - _MOST_OPEN
        if excess > 0:
            shown = {id(cell) for cell in found}
            gone = {id(cell) for cell in [c for c in self._open if id(c) not in shown][:excess]}
            self._open = [cell for cell in self._open if id(cell) not in gone]

    def _add(
        self,
        cell: Known | Sightings,
        detection: Detection,
        source: int | str,
        at: tuple[float, float],
        weight: float,
    ) -> None:
        """Add a sighting to a cell that still gathers them; one of few lies where it is seen best."""
        if isinstance(cell, Sightings):
            cell.add(detection, source, at, weight)
        elif cell.number in self._gathering:
            sightings, *_ = self._gathering[cell.number]
            sightings.add(detection, source, at, weight)
            if sightings.number <= self._decide_after:
                cell.x, cell.y, cell.side = sightings.x, sightings.y, sightings.side
                self._moved[cell.number] = (cell.x, cell.y)

    def _note_absences(self, found: Sequence[Known | Sightings], place: Place, size: tuple[int, int]) -> None:
        seen = {id(cell) for cell in found}
        for sightings in self._open:
            if id(sightings) not in seen:
                sightings.absences += not _steady(sightings) and _shows(place, size, sightings)

    def _note_neighbours(
        self, found: Sequence[Known | Sightings], known: Sequence[Known], place: Place, size: tuple[int, int]
    ) -> None:
        """Note which cells are seen beside each open one, and which counted one's place is empty then."""
        seen = {id(cell) for cell in found}
        for sightings in found:
            if isinstance(sightings, Known):
                continue
            others: list[Known | Sightings] = [*known, *self._open]
            for other in others:
                if other is sightings or not _beside(sightings, other):
                    continue
                if id(other) in seen:
                    sightings.beside.add(_name(other))
                # Where this one is seen, another that lies no nearer to the border could be.
                elif _shows(place, size, other) or (
                    _inside(place, size, other) >= _inside(place, size, sightings)
                ):
                    sightings.instead[_name(other)] += 1

    def _twin(self, sightings: Sightings) -> Known | Sightings | None:
        """Return the cell that this one is, its place on a bent map beside its own.

        It is one that was counted; what was glimpsed alone may also be one of which more is seen.
        """
        brief = sightings.number < self._least_sightings
        near: list[Known | Sightings] = []
        if self._known is not None:
            near += self._known.near(sightings.x, sightings.y)
        if brief:
            near += [other for other in self._open if other.number > sightings.number]
        twins = [
            cell
            for cell in near
            if _may_be_one(sightings, cell)
            and _name(cell) not in sightings.beside
            and (brief or sightings.instead[_name(cell)] >= _LEAST_INSTEAD * sightings.number)
        ]
        here = sightings.x, sightings.y
        return min(twins, key=lambda cell: math.dist((cell.x, cell.y), here), default=None)

    def _join(self, cell: Known | Sightings, sightings: Sightings) -> int | None:
        """Give what was seen to the cell that it is; return its number, None while it is not counted."""
        self._open.remove(sightings)
        if isinstance(cell, Sightings):
            cell.join(sightings)
            return None
        if cell.number in self._gathering:
            self._gathering[cell.number][0].join(sightings)
        return cell.number

    def _believed(self, sightings: Sightings) -> bool:
        """Tell whether a cell was seen often enough, and mostly when it could be seen."""
        number, least = sightings.number, _LEAST_PRESENCE if sightings.sure else _DOUBTED_PRESENCE
        return number >= max(self._least_sightings, least * (number + sightings.absences))

    def _decided(self, sightings: Sightings, size: tuple[int, int], place: Place) -> bool:
        x, y = place.to_frame(sightings.x, sightings.y)
        if not (0 <= x < size[0] and 0 <= y < size[1]):
            return self._believed(sightings) or _glimpsed(sightings)
        if not self._believed(sightings):
            return False
        settled = sightings.probabilities.max() >= self._decision.review_below
        return sightings.number >= (self._decide_after if settled else self._most_sightings)

    def _count_in(self, sightings: Sightings) -> Cell:
        self._count += 1
        cell = self._decide(self._count, sightings)
        self._open.remove(sightings)
        for other in self._open:
            if sightings.key in other.beside:
                other.beside.add(cell.number)
            if sightings.key in other.instead:
                other.instead[cell.number] = other.instead.pop(sightings.key)
        self._gather(cell.number, sightings)
        if self._known is not None:
            known = Known(cell.number, *cell.slide, sightings.side)
            self._known.add(known, known.x, known.y)
        return cell

    def _decide(self, number: int, sightings: Sightings, *, again: bool = False) -> Cell:
        cell = self._decision.cell(number, sightings, again=again)
        brief = sightings.number < self._least_sightings
        return replace(cell, review=cell.review or brief or not sightings.sure)

    def _gather(self, number: int, sightings: Sightings) -> None:
        """Let a counted cell gather more sightings, should it be seen on, or come back."""
        sightings.forget_picture()
        self._gathering[number] = (sightings, 2 * sightings.number, 2 * sightings.weight)
        while len(self._gathering) > _MOST_OPEN:
            del self._gathering[next(iter(self._gathering))]

    def _revise(self, seen: Sequence[int]) -> tuple[Cell, ...]:
        """Decide those of the cells again of which twice as much, or as well, has been seen by now."""
        cells = []
        for number in dict.fromkeys(seen):
            sightings, often, well = self._gathering.get(number, (None, 0, 0.0))
            if sightings is not None and (sightings.number >= often or sightings.weight >= well):
                cells.append(self._decide(number, sightings, again=True))
                self._gather(number, sightings)
        return tuple(cells)


def _steady(sightings: Sightings) -> bool:
    """Tell whether a cell has been seen so often and so surely that it is one, whatever frames show now."""
    seen, presence = sightings.number, _DOUBTED_PRESENCE * (sightings.number + sightings.absences)
    return sightings.sure and seen >= max(_STEADY, presence)


def _glimpsed(sightings: Sightings) -> bool:
    """Tell whether a cell was there whenever its place could be seen, once at least; twice where doubted.

    One that was seen on dust alone is that dust, which a moving stage takes to ever other places.
    """
    seen = sightings.sure or sightings.number > 1
    return seen and sightings.absences == 0 and not sightings.on_dust


def _shows(place: Place, size: tuple[int, int], cell: Known | Sightings) -> bool:
    """Tell whether a frame of `size` (width, height) shows the place of a cell, well inside its border."""
    return _inside(place, size, cell) >= _CLEAR * cell.side


def _inside(place: Place, size: tuple[int, int], cell: Known | Sightings) -> float:
    """Return how far within the border of a frame of `size` the place of a cell lies, pixels."""
    x, y = place.to_frame(cell.x, cell.y)
    return min(x, y, size[0] - x, size[1] - y)


def _name(cell: Known | Sightings) -> int:
    """Return what another cell's notes call this one."""
    return cell.number if isinstance(cell, Known) else cell.key


def _beside(a: Sightings, b: Known | Sightings) -> bool:
    """Tell whether two cells lie so near that what is seen yet may make them look like one on a bent map."""
    return math.dist((a.x, a.y), (b.x, b.y)) < 2 * _TWIN * max(a.side, b.side)


def _may_be_one(a: Sightings, b: Known | Sightings) -> bool:
    """Tell whether two cells lie so near that they may be one on a bent map."""
    small, large = sorted((a.side, b.side))
    return large < _TWIN_LARGER * small and math.dist((a.x, a.y), (b.x, b.y)) < _TWIN * large


def _reach(detection: Detection, cell: Known | Sightings) -> float:
    """Return how far from a cell's place (pixels) a detection may lie and show that cell."""
    small, large = sorted((detection.box.side, cell.side))
    return _SAME_CELL * min(large, _MOST_LARGER * small)
