"""Is a cell photographed again counted again, and are two cells ever taken for one?

`python -m benchmarks.photographs` takes real crops as photographs. Series: each crop is photographed five
times more, turned by any angle, shifted by up to an eighth, with other light, focus and noise, and the whole
series is counted; it is counted rightly where the first image shows a cell and the others add none. Beside it
stand what counting each image by itself gives, and how many first cells are named rightly (one of all eight
classes) by the first image and by the series. Pairs: crops follow each other,
each compared with the 300 before; what was taken for a cell seen before is listed, to be looked at: in
BCCD and Zheng 1 some cells were photographed twice.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from edge.cells import Cell, Frame, Image
from edge.classify import Classifier
from edge.errors import UserError
from edge.fields import StillFields
from edge.localise import Locator
from edge.pipeline import detect
from edge.sightings import Decision
from training.data import Sample, load, read_image

_SERIES = 6
"""Photographs in a series."""
_COMPARED = 300
"""Photographs before it that one is compared with (`edge.album`)."""


def again(image: Image, rng: np.random.Generator) -> Image:
    """Return another photograph of what `image` shows; beyond its border lies its background."""
    height, width = image.shape[:2]
    move = np.array(cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-180, 180), 1), np.float64)
    move[:, 2] += rng.uniform(-0.125, 0.125, 2) * (width, height)
    white = [float(v) for v in np.percentile(image.reshape(-1, 3), 90, axis=0)]
    view = cv2.warpAffine(image, move, (width, height), flags=cv2.INTER_CUBIC, borderValue=white)
    view = cv2.GaussianBlur(view, (0, 0), rng.uniform(0.2, 1.2))
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
        good, extra = good + (len(begun) > 0 and more == 0), extra + more
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.photographs", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with cells.csv")
    parser.add_argument("--series", type=int, default=40, help="of each source")
    parser.add_argument("--images", type=int, default=300, help="of each source, for the pairs")
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    classifier = Classifier()
    try:
        samples = [s for s in load(options.data) if s.name != "platelet"]
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for source, split in (("pbc", "test"), ("zheng1", "other-laboratory"), ("bccd", "other-laboratory")):
        rng = np.random.default_rng(1)
        mine = [s for s in samples if s.source == source and s.split == split]
        mine = [mine[i] for i in rng.permutation(len(mine))]
        print(f"{source}: {series(mine[: options.series], rng, classifier)}", flush=True)
        print(f"{source}: {pairs(mine[: options.images], classifier)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
