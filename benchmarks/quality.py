"""What the quality gates pass and catch, beside the usual threshold on the variance of the Laplacian.

`python -m benchmarks.quality` prints two tables. The first: the share of good real images that pass, by
source, as frames of one session and as single images (also cropped so tightly that only the cell is left).
The second, for each fault and level: the share refused and warned of, and what the fault does to the
classifier. The Laplacian's one threshold is set so that it passes 99 % of all good images as well.
"""

import argparse
import copy
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from edge.cells import Box, Frame, Image
from edge.classify import Classifier
from edge.demo import DemoSource
from edge.errors import UserError
from edge.gates import Gate, Verdict
from edge.preprocess import crop
from edge.quality import Inspector
from edge.ruler import RED_CELL_UM
from edge.startup import Parser, run
from training import corruptions
from training.data import STUDY_CLASSES, Sample, load, read_image
from training.fields import RED_CELL_PX, read_boxes
from training.framing import single_cell_box

_DEMO_RED_CELL_PX = 50
"""As the demo is drawn."""
LEUKOCYTE = 1.9
"""Its diameter in red cell diameters."""
GOOD_SHARE = 0.99
"""Of good images the Laplacian's threshold passes so many."""

Random = np.random.Generator
Fault = Callable[[Image, float, float, Random], Image]
"""(image, amount, cell's diameter in pixels, random numbers) -> the spoiled image."""


def blur(image: Image, percent: float, cell_px: float, rng: Random) -> Image:
    """Defocus: a disc of `percent` of the cell's width; the camera's noise stays as it was."""
    return _noisy(corruptions.blur(image, percent, Box(0, 0, cell_px, cell_px), rng), image, rng)


