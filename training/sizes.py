"""Sizes of labelled cells: further evidence in every judgement of a model, and the table of `edge.sizes`.

`python -m training.sizes` prints that table from the training cells, and beside it that of `edge.lobes`.
"""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.cells import Answers, CellClass
from edge.errors import UserError
from edge.lobes import Shape, shape
from edge.preprocess import crop
from edge.sizes import Sizes
from edge.startup import Parser, run
from training import data
from training.framing import Framing, measure_cell
from training.predict import Change, Predictor, predict
from training.progress import watch
from training.recipe import RECIPES


def answer(predictor: Predictor, samples: Sequence[data.Sample], change: Change | None = None) -> Answers:
    """Return the network's answers of the samples' cells, given their sizes too, as the instrument does it.

    The images of one source count as one specimen: they have one scale, or sizes tell nothing (`edge.sizes`).
    All of them are the ruler; the instrument has the cells counted before alone, so that it gains less in a
    short count. A model that sees whole images, as the study's, is asked alone.

    Args:
        predictor: the model.
        samples: one cell each.
        change: as `training.predict.predict` has it.
    """
    answers, sides_px = predict(predictor, samples, change)
    if predictor.framing is not Framing.CELL:
        return answers
    return weigh(answers, [s.source for s in samples], predictor.classes, sides_px)


def weigh(
    answers: Answers, sources: Sequence[str], classes: Sequence[CellClass], sides_px: NDArray[np.float64]
) -> Answers:
    """Return the answers given the longer sides of the cells' boxes too; each source is a specimen."""
    probabilities = answers.probabilities.copy()
    for source in set(sources):
        rows = [row for row, other in enumerate(sources) if other == source]
        sizes = Sizes(classes)
        for row in rows:
            sizes.note(probabilities[row], sides_px[row])
        probabilities[rows] = sizes.weigh(probabilities[rows], sides_px[rows])
    return replace(answers, probabilities=probabilities)


def measure(samples: Sequence[data.Sample]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how large the samples' cells are, and how their nuclei are shaped; shows progress.

    Returns:
        The sides that `training.predict.predict` returns, pixels, shape (samples,); and disc and hull of
        `edge.lobes.Shape`, shape (samples, 2), nan where no nucleus is seen.

    Raises:
        UserError: an image cannot be read.
    """
    with ThreadPoolExecutor() as pool:
        found = list(watch(pool.map(_measure, samples), len(samples), "cells"))
    return np.array([side for side, _ in found]), np.array([[s.disc, s.hull] for _, s in found])


def _measure(sample: data.Sample) -> tuple[float, Shape]:
    image = data.read_image(sample.path)
    box, side = measure_cell(image, sample.box)
    return side, shape(crop(image, box, RECIPES["robust"].size)) or Shape(np.nan, np.nan)


def _table(samples: Sequence[data.Sample]) -> str:
    names = np.array([s.name for s in samples])
    sides, shapes = measure(samples)
    of_class = {name: names == name for name in dict.fromkeys(names)}
    sizes = {name: np.log(sides[rows & ~np.isnan(sides)]) for name, rows in of_class.items()}
    if not sizes.get("neutrophil", np.empty(0)).size:
        raise UserError("no neutrophil was found in the images, and sizes are told beside theirs")
    unit = np.median(sizes["neutrophil"])
    lines = [
        f"{'class':22}{'size':>7}{'deviation':>11}{'disc':>8}{'deviation':>11}{'hull':>8}{'deviation':>11}"
        f"{'correlation':>13}{'cells':>7}"
    ]
    for name, rows in of_class.items():
        size, nuclei = sizes[name], shapes[rows & ~np.isnan(shapes[:, 0])]
        told = f"{np.median(size) - unit:7.2f}{size.std():11.2f}" if size.size else f"{'-':>7}{'-':>11}"
        (disc, hull), spread = np.median(nuclei, axis=0), nuclei.std(axis=0)
        together = np.corrcoef(nuclei.T)[0, 1] if len(nuclei) > 1 and spread.all() else np.nan
        lines.append(
            f"{name:22}{told}{disc:8.3f}{spread[0]:11.3f}{hull:8.3f}{spread[1]:11.3f}{together:13.2f}{len(size):7d}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = Parser(prog="python -m training.sizes", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with cells.csv")
    parser.add_argument("--split", default="train", help="split or source whose cells are measured")
    options = parser.parse_args(arguments)
    return run(lambda: print(_table(data.select(data.load(options.data), options.split))))


if __name__ == "__main__":
    sys.exit(main())
