"""Is each leukocyte counted exactly once, with the right class? `python -m benchmarks.count_once`.

For every seed a slide of real cells is built, for every script it is filmed (`benchmarks.simulate_stage`).
Each frame goes through the instrument's gates, its locator, which measures the scale itself, and its
classifier. What these find goes through the instrument's counter, supervision's ByteTrack, norfair and a
plain IoU tracker. Exit code 1 where a bar is missed. Needs supervision and norfair: `make test` installs
them.

Every other tracker counts a track from its third box on, with the class that its boxes have on average.
What is named a platelet is not counted; a lymphocyte named an erythroblast is. "error %" is (counted - seen
well) / seen well; "five %" how often the likeliest of the study's five classes is right (`training.evaluate
--classes five`), by all sightings, and "single %" by the one that weighs most alone (of other trackers, the
sharpest); "named %" how often the class that it was counted as is, one of all eight; "sure" the share not
sent to review, "right %" how often these are counted as the right class; "ms/frame" what linking takes
(ours: with the stage's motion).
"""

import argparse
import dataclasses
import hashlib
import json
import logging
import pickle
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks.peers import HITS, PEERS, Tracker
from benchmarks.real_slide import Slide, build_slide
from benchmarks.simulate_stage import film
from benchmarks.stage_script import INSIDE_PX, ORDINARY, SCRIPTS, FrameTruth, seen_well, stage_truth
from benchmarks.tally import HEADING, Counted, Tally, score
from edge import chromatin, classify, light, localise, preprocess, quality, ruler, second_look
from edge.cells import Box, Cell, Detection, Frame, Image, Located, Probabilities, Role
from edge.classify import Classifier
from edge.errors import UserError
from edge.localise import LOCATOR_MODEL, Locator
from edge.nucleus import reduced
from edge.pipeline import detect, see
from edge.quality import Inspector
from edge.sightings import Decision
from edge.startup import Parser, run
from edge.track import MovingStage
from edge.whole import whole
from training.data import STUDY_CLASSES

SLIDE = (1800, 1300)
"""Width and height of the slides, pixels."""
LEUKOCYTES = 56
"""On each."""
SCALE = 0.6
"""Slide pixels per pixel of a PBC image: a red cell spans 43."""

OURS = "ours"
MOST_ERROR = {"ordinary": 0.005, "hard": 0.02}
"""Greatest count error (share of the cells seen well), by group of scripts."""
MOST_TWICE = 0.002
"""Greatest share of the cells counted twice."""
LEAST_RIGHT = 0.995
"""Least share of the counted cells with the right class of the five."""
_SETTLING = 40
"""Frames until the scale of a microscope is known."""
LEAST_RATIO = 10.0
"""Every other tracker's count error over ours, at least."""


class TrueBoxes(Locator):
    """In place of the locator: the boxes of the truth, to tell its errors from the counter's."""

    def __init__(self, slide: Slide) -> None:
        super().__init__()
        self.slide = slide
        self.frame: FrameTruth | None = None
        """Set before each frame."""

    def locate(self, image: Image) -> list[Located]:
        """Return the boxes of the cells that lie wholly in the frame."""
        found: list[Located] = []
        if self.frame is None or self.frame.swapped:
            return found
        height, width = image.shape[:2]
        for cell in self.slide.cells:
            x, y = self.frame.pose.to_frame(cell.x, cell.y)
            half = cell.diameter / 2
            reach = half + INSIDE_PX / 2
            if reach <= x <= width - reach and reach <= y <= height - reach:
                found.append(Located(Box(x - half, y - half, 2 * half, 2 * half), True, True))
        return found


_EYES = (chromatin, classify, light, localise, preprocess, quality, ruler, second_look)
"""A change of these makes what was found before worthless."""
Seen = tuple[Detection, ...] | None
"""What was found in a frame; None where the gates refused it."""


