"""Figures of a model file on labelled cells: `python -m training.evaluate --model FILE --split test`.

A .tflite file runs through `edge.classify`, the code of the instrument; a .keras file through Keras.
`--cross-validate K` and `--leave-one-source-out` train models of their own, by the recipe, and judge each on
what it never saw.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edge.cells import Answers
from edge.classify import DEFAULT_MODEL
from edge.errors import UserError
from edge.startup import Parser, run
from edge.whole import write_json
from training import crossvalidate, data, division, metrics, robustness, sizes
from training.predict import Predictor, open_model
from training.recipe import RECIPES, check, read_recipe

_DATA = Path("../shared/data")
"""Of the shipped model."""
_CURVE_POINTS = 200
"""Points, at most, of the review curve in the figures."""


def of_others(samples: Sequence[data.Sample], classes: Sequence[str]) -> Counter[str]:
    """Return how many samples are of which other classes."""
    return Counter(s.name for s in samples if s.name not in classes)


def in_words(others: Counter[str]) -> str:
    """Return what `of_others` counted as one line."""
    return ", ".join(f"{name} ({number})" for name, number in others.items())


def judge(
    predictor: Predictor, samples: Sequence[data.Sample], classes: Sequence[str] | None = None
) -> dict[str, Any]:
    """Return the figures of a model on `samples`, among `classes` alone (None: all of the model's).

    Raises:
        UserError: no sample is of one of the classes, or the model lacks one of them.
    """
    names = [c.name for c in predictor.classes]
    asked = [s for s in samples if s.name in (classes or names)]
    if not asked:
        raise UserError(f"no image is of one of the classes {', '.join(classes or names)}")
    return figures(asked, sizes.answer(predictor, asked), names, classes or names)


def figures(
    samples: Sequence[data.Sample], answers: Answers, names: Sequence[str], classes: Sequence[str]
) -> dict[str, Any]:
    """Return the figures of a model's `answers`, its classes being `names`, among `classes` alone.

    Samples of other classes are left out, and the prediction is the most probable of `classes`. Keys:
    accuracy, balanced_accuracy, macro_f1, intervals (95 %, of these three), classes, confusion (row =
    truth), per_class, ece, reliability, review_curve, accuracy_after_review (5 % sent), predictions; and
    five, where `classes` are more than the study's: what follows from the confusion among its five.

    Raises:
        UserError: no sample is of one of `classes`, or the model lacks one of them.
    """
    absent = [c for c in classes if c not in names]
    if absent:
        raise UserError(f"the model has no output for {', '.join(absent)}; it tells {', '.join(names)}")
    rows = [i for i, s in enumerate(samples) if s.name in classes]
    if not rows:
        raise UserError(f"no image is of one of the classes {', '.join(classes)}")
    chosen = answers.probabilities[np.ix_(rows, [names.index(c) for c in classes])]
    # Among some of the classes the probabilities are those given that it is one of them.
    shares = chosen / np.maximum(chosen.sum(axis=1, keepdims=True), 1e-12)
    truth = np.array([classes.index(samples[i].name) for i in rows], np.int64)
    of_five = [i for i in rows if samples[i].name in data.STUDY_CLASSES]
    more = set(classes) > set(data.STUDY_CLASSES) and of_five
    predicted = shares.argmax(axis=1)
    confidence, right = shares.max(axis=1), predicted == truth
    bars = metrics.reliability(confidence, right)
    curve = metrics.review_curve(1 - confidence, right)
    return {
        **metrics.summary(truth, predicted, classes),
        "ece": metrics.calibration_error(bars),
        "reliability": [{"confidence": b.confidence, "accuracy": b.accuracy, "cells": b.cells} for b in bars],
        "review_curve": curve[np.unique(np.linspace(0, len(curve) - 1, _CURVE_POINTS).astype(int))].tolist(),
        "accuracy_after_review": metrics.accuracy_after_review(curve, metrics.REVIEW_SHARE),
        "predictions": [
            {
                "file": samples[i].file,
                "class": samples[i].name,
                "predicted": classes[predicted[k]],
                "confidence": round(float(confidence[k]), 4),
                "strangeness": round(float(answers.strangeness[i]), 3),
            }
            for k, i in enumerate(rows)
        ],
        **({"five": _among_five(samples, answers, names, of_five)} if more else {}),
    }


def _among_five(
    samples: Sequence[data.Sample], answers: Answers, names: Sequence[str], rows: Sequence[int]
) -> dict[str, Any]:
    chosen = answers.probabilities[np.ix_(rows, [names.index(c) for c in data.STUDY_CLASSES])]
    truth = np.array([data.STUDY_CLASSES.index(samples[i].name) for i in rows], np.int64)
    return metrics.summary(truth, chosen.argmax(axis=1), data.STUDY_CLASSES)


def _print(result: dict[str, Any]) -> None:
    for key, label in (
        ("accuracy", "accuracy"),
        ("balanced_accuracy", "balanced accuracy"),
        ("macro_f1", "macro F1"),
    ):
        low, high = result["intervals"][key]
        print(f"{label:22}{100 * result[key]:8.2f} %  ({100 * low:.2f} to {100 * high:.2f})")
    print(f"{'cells':22}{len(result['predictions']):8d}")
    print(f"{'calibration error':22}{100 * result['ece']:8.2f} %")
    print(f"{'5 % sent to review':22}{100 * result['accuracy_after_review']:8.2f} % of the rest right")
    strange = sum(p["strangeness"] > 1 for p in result["predictions"]) / len(result["predictions"])
    print(f"{'unlike the training':22}{100 * strange:8.2f} %")
    _print_classes(result)


def _print_classes(result: dict[str, Any]) -> None:
    print(f"{'class':22}{'precision':>10}{'sensitivity':>12}{'F1':>8}{'cells':>7}")
    for name, f in result["per_class"].items():
        shares = (f["precision"], f["sensitivity"], f["f1"])
        texts = ["-" if share is None else f"{100 * share:.2f}" for share in shares]
        print(f"{name:22}{texts[0]:>10}{texts[1]:>12}{texts[2]:>8}{f['support']:7d}")
    columns = "".join(f"{name[:4]:>6}" for name in result["classes"])
    print(f"{'truth, and predicted':22}{columns}")
    for name, row in zip(result["classes"], result["confusion"], strict=True):
        print(f"{name:22}" + "".join(f"{n:6d}" for n in row))


def _parser() -> Parser:
    parser = Parser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("--model", type=Path, help=".tflite or .keras file; the shipped one if not given")
    images = parser.add_mutually_exclusive_group()
    images.add_argument("--images", type=Path, help="folder of labelled images, of any known layout")
    images.add_argument(
        "--split", help="part of the model's run, split or source of --data; test if not given"
    )
    parser.add_argument(
        "--data", type=Path, help=f"folder with cells.csv; that of the model's run, else {_DATA}"
    )
    parser.add_argument("--classes", choices=("five", "all"), default="all", help="five: the study's")
    parser.add_argument("--robustness", action="store_true", help="accuracy against graded faults too")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--report", type=Path, help="write a report with pictures to this folder")
    trained = parser.add_argument_group("train and judge by turns")
    trained.add_argument("--cross-validate", type=int, metavar="K", help="K parts, no film in two of them")
    trained.add_argument(
        "--leave-one-source-out", action="store_true", help="each source (laboratory) judges once"
    )
    trained.add_argument("--recipe", choices=RECIPES, default="robust", help="to train by")
    trained.add_argument("--weights", default="imagenet", help="as training.train has it")
    trained.add_argument("--epochs", type=int, help="as training.train has it")
    tasks = parser.add_argument_group("where --robustness and training by turns run")
    tasks.add_argument("--cluster", help="address of a Dask scheduler, tcp://host:8786; here without")
    tasks.add_argument(
        "--output", type=Path, default=Path("runs/by-turns"), help="folder that keeps what is done"
    )
    tasks.add_argument("--workers", type=int, help="processes here; half the cores if not given")
    return parser


def _data_of(model: Path) -> Path:
    """Return the data that a model's run learned from, by the recipe beside it; else the shipped model's."""
    recipe = model.parent / "recipe.json"
    return Path(read_recipe(recipe).data) if recipe.is_file() else _DATA


def _evaluate(options: argparse.Namespace) -> int:
    """Judge a model; return 0, or 3 (as `edge.run`) where images that cannot be read were left out."""
    file = options.model or DEFAULT_MODEL
    folder = options.images or options.data or _data_of(file)
    samples = data.load(folder)
    if not options.images:
        samples = division.select(samples, options.split or "test", file)
    met = {*division.learned(samples, file), *division.recognised(samples, file)}
    if met:
        print(f"of these {len(samples)} images {len(met)} taught or chose the model: no evidence")
    predictor = open_model(file)
    names = [c.name for c in predictor.classes]
    five = [name for name in data.STUDY_CLASSES if name in names]
    classes = five if options.classes == "five" else names
    others = of_others(samples, classes)
    if others and options.classes == "all":
        raise UserError(f"the model does not tell {in_words(others)}; --classes five leaves them out")
    _make_room(options)
    samples, unreadable = data.readable(samples)
    if not samples:
        raise UserError(f"none of the {len(unreadable)} images can be read, the first is {unreadable[0]}")
    images = str(options.images or f"{options.split or 'test'} of {folder}")
    result = judge(predictor, samples, classes)
    result |= {"model": str(file), "images": images, "met": len(met)}
    result |= {"unreadable": unreadable, "left_out": others}
    _print(result)
    if others:
        print(f"left out: {in_words(others)}")
    if unreadable:
        which = data.listed(unreadable)
        print(f"missing, masks, or not readable as images, left out: {which}", file=sys.stderr)
    if options.robustness:
        result["robustness"] = robustness.sweep(
            file,
            samples,
            classes,
            folder=options.output,
            cluster=options.cluster,
            workers=options.workers,
        )
        print(robustness.table(result["robustness"]))
    if options.json:
        write_json(options.json, result)
    if options.report:
        print(write_report(options.report, result, predictor, samples))
    return 3 if unreadable else 0


def _make_room(options: argparse.Namespace) -> None:
    """Make the folders of what is written in the end: one that cannot be is told before the work."""
    if options.json and options.json.is_dir():
        raise UserError(f"--json {options.json}: a folder; name a file")
    if options.report and (options.report / "recipe.json").exists():
        raise UserError(f"--report {options.report}: a run's folder, which has its own report; name another")
    for place in (options.json and options.json.parent, options.report):
        if place:
            place.mkdir(parents=True, exist_ok=True)


def write_report(
    folder: Path, result: dict[str, Any], predictor: Predictor, samples: Sequence[data.Sample]
) -> Path:
    """Write evaluation.json and the report of a `result` on `samples`; return the page's path."""
    from training import report

    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "evaluation.json", result)
    return report.write(folder, result, report.look(predictor, samples, result))


