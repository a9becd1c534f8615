"""A head that learns anew, from 20 to 100 cells of a new site, and the figures that judge it.

The features stay: they were made to hold in every laboratory, what they mean here may differ. Cells of the
first training are learned beside the site's, so that what they taught is kept. What a class that the site
never shows looks like there is forgotten in part: other classes take its place.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.classify import softmax
from edge.errors import UserError
from edge.strangeness import Familiar, distance
from training import data, finish, metrics
from training.augment import augment
from training.batches import Boxed, find_cells
from training.framing import Framing, view
from training.progress import Meter

_LEAST_CELLS = 20
_VARIANTS = 8
"""Augmented views of each cell of the site, beside the plain one."""
_REPLAYED = 1500
"""Cells of the first training, at most, that are learned again."""
_CHUNK = 32
"""Cells in memory at a time."""
_STEPS, _RATE, _KEPT = 300, 3e-3, 1e-3
"""Of the fit: steps, their rate, and what leaving the old head costs, a unit squared."""
_FOLDS = 5
_MAY_LOSE = {"site": (0.0, 0.05), "home": (0.005, 0.02)}
"""Accuracy, and calibration error (ECE), that a new head may lose; 20 to 100 cells tell the latter badly."""
_CALLED = {"site": "the site's cells", "home": "the validation cells of the first training"}

Matrix = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Kernel (inputs, outputs) and bias (outputs,) of a linear layer."""
Shares = NDArray[np.float32]
"""Probabilities, shape (cells, classes)."""


@dataclass(frozen=True, slots=True)
class Body:
    """A model of cells, open before its head."""

    names: tuple[str, ...]
    """Of the classes."""
    size: int
    """Side of the input, pixels."""
    features: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    """Crops, RGB, shape (n, size, size, 3), to what the head reads, shape (n, channels)."""
    head: Matrix
    embedding: Matrix
    familiar: Familiar


