"""How many leukocytes the locator finds in whole fields: `python -m benchmarks.locator`.

Beside it, in the same run, stands the plainest alternative: the largest connected areas of an Otsu
threshold on saturation, the usual first step of classical WBC segmentation. Then come fields without a
leukocyte, images of single cells (found once, and classified by the box that was found), the same images cut
and turned as data sets have them, and the time of a frame.

--leave-one-source-out trains a locator for each laboratory on the others alone, and judges it there.
"""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from edge.cells import Box, Image
from edge.classify import Classifier
from edge.localise import LOCATOR_MODEL, Locator
from edge.preprocess import crop
from edge.startup import Parser, run
from edge.void import filled, within_frame
from training.data import STUDY_CLASSES, Sample, load, read_image
from training.framing import find_cell, single_cell_box
from training.locating import Locate, empty_fields, measure

_SETTLING, _ROUNDS = 40, 50
"""Frames until the scale of a microscope is known, and frames that are timed."""


def saturation(image: Image) -> list[Box]:
    """Otsu's threshold on saturation; areas of at least 1 % of the picture."""
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[..., 1], (0, 0), 2)
    _, mask = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask)
    least = 0.01 * grey.size
    return [Box(float(x), float(y), float(w), float(h)) for x, y, w, h, area in stats[1:] if area >= least]


def boxes_of(locator: Locator) -> Locate:
    """Return the locator as a function to boxes."""
    return lambda image: [found.box for found in locator.locate(image)]


def show(data: Path, split: str, named: dict[str, Locate], only: str = "") -> dict[str, float]:
    """Print recall and precision by source; return the mean share of missed cells by locator."""
    missed: dict[str, list[float]] = defaultdict(list)
    for name, locate in named.items():
        for source, pair in measure(data, split, locate).items():
            if only and source != only:
                continue
            for labels, found in zip(("all", "undoubted"), pair, strict=True):
                missed[name].append(1 - found.recall)
                print(
                    f"{source:8}{name:12}{labels:11}{found.fields:7}{found.labelled:7}"
                    f"{100 * found.recall:8.2f}{100 * found.precision:11.2f}"
                    f"{100 * found.near / found.labelled:12.2f}"
                    f"{found.whole - found.whole_right:8} of {found.whole}",
                    flush=True,
                )
    return {name: float(np.mean(values)) for name, values in missed.items()}


def show_empty(data: Path, split: str, locate: Locate) -> None:
    """Print how many leukocytes are seen where there is none."""
    false: dict[str, list[int]] = defaultdict(list)
    for source, image in empty_fields(data, split):
        false[source].append(len(locate(image)))
    every = [n for counts in false.values() for n in counts]
    by_source = ", ".join(f"{s} {sum(counts)} in {len(counts)}" for s, counts in false.items())
    print(f"false cells per 100 fields without one: {100 * sum(every) / len(every):.2f} ({by_source})")


def cut_out(share: float) -> Callable[[Image], Image]:
    """Return how to cut an image of one cell to this share of the cell's box, as training finds it."""

    def cut(image: Image) -> Image:
        box = single_cell_box(image)
        (x, y), width, height = box.centre, share * box.width / 2, share * box.height / 2
        rows = slice(max(round(y - height), 0), round(y + height))
        return np.ascontiguousarray(image[rows, max(round(x - width), 0) : round(x + width)])

    return cut


def turned_on_black(image: Image) -> Image:
    """Return an image turned by 30 degrees, its corners black."""
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 30, 1)
    return np.asarray(cv2.warpAffine(image, turn, (width, height)), np.uint8)


def shown_alone(image: Image) -> Image:
    """Return the cell alone, in the ellipse of its box, on black."""
    box, mask = single_cell_box(image), np.zeros(image.shape[:2], np.uint8)
    middle = round(box.centre[0]), round(box.centre[1])
    cv2.ellipse(mask, middle, (round(0.52 * box.width), round(0.52 * box.height)), 0, 0, 360, 1, cv2.FILLED)
    return np.asarray(image * mask[..., None], np.uint8)


def framed_in_white(image: Image) -> Image:
    """Return an image in the middle of a white one 2.2 times as large."""
    side = round(0.6 * max(image.shape))
    return np.asarray(
        cv2.copyMakeBorder(image, side, side, side, side, cv2.BORDER_CONSTANT, value=(255,) * 3), np.uint8
    )


CHANGES: dict[str, Callable[[Image], Image]] = {
    "cut to its box": cut_out(1.0),
    "cut 5 % into": cut_out(0.9),
    "turned on black": turned_on_black,
    "alone on black": shown_alone,
    "framed in white": framed_in_white,
}
"""What people do to images of one cell before they share them."""