def _by_turns(options: argparse.Namespace) -> None:
    if options.cross_validate is not None and options.leave_one_source_out:
        raise UserError("--cross-validate and --leave-one-source-out are two ways; give one of them")
    for option in ("model", "split", "robustness", "report"):
        if getattr(options, option):
            raise UserError(f"--{option} judges one model; training by turns makes its own, leave it out")
    folder = options.images or options.data or _DATA
    recipe = replace(RECIPES[options.recipe], data=str(folder), weights=options.weights)
    if options.epochs is not None:
        recipe = replace(recipe, epochs=options.epochs)
    check(recipe)
    samples = data.load(folder)
    if options.cross_validate is not None:
        divided = crossvalidate.folds(samples, options.cross_validate, recipe.seed)
        if held := sum(s.split == "test" for s in samples):
            print(f"{held} images of split test are left out", file=sys.stderr)
    else:
        divided = crossvalidate.leave_one_source_out(samples, recipe.seed)
    classes = data.STUDY_CLASSES if options.classes == "five" else None
    _make_room(options)
    result = crossvalidate.cross_validate(
        divided,
        recipe,
        options.output,
        cluster=options.cluster,
        workers=options.workers,
        classes=classes,
    )
    if options.json:
        write_json(options.json, result)
    print(crossvalidate.table(result))
    _print_classes(result)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    options = _parser().parse_args(arguments)
    by_turns = options.cross_validate is not None or options.leave_one_source_out
    kept = "; the same command goes on with what is not done" if by_turns or options.robustness else ""
    return run(lambda: _by_turns(options) if by_turns else _evaluate(options), f"stopped{kept}")


if __name__ == "__main__":
    sys.exit(main())