@dataclass(frozen=True, slots=True)
class Seen:
    """Cells as the network sees them."""

    features: NDArray[np.float32]
    """Shape (cells, views, channels); the first view is the plain one."""
    truth: NDArray[np.int64]
    """Class indices, shape (cells,)."""

    def pick(self, cells: NDArray[np.int64]) -> "Seen":
        """Return some of the cells."""
        return Seen(self.features[cells], self.truth[cells])

    def flat(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return features and class of every view."""
        views = self.features.shape[1]
        return self.features.reshape(-1, self.features.shape[2]), np.repeat(self.truth, views)


@dataclass(frozen=True, slots=True)
class Home:
    """The first training's cells, as far as a new head needs them."""

    learned: Seen
    judged: Seen
    """Its validation cells."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What takes the place of the model's own."""

    head: Matrix
    degree: float
    """Temperature by which the scores of `head` are divided already."""
    familiar: Familiar
    review_below: float
    """Confidence that the least sure of the first training's validation cells do not reach."""
    seen: NDArray[np.float32]
    """Features of the site's cells in all views, shape (views, channels)."""


def check_site(body: Body, site: Sequence[data.Sample]) -> list[data.Sample]:
    """Return the cells, each once; check that a head can be fitted to them.

    Raises:
        UserError: too few cells, images that do not show theirs, two labels of one cell, or classes that the
            model does not know.
    """
    strange = sorted({s.name for s in site} - set(body.names))
    if strange:
        raise UserError(f"the model has no output for {', '.join(strange)}; it tells {', '.join(body.names)}")
    first: dict[bytes, data.Sample] = {}
    for cell, digest in zip(site, data.check_images(site), strict=True):
        same = first.setdefault(digest, cell)
        if same.name != cell.name:
            told = f"{same.file} ({same.name}) and {cell.file} ({cell.name})"
            raise UserError(f"{told} show one cell: remove the one whose label is wrong")
    site = list(first.values())
    shown = len({s.name for s in site})
    if len(site) < _LEAST_CELLS or shown < 2:
        raise UserError(
            f"{len(site)} labelled cells of {shown} classes; give {_LEAST_CELLS} or more, of two or more"
        )
    if len({s.origin for s in site}) < 2:
        raise UserError("all cells are of one blood film: nothing is left to judge by; add another film's")
    return site


def see_home(body: Body, samples: Sequence[data.Sample]) -> Home:
    """Return the first training as the model sees it; the splits train and validation of `samples` count."""
    known = [s for s in samples if s.name in body.names]
    first = data.of_split(known, "train")
    replayed = [first[i] for i in data.evenly(len(first), _REPLAYED)]
    return Home(*(_see(body, find_cells(part)) for part in (replayed, data.of_split(known, "validation"))))


def fit(body: Body, site: Sequence[data.Sample], home: Home, seed: int = 1) -> tuple[Fitted, dict[str, Any]]:
    """Return what fits the model to a new site, and the figures before and after.

    Args:
        body: the model.
        site: labelled cells of the new site, which the model has never seen, as `check_site` wants them.
        home: the first training.
        seed: of the augmentation and the folds.
    """
    learned, judged = home.learned, home.judged
    here = _see(body, find_cells(site), _VARIANTS, seed)
    new = fit_head(body.head, here, learned)
    kept = _answer(new, judged)
    parts = _parts(site, seed)
    tested = _cross_validate(body.head, here, learned, parts)
    cooled = _cross_cool(tested, here.truth, (kept, judged.truth), parts)
    degree = _temperature((tested, here.truth), (kept, judged.truth))
    shown, sure = Counter(s.name for s in site), _cooled(kept, degree)
    figures = {
        "cells": dict(shown),
        "never_shown": [name for name in body.names if name not in shown],
        "site": _figures(body.names, here.truth, _answer(body.head, here), cooled),
        "home": _figures(body.names, judged.truth, _answer(body.head, judged), sure),
    }
    kernel, bias = (np.asarray(part / degree, np.float32) for part in new)
    review_below = round(float(np.quantile(sure.max(axis=1), metrics.REVIEW_SHARE)), 3)
    return Fitted((kernel, bias), degree, _widened(body, here), review_below, here.flat()[0]), figures


def accuracy(head: Matrix, cells: Seen) -> float:
    """Return the share (0..1) of the cells that a head names rightly."""
    return float((_answer(head, cells).argmax(axis=1) == cells.truth).mean())


def why_worse(figures: dict[str, Any]) -> str | None:
    """Return why the new head must not replace the old one, with figures; None where it may."""
    for where, (right, astray) in _MAY_LOSE.items():
        before, now = (figures[where][when] for when in ("before", "after"))
        if now["accuracy"] < before["accuracy"] - right:
            shares = f"{100 * before['accuracy']:.1f} % were right, now {100 * now['accuracy']:.1f} %"
            return f"on {_CALLED[where]} {shares}"
        if now["ece"] > before["ece"] + astray:
            errors = f"{100 * before['ece']:.1f} %, now {100 * now['ece']:.1f} %"
            return f"on {_CALLED[where]} the confidences were wrong by {errors}"
    return None


def fit_head(head: Matrix, here: Seen, learned: Seen) -> Matrix:
    """Return a head that fits the site's views, and still those of the first training.

    Each class weighs alike, and the site as much as the first training. Leaving the old kernel costs:
    few cells must not turn everything round. The loss is convex, so that Adam (Kingma and Ba 2015) on all
    views at once comes near its minimum whatever the order.
    """
    parts = [here.flat(), learned.flat()]
    features = np.concatenate([f for f, _ in parts])
    features = np.hstack([features, np.ones((len(features), 1), np.float32)])
    truth = np.eye(len(head[1]), dtype=np.float32)[np.concatenate([t for _, t in parts])]
    share = np.concatenate([_even(t) for _, t in parts])[:, None]
    old = np.vstack([head[0], head[1]])
    new, first, second = old.copy(), np.zeros_like(old), np.zeros_like(old)
    for step in range(1, _STEPS + 1):
        slope = features.T @ (share * (softmax(features @ new) - truth)) + 2 * _KEPT * (new - old)
        first, second = 0.9 * first + 0.1 * slope, 0.99 * second + 0.01 * slope**2
        new -= _RATE * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.99**step)) + 1e-8)
    return new[:-1], new[-1]


