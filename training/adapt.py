"""Fine-tune a model to one's own microscope: `python -m training.adapt --model M --images DIR`.

20 to 100 labelled cells of the new site are enough, because only the head learns anew: the features were
made to hold in every laboratory, what they mean here may differ. Cells of the first training are learned
beside them, so that nothing is forgotten. The new model is judged by cross-validation on the site's cells,
and on the validation cells of the first training; a worse one is not written.
"""

import argparse
import hashlib
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edge.errors import UserError
from edge.report import write_json
from training import before_after, data, division, finish, metrics, model
from training.augment import augment
from training.batches import Boxed, find_cells
from training.claim import check_free, claim
from training.framing import Framing, view
from training.model import FEATURES, HEAD, Trained
from training.progress import Meter
from training.recipe import read_recipe, require
from training.train import prepare

_LEAST_CELLS = 20
_VARIANTS = 8
"""Augmented views of each cell of the site, beside the plain one."""
_REPLAYED = 1500
"""Cells of the first training, at most, that are learned again."""
_CHUNK = 32
"""Cells in memory at a time."""
_FOLDS = 5
_MOST_LOST = 0.005
"""Accuracy that the first training's validation cells may lose."""

Head = Sequence[NDArray[np.float32]]
"""Kernel (channels, classes) and bias (classes,)."""
Shares = NDArray[np.float32]
"""Probabilities, shape (cells, classes)."""


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


def adapt(
    trained: Trained, site: Sequence[data.Sample], home: Sequence[data.Sample], seed: int = 1
) -> tuple[Trained, dict[str, Any]]:
    """Return the model fitted to a new site, and the figures before and after.

    Args:
        trained: the model; its weights change.
        site: labelled cells of the new site, which the model has never seen.
        home: samples of the first training; their splits train and validation count.
        seed: of the augmentation and the folds.

    Raises:
        UserError: too few cells, images that do not show theirs, or classes that the model does not know.
    """
    _check(trained, site)
    home = [s for s in home if s.name in trained.names]
    here = _see(trained, find_cells(site), _VARIANTS, seed)
    first = data.of_split(home, "train")
    replayed = [first[i] for i in data.evenly(len(first), _REPLAYED)]
    learned = _see(trained, find_cells(replayed), 0, seed)
    judged = _see(trained, find_cells(data.of_split(home, "validation")), 0, seed)
    old = trained.network.get_layer(HEAD).get_weights()
    new = fit_head(old, here, learned)
    kept = _answer(new, judged)
    parts = _parts(site, seed)
    tested = _cross_validate(old, here, learned, parts)
    cooled = _cross_cool(tested, here.truth, (kept, judged.truth), parts)
    degree = _temperature((tested, here.truth), (kept, judged.truth))
    names = trained.names
    figures = {
        "cells": dict(Counter(s.name for s in site)),
        "site": _figures(names, here.truth, _answer(old, here), cooled),
        "home": _figures(names, judged.truth, _answer(old, judged), _cooled(kept, degree)),
    }
    trained.network.get_layer(HEAD).set_weights(new)
    finish.set_temperature(trained.network, degree)
    familiar = finish.widened(trained, here.features[:, 0], here.truth)
    total = float(trained.facts["temperature"]) * degree
    facts = {**trained.facts, "familiar": familiar.facts(), "temperature": round(total, 4)}
    return replace(trained, facts=facts), figures


def why_worse(figures: dict[str, Any]) -> str | None:
    """Return why the new model must not replace the old one, with figures; None where it may."""
    (site, now_site), (home, now_home) = (
        [figures[where][when]["accuracy"] for when in ("before", "after")] for where in ("site", "home")
    )
    if now_site < site:
        return f"on the site's cells {100 * site:.1f} % were right, now {100 * now_site:.1f} %"
    if now_home < home - _MOST_LOST:
        return (
            f"on the validation cells of the first training {100 * home:.1f} % were right, now "
            f"{100 * now_home:.1f} %"
        )
    return None


def fit_head(
    head: Head, here: Seen, learned: Seen, *, steps: int = 300, rate: float = 3e-3, keep: float = 1e-3
) -> list[NDArray[np.float32]]:
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
    for step in range(1, steps + 1):
        slope = features.T @ (share * (_softmax(features @ new) - truth)) + 2 * keep * (new - old)
        first, second = 0.9 * first + 0.1 * slope, 0.99 * second + 0.01 * slope**2
        new -= rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.99**step)) + 1e-8)
    return [new[:-1], new[-1]]


def _softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    power = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(power / power.sum(axis=1, keepdims=True))


