"""The loop: frames in, steps of the count out. No threads, no hardware, no clock."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from edge.cells import Box, Detection, Frame, Skip
from edge.classify import Classifier
from edge.gates import GOOD, Verdict
from edge.live import Label
from edge.localise import Locator, is_cut_out
from edge.preprocess import crop, sharpness
from edge.quality import Inspector
from edge.track import Counter, Tracked
from edge.void import cuts

_NEAR_BORDER = 0.35
"""Sides of a box from the border up to which it may be that of a part alone."""
_LATE, _LATE_BYTES = 100, 64_000_000
"""Images that one waits for at most, which may show its cell whole: far fewer than the album remembers; and
bytes of those that wait."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one frame brought."""

    frame: Frame
    detections: tuple[Detection, ...]
    tracked: Tracked
    verdict: Verdict = GOOD


def detect(frame: Frame, locator: Locator, classifier: Classifier) -> tuple[Detection, ...]:
    """Find and classify the whole leukocytes of one frame."""
    whole = [found for found in locator.locate(frame.image) if found.whole and not _is_cut(frame, found.box)]
    crops = [crop(frame.image, found.box, classifier.card.size) for found in whole]
    answers = classifier.classify(crops)
    heats = [None] * len(whole) if answers.heat is None else answers.heat
    return tuple(
        Detection(found.box, p, view, sharpness(view), float(strangeness), found.sure, heat)
        for found, p, view, strangeness, heat in zip(
            whole, answers.probabilities, crops, answers.strangeness, heats, strict=True
        )
    )


def _is_cut(frame: Frame, box: Box) -> bool:
    """Tell whether the picture ends within its file, and cuts a cell that the image was not cut out round."""
    cut_out = is_cut_out(frame.image.shape[:2], box)
    return frame.empty is not None and not cut_out and cuts(frame.empty, frame.image, box)


def _may_be_part(frame: Frame, box: Box) -> bool:
    """Tell whether what is boxed lies so near the border that it may be a lobe of a cell that this cuts."""
    height, width = frame.image.shape[:2]
    nearest = min(box.x, box.y, width - box.x - box.width, height - box.y - box.height)
    return nearest < _NEAR_BORDER * box.side and not is_cut_out((height, width), box)


def see(frame: Frame, inspector: Inspector) -> tuple[Frame, Verdict]:
    """Return a frame as an even light shows it, as far as that is known, and what the gates say of it."""
    verdict = inspector.inspect(frame.image)
    return replace(frame, image=inspector.light.even(frame.image)), verdict


def run(
    frames: Iterable[Frame | Skip | None],
    locator: Locator,
    classifier: Classifier,
    counter: Counter,
    inspector: Inspector,
) -> Iterator[Step | Skip]:
    """Yield a step for every frame, and every skip as it came.

    A frame that a quality gate refuses shows no cells, but the stage is followed by it; a single image that
    is refused becomes a skip. A single image that may show a part of a cell comes up to a hundred images
    later: one that shows all of it tells that the part is no cell more. None among the frames tells that none
    come for a while: the images that wait come now.

    The cells still pending at the end of the input are `counter.settle()`, the caller's to take.
    """
    late: deque[tuple[Frame, tuple[Detection, ...], Verdict]] = deque()

    def counted(frame: Frame, found: tuple[Detection, ...], verdict: Verdict) -> Step:
        tracked = counter.update(frame, found, refused=verdict.refused is not None)
        return Step(frame, found, tracked, verdict)

    for taken in frames:
        if isinstance(taken, Skip):
            yield taken
            continue
        while late and (taken is None or taken.index - late[0][0].index > _LATE):
            yield counted(*late.popleft())
        if taken is None:
            continue
        frame, verdict = see(taken, inspector)
        if verdict.refused and not inspector.steady:
            yield Skip(frame.index, frame.source, verdict.message, verdict.refused)
            continue
        detections = () if verdict.refused else detect(frame, locator, classifier)
        if not inspector.steady and any(_may_be_part(frame, d.box) for d in detections):
            late.append((frame, detections, verdict))
            while sum(_bytes(f, found) for f, found, _ in late) > _LATE_BYTES:
                yield counted(*late.popleft())
            continue
        yield counted(frame, detections, verdict)
    while late:
        yield counted(*late.popleft())


def _bytes(frame: Frame, detections: Sequence[Detection]) -> int:
    """Return what a frame that waits holds of the memory."""
    empty = 0 if frame.empty is None else frame.empty.nbytes
    return frame.image.nbytes + empty + sum(d.crop.nbytes for d in detections)


def labels(step: Step, classifier: Classifier) -> tuple[Label, ...]:
    """Return what the page writes on the picture of this step."""
    names = [c.name for c in classifier.card.classes]
    return tuple(
        Label(d.box, names[d.probabilities.argmax()], float(d.probabilities.max()), number, d.heat)
        for d, number in zip(step.detections, step.tracked.numbers, strict=True)
    )
