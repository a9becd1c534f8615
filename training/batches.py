"""Batches of crops, made when they are asked for: memory does not grow with the data set."""

import math
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from edge.cells import Box, Image
from training import data
from training.augment import augment
from training.framing import Framing, find_cell, view
from training.hardware import cores, sharers
from training.progress import watch
from training.recipe import Balance, Recipe

Batch = tuple[NDArray[np.float32], ...]
"""Crops RGB 0..255, shape (batch, size, size, 3), and one-hot classes, shape (batch, classes); where several
devices share it, weights too, shape (batch,): 0 for what fills it up."""


@dataclass(frozen=True, slots=True)
class Boxed:
    """Samples, and where their cells lie."""

    samples: Sequence[data.Sample]
    boxes: Sequence[Box]

    def pick(self, chosen: slice | Sequence[int]) -> "Boxed":
        """Return some of them."""
        if isinstance(chosen, slice):
            return Boxed(self.samples[chosen], self.boxes[chosen])
        return Boxed([self.samples[i] for i in chosen], [self.boxes[i] for i in chosen])

    def views(self, size: int, framing: Framing) -> NDArray[np.uint8]:
        """Return what the network sees of each, shape (samples, size, size, 3)."""
        with ThreadPoolExecutor() as pool:
            read = pool.map(
                lambda s, b: view(data.read_image(s.path), b, size, framing), self.samples, self.boxes
            )
            return np.stack(list(read))


def find_cells(samples: Sequence[data.Sample]) -> Boxed:
    """Return the samples with the boxes of their cells: as the data set gives them, else found here."""
    with ThreadPoolExecutor() as pool:
        boxes = pool.map(lambda s: s.box or find_cell(data.read_image(s.path)), samples)
        return Boxed(samples, list(watch(boxes, len(samples), "images")))


def one_hot(samples: Sequence[data.Sample], classes: Sequence[str]) -> NDArray[np.float32]:
    """Return the classes of the samples, shape (samples, classes)."""
    index = {name: i for i, name in enumerate(classes)}
    return np.eye(len(classes), dtype=np.float32)[[index[s.name] for s in samples]]


_IN_BLOOD = {"neutrophil": 0.6, "lymphocyte": 0.3, "monocyte": 0.06, "eosinophil": 0.025, "basophil": 0.007}
"""Middle of the reference intervals of a healthy adult's differential."""
_ELSEWHERE = 0.1
"""Taken for the classes that healthy blood does not show."""


def shares(samples: Sequence[data.Sample], balance: Balance) -> NDArray[np.float64]:
    """Return how often each sample is to be drawn, shape (samples,), summing to 1.

    By the root of its share in blood a neutrophil is drawn five times as often as an eosinophil, not 24
    times. Beside the classes the sources are balanced: each has a share by the root of its size, so that a
    small laboratory is heard beside a large one.
    """
    if balance is Balance.NONE:
        return np.full(len(samples), 1 / len(samples))
    weight = np.ones(len(samples))
    for source, number in Counter(s.source for s in samples).items():
        weight[[s.source == source for s in samples]] *= number**-0.5
    for name in {s.name for s in samples}:
        members = np.array([s.name == name for s in samples])
        wanted = 1.0 if balance is Balance.EVEN else _IN_BLOOD.get(name, _ELSEWHERE) ** 0.5
        weight[members] *= wanted / weight[members].sum()
    return np.asarray(weight / weight.sum())


def correction(classes: Sequence[str], balance: Balance) -> NDArray[np.float64]:
    """Return what the classes' scores (log-probabilities) lack of blood's own shares, shape (classes,).

    By Bayes' rule a score moves by the logarithm of the share in use over the share that was drawn: here
    that of the root. In doubt the commoner class is the likelier one. Classes that healthy blood does not
    show move with the rarest one that it does.
    """
    if balance is not Balance.BLOOD:
        return np.zeros(len(classes))
    rarest = min(_IN_BLOOD.values())
    return np.log([_IN_BLOOD.get(name, rarest) ** 0.5 for name in classes])


def shareable(crops: NDArray[np.float32], truth: NDArray[np.float32], devices: int) -> Batch:
    """Return a batch that all `devices` can share evenly, filled up with its first samples, of weight 0."""
    if devices == 1:
        return crops, truth
    number = len(crops)
    rows = np.arange(number + -number % devices)
    return crops[rows % number], truth[rows % number], (rows < number).astype(np.float32)


class Lessons(keras.utils.PyDataset):
    """What an epoch teaches: drawn anew for each, the same for the same seed.

    Args:
        cells: of the training split.
        classes: names, in the order of the network's outputs.
        size: side of the network's input, pixels.
        recipe: its batch, balance, augment, framing and seed count here.
    """

    def __init__(
        self,
        cells: Boxed,
        classes: Sequence[str],
        size: int,
        recipe: Recipe,
    ) -> None:
        super().__init__(workers=cores(), use_multiprocessing=False, max_queue_size=4 + cores())
        self._cells, self._size, self._recipe = cells, size, recipe
        self._truth = one_hot(cells.samples, classes)
        self._share = shares(cells.samples, recipe.balance)
        self._devices = sharers()  # which the threads that ask for batches cannot tell
        self.begin(0)

    def __len__(self) -> int:
        return math.ceil(len(self._truth) / self._recipe.batch)

    def __getitem__(self, index: int) -> Batch:
        recipe = self._recipe
        chosen = self._order[index * recipe.batch : (index + 1) * recipe.batch]
        rng = np.random.default_rng((recipe.seed, self._epoch, index))
        crops = [self._see(i, rng) for i in chosen]
        return shareable(np.stack(crops).astype(np.float32), self._truth[chosen], self._devices)

    def begin(self, epoch: int) -> None:
        """Draw the samples of `epoch`; a resumed run draws the same."""
        self._epoch = epoch
        rng = np.random.default_rng((self._recipe.seed, epoch))
        number = len(self._truth)
        if self._recipe.balance is Balance.NONE:  # each once, not at random
            self._order = rng.permutation(number)
        else:
            self._order = rng.choice(number, number, p=self._share)

    def _see(self, index: int, rng: np.random.Generator) -> Image:
        sample, box = self._cells.samples[index], self._cells.boxes[index]
        image = data.read_image(sample.path)
        if self._recipe.augment:
            return augment(image, box, self._size, sample.name, rng)
        return view(image, box, self._size, self._recipe.framing)


class Exam(keras.utils.PyDataset):
    """Samples as they are, in their order."""

    def __init__(
        self, cells: Boxed, classes: Sequence[str], size: int, framing: Framing, *, batch: int = 64
    ) -> None:
        super().__init__(workers=cores(), use_multiprocessing=False, max_queue_size=4 + cores())
        self._cells, self._size, self._framing, self._batch = cells, size, framing, batch
        self.truth = one_hot(cells.samples, classes)
        """Shape (samples, classes)."""
        self._devices = sharers()

    def __len__(self) -> int:
        return math.ceil(len(self.truth) / self._batch)

    def __getitem__(self, index: int) -> Batch:
        part = slice(index * self._batch, (index + 1) * self._batch)
        views = self._cells.pick(part).views(self._size, self._framing)
        return shareable(views.astype(np.float32), self.truth[part], self._devices)
