"""Sizes of labelled cells: further evidence in every judgement of a model, and the table of `edge.sizes`.

`python -m training.sizes` prints that table from the training cells.
"""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.cells import Answers, CellClass
from edge.errors import UserError
from edge.sizes import Sizes
from training import data
from training.framing import Framing, measure_cell
from training.predict import Change, Predictor, predict
from training.progress import watch


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


def sides(samples: Sequence[data.Sample]) -> NDArray[np.float64]:
    """Return the sides of the samples' cells, as `training.predict.predict` does; shows progress.

    Raises:
        UserError: an image cannot be read.
    """
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda s: s.box.side if s.box else measure_cell(data.read_image(s.path))[1], samples)
        return np.array(list(watch(found, len(samples), "cells")))


def _table(samples: Sequence[data.Sample]) -> str:
    names = np.array([s.name for s in samples])
    logarithms = np.log(sides(samples))
    measured = {name: logarithms[(names == name) & ~np.isnan(logarithms)] for name in dict.fromkeys(names)}
    if not measured.get("neutrophil", np.empty(0)).size:
        raise UserError("no neutrophil was found in the images, and sizes are told beside theirs")
    unit = np.median(measured["neutrophil"])
    lines = [f"{'class':22}{'median':>8}{'deviation':>11}{'cells':>7}"]
    for name, known in measured.items():
        told = f"{np.median(known) - unit:8.2f}{known.std():11.2f}" if known.size else f"{'-':>8}{'-':>11}"
        lines.append(f"{name:22}{told}{len(known):7d}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.sizes", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with cells.csv")
    parser.add_argument("--split", default="train", help="split or source whose cells are measured")
    options = parser.parse_args(arguments)
    try:
        print(_table(data.select(data.load(options.data), options.split)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
