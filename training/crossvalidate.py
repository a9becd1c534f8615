"""Models trained and judged on changing parts of the data: k folds, or one source left out at a time.

Every image, by folds but those of split test, is judged once, by a model that saw neither it nor another
image of its film or source.
"""

import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.errors import UserError
from edge.whole import write_json
from training import data, metrics
from training.engine import run_tasks

if TYPE_CHECKING:
    from training.recipe import Recipe

_VALIDATION_PARTS = 10
"""One of so many parts of what is not tested chooses the best epoch."""


@dataclass(frozen=True, slots=True)
class Fold:
    """One division of the samples."""

    name: str
    samples: tuple[data.Sample, ...]
    """Each with its split here: train, validation or test."""

    def of(self, split: str) -> list[data.Sample]:
        """Return the samples of one split."""
        return [s for s in self.samples if s.split == split]


@dataclass(frozen=True, slots=True)
class FoldTask:
    """All that a worker needs to train and judge one fold."""

    fold: Fold
    recipe: "Recipe"
    folder: Path
    """Takes the model, its history and evaluation.json."""
    classes: tuple[str, ...] | None
    """The classes to tell apart in the judgement; None for all."""


def folds(samples: Sequence[data.Sample], k: int, seed: int) -> list[Fold]:
    """Return `k` folds; each sample is tested in one of them, and its whole film with it.

    Images of split test are left out, since nothing may learn from them. Nor does anything learn from doubted
    labels (`data.undoubted`); these are tested like the others.

    Raises:
        UserError: there are too few films.
    """
    parts = data.grouped_folds([s for s in samples if s.split != "test"], k, seed)
    divided = []
    for number, part in enumerate(parts):
        rest = data.undoubted([s for other in parts if other is not part for s in other])
        divided.append(_fold(f"fold {number + 1} of {k}", part, _divided(rest, seed)))
    return divided


def leave_one_source_out(samples: Sequence[data.Sample], seed: int) -> list[Fold]:
    """Return one fold for each source: all of it is tested, and the others train.

    The others keep their train and validation splits; their test images and doubted labels are left out.
    Images of any other split are divided anew.

    Raises:
        UserError: there are fewer than two sources, or too few films in one.
    """
    sources = sorted({s.source for s in samples})
    if len(sources) < 2:
        raise UserError(
            f"one source alone ({', '.join(sources)}): nothing to leave out; use --cross-validate"
        )
    divided = []
    for source in sources:
        others = data.undoubted([s for s in samples if s.source != source and s.split != "test"])
        if not others:
            raise UserError(
                f"without source {source} there is no image to train on; all others are of split test"
            )
        left_out = [s for s in samples if s.source == source]
        divided.append(_fold(f"without {source}", left_out, _kept(others, seed)))
    return divided


def _fold(name: str, judged: Sequence[data.Sample], learned: Sequence[data.Sample]) -> Fold:
    if not any(s.split == "validation" for s in learned):
        raise UserError(
            f"{name}: what is left to learn from is of one blood film or image, and a second one must "
            "validate; add films, or leave out less"
        )
    return Fold(name, (*_marked(judged, "test"), *learned))


def _kept(samples: Sequence[data.Sample], seed: int) -> list[data.Sample]:
    """Keep the splits train and validation, and divide the rest; all anew where one of them is missing."""
    named = [s for s in samples if s.split in ("train", "validation")]
    if {s.split for s in named} != {"train", "validation"}:
        return _divided(samples, seed)
    free = [s for s in samples if s.split not in ("train", "validation")]
    return named + (_divided(free, seed) if free else [])


def _divided(samples: Sequence[data.Sample], seed: int) -> list[data.Sample]:
    films = len({s.origin for s in samples})
    if films < 2:
        return _marked(samples, "train")
    # The last part, since a class with very few images is not in it: it is for learning.
    *train, judged = data.grouped_folds(samples, min(_VALIDATION_PARTS, films), seed)
    return _marked([s for part in train for s in part], "train") + _marked(judged, "validation")


def _marked(samples: Sequence[data.Sample], split: str) -> list[data.Sample]:
    return [replace(s, split=split) for s in samples]


def train_and_judge(task: FoldTask) -> dict[str, Any]:
    """Train one fold, or go on with it; return the figures of its test part, as `evaluate.figures` does.

    Raises:
        UserError: the run in the folder began with another division of the data.
    """
    from training import evaluate, predict, train

    model = train.train(task.recipe, task.folder, task.fold.samples)
    predictor = predict.open_model(model)
    # Without a source, a model may not have learned all the classes that are asked for.
    classes = task.classes and [c.name for c in predictor.classes if c.name in task.classes]
    figures = evaluate.judge(predictor, task.fold.of("test"), classes)
    write_json(task.folder / "evaluation.json", figures)
    return figures


