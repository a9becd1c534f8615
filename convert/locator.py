"""The trained locator to the full-integer file of the edge, with its card: `python -m convert.locator`.

ReLU6 holds every layer of this network in a range that eight bits divide finely, so that the converter's
own ranges (least and greatest value over calibration scenes) serve; the card says what the file finds.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from convert import tflite
from convert.graph import Graph
from convert.install import install
from edge.errors import UserError
from edge.localise import LOCATOR_MODEL, Locator
from edge.report import NOTICE
from edge.startup import Parser, run
from training.fields import Field, learnable
from training.locating import empty_fields, measure
from training.locator import STRIDE, Lessons, Recipe, load, read_recipe
from training.recipe import require

SOURCES = {
    "raabin": "Raabin-WBC (Kouzehkanan et al. 2022), boxes of TXL-PBC, MIT",
    "pbc": "Acevedo et al. 2020, PBC dataset, Hospital Clinic of Barcelona, CC BY 4.0, boxes of TXL-PBC, MIT",
    "bccd": "BCCD data set (Cheng and contributors), MIT, boxes of TXL-PBC, MIT",
    "drawn": "views of the demo's smear, drawn by this project; never part of a figure",
}
_LEAST = 50
"""Calibration scenes."""
_LOAD = (
    "import sys, numpy; from pathlib import Path; from edge.localise import Locator; "
    "noise = numpy.random.default_rng(0).integers(0, 256, (90, 120, 3), numpy.uint8); "
    "Locator(model=Path(sys.argv[1])).locate(noise)"
)


def quantize(network: keras.Model, scenes: NDArray[np.uint8]) -> bytes:
    """Return the INT8 .tflite file of a locator.

    Args:
        network: as `training.locator.build` makes it.
        scenes: calibration pictures, shape (n, size, size, 3).

    Raises:
        UserError: another input size, fewer than 50 scenes, or an operation without integer form.
    """
    if len(scenes) < _LEAST:
        raise UserError(f"{len(scenes)} calibration scenes are too few; give {_LEAST} or more")
    if network.input_shape[1:] != scenes.shape[1:]:
        raise UserError(f"the model takes {network.input_shape[1:]}, the scenes are {scenes.shape[1:]}")
    content = tflite.integer(network, scenes)
    floating = [op.layer for op in Graph(content).operations if op.floating]
    if floating:
        raise UserError(f"operations without integer form: {', '.join(floating)}")
    return content


def convert(model: Path, data: Path, output: Path, calibrate: int) -> dict[str, Any]:
    """Write a trained locator's file and card to `output`, whole or not at all; return the card.

    Raises:
        UserError: the model or the data cannot be read, there are too few scenes, or the file does not run.
    """
    tflite.check_name(output)
    require("calibrate", calibrate, f"at least {_LEAST}", fits=calibrate >= _LEAST)
    if model.suffix != ".keras" or not model.is_file():
        raise UserError(f"{model}: no .keras file is there; train one with training.locator")
    print(f"loading {model}", flush=True)
    network = load(model)
    recipe = read_recipe(model.with_name("recipe.json"))
    print(f"reading the fields of {data}", flush=True)
    fields = learnable(data, recipe.leave_out, recipe.seed)
    print(f"drawing {calibrate} training scenes to calibrate with", flush=True)
    scenes = calibration(fields, recipe, calibrate)
    print("converting", flush=True)
    content = quantize(network, scenes)
    learned = {f.source for f in fields}
    card = {
        "name": "leukocyte-locator",
        "notice": NOTICE,
        "created": datetime.now(UTC).date().isoformat(),
        "licence": "Apache-2.0",
        "architecture": f"depthwise-separable, {network.count_params()} parameters, ReLU6; middle, reach",
        "size": network.input_shape[1],
        "stride": STRIDE,
        "input": "RGB, uint8, 0..255, the frame in the upper left of a grey square (edge.localise)",
        "sources": {name: text for name, text in SOURCES.items() if name in learned},
        "recipe": {name: getattr(recipe, name) for name in recipe.__slots__},
        "calibration": calibrate,
    }
    return install(content, card, output, _LOAD, lambda file: {"figures": figures(file, data)})


def calibration(fields: Sequence[Field], recipe: Recipe, number: int) -> NDArray[np.uint8]:
    """Return training scenes that no epoch has shown, shape (number, size, size, 3)."""
    lessons = Lessons(fields, recipe)
    lessons.begin(recipe.epochs)
    batches = [lessons[i][0] for i in range(-(-number // recipe.batch))]
    return np.concatenate(batches)[:number].astype(np.uint8)


def figures(file: Path, data: Path) -> dict[str, float]:
    """Return recall and precision on the validation fields, and false cells per 100 fields without any."""
    print("evaluating on the validation fields", flush=True)
    locator = Locator(model=file)
    found: dict[str, float] = {}
    sums = measure(data, "validation", lambda image: [f.box for f in locator.locate(image)])
    for source, pair in sums.items():
        for labels, part in zip(("all labels", "undoubted labels"), pair, strict=True):
            found[f"recall, {source}, {labels}"] = round(part.recall, 4)
            found[f"precision, {source}, {labels}"] = round(part.precision, 4)
    false = [len(locator.locate(image)) for _, image in empty_fields(data, "validation")]
    found["false cells per 100 fields without one"] = round(100 * sum(false) / max(len(false), 1), 2)
    return found


def _convert(options: argparse.Namespace) -> None:
    card = convert(options.model, options.data, options.output, options.calibrate)
    print(json.dumps(card["figures"], indent=1))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = Parser(prog="python -m convert.locator", description=__doc__)
    parser.add_argument(
        "--model",
        type=Path,
        default=Path("runs/locator/locator.keras"),
        help="the .keras file of a run, its recipe beside it",
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with fields.csv")
    parser.add_argument("--output", type=Path, default=LOCATOR_MODEL, help="the .tflite file to write")
    parser.add_argument("--calibrate", type=int, default=240, help="training scenes")
    options = parser.parse_args(arguments)
    return run(lambda: _convert(options), "stopped; nothing was written")


if __name__ == "__main__":
    sys.exit(main())
