"""One specimen being counted: what is stored, then shown."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge.cells import Cell, Frame, Role, Skip
from edge.classify import Card
from edge.differential import differential
from edge.errors import UserError
from edge.fields import StillFields
from edge.gates import Gate
from edge.images import ImagesRead, key_of
from edge.mosaic import MapView, Mosaic, write_map
from edge.pipeline import Step
from edge.report import LEAST_CELLS, result
from edge.sightings import Decision, Known
from edge.store import Progress, Store
from edge.track import Counter, MovingStage

REASONS = 3
"""As many of the reasons for which frames were skipped are shown."""


class Session:
    """The count of one specimen, begun or resumed.

    Args:
        store: where it is kept.
        card: of the model that counts.
        specimen: identifier.
        source: kind of input ("camera", "video", ...), for the record.
        moving: True for one stage under one camera, False where each frame is a field of its own.
        review_below: confidence (0..1) under which a cell goes to review.
        target: number of counted cells at which the count is complete.
        um_per_px: size of a slide pixel, micrometres; the map's area is known by it.

    Raises:
        UserError: the store cannot be written, is damaged, or another model began this specimen.
    """

    def __init__(
        self,
        store: Store,
        card: Card,
        specimen: str,
        source: str,
        *,
        moving: bool,
        review_below: float,
        target: int | None,
        um_per_px: float | None = None,
    ) -> None:
        self.specimen = specimen
        self._store, self._card, self._source, self._target = store, card, source, target
        self._moving = moving
        self._counted_names = {c.name for c in card.classes if c.role is Role.COUNTED}
        resumed = store.open_specimen(specimen, card.identity, source, moving=moving)
        names = {c.name for c in card.classes}
        if any(c.name not in names or len(c.probabilities) != len(names) for c in resumed.cells):
            raise UserError("what is stored of this specimen is damaged: begin another, or put back a copy")
        self._row = resumed.specimen
        self.cells = list(resumed.cells)
        self._skips = list(resumed.skips)
        # A file has one name in all runs, a stream's interruption a number of its own run.
        self._skipped_files = {(s.source, s.reason) for s in resumed.skips if isinstance(s.source, str)}
        self._images = ImagesRead(resumed.files, resumed.shown)
        # An image of which a target left something over is read again.
        self._frames = resumed.progress.frames if moving else len(self._images)
        self._saved_frames = self._frames
        self._lost, self._gates = resumed.progress.lost, resumed.progress.gates
        self._unstored = False
        self._corner: tuple[int, int] | None = None
        self._revisions = 0
        self._mosaic = Mosaic(resumed.tiles)
        self._um_per_px = um_per_px
        self._decision = decision = Decision(card.classes, review_below, resumed.cells)
        self.counter: Counter
        if moving:
            slide = [Known(c.number, *c.slide, c.box.side) for c in resumed.cells]
            self.counter = MovingStage(decision, slide, resumed.keys)
        else:
            # The cells of images that were not read to their end are known by the images' names alone.
            whole = {number for shown in resumed.shown.values() for _, number in shown}
            known = {(c.source, c.box): c.number for c in resumed.cells if c.number not in whole}
            places = sum(not again for again in resumed.files.values())
            still = StillFields(decision, known, count=len(resumed.cells), fields=places)
            still.remember(resumed.cells)
            self.counter = still

    @property
    def frames(self) -> int:
        """Read for this specimen, in this run and earlier ones."""
        return self._frames

    @property
    def total(self) -> int:
        """Cells of counted classes."""
        return sum(cell.name in self._counted_names for cell in self.cells)

    @property
    def counts(self) -> Mapping[str, int]:
        """Cells by class, of all classes of the model."""
        return differential((c.name for c in self.cells), self._card.classes).counts

    @property
    def doubtful(self) -> tuple[Cell, ...]:
        """The counted cells that a person must look at, in their order."""
        return tuple(cell for cell in self.cells if cell.review)

    @property
    def complete(self) -> bool:
        """True where the target is reached."""
        return self._target is not None and self.total >= self._target

    @property
    def needed(self) -> int:
        """Cells of counted classes without which a result is not final."""
        return self._target or LEAST_CELLS

    @property
    def unsettled(self) -> tuple[str, ...]:
        """Why a result of these cells is not final, in plain words; nothing where it is.

        That its input broke off the session cannot know.
        """
        few = f"fewer than the {self.needed} cells of a final result" if self.total < self.needed else ""
        doubtful = f"{len(self.doubtful)} to review" if self.doubtful else ""
        return tuple(reason for reason in (few, doubtful) if reason)

    @property
    def skipped(self) -> collections.Counter[str]:
        """Frames that could not be had, by the reason."""
        return collections.Counter(skip.reason for skip in self._skips)

    def wants(self, frame: Frame | Skip) -> bool:
        """Return False for an image file that this specimen has read already; the counter then recalls it.

        A copy of one, under another name, shows a place photographed before.

        Raises:
            UserError: the copy cannot be stored.
        """
        key = None if isinstance(frame, Skip) else key_of(frame)
        if isinstance(frame, Skip) or key is None:
            return True
        if key in self._images:
            self.counter.recall(frame, self._images.shown(key))
            return False
        if not self._images.has_copy(key):
            return True
        progress = dataclasses.replace(self._progress, frames=self._frames + 1)
        self._store.add(self._row, file=key, again=True, progress=progress)
        self._frames += 1
        self._images.note(key, (), again=True)
        return False

    def take(self, step: Step | Skip) -> tuple[Cell, ...]:
        """Store what a frame brought; return the cells that it added to the count.

        Raises:
            UserError: it cannot be stored; nothing of the frame is then part of the count.
        """
        if isinstance(step, Skip):
            self._skip(step)
            return ()
        self._frames += 1
        self._lost += step.tracked.lost
        if step.tracked.anew:
            self._mosaic.clear()
        if step.tracked.place and not step.verdict.refused:
            elsewhere = {Gate.CROWDED, Gate.SPARSE} & set(step.verdict.warnings)
            self._mosaic.add(step.frame.image, step.tracked.place, monolayer=not elsewhere)
        self._corner = step.frame.corner
        cells = self._in_source(self._up_to_target(step.tracked.cells))
        key = step.tracked.place.new_key if step.tracked.place else None
        # An image of which the target left something over is read again by whoever goes on.
        file = key_of(step.frame) if len(cells) == len(step.tracked.cells) else None
        if file or self._moving:
            self._gates.add(step.verdict)
        numbered = zip(step.detections, step.tracked.numbers, strict=True) if file else ()
        placed = ((step.frame.to_source(detection.box), number) for detection, number in numbered)
        shown = tuple((box, number) for box, number in placed if number is not None)
        revised = self._revised(self._in_source(step.tracked.revised), cells)
        self._unstored = True
        moved: dict[int, tuple[float, float]] = {}
        if cells or revised or key or file:
            moved = self._moved(cells, revised)
            self._store.add(
                self._row,
                cells=cells,
                revised=revised,
                moved=moved,
                key=key,
                file=file,
                again=step.tracked.again,
                shown=shown,
                anew=step.tracked.anew,
                progress=self._progress,
            )
            self._saved_frames = self._frames
        self._unstored = False
        if file:
            self._images.note(file, shown, again=step.tracked.again)
        self._accept(cells, revised, moved)
        return cells

    def _moved(self, new: Sequence[Cell], revised: Sequence[Cell]) -> dict[int, tuple[float, float]]:
        """Return the new places of counted cells, `new` ones among them."""
        if not self._moving:
            return {cell.number: cell.box.centre for cell in revised}
        number = len(self.cells) + len(new)  # the target left others out
        return {n: place for n, place in self.counter.moved().items() if n <= number}

    def _accept(
        self, cells: Sequence[Cell], revised: Sequence[Cell], moved: Mapping[int, tuple[float, float]]
    ) -> None:
        self.cells += cells
        for cell in revised:
            self.cells[cell.number - 1] = cell
        for number, place in moved.items():
            self.cells[number - 1] = dataclasses.replace(self.cells[number - 1], slide=place)
        self._revisions += len(revised)

    def _in_source(self, cells: tuple[Cell, ...]) -> tuple[Cell, ...]:
        """Return the cells with their boxes, and the places of still ones, in the picture of the source."""
        x, y = self._corner or (0, 0)
        boxes = [c.box.moved(x, y) for c in cells]
        return tuple(
            dataclasses.replace(c, box=box, slide=c.slide if self._moving else box.centre)
            for c, box in zip(cells, boxes, strict=True)
        )

    def _skip(self, skip: Skip) -> None:
        if (skip.source, skip.reason) in self._skipped_files:
            return
        self._gates.refused.update([skip.gate] if skip.gate else [])
        self._store.add(self._row, skip=skip, progress=self._progress)
        self._skips.append(skip)
        if isinstance(skip.source, str):
            self._skipped_files.add((skip.source, skip.reason))

    def _revised(self, decided: Sequence[Cell], new: Sequence[Cell] = ()) -> list[Cell]:
        """Return the cells, and `new` ones, as they are `decided` again; what a person named stays so."""
        counted = [*self.cells, *new]
        known = [cell for cell in decided if cell.number <= len(counted)]  # the target left others out
        pairs = [(counted[cell.number - 1], cell) for cell in known]
        return [_decided_again(before, now) for before, now in pairs if not before.namings]

    def name_cell(self, number: int, name: str, namings: int) -> None:
        """Give a counted cell the class that a person sees: it needs no review any more. Stored on return.

        The instrument's own class stays in the cell's probabilities; other cells are decided as before.

        Args:
            number: of the cell.
            name: of a class of the model.
            namings: how often the cell had been named when the person looked at it.

        Raises:
            UserError: there is no such cell or class, somebody else has named it meanwhile, or it cannot be
                stored.
        """
        if not 1 <= number <= len(self.cells):
            raise UserError(f"there is no cell {number} among the {len(self.cells)} counted")
        if name not in (c.name for c in self._card.classes):
            raise UserError(f"{name!r} is no class of the model")
        cell = self.cells[number - 1]
        if cell.namings != namings:
            raise UserError(f"it was named {cell.name.replace('_', ' ')} meanwhile; look at it again")
        self._store.name_cell(self._row, number, name)
        named = dataclasses.replace(cell, name=name, namings=namings + 1, review=False)
        self.cells[number - 1] = named

    @property
    def namings(self) -> int:
        """How often persons gave cells their classes."""
        return sum(cell.namings for cell in self.cells)

    def settle(self, *, paused: bool = False) -> tuple[Cell, ...]:
        """Count what is still pending: the input has ended, or makes a pause. Store the number of frames."""
        # Behind a frame that was not stored the counter's numbers and places lead away from the store's.
        unstored = self._unstored
        left = self.complete or unstored
        cells = () if left else self._in_source(self._up_to_target(self.counter.settle(paused=paused)))
        # A frame has the cells before it decided again; nothing else would after the last one.
        again = () if unstored else self._in_source(self._decision.reconsidered())
        revised = self._revised(again, cells)
        moved = {} if unstored else self._moved(cells, revised)
        self._unstored = True
        self._store.add(self._row, cells=cells, revised=revised, moved=moved, progress=self._progress)
        self._unstored = unstored
        self._accept(cells, revised, moved)
        self._saved_frames = self._frames
        self.save()
        return cells

    def save(self) -> None:
        """Store what the map, and the numbers of frames and gates, have won since they were last stored.

        Raises:
            UserError: it cannot be stored.
        """
        if self._frames != self._saved_frames:
            self._store.add(self._row, progress=self._progress)
            self._saved_frames = self._frames
        self._store.save_map(self._row, self._mosaic.take_changed())

    @property
    def map_version(self) -> int:
        """Grows with each change of the map, of its fields or of the cells on it; 0 while there is no map."""
        changes = len(self.cells) + self.namings + self._revisions + self.counter.fields
        return self._mosaic.version and self._mosaic.version + changes

    def map_view(self) -> MapView | None:
        """Return the map as it is now; None where no frame was laid on the slide."""
        return self._mosaic.view(self.cells)

    def write_map(self, path: Path) -> None:
        """Write the map as a PNG file, the cells on it.

        Raises:
            UserError: there is no map, or it cannot be written.
        """
        write_map(path, self._mosaic, self.cells, [c.name for c in self._card.classes])

    def map_facts(self, view: MapView | None) -> dict[str, Any] | None:
        """Return how much has been seen, as the result has it; None without a map."""
        return view.coverage.facts(self.counter.fields, self._um_per_px) if view else None

    @property
    def _progress(self) -> Progress:
        return Progress(self._frames, self._lost, self._gates)

    def _up_to_target(self, cells: tuple[Cell, ...]) -> tuple[Cell, ...]:
        """Return the first of `cells`, as far as the target allows."""
        left = None if self._target is None else self._target - self.total
        taken = []
        for cell in cells:
            if left is not None and left <= 0:
                break
            taken.append(cell)
            if left is not None:
                left -= cell.name in self._counted_names
        return tuple(taken)

    def result(self, complete: bool) -> dict[str, Any]:
        """Return the JSON contract of this count (see `edge.report.result`)."""
        return result(
            self.specimen,
            self._card,
            self.cells,
            self._skips,
            frames=self._frames,
            fields=self.counter.fields,
            lost=self._lost,
            gates=self._gates,
            seen=self.map_facts(self.map_view()),
            images=None if self._moving else self._images.as_result(),
            complete=complete,
        )

    def state(
        self, phase: str, message: str = "", *, fps: float = 0.0, step: Step | None = None
    ) -> dict[str, Any]:
        """Return what the page shows, ready for JSON.

        Keys: specimen, phase (starting, counting, paused, finished, failed), message (plain words, "" when
        all is well), total, target, unsettled (why a result would not be final), review (cells that a person
        must look at), namings (how often persons gave cells their classes), revisions (grows when counted
        cells are decided again), frames, fields, skipped, skips (of the commonest reasons: how many frames
        each), lost (frames of a place that the map does not show), empty (images on which no whole cell was
        found; 0 for a moving stage), gated and warned (frames by gate), fps,
        source, classes (name, role, count, percent, low, high, per_100 each; None where nothing is counted),
        model (name, sha256), stage ([x, y, angle] as `edge.pose.Pose`, or None), frame ([width, height] in
        pixels, or None), rim (True where a black rim round the picture is left out, see `edge.rim`).
        """
        counted = differential((c.name for c in self.cells), self._card.classes)
        place = step.tracked.place if step else None
        classes = []
        for c in self._card.classes:
            share = counted.shares.get(c.name)
            classes.append(
                {
                    "name": c.name,
                    "role": c.role.value,
                    "count": counted.counts[c.name],
                    "percent": share.percent if share else None,
                    "low": share.low if share else None,
                    "high": share.high if share else None,
                    "per_100": counted.per_100.get(c.name),
                }
            )
        return {
            "specimen": self.specimen,
            "phase": phase,
            "message": message,
            "total": counted.total,
            "target": self._target,
            "unsettled": list(self.unsettled),
            "review": len(self.doubtful),
            "namings": self.namings,
            "revisions": self._revisions,
            "frames": self._frames,
            "fields": self.counter.fields,
            "skipped": len(self._skips),
            "skips": dict(self.skipped.most_common(REASONS)),
            "lost": self._lost,
            "empty": self._images.without_cell,
            "gated": dict(self._gates.refused),
            "warned": dict(self._gates.warned),
            "fps": round(fps, 1),
            "source": self._source,
            "classes": classes,
            "model": {"name": self._card.name, "sha256": self._card.sha256},
            "stage": [place.x, place.y, place.angle] if place else None,
            "frame": list(step.frame.image.shape[1::-1]) if step else None,
            "rim": self._moving and self._corner is not None,
        }


def _decided_again(cell: Cell, now: Cell) -> Cell:
    """Return a counted cell as it is decided `now`, its picture that of a better frame if one came.

    Its place is told apart (`Session._moved`).
    """
    shown = cell if now.source == cell.source else now
    return dataclasses.replace(now, slide=cell.slide, box=shown.box, crop=shown.crop)