def detections(
    slide: Slide, script: str, seed: int, true_boxes: bool, classifier: Classifier
) -> Iterator[Seen]:
    """Yield what the locator (or the truth) and the classifier find in each frame of a film."""
    truth_boxes, inspector = TrueBoxes(slide), Inspector(steady=True)
    locator = truth_boxes if true_boxes else Locator(steady=True)
    for index, (image, truth) in enumerate(film(slide, SCRIPTS[script], seed)):
        truth_boxes.frame = truth
        frame, verdict = see(Frame(index, 0.0, image), inspector)
        if verdict.refused:
            yield None
            continue
        found = detect(frame, locator, classifier)
        # Whole crops would fill the memory; of them the counter only measures the nucleus.
        yield tuple(replace(d, crop=reduced(d.crop), heat=None) for d in found)


class Detected:
    """The detections of each film, kept in a folder between runs where one is given."""

    def __init__(self, folder: Path | None, split: str, true_boxes: bool, classifier: Classifier) -> None:
        self._folder, self._split, self._true_boxes = folder, split, true_boxes
        self._classifier = classifier

    def of(self, slide: Slide, script: str, seed: int, total: int) -> list[Seen]:
        """Return the detections of every frame of a film, showing progress."""
        file = self._file(slide, script, seed)
        if file is not None and file.is_file():
            return list(pickle.loads(file.read_bytes()))
        frames = detections(slide, script, seed, self._true_boxes, self._classifier)
        told = f"seed {seed}, {script}: detecting"
        found = list(track(frames, told, total, console=Console(stderr=True)))
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            with whole(file) as part:
                part.write_bytes(pickle.dumps(found))
        return found

    def _file(self, slide: Slide, script: str, seed: int) -> Path | None:
        if self._folder is None:
            return None
        boxes = slide.cells if self._true_boxes else LOCATOR_MODEL.read_bytes()
        made = (
            [Path(str(part.__file__)).read_bytes() for part in _EYES],
            boxes,
            SCRIPTS[script],
            self._classifier.card.identity,
            hashlib.sha256(slide.image.tobytes()).digest(),
        )
        name = hashlib.sha256(repr(made).encode()).hexdigest()[:12]
        return self._folder / f"{self._split}-{script}-{seed}-{name}.pickle"


def count_ours(
    images: Sequence[Image], seen: Sequence[Seen], decision: Decision
) -> tuple[list[Counted], dict[tuple[int, Box], int], float]:
    """Return what the instrument's counter counts, its names of the boxes, and the seconds it took."""
    counter = MovingStage(decision)
    cells: list[Cell] = []
    last: dict[int, Cell] = {}
    names, seconds = {}, 0.0
    found = [detections or () for detections in seen]
    for index, image in enumerate(images):
        frame = Frame(index, 0.0, image)
        begin = time.perf_counter()
        tracked = counter.update(frame, found[index], refused=seen[index] is None)
        seconds += time.perf_counter() - begin
        cells += tracked.cells
        last |= {cell.number: cell for cell in tracked.revised}
        for detection, number in zip(found[index], tracked.numbers, strict=True):
            if number is not None:
                names[index, detection.box] = number
    cells += counter.settle()
    last |= {cell.number: cell for cell in decision.reconsidered()}
    roles = {c.name: c.role for c in decision.classes}
    counted = []
    for cell in cells:
        # Where a cell lies is told by the count, what it is by all that was seen of it.
        final = last.get(cell.number, cell)
        if roles[final.name] is Role.REJECTED or not isinstance(cell.source, int):
            continue
        best = next(d for d in found[int(final.source)] if d.box == final.box)
        five, single = (_of_five(p, decision) for p in (final.probabilities, best.probabilities))
        counted.append(Counted(cell.source, cell.box, final.name, five, single, final.review))
    return counted, names, seconds


def _of_five(probabilities: Probabilities, decision: Decision) -> str:
    """Return the likeliest of the study's five classes."""
    chances = {c.name: p for c, p in zip(decision.classes, probabilities, strict=True)}
    return max(STUDY_CLASSES, key=lambda name: chances[name])