def motion(image: Image, percent: float, cell_px: float, rng: Random) -> Image:
    """The stage moves by `percent` of the cell's width while the shutter is open, any way."""
    length, angle = percent / 100 * cell_px, rng.uniform(0, np.pi)
    side = 2 * int(np.ceil(length / 2)) + 3
    end = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    middle = np.array([side // 2, side // 2])
    kernel = np.zeros((side, side), np.uint8)
    # Coordinates with 4 bits behind the point.
    ends = [tuple(int(v) for v in np.rint(16 * (middle + way))) for way in (-end, end)]
    cv2.line(kernel, ends[0], ends[1], 255, 1, cv2.LINE_AA, 4)
    light = cv2.filter2D(
        corruptions.linear(image), -1, kernel / np.float32(kernel.sum()), borderType=cv2.BORDER_REFLECT
    )
    return _noisy(corruptions.displayed(np.asarray(light, np.float32)), image, rng)


def over(image: Image, stops: float, cell_px: float, rng: Random) -> Image:
    """So many times twice the light; white clips."""
    return corruptions.displayed(corruptions.linear(image) * np.float32(2**stops))


def under(image: Image, stops: float, cell_px: float, rng: Random) -> Image:
    """So many times half the light."""
    return over(image, -stops, cell_px, rng)


def crowded(image: Image, layers: float, cell_px: float, rng: Random) -> Image:
    """So many layers of cells lie on this one (the same field, turned): light goes through all of them."""
    light = corruptions.linear(image)
    glass = light / _background(light)
    turns = [glass[::-1], glass[:, ::-1], glass[::-1, ::-1]]
    for layer in range(int(layers)):
        light = light * np.minimum(turns[layer], 1)
    return corruptions.displayed(np.ascontiguousarray(light))


def stain(image: Image, times: float, cell_px: float, rng: Random) -> Image:
    """So many times the dye: all optical densities are multiplied."""
    light = np.maximum(corruptions.linear(image), 1e-3)
    white = _background(light)
    return corruptions.displayed(np.asarray(white * (light / white) ** times, np.float32))


def shading(image: Image, percent: float, cell_px: float, rng: Random) -> Image:
    """The corners get `percent` less light than the middle."""
    rows, columns = (np.linspace(-1, 1, length) for length in image.shape[:2])
    fall = 1 - percent / 200 * (rows[:, None] ** 2 + columns**2)
    return corruptions.displayed(np.asarray(corruptions.linear(image) * fall[..., None], np.float32))


FAULTS: dict[str, tuple[Fault, tuple[float, ...], Gate]] = {
    "defocus, % of a cell": (blur, (6, 10, 15, 20, 30, 50), Gate.FOCUS),
    "motion, % of a cell": (motion, (10, 20, 30, 50), Gate.MOTION),
    "over, stops": (over, (1, 1.5, 2, 3), Gate.OVER),
    "under, stops": (under, (2, 4, 5, 6), Gate.UNDER),
    "crowded, layers on top": (crowded, (1, 2, 3), Gate.CROWDED),
    "pale, times the dye": (stain, (0.5, 0.3, 0.2), Gate.PALE),
    "dark, times the dye": (stain, (2, 3), Gate.DARK),
    "uneven, % darker corners": (shading, (20, 40, 60), Gate.UNEVEN),
}
"""Fault, its levels, and the gate that is for it."""


def _noisy(spoiled: Image, image: Image, rng: Random) -> Image:
    """Return a picture with as much noise as `image` has: optics blur the cells, never the sensor's noise."""
    mask = np.outer((1, -2, 1), (1, -2, 1)).astype(np.float32)
    rest = cv2.filter2D(image[..., 1].astype(np.float32), -1, mask)
    # Immerkaer 1996, by the median.
    deviation = float(np.median(np.abs(rest))) / (0.6745 * 6)
    noise = rng.normal(0, deviation, image.shape)
    return np.asarray(np.clip(np.rint(spoiled + noise), 0, 255), np.uint8)


def _background(light: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.percentile(light.reshape(-1, 3), 95, axis=0), np.float32)


@dataclass(frozen=True, slots=True)
class Source:
    """Good images of one origin."""

    name: str
    images: tuple[Image, ...]
    cell_px: float | None
    """Diameter of a leukocyte; None: half of the image's shorter side."""
    red_cell_px: float | None
    """None where the images are single ones: the instrument has no ruler then."""

    def cell(self, image: Image) -> float:
        """Return the diameter of a leukocyte in this image, pixels."""
        return self.cell_px or min(image.shape[:2]) / 2


def field_sources(data: Path, split: str) -> list[Source]:
    """Return what a session may look like: whole fields by source, and the demo."""
    found = []
    for name, files in sorted(read_boxes(data, split).items()):
        images = tuple(read_image(data / "fields" / file) for file in files)
        found.append(Source(name, images, LEUKOCYTE * RED_CELL_PX[name], RED_CELL_PX[name]))
    demo = [f.image for f in DemoSource(pace=False).frames() if isinstance(f, Frame) and f.index % 25 == 0]
    return [*found, Source("demo", tuple(demo), LEUKOCYTE * _DEMO_RED_CELL_PX, _DEMO_RED_CELL_PX)]


def single_sources(samples: Sequence[Sample], fields: Sequence[Source]) -> list[Source]:
    """Return single images: crops by laboratory, the same cropped to the cell alone, whole fields."""
    found = []
    for name in sorted({s.source for s in samples}):
        images = tuple(read_image(s.path) for s in samples if s.source == name)
        found.append(Source(f"{name} crops", images, None, None))
        tight = tuple(_tight(image) for image in images)
        found.append(Source(f"{name} tight crops", tight, min(tight[0].shape[:2]), None))
    return found + [Source(f"{f.name} fields", f.images, f.cell_px, None) for f in fields]


def _tight(image: Image) -> Image:
    """Return the cell's own box, enlarged to 224 pixels, as other laboratories hand their cells round."""
    box = single_cell_box(image)
    left, top, right, bottom = (round(v) for v in (box.x, box.y, box.x + box.width, box.y + box.height))
    return np.asarray(cv2.resize(image[top:bottom, left:right], (224, 224)), np.uint8)


class Judge:
    """Judges an image as the next one of a source: after all its good ones, or by itself."""

    def __init__(self, source: Source) -> None:
        px = source.red_cell_px
        self._session = Inspector(px and RED_CELL_UM / px, steady=px is not None)
        for image in source.images if self._session.steady else ():
            self._session.inspect(image)

    def __call__(self, image: Image) -> Verdict:
        return copy.deepcopy(self._session).inspect(image)


def laplacian(image: Image) -> float:
    """Return the variance of the Laplacian, grey levels squared."""
    return float(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_32F).var())


def pass_table(sources: Sequence[Source]) -> tuple[list[str], float]:
    """Return the lines of the first table, and the Laplacian's threshold."""
    values = {source.name: [laplacian(image) for image in source.images] for source in sources}
    threshold = float(np.quantile(np.concatenate(list(values.values())), 1 - GOOD_SHARE))
    lines = [
        f"{'good images':24}{'judged as':>11}{'images':>8}{'pass %':>9}{'warned %':>10}{'Laplacian %':>13}"
    ]
    for source in track(sources, "good images", console=Console(stderr=True)):
        judge = Judge(source)
        verdicts = [judge(image) for image in source.images]
        passed = 100 * np.mean([v.refused is None for v in verdicts])
        warned = 100 * np.mean([bool(v.warnings) for v in verdicts])
        plain = 100 * np.mean(np.array(values[source.name]) >= threshold)
        kind = "session" if source.red_cell_px else "single"
        lines.append(f"{source.name:24}{kind:>11}{len(verdicts):8}{passed:9.1f}{warned:10.1f}{plain:13.1f}")
    return lines, threshold


def fault_table(
    sessions: Sequence[Source], singles: Sequence[Source], cells: Mapping[str, Sequence[Sample]], least: float
) -> list[str]:
    """Return the lines of the second table."""
    heading = f"{'fault':26}{'level':>6} | "
    heading += " ".join(f"{'right % ' + name:>14}" for name in cells) + " | session refused %: "
    heading += " ".join(f"{s.name:>7}" for s in sessions)
    heading += f"{'warned %':>10} | {'single %':>9} | {'Laplacian %':>12}"
    lines, classifier = [heading], Classifier()
    judges = {source.name: Judge(source) for source in (*sessions, *singles)}
    steps = [(name, fault, level, gate) for name, (fault, levels, gate) in FAULTS.items() for level in levels]
    for name, fault, level, gate in track(steps, "faults", console=Console(stderr=True)):
        right = [accuracy(classifier, samples, fault, level) for samples in cells.values()]
        refused: list[float] = []
        single: list[float] = []
        warned, plain = [], []
        for source in (*sessions, *singles):
            rng = np.random.default_rng(0)
            spoiled = [fault(image, level, source.cell(image), rng) for image in source.images]
            # Light and stain are those of a whole session, focus and speed those of a moment.
            whole = gate in {Gate.UNEVEN, Gate.PALE, Gate.DARK}
            judge = Judge(replace(source, images=tuple(spoiled))) if whole else judges[source.name]
            verdicts = [judge(image) for image in spoiled]
            share = 100 * float(np.mean([v.refused is not None for v in verdicts]))
            (refused if source.red_cell_px else single).append(share)
            if source.red_cell_px:
                warned.append(np.mean([gate in (v.refused, *v.warnings) for v in verdicts]))
            plain.append(np.mean([laplacian(image) < least for image in spoiled]))
        lines.append(
            f"{name:26}{level:6g} | "
            + " ".join(f"{100 * share:14.1f}" for share in right)
            + " | "
            + " " * 19
            + " ".join(f"{share:7.1f}" for share in refused)
            + f"{100 * np.mean(warned):10.1f} | {np.mean(single):9.1f} | {100 * np.mean(plain):12.1f}"
        )
    return lines


def accuracy(classifier: Classifier, samples: Sequence[Sample], fault: Fault, level: float) -> float:
    """Return the share (0..1) of cells named rightly, among the five classes, under a fault."""
    names = [c.name for c in classifier.card.classes]
    among = [names.index(name) for name in STUDY_CLASSES]
    rng = np.random.default_rng(0)
    right = []
    for sample in samples:
        image = read_image(sample.path)
        box = single_cell_box(image)
        view = crop(fault(image, level, box.side, rng), box, classifier.card.size)
        answer = classifier.classify([view]).probabilities[0][among]
        right.append(STUDY_CLASSES[int(answer.argmax())] == sample.name)
    return float(np.mean(right))


def _some(samples: Sequence[Sample], most: int) -> list[Sample]:
    """Return at most so many, the same ones each time."""
    return [samples[i] for i in np.random.default_rng(0).permutation(len(samples))[:most]]


def _work(options: argparse.Namespace) -> None:
    if options.most < 1:
        raise UserError(f"--most {options.most}: one image at least")
    samples = [s for s in load(options.data) if s.split in (options.split, "other-laboratory")]
    # The fields have no test split.
    sessions = field_sources(options.data, "train" if options.split == "train" else "validation")
    passed, threshold = pass_table([*sessions, *single_sources(samples, sessions)])
    print(*passed, f"Laplacian: least variance {threshold:.1f}", "", sep="\n", flush=True)
    study = [s for s in samples if s.name in STUDY_CLASSES]
    cells = {name: _some([s for s in study if s.source == name], options.most) for name in ("pbc", "bccd")}
    singles = single_sources([s for name in cells for s in cells[name]], ())
    shortened = [Source(s.name, s.images[: options.most], s.cell_px, s.red_cell_px) for s in sessions]
    print(*fault_table(shortened, singles, cells, threshold), sep="\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = Parser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with cells.csv")
    parser.add_argument(
        "--split", default="test", choices=("train", "validation", "test"), help="whose cells are shown"
    )
    parser.add_argument("--most", type=int, default=100, help="images of a source that are spoiled")
    options = parser.parse_args(arguments)
    return run(lambda: _work(options))


if __name__ == "__main__":
    sys.exit(main())
