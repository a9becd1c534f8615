"""Is a cell photographed again counted again, and are two cells ever taken for one?

`python -m benchmarks.photographs` takes real crops as photographs. Series: each crop is photographed five
times more, turned by any angle, shifted by up to an eighth, with other light, focus and noise, and the whole
series is counted; beside it stands what counting each image by itself gives. Pairs: crops follow each other,
each compared with the hundred before; what was taken for a cell seen before is listed, to be looked at: in
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

from edge.cells import CellClass, Detection, Frame, Image, Role
from edge.errors import UserError
from edge.fields import StillFields
from edge.localise import Locator
from edge.sightings import Decision
from training.data import Sample, load, read_image

_SERIES = 6
"""Photographs in a series."""
_COMPARED = 100
"""Photographs before it that one is compared with (`edge.album`)."""
_DECISION = Decision((CellClass("leukocyte", Role.COUNTED),), 0.0)


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


def count(images: Sequence[Image], counter: StillFields, locator: Locator) -> list[tuple[int, bool]]:
    """Return for each image how many cells it added, and whether it was known."""
    answers = []
    for index, image in enumerate(images):
        crop = np.zeros((2, 2, 3), np.uint8)
        boxes = [found.box for found in locator.locate(image) if found.whole]
        found = [Detection(box, np.ones(1, np.float32), crop, 1.0, 0.0) for box in boxes]
        tracked = counter.update(Frame(index, 0.0, image, f"{index}"), found)
        answers.append((len(tracked.cells), tracked.again))
    return answers


def series(samples: Sequence[Sample], rng: np.random.Generator) -> str:
    """Return a line on how often series of photographs of the samples were counted as they should be."""
    good = extra = alone = 0
    for sample in track(samples, "series", console=Console(stderr=True)):
        first = read_image(sample.path)
        images = [first, *(again(first, rng) for _ in range(_SERIES - 1))]
        added = [cells for cells, _ in count(images, StillFields(_DECISION), Locator())]
        more = sum(added) - max(added[0], 1)
        good, extra = good + (more <= 0), extra + max(more, 0)
        alone += sum(count([image], StillFields(_DECISION), Locator())[0][0] for image in images[1:])
    return (
        f"{len(samples)} series of {_SERIES}: {good} without a second count, {extra} cells too many; "
        f"each image by itself: {alone} too many"
    )


def pairs(samples: Sequence[Sample]) -> str:
    """Return a line on the samples that were taken for one another."""
    counter, locator = StillFields(_DECISION), Locator()
    compared, known = 0, []
    for index, sample in enumerate(track(samples, "pairs", console=Console(stderr=True))):
        ((_, seen_before),) = count([read_image(sample.path)], counter, locator)
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
    try:
        samples = [s for s in load(options.data) if s.name != "platelet"]
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for source, split in (("pbc", "test"), ("zheng1", "other-laboratory"), ("bccd", "other-laboratory")):
        rng = np.random.default_rng(1)
        mine = [s for s in samples if s.source == source and s.split == split]
        mine = [mine[i] for i in rng.permutation(len(mine))]
        print(f"{source}: {series(mine[: options.series], rng)}", flush=True)
        print(f"{source}: {pairs(mine[: options.images])}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