def count_theirs(
    tracker: Tracker, images: Sequence[Image], seen: Sequence[Seen], decision: Decision
) -> tuple[list[Counted], dict[tuple[int, Box], int], float]:
    """Return the same for a tracker that links boxes."""
    tracks: defaultdict[int, list[tuple[int, Detection]]] = defaultdict(list)
    names, seconds = {}, 0.0
    for index, image in enumerate(images):
        found = seen[index] or ()
        begin = time.perf_counter()
        linked = tracker.link([d.box for d in found], image)
        seconds += time.perf_counter() - begin
        for detection, name in zip(found, linked, strict=True):
            if name is not None:
                names[index, detection.box] = name
                tracks[name].append((index, detection))
    counted = []
    for sightings in tracks.values():
        mean = np.mean([d.probabilities for _, d in sightings], axis=0)
        named = decision.classes[int(mean.argmax())]
        if len(sightings) >= HITS and named.role is not Role.REJECTED:
            frame, best = max(sightings, key=lambda pair: pair[1].sharpness)
            five, single = (_of_five(p, decision) for p in (mean, best.probabilities))
            counted.append(Counted(frame, best.box, named.name, five, single, False))
    return counted, names, seconds


def measure(
    slide: Slide, script: str, seed: int, detected: Detected, classifier: Classifier
) -> dict[str, Tally]:
    """Return what comes of one film, by counter."""
    frames = stage_truth(slide.size, SCRIPTS[script], seed)
    well = frozenset(c.number for c in slide.cells if seen_well(c, frames, SCRIPTS[script]))
    found = detected.of(slide, script, seed, len(frames))
    images = [image for image, _ in film(slide, SCRIPTS[script], seed)]
    decision = Decision(classifier.card.classes, classifier.card.review_below)
    tallies = {}
    for name in (OURS, *PEERS):
        if name == OURS:
            counted, names, seconds = count_ours(images, found, decision)
        else:
            counted, names, seconds = count_theirs(PEERS[name](), images, found, decision)
        tally = score(counted, names, frames, slide.cells, well)
        tallies[name] = replace(tally, seconds=seconds)
    return tallies


def cost(slide: Slide, seed: int, classifier: Classifier) -> str:
    """Return what the parts of the instrument take per frame, measured side by side on 60 frames.

    Those before them settle the scale.
    """
    locator = Locator(steady=True)
    counter = MovingStage(Decision(classifier.card.classes, classifier.card.review_below))
    spent, crops, frames = np.zeros(3), 0, 0
    reel = film(slide, SCRIPTS["rows"], seed)
    for image, _ in islice(reel, _SETTLING):
        locator.locate(image)
    for (image, _), frames in zip(reel, range(1, 61), strict=False):
        frame = Frame(frames, 0.0, image)
        moments = [time.perf_counter()]
        locator.locate(image)
        moments.append(time.perf_counter())
        found = detect(frame, locator, classifier)
        moments.append(time.perf_counter())
        counter.update(frame, found)
        moments.append(time.perf_counter())
        spent += np.diff(moments)
        crops += len(found)
    locate, both, follow = 1e3 * spent / frames
    invoke = max(both - locate, 0) * frames / max(crops, 1)
    return (
        f"per 640x480 frame: locating {locate:.1f} ms, motion and counting {follow:.1f} ms; "
        f"classifying takes {invoke:.1f} ms a cell, {both - locate:.1f} ms a frame"
    )


def failures(pooled: Mapping[tuple[str, str], Tally]) -> list[str]:
    """Return the bars that were missed, in words.

    Args:
        pooled: tallies by (group of scripts, counter).
    """
    missed = []
    ours = Tally()
    for group, most in MOST_ERROR.items():
        tally = pooled.get((group, OURS))
        if tally is not None:
            ours += tally
            if tally.wrong > most * tally.truth:
                missed.append(f"{group}: {tally.wrong} of {tally.truth} counts wrong, bar {100 * most} %")
    if ours.twice > MOST_TWICE * ours.truth:
        missed.append(f"{ours.twice} of {ours.truth} cells counted twice, bar {100 * MOST_TWICE} %")
    if ours.right < LEAST_RIGHT * ours.found:
        missed.append(f"class right {100 * ours.right / ours.found:.2f} %, bar {100 * LEAST_RIGHT} %")
    if ours.right < ours.single_right:
        missed.append("the class is worse than that of the sharpest single frame")
    for name in PEERS:
        theirs = sum((t for (_, counter), t in pooled.items() if counter == name), Tally())
        if ratio(theirs, ours) < LEAST_RATIO:
            missed.append(f"{name}'s count error is only {ratio(theirs, ours):.1f} times ours")
    return missed