def show_single(
    name: str,
    samples: Sequence[Sample],
    locator: Locator,
    classifier: Classifier,
    change: Callable[[Image], Image] = lambda image: image,
) -> None:
    """Print how often exactly one whole cell is found in an image of one, and is classified rightly.

    Beside it stands the box that training finds, knowing that the image shows one cell.
    """
    names = [c.name for c in classifier.card.classes]
    once = right = framed = 0
    for sample in samples:
        image = filled(within_frame(change(read_image(sample.path)))[0])
        boxes = [found.box for found in locator.locate(image) if found.whole]
        once += len(boxes) == 1
        middle = np.array(image.shape[1::-1]) / 2
        nearest = min(boxes, key=lambda box: float(np.hypot(*(box.centre - middle))), default=None)
        chosen = [find_cell(image)] + ([nearest] if nearest else [])
        crops = [crop(image, box, classifier.card.size) for box in chosen]
        answers = classifier.classify(crops).probabilities
        told = [names[i] for i in answers.argmax(axis=1)]
        framed += told[0] == sample.name
        right += told[1:] == [sample.name]
    n = len(samples)
    print(
        f"{name:28}{n:7}{100 * once / n:15.2f}{100 * right / n:17.2f}{100 * framed / n:19.2f}",
        flush=True,
    )


def show_cost(sample: Sample, locator: Locator, classifier: Classifier) -> None:
    """Print the time of a frame of a session and of a crop of a cell, one thread each."""
    image = read_image(sample.path)
    frame = np.asarray(cv2.resize(image, (640, 480)), np.uint8)
    view = crop(image, single_cell_box(image), classifier.card.size)
    for _ in range(_SETTLING):
        locator.locate(frame)
    locate_ms = _median_ms(lambda: locator.locate(frame))
    classify_ms = _median_ms(lambda: classifier.classify([view]))
    print(
        f"a 640x480 frame located in {locate_ms:.2f} ms, a crop classified in {classify_ms:.2f} ms "
        f"(ratio {locate_ms / classify_ms:.2f})"
    )


def _median_ms(act: Callable[[], object]) -> float:
    times = []
    for _ in range(_ROUNDS):
        begin = time.perf_counter()
        act()
        times.append(time.perf_counter() - begin)
    return 1000 * float(np.median(times))


def leave_one_out(data: Path, split: str, output: Path, epochs: int) -> None:
    """Train, convert and judge a locator for each laboratory that it never saw; goes on where stopped."""
    # TensorFlow takes seconds, and is needed here alone.
    from convert.locator import convert
    from training.claim import check_free
    from training.fields import learnable
    from training.locator import Recipe, read_recipe, train

    for source in ("raabin", "pbc", "bccd"):
        run = output / source
        recipe = Recipe(epochs=epochs, leave_out=(source,))
        check_free(run, recipe, read_recipe)
        if not (run / "locator.tflite").is_file() or read_recipe(run / "recipe.json").epochs < epochs:
            (run / "locator.tflite").unlink(missing_ok=True)  # else one that is stopped would pass for done
            train(learnable(data, recipe.leave_out, recipe.seed), recipe, run)
            convert(run / "locator.keras", data, run / "locator.tflite", 240)
    _head()
    for source in ("raabin", "pbc", "bccd"):
        locator = Locator(model=output / source / "locator.tflite")
        show(data, split, {"never seen": boxes_of(locator)}, only=source)


def _head() -> None:
    print(
        f"{'source':8}{'locator':12}{'labels':11}{'fields':>7}{'cells':>7}{'recall':>8}{'precision':>11}"
        f"{'at IoU 0.3':>12}{'whole missed':>16}"
    )


def _work(options: argparse.Namespace) -> None:
    if options.leave_one_source_out:
        leave_one_out(options.data, options.split, options.output, options.epochs)
        return
    locator, classifier = Locator(model=options.model), Classifier()
    _head()
    missed = show(options.data, options.split, {"ours": boxes_of(locator), "saturation": saturation})
    ratio = missed["saturation"] / max(missed["ours"], 1e-4)
    print(f"the saturation threshold misses {ratio:.0f} times as many cells (mean over sources)")
    show_empty(options.data, options.split, boxes_of(locator))
    print(f"{'images of one cell':28}{'images':>7}{'found once':>15}{'named':>17}{'framed':>19}")
    samples = load(options.data)
    own = [s for s in samples if s.source == "pbc" and s.split == options.split]
    show_single("pbc, nucleated", [s for s in own if s.name != "platelet"], locator, classifier)
    show_single("pbc, erythroblast", [s for s in own if s.name == "erythroblast"], locator, classifier)
    five = [s for s in own if s.name in STUDY_CLASSES]
    show_single("pbc, five classes", five, locator, classifier)
    for source, told in (("bccd", "bccd, learned from"), ("zheng1", "zheng1")):
        show_single(told, [s for s in samples if s.source == source], locator, classifier)
    strange = [s for s in samples if s.source == "zheng1"]
    for name, change in CHANGES.items():
        show_single(f"pbc five, {name}", five, locator, classifier, change)
        show_single(f"zheng1, {name}", strange, locator, classifier, change)
    show_cost(own[0], Locator(model=options.model, steady=True), classifier)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = Parser(prog="python -m benchmarks.locator", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with fields.csv")
    parser.add_argument("--split", default="validation", help="of the fields and images that judge")
    parser.add_argument("--model", type=Path, default=LOCATOR_MODEL, help="the locator's .tflite file")
    parser.add_argument(
        "--leave-one-source-out", action="store_true", help="train on the others, judge there"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("runs/locator-sources"), help="of those trainings"
    )
    parser.add_argument("--epochs", type=int, default=60, help="of those trainings")
    options = parser.parse_args(arguments)
    return run(lambda: _work(options))


if __name__ == "__main__":
    sys.exit(main())
