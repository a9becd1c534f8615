"""Is a cell photographed again counted again, and are two cells ever taken for one?

`python -m benchmarks.photographs` takes real crops as photographs. Series: each crop is photographed five
times more, turned by any angle, shifted by up to an eighth, with other light, focus and noise, and the whole
series is counted; it is counted rightly where the first image shows a cell and the others add none. Beside it
stand what counting each image by itself gives, and how many first cells are named rightly (one of all eight
classes) by the first image and by the series. Pairs: crops follow each other,
each compared with the 300 before; what was taken for a cell seen before is listed, to be looked at: in
BCCD and Zheng 1 some cells were photographed twice. Walks: 24 overlapping photographs each of a slide that
bears cells of the PBC test split (`benchmarks.real_slide`), in half of them in no order; a cell must be
counted that one of them shows whole.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks.count_once import LEUKOCYTES, SCALE, SLIDE
from benchmarks.real_slide import Slide, build_slide
from edge.cells import Cell, Frame, Image, Role
from edge.classify import Classifier
from edge.fields import StillFields
from edge.localise import Locator
from edge.pipeline import detect
from edge.pose import Pose
from edge.sightings import Decision
from edge.startup import Parser, run
from training.data import Sample, load, read_image

_SERIES = 6
"""Photographs in a series."""
_COMPARED = 300
"""Photographs before it that one is compared with (`edge.album`)."""
_WALK, _VIEW = 24, (640, 480)
"""Photographs of a walk, and their size, pixels."""
_STEP = 0.15, 0.4
"""From one to the next, shares of the picture's height."""
_TILT = 8.0
"""Degrees by which they are turned, at most."""
_MARGIN = 12
"""Pixels between a cell that a photograph shows whole and its border, at least."""


def again(image: Image, rng: np.random.Generator) -> Image:
    """Return another photograph of what `image` shows; beyond its border lies its background."""
    height, width = image.shape[:2]
    move = np.array(cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-180, 180), 1), np.float64)
    move[:, 2] += rng.uniform(-0.125, 0.125, 2) * (width, height)
    white = [float(v) for v in np.percentile(image.reshape(-1, 3), 90, axis=0)]
    view = cv2.warpAffine(image, move, (width, height), flags=cv2.INTER_CUBIC, borderValue=white)
    return _taken(np.asarray(view, np.uint8), rng)


def _taken(view: Image, rng: np.random.Generator) -> Image:
    """Return a view in other light and focus, with noise."""
    view = np.asarray(cv2.GaussianBlur(view, (0, 0), rng.uniform(0.2, 1.2)), np.uint8)
    noise = 3 * rng.standard_normal(view.shape)
    return np.asarray(np.clip(view * rng.uniform(0.75, 1.2) + noise, 0, 255), np.uint8)


def count(
    images: Sequence[Image], counter: StillFields, locator: Locator, classifier: Classifier
) -> list[tuple[tuple[Cell, ...], tuple[Cell, ...], bool]]:
    """Return for each image which cells it added, which it decided again, and whether it was known."""
    answers = []
    for index, image in enumerate(images):
        frame = Frame(index, 0.0, image, f"{index}")
        tracked = counter.update(frame, detect(frame, locator, classifier))
        answers.append((tracked.cells, tracked.revised, tracked.again))
    return answers


def _counter(classifier: Classifier) -> StillFields:
    return StillFields(Decision(classifier.card.classes, classifier.card.review_below))


def series(samples: Sequence[Sample], rng: np.random.Generator, classifier: Classifier) -> str:
    """Return a line on how often series of photographs of the samples were counted as they should be."""
    good = extra = alone = first = last = 0
    for sample in track(samples, "series", console=Console(stderr=True)):
        image = read_image(sample.path)
        images = [image, *(again(image, rng) for _ in range(_SERIES - 1))]
        told = count(images, _counter(classifier), Locator(), classifier)
        begun, more = told[0][0], sum(len(cells) for cells, _, _ in told[1:])
        good, extra = good + (len(begun) == 1 and more == 0), extra + more
        alone += sum(len(count([i], _counter(classifier), Locator(), classifier)[0][0]) for i in images[1:])
        names = [cell.name for cells, revised, _ in told for cell in (*cells, *revised) if cell.number == 1]
        first, last = first + (names[:1] == [sample.name]), last + (names[-1:] == [sample.name])
    return (
        f"{len(samples)} series of {_SERIES}: {good} counted rightly, {extra} cells too many; each image by "
        f"itself: {alone} too many; named rightly by the first image {first}, by the series {last}"
    )