def ratio(theirs: Tally, ours: Tally) -> float:
    """Return their count error over ours; over- and under-counts do not make up for each other.

    Ours counts as one cell at least: a ratio to nothing says nothing.
    """
    return theirs.wrong / max(ours.wrong, 1)


def beside(theirs: Tally, ours: Tally) -> str:
    """Return a peer's count error beside ours, in words."""
    return (
        f"{theirs.wrong} counts wrong (missed, twice, false), ours {ours.wrong}: "
        f"{ratio(theirs, ours):.0f} times as many" + ("" if ours.wrong else ", were one of ours wrong")
    )


def write_figures(file: Path, tallies: Mapping[str, Tally]) -> None:
    """Write every tally (the fields of `Tally`, by name) as JSON.

    Raises:
        UserError: the file cannot be written.
    """
    figures = {name: dataclasses.asdict(tally) for name, tally in tallies.items()}
    try:
        file.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}; --json names a file to write to") from None


def _work(options: argparse.Namespace) -> int:
    cv2.setNumThreads(1)
    logging.getLogger().setLevel(logging.ERROR)  # norfair warns of each frame whose motion it does not see
    classifier = Classifier()
    detected = Detected(options.cache, options.split, options.true_boxes, classifier)
    pooled: defaultdict[tuple[str, str], Tally] = defaultdict(Tally)
    figures: dict[str, Tally] = {}
    for seed in options.seeds:
        print(f"seed {seed}: building the slide", file=sys.stderr, flush=True)
        slide = build_slide(options.data, options.split, seed, scale=SCALE, size=SLIDE, leukocytes=LEUKOCYTES)
        if not figures:
            print(HEADING, flush=True)
        for script in options.scripts:
            group = "ordinary" if script in ORDINARY else "hard"
            for name, tally in measure(slide, script, seed, detected, classifier).items():
                pooled[group, name] += tally
                figures[f"{seed} {script} {name}"] = tally
            print(figures[f"{seed} {script} {OURS}"].row(f"{seed} {script}"), flush=True)
    figures |= {f"{group} {name}": tally for (group, name), tally in pooled.items()}
    if options.json:
        write_figures(options.json, figures)
    for group in (g for g in ("ordinary", "hard") if (g, OURS) in pooled):
        print(*(pooled[group, name].row(f"{group} {name}") for name in (OURS, *PEERS)), sep="\n")
    ours = pooled["ordinary", OURS] + pooled["hard", OURS]
    for name in PEERS:
        print(f"{name}: {beside(pooled['ordinary', name] + pooled['hard', name], ours)}")
    print(
        f"{ours.truth} of {ours.cells} leukocytes were seen well; of the others ours counted {ours.others}, "
        f"{ours.others_wrong} of these as another class without sending them to review"
    )
    print(cost(slide, options.seeds[-1], classifier))
    missed = failures(pooled)
    print(*(f"bar missed: {text}" for text in missed), sep="\n")
    return int(bool(missed))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = Parser(prog="python -m benchmarks.count_once", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with cells.csv")
    parser.add_argument(
        "--split", default="test", choices=("train", "validation", "test"), help="whose cells are shown"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="a slide and its films each")
    parser.add_argument("--scripts", nargs="+", choices=tuple(SCRIPTS), default=list(SCRIPTS), help="films")
    parser.add_argument(
        "--true-boxes", action="store_true", help="the truth's boxes instead of the locator's"
    )
    parser.add_argument("--cache", type=Path, help="folder that keeps the detections between runs")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args(arguments)
    return run(lambda: _work(options))


if __name__ == "__main__":
    sys.exit(main())
