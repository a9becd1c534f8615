"""What a model file says of labelled images: a .tflite through `edge.classify`, a .keras through Keras."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cells import Answers, Box, CellClass, Image
from edge.classify import Classifier
from edge.errors import UserError
from edge.lobes import weigh
from edge.second_look import consider
from edge.strangeness import read_familiar
from training import data
from training.framing import Framing, measure_cell, view
from training.progress import Meter

Change = Callable[[Image, Box, int], tuple[Image, Box]]
"""(image, box of its cell, number of the sample) -> the changed image, and the box in it."""

_CHUNK = 64
"""Images in memory at a time."""


class Predictor(Protocol):
    """A model file, ready to be asked."""

    classes: tuple[CellClass, ...]
    size: int
    """Side of the input, pixels."""
    framing: Framing

    def answer(self, views: NDArray[np.uint8]) -> Answers:
        """Return what the model says of `views`, RGB, shape (n, size, size, 3)."""

    def explain(self, views: NDArray[np.uint8], names: Sequence[str]) -> NDArray[np.float32] | None:
        """Return how much each place of a view speaks for the class named: 0..1, shape (n, size, size).

        The strongest place of each is 1; None where the file draws no maps.
        """


class TFLitePredictor:
    """The integer file, run by the code of the instrument."""

    framing = Framing.CELL

    def __init__(self, file: Path) -> None:
        self._classifier = Classifier(file)
        self.classes = self._classifier.card.classes
        self.size = self._classifier.card.size

    def answer(self, views: NDArray[np.uint8]) -> Answers:
        """Ask the classifier."""
        return self._classifier.classify(list(views))

    def explain(self, views: NDArray[np.uint8], names: Sequence[str]) -> NDArray[np.float32] | None:
        """Return the file's own maps (class activation), which the instrument's page shows."""
        known = [c.name for c in self.classes]
        asked = np.eye(len(known), dtype=np.float32)[[known.index(name) for name in names]]
        heat = replace(self._classifier.look(list(views)), probabilities=asked).heat
        if heat is None:
            return None
        return np.stack([cv2.resize(h, views.shape[1:3], interpolation=cv2.INTER_LINEAR) for h in heat])


class KerasPredictor:
    """A model as `training.train` saves it."""

    def __init__(self, file: Path) -> None:
        from training import model

        self.trained = model.load(file)
        self.classes, self.size = self.trained.classes, self.trained.size
        self.framing = self.trained.framing
        self._familiar = read_familiar(self.trained.facts["familiar"])

    def answer(self, views: NDArray[np.uint8]) -> Answers:
        """Ask the network as the instrument asks the integer file; one of whole images once, as the study."""
        if self.framing is Framing.IMAGE:
            return self._look(list(views))
        return consider(self._look, list(views), partial(weigh, names=self.trained.names))

    def explain(self, views: NDArray[np.uint8], names: Sequence[str]) -> NDArray[np.float32] | None:
        """Return Grad-CAM's maps."""
        from training import gradcam

        return gradcam.heat_maps(
            self.trained.network, views, [self.trained.names.index(name) for name in names]
        )

    def _look(self, crops: Sequence[Image]) -> Answers:
        views = np.stack(crops).astype(np.float32)
        probabilities, embedding = self.trained.network.predict(views, verbose=0)
        return Answers(np.asarray(probabilities), self._familiar.strangeness(np.asarray(embedding)))


def open_model(file: Path) -> Predictor:
    """Open a model file.

    Raises:
        UserError: it cannot be read as a model, or its card does not fit it.
    """
    if file.suffix == ".tflite":
        return TFLitePredictor(file)
    if file.suffix == ".keras":
        return KerasPredictor(file)
    raise UserError(f"{file}: --model names a .keras or a .tflite file")


def predict(
    predictor: Predictor, samples: Sequence[data.Sample], change: Change | None = None
) -> tuple[Answers, NDArray[np.float64]]:
    """Return what the model says of the samples' cells, and their sides; shows progress.

    Args:
        predictor: the model.
        samples: one cell each.
        change: spoils each whole image before it is looked at.

    Returns:
        The answers, in the order of the samples, and the longer sides of the cells' boxes, pixels, shape
        (samples,): of the box in the list, else as `training.framing.measure_cell` has it.
    """
    meter = Meter(len(samples), "cells")
    answers: list[Answers] = []
    sides: list[float] = []
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(samples), _CHUNK):
            numbers = range(start, min(start + _CHUNK, len(samples)))
            seen = list(pool.map(lambda n: _see(samples[n], predictor, n, change), numbers))
            answers.append(predictor.answer(np.stack([shown for shown, _ in seen])))
            sides += [side for _, side in seen]
            meter.show(numbers.stop)
    # Their maps are left: memory does not grow with what nobody reads.
    probabilities, strangeness = zip(*((a.probabilities, a.strangeness) for a in answers), strict=True)
    return Answers(np.concatenate(probabilities), np.concatenate(strangeness)), np.array(sides)


def look(sample: data.Sample, predictor: Predictor) -> Image:
    """Return what the model sees of a sample.

    Raises:
        UserError: the image cannot be read, or the sample's box does not lie in it.
    """
    return _see(sample, predictor, 0, None)[0]


def _see(
    sample: data.Sample, predictor: Predictor, number: int, change: Change | None
) -> tuple[Image, float]:
    """Return what the model sees of a sample, after the `change`, and the side of the cell's box."""
    image = data.read_image(sample.path)
    if not data.box_fits(sample.box, image.shape[1], image.shape[0]):
        raise UserError(f"{sample.path}: a box of no size or outside the image; mend it or remove the image")
    box, side = measure_cell(image, sample.box)
    if change is not None:
        image, box = change(image, box, number)
        # The cell must be found in the spoiled image too, unless the data set says where it is.
        box, side = measure_cell(image, box if sample.box else None)
    return view(image, box, predictor.size, predictor.framing), side