def pairs(samples: Sequence[Sample], classifier: Classifier) -> str:
    """Return a line on the samples that were taken for one another."""
    counter, locator = _counter(classifier), Locator()
    compared, known = 0, []
    for index, sample in enumerate(track(samples, "pairs", console=Console(stderr=True))):
        ((_, _, seen_before),) = count([read_image(sample.path)], counter, locator, classifier)
        compared += min(index, _COMPARED)
        if seen_before:
            known.append(sample.path.name)
    return f"{compared} pairs: {len(known)} images taken for one before: {' '.join(known) or '-'}"


def _walk(slide: Slide, rng: np.random.Generator) -> list[Pose]:
    """Return how overlapping photographs lie on a slide: a walk in any directions."""
    half = math.hypot(*_VIEW) / 2
    x, y = slide.size[0] / 2, slide.size[1] / 2
    poses: list[Pose] = []
    while len(poses) < _WALK:
        course, step = rng.uniform(-math.pi, math.pi), rng.uniform(*_STEP) * _VIEW[1]
        ahead = x + step * math.cos(course), y + step * math.sin(course)
        if all(half <= at <= side - half for at, side in zip(ahead, slide.size, strict=True)):
            x, y = ahead
            turn = math.radians(rng.uniform(-_TILT, _TILT))
            left, top = Pose(0, 0, turn).to_slide(_VIEW[0] / 2, _VIEW[1] / 2)
            poses.append(Pose(x - left, y - top, turn))
    return poses


def walks(slides: Sequence[Slide], rng: np.random.Generator, classifier: Classifier) -> str:
    """Return a line on how the leukocytes of walks over the slides were counted."""
    rejected = {c.name for c in classifier.card.classes if c.role is Role.REJECTED}
    shown = missed = twice = false = 0
    for number, slide in enumerate(track(slides, "walks", console=Console(stderr=True))):
        poses = _walk(slide, rng)
        poses = [poses[i] for i in rng.permutation(_WALK)] if number % 2 else poses
        images = [_taken(_view(slide, pose), rng) for pose in poses]
        whole = {c.number for c in slide.cells for pose in poses if _shows(pose, c.x, c.y, c.diameter)}
        found: list[int] = []
        told = count(images, _counter(classifier), Locator(), classifier)
        for pose, (cells, _, _) in zip(poses, told, strict=True):
            for cell in (c for c in cells if c.name not in rejected):
                x, y = pose.to_slide(*cell.box.centre)
                near = min(slide.cells, key=lambda c: math.dist((c.x, c.y), (x, y)))
                if math.dist((near.x, near.y), (x, y)) < near.diameter / 2:
                    found.append(near.number)
                else:
                    false += 1
        shown, missed = shown + len(whole), missed + len(whole - {*found})
        twice += len(found) - len({*found})
    return f"{len(slides)} walks: {shown} cells shown whole, {missed} missed, {twice} too many, {false} false"


def _slide(data: Path, seed: int) -> Slide:
    return build_slide(data, "test", seed, scale=SCALE, size=SLIDE, leukocytes=LEUKOCYTES)


def _view(slide: Slide, pose: Pose) -> Image:
    cos, sin = math.cos(pose.angle), math.sin(pose.angle)
    move = np.array([[cos, -sin, pose.x], [sin, cos, pose.y]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(slide.image, move, _VIEW, flags=flags), np.uint8)


def _shows(pose: Pose, x: float, y: float, diameter: float) -> bool:
    """Tell whether a photograph shows the whole cell at (x, y) of the slide."""
    reach = diameter / 2 + _MARGIN
    at = pose.to_frame(x, y)
    return all(reach <= place <= side - reach for place, side in zip(at, _VIEW, strict=True))


def _work(options: argparse.Namespace) -> None:
    cv2.setNumThreads(1)
    classifier = Classifier()
    samples = [s for s in load(options.data) if s.name != "platelet"]
    for source, split in (("pbc", "test"), ("zheng1", "other-laboratory"), ("bccd", "other-laboratory")):
        rng = np.random.default_rng(1)
        mine = [s for s in samples if s.source == source and s.split == split]
        mine = [mine[i] for i in rng.permutation(len(mine))]
        print(f"{source}: {series(mine[: options.series], rng, classifier)}", flush=True)
        print(f"{source}: {pairs(mine[: options.images], classifier)}", flush=True)
    slides = [_slide(options.data, seed) for seed in range(1, options.walks + 1)]
    print(f"pbc: {walks(slides, np.random.default_rng(1), classifier)}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = Parser(prog="python -m benchmarks.photographs", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with cells.csv")
    parser.add_argument("--series", type=int, default=40, help="of each source")
    parser.add_argument("--images", type=int, default=300, help="of each source, for the pairs")
    parser.add_argument("--walks", type=int, default=10, help="over a slide each")
    options = parser.parse_args(arguments)
    return run(lambda: _work(options))


if __name__ == "__main__":
    sys.exit(main())