def cross_validate(
    divided: Sequence[Fold],
    recipe: "Recipe",
    output: Path,
    *,
    cluster: str | None = None,
    workers: int | None = None,
    classes: Sequence[str] | None = None,
    task: Callable[[FoldTask], dict[str, Any]] = train_and_judge,
) -> dict[str, Any]:
    """Train and judge all folds, write `output`/cross-validation.json and return what it holds.

    Keys: folds (name, numbers of images, accuracy; judged are the test images of a class that the model
    learned and `classes` asks for), mean and standard_deviation of their accuracies, and
    over all folds accuracy, classes, confusion, ece, predictions (as `training.evaluate`, and each its fold).

    Args:
        divided: by `folds` or `leave_one_source_out`.
        recipe: of the training, the same for every fold.
        output: a folder for each fold goes below it; folds that are done are not trained again.
        cluster: see `training.engine.run_tasks`.
        workers: the same.
        classes: among which is judged; None for all.
        task: what a worker does.

    Raises:
        UserError: a fold can judge nothing, or a task failed.
    """
    chosen = None if classes is None else tuple(classes)
    for fold in divided:
        learned, asked = ({s.name for s in fold.of(split)} for split in ("train", "test"))
        if not learned & asked & (set(chosen) if chosen else asked):
            raise UserError(f"{fold.name}: no class of its test images is learned from the others")
        try:
            data.check_classes(
                [s for s in fold.samples if recipe.classes != "five" or s.name in data.STUDY_CLASSES]
            )
        except UserError as error:
            raise UserError(f"{fold.name}: {error}") from None
    tasks = [FoldTask(f, recipe, output.resolve() / _folder_name(f.name), chosen) for f in divided]
    answers = run_tasks(task, tasks, cluster=cluster, workers=workers, name=lambda t: t.fold.name)
    result = pooled(divided, answers)
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / "cross-validation.json", result)
    return result


def _folder_name(name: str) -> str:
    return re.sub(r"[^\w.]+", "-", name)


def pooled(divided: Sequence[Fold], answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of all folds together; `answers` are those of `train_and_judge`, in order."""
    predictions = [
        {**p, "fold": f.name}
        for f, answer in zip(divided, answers, strict=True)
        for p in answer["predictions"]
    ]
    shares = [answer["accuracy"] for answer in answers]
    names = _classes(answers)
    truth, predicted = (
        np.array([names.index(p[key]) for p in predictions], np.int64) for key in ("class", "predicted")
    )
    confidence = np.array([p["confidence"] for p in predictions])
    return {
        "folds": [_summary(f, answer) for f, answer in zip(divided, answers, strict=True)],
        "mean": statistics.fmean(shares),
        "standard_deviation": statistics.stdev(shares) if len(shares) > 1 else None,
        **metrics.summary(truth, predicted, names),
        "ece": metrics.calibration_error(metrics.reliability(confidence, predicted == truth)),
        "predictions": predictions,
    }


def _classes(answers: Sequence[dict[str, Any]]) -> list[str]:
    """Return the classes of all folds: without a source, a model may not have learned them all."""
    found = {name for answer in answers for name in answer["classes"]}
    return [c.name for c in data.CLASSES if c.name in found]


def _summary(fold: Fold, answer: dict[str, Any]) -> dict[str, Any]:
    numbers = {split: len(fold.of(split)) for split in ("train", "validation", "test")}
    judged = len(answer["predictions"])
    return {"name": fold.name, **numbers, "judged": judged, "accuracy": answer["accuracy"]}


def table(result: dict[str, Any]) -> str:
    """Return the result of `cross_validate` as lines to print."""
    width = max(len("all images"), *(len(f["name"]) for f in result["folds"]))
    lines = [f"{'':{width}}{'train':>8}{'test':>8}{'judged':>8}{'accuracy %':>12}"]
    lines += [
        f"{f['name']:{width}}{f['train']:8d}{f['test']:8d}{f['judged']:8d}{100 * f['accuracy']:12.2f}"
        for f in result["folds"]
    ]
    spread = result["standard_deviation"]
    about = "" if spread is None else f" ± {100 * spread:.2f} (standard deviation)"
    lines.append(f"{'mean':{width}}{'':24}{100 * result['mean']:12.2f}{about}")
    test, judged = (sum(f[key] for f in result["folds"]) for key in ("test", "judged"))
    lines.append(f"{'all images':{width}}{'':8}{test:8d}{judged:8d}{100 * result['accuracy']:12.2f}")
    return "\n".join(lines)