def _even(truth: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the weight of each view: all classes alike, 0.5 for all together."""
    each = 1 / np.bincount(truth)[truth]
    return np.asarray(0.5 * each / each.sum(), np.float32)


def _see(body: Body, cells: Boxed, variants: int = 0, seed: int = 0) -> Seen:
    """Return the plain view of each cell, and `variants` augmented ones, as features."""
    number = len(cells.samples)
    features, meter = [], Meter(number, "cells")
    for start in range(0, number, _CHUNK):
        stop = min(start + _CHUNK, number)
        views = np.concatenate([_views(body, cells, i, variants, seed) for i in range(start, stop)])
        features.append(body.features(views))
        meter.show(stop)
    truth = np.array([body.names.index(s.name) for s in cells.samples], np.int64)
    return Seen(np.concatenate(features).reshape(number, variants + 1, -1), truth)


def _views(body: Body, cells: Boxed, place: int, variants: int, seed: int) -> NDArray[np.uint8]:
    sample, box = cells.samples[place], cells.boxes[place]
    image = data.read_image(sample.path)
    random = (np.random.default_rng((seed, variant, place)) for variant in range(variants))
    plain = view(image, box, body.size, Framing.CELL)
    return np.stack([plain, *(augment(image, box, body.size, sample.name, rng) for rng in random)])


def _answer(head: Matrix, cells: Seen) -> Shares:
    """Return the probabilities that a head gives the plain view of each cell."""
    return softmax(cells.features[:, 0] @ head[0] + head[1])


def _parts(site: Sequence[data.Sample], seed: int) -> list[NDArray[np.int64]]:
    """Return the indices of each part of the cross-validation; a film is in one part alone."""
    place = {id(s): i for i, s in enumerate(site)}
    films = len({s.origin for s in site})
    folds = data.grouped_folds(site, min(_FOLDS, films), seed)
    return [np.array([place[id(s)] for s in fold], np.int64) for fold in folds]


def _cross_validate(head: Matrix, here: Seen, learned: Seen, parts: Sequence[NDArray[np.int64]]) -> Shares:
    """Return what heads say of each cell of the site that did not learn from it, nor from its film."""
    said = np.zeros((len(here.truth), len(head[1])), np.float32)
    for tested in parts:
        rest = np.setdiff1d(np.arange(len(said)), tested)
        said[tested] = _answer(fit_head(head, here.pick(rest), learned), here.pick(tested))
    return said


def _cross_cool(
    said: Shares,
    truth: NDArray[np.int64],
    home: tuple[Shares, NDArray[np.int64]],
    parts: Sequence[NDArray[np.int64]],
) -> Shares:
    """Return what was said of the site's cells, each part at the temperature of the others and home."""
    cooled = np.zeros_like(said)
    for tested in parts:
        rest = np.setdiff1d(np.arange(len(said)), tested)
        cooled[tested] = _cooled(said[tested], _temperature((said[rest], truth[rest]), home))
    return cooled


def _temperature(site: tuple[Shares, NDArray[np.int64]], home: tuple[Shares, NDArray[np.int64]]) -> float:
    """Return the temperature that fits both (probabilities, classes), the site weighing as much as home."""
    times = max(1, round(len(home[1]) / len(site[1])))
    shares = np.concatenate([np.repeat(site[0], times, axis=0), home[0]])
    return finish.temperature(shares, np.concatenate([np.repeat(site[1], times), home[1]]))


def _cooled(shares: Shares, degree: float) -> Shares:
    return softmax(np.asarray(np.log(np.maximum(shares, 1e-12)) / degree, np.float32))


def _widened(body: Body, here: Seen) -> Familiar:
    """Return what is familiar once the site's cells were learned: their class means count too."""
    kernel, bias = body.embedding
    embedding = np.asarray(here.features[:, 0] @ kernel + bias, np.float32)
    added = np.stack([embedding[here.truth == c].mean(axis=0) for c in np.unique(here.truth)])
    means = np.concatenate([body.familiar.means, added])
    limit = float(np.quantile(distance(embedding, means), 1 - finish.STRANGE_SHARE))
    return Familiar(means, max(limit, body.familiar.limit))


def _figures(names: Sequence[str], truth: NDArray[np.int64], before: Shares, after: Shares) -> dict[str, Any]:
    right_before, right_after = (shares.argmax(axis=1) == truth for shares in (before, after))
    gained, lost, p = metrics.mcnemar(right_after, right_before)
    return {
        "cells": len(truth),
        "before": _summary(names, truth, before),
        "after": _summary(names, truth, after),
        "now_right": gained,
        "now_wrong": lost,
        "p": p,
    }


def _summary(names: Sequence[str], truth: NDArray[np.int64], shares: Shares) -> dict[str, Any]:
    said = np.asarray(shares.argmax(axis=1), np.int64)
    bars = metrics.reliability(shares.max(axis=1), said == truth)
    return {**metrics.summary(truth, said, names), "ece": metrics.calibration_error(bars)}