def _even(truth: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the weight of each view: all classes alike, 0.5 for all together."""
    each = 1 / np.bincount(truth)[truth]
    return np.asarray(0.5 * each / each.sum(), np.float32)


def _check(trained: Trained, site: Sequence[data.Sample]) -> None:
    if trained.framing is Framing.IMAGE:
        raise UserError("the model sees whole images, not cells; adapt one of the robust recipe")
    if len({s.origin for s in site}) < 2:
        raise UserError("all cells are of one blood film: nothing is left to judge by; add another film's")
    strange = sorted({s.name for s in site} - set(trained.names))
    if strange:
        raise UserError(
            f"the model has no output for {', '.join(strange)}; it tells {', '.join(trained.names)}"
        )
    shown = len({s.name for s in site})
    if len(site) < _LEAST_CELLS or shown < 2:
        raise UserError(
            f"{len(site)} labelled cells of {shown} classes; give {_LEAST_CELLS} or more, of two or more"
        )
    data.check_images(site)


def _see(trained: Trained, cells: Boxed, variants: int, seed: int) -> Seen:
    """Return the plain view of each cell, and `variants` augmented ones, as features."""
    probe = keras.Model(trained.network.input, trained.network.get_layer(FEATURES).output)
    number = len(cells.samples)
    features, meter = [], Meter(number, "cells")
    for start in range(0, number, _CHUNK):
        stop = min(start + _CHUNK, number)
        views = np.concatenate([_views(trained, cells, i, variants, seed) for i in range(start, stop)])
        features.append(np.asarray(probe.predict(views.astype(np.float32), verbose=0)))
        meter.show(stop)
    truth = np.array([trained.names.index(s.name) for s in cells.samples], np.int64)
    return Seen(np.concatenate(features).reshape(number, variants + 1, -1), truth)


def _views(trained: Trained, cells: Boxed, place: int, variants: int, seed: int) -> NDArray[np.uint8]:
    sample, box = cells.samples[place], cells.boxes[place]
    image = data.read_image(sample.path)
    random = (np.random.default_rng((seed, variant, place)) for variant in range(variants))
    plain = view(image, box, trained.size, trained.framing)
    return np.stack([plain, *(augment(image, box, trained.size, sample.name, rng) for rng in random)])


def _answer(head: Head, cells: Seen) -> Shares:
    """Return the probabilities that a head gives the plain view of each cell."""
    return _softmax(cells.features[:, 0] @ head[0] + head[1])


def _parts(site: Sequence[data.Sample], seed: int) -> list[NDArray[np.int64]]:
    """Return the indices of each part of the cross-validation; a film is in one part alone."""
    place = {id(s): i for i, s in enumerate(site)}
    films = len({s.origin for s in site})
    folds = data.grouped_folds(site, min(_FOLDS, films), seed)
    return [np.array([place[id(s)] for s in fold], np.int64) for fold in folds]


def _cross_validate(head: Head, here: Seen, learned: Seen, parts: Sequence[NDArray[np.int64]]) -> Shares:
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
    return _softmax(np.asarray(np.log(np.maximum(shares, 1e-12)) / degree, np.float32))


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.adapt", description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("runs/default/model.keras"), help=".keras file")
    parser.add_argument("--images", type=Path, required=True, help="labelled cells of the new site")
    parser.add_argument("--split", help="a split or source of --images, if not all of it")
    parser.add_argument(
        "--data", type=Path, help="data of the first training; as its recipe says if not given"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/adapted"), help="folder of the new model")
    parser.add_argument("--seed", type=int, default=1, help="of all chance")
    return parser


def check_unseen(site: Sequence[data.Sample], home: Sequence[data.Sample]) -> None:
    """Check that the first training has met none of the site's cells: figures on those would flatter.

    Raises:
        UserError: names one that it has, by the content of its file.
    """
    met = {content for s in home if s.split in ("train", "validation") for content in _contents(s)}
    # Without a box it may be any cell of its image.
    again = [s.file for s in site if _contents(s)[0 if s.box else 1] in met]
    if again:
        raise UserError(
            f"{len(again)} of {len(site)} cells were part of the first training, as {again[0]}; give others"
        )


def _contents(sample: data.Sample) -> tuple[bytes, bytes]:
    """Return what tells the cell, and what tells the image."""
    image = sample.path.read_bytes()
    return hashlib.sha256(image + repr(sample.box).encode()).digest(), hashlib.sha256(image).digest()


def _adapt(options: argparse.Namespace) -> None:
    require("seed", options.seed, "0 or more", fits=options.seed >= 0)
    trained = model.load(options.model)
    if options.output.resolve() == options.model.resolve().parent:
        raise UserError(f"--output {options.output}: holds the first model; name another folder")
    recipe = read_recipe(options.model.parent / "recipe.json")
    check_free(options.output, recipe)
    site = data.load(options.images)
    if options.split:
        site = data.select(site, options.split)
    recipe = replace(recipe, data=str(options.data or recipe.data))
    print("reading the images of the first training", flush=True)
    home = prepare(recipe, None, options.model.parent)
    check_unseen(site, home)
    fitted, figures = adapt(trained, site, home, options.seed)
    header, rows = before_after.overview(figures)
    for row in (header, *rows):
        print(f"{row[0]:34}" + "".join(f"{text:>12}" for text in row[1:]))
    reason = why_worse(figures)
    if reason:
        raise UserError(f"the new model is worse and was not written: {reason}")
    options.output.mkdir(parents=True, exist_ok=True)
    claim(options.output / "recipe.json", read_recipe(options.model.parent / "recipe.json"))
    division.write(options.output / "split.csv", home)
    write_json(options.output / "adapted.json", figures)
    model.save(fitted, options.output / "model.keras")
    print(options.output / "model.keras")
    print(before_after.write(options.output, figures))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        _adapt(options)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
