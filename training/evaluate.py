"""Figures of a model file on labelled cells: `python -m training.evaluate --model FILE --split test`.

A .tflite file runs through `edge.classify`, the code of the instrument; a .keras file through Keras.
Cells are cut by the instrument's own locator in both cases.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.cells import Image
from edge.classify import DEFAULT_MODEL, Classifier
from edge.errors import UserError
from edge.report import write_json
from training import data, metrics

Predict = Callable[[Sequence[Image]], NDArray[np.float32]]


def open_model(file: Path) -> tuple[Predict, tuple[str, ...], int]:
    """Return a model's prediction function, its class names, and the side of its input in pixels.

    Raises:
        UserError: the file cannot be read as a model.
    """
    if file.suffix == ".tflite":
        classifier = Classifier(file)
        return classifier.classify, tuple(c.name for c in classifier.card.classes), classifier.card.size
    import keras

    try:
        network = keras.models.load_model(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: not a Keras model ({error})") from None

    def predict(crops: Sequence[Image]) -> NDArray[np.float32]:
        return np.asarray(network.predict(np.stack(crops), verbose=0), np.float32)

    return predict, tuple(c.name for c in data.CLASSES), network.input_shape[1]


def probabilities(predict: Predict, samples: Sequence[data.Sample], size: int) -> NDArray[np.float32]:
    """Return the probabilities of the samples' cells, shape (samples, classes); shows progress."""
    answers = []
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(samples), 128):
            chunk = samples[start : start + 128]
            crops = list(pool.map(lambda s: data.read_crop(s, size), chunk))
            answers.append(predict(crops))
            if sys.stderr.isatty():
                print(f"\r{start + len(chunk)} of {len(samples)} cells", end="", file=sys.stderr)
    return np.concatenate(answers)


def evaluate(
    samples: Sequence[data.Sample], answers: NDArray[np.float32], names: Sequence[str], classes: Sequence[str]
) -> dict[str, Any]:
    """Return the figures of a model's `answers` (samples, `names`) among `classes` alone.

    Samples of other classes are left out, and the prediction is the most probable of `classes`. Keys:
    accuracy, classes, confusion (row = truth), per_class, predictions.

    Raises:
        UserError: no sample is of one of `classes`.
    """
    columns = [names.index(c) for c in classes]
    rows = [i for i, s in enumerate(samples) if s.name in classes]
    if not rows:
        raise UserError(f"no image is of one of the classes {', '.join(classes)}")
    chosen = answers[np.ix_(rows, columns)]
    predicted = chosen.argmax(axis=1)
    truth = [classes.index(samples[i].name) for i in rows]
    confusion = metrics.confusion_matrix(truth, predicted.tolist(), len(classes))
    return {
        "accuracy": metrics.accuracy(confusion),
        "classes": list(classes),
        "confusion": confusion.tolist(),
        "per_class": metrics.per_class(confusion, classes),
        "predictions": [
            {
                "file": samples[i].file,
                "class": samples[i].name,
                "predicted": classes[p],
                "confidence": round(float(row[p]), 4),
            }
            for i, p, row in zip(rows, predicted, chosen, strict=True)
        ],
    }


def _print(figures: dict[str, Any]) -> None:
    print(f"accuracy {100 * figures['accuracy']:.2f} % of {len(figures['predictions'])} cells")
    print(f"{'class':22}{'precision':>10}{'sensitivity':>12}{'F1':>8}{'cells':>7}")
    for name, f in figures["per_class"].items():
        shares = f"{100 * f['precision']:10.2f}{100 * f['sensitivity']:12.2f}{100 * f['f1']:8.2f}"
        print(f"{name:22}{shares}{f['support']:7d}")
    print("confusion (row = truth, column = predicted)")
    for name, row in zip(figures["classes"], figures["confusion"], strict=True):
        print(f"{name:22}" + "".join(f"{n:6d}" for n in row))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with cells.csv")
    parser.add_argument("--split", default="test", help="split, or source (laboratory), of the table")
    parser.add_argument("--classes", choices=("five", "all"), default="all", help="five: the study's")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args(arguments)
    try:
        predict, names, size = open_model(options.model)
        samples = data.select(data.read_table(options.data), options.split)
        answers = probabilities(predict, samples, size)
        classes = data.STUDY_CLASSES if options.classes == "five" else names
        figures = evaluate(samples, answers, names, classes)
        if options.json:
            write_json(options.json, figures)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    _print(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
