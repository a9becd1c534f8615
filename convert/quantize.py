"""A trained model to the full-integer file of the edge, with its card: `python -m convert.quantize`.

Full integer means: uint8 in, uint8 out, INT8 built-in operations only, weights per channel. What keeps
it right is in `training.model` (an activation and scales that integers can carry), in `convert.equalise`
(channels of like range in the first layers), in `convert.fold` (fewer tensors to round), in
`convert.spread` (channels of like range before pointwise convolutions), in `convert.fake_quantize` (ranges),
in `convert.head` (a head that knows rounded features) and in `convert.distil` (a short fine-tuning of the
rounded network).
"""

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from convert import tflite
from convert.distil import distil, lessons
from convert.equalise import equalise
from convert.fake_quantize import check_supported, measure_ranges, with_fake_quantization
from convert.fold import centred, fold
from convert.head import fit_head
from convert.heat_map import with_heat_map
from convert.install import install
from convert.metadata import describe
from convert.scores import with_scores
from convert.spread import spread
from edge.classify import DEFAULT_MODEL
from edge.errors import UserError
from edge.preprocess import crop
from edge.report import NOTICE
from edge.startup import Parser, run
from training import data, division, sizes
from training.augment import augment
from training.batches import Boxed, find_cells
from training.evaluate import figures as evaluate
from training.finish import STRANGE_SHARE
from training.framing import Framing
from training.metrics import REVIEW_SHARE
from training.model import FEATURES, Trained, load
from training.predict import open_model
from training.recipe import Recipe, read_recipe, require
from training.train import draw, prepare

SOURCES = {
    "pbc": "Acevedo et al. 2020, PBC dataset, Hospital Clinic of Barcelona, CC BY 4.0, "
    "doi:10.17632/snkd93bnjr.1",
    "bccd": "BCCD data set (Cheng and contributors), MIT, github.com/Shenggan/BCCD_Dataset",
    "imagenet": "MobileNet-V3-Small, ImageNet weights, Google, Apache-2.0",
    "rendered": "cells of the demo, drawn by this project (training.rendered); never part of a figure",
    "textbook": "cells drawn by this project from the textbook's description (training.textbook); never part "
    "of a figure",
}
"""By the source of a sample, and the weights that training began with."""


def quantize(
    network: keras.Model,
    crops: NDArray[np.uint8],
    restained: NDArray[np.uint8],
    batches: Iterator[NDArray[np.uint8]],
    *,
    steps: int,
    learning_rate: float,
) -> bytes:
    """Return the INT8 .tflite file of a model with RGB 0..255 input, with a heat map and the scores.

    Args:
        network: input (size, size, 3); first output (classes,) probabilities, second an embedding or none.
        crops: calibration images, shape (n, size, size, 3), that cover what will be seen.
        restained: cells in other stains and lights, shape (m, size, size, 3), that the head is fitted on.
        batches: crops for the fine-tuning, as `convert.distil.lessons` yields them.
        steps: batches of fine-tuning; 0 leaves the weights as they are.
        learning_rate: of the fine-tuning.

    Raises:
        UserError: fewer than 50 crops, another input size, an operation without integer form, or a network
            that does not begin as MobileNet-V3-Small.
    """
    if len(crops) < 50:
        raise UserError(f"{len(crops)} calibration images are too few; give 50 or more")
    if network.input_shape[1:] != crops.shape[1:]:
        raise UserError(f"the model takes {network.input_shape[1:]}, the crops are {crops.shape[1:]}")
    check_supported(network)
    print(f"measuring ranges on {len(crops)} crops", flush=True)
    seen = centred(crops)
    folded = spread(fold(equalise(network, crops)), seen)
    ranges = measure_ranges(folded, seen)
    rounded = with_fake_quantization(folded, ranges)
    like_file = with_fake_quantization(folded, ranges, weights=True)
    if steps:
        print(f"fine-tuning the rounded network, {steps} batches", flush=True)
        distil(like_file, network, folded, batches, steps=steps, learning_rate=learning_rate)
        rounded.set_weights(like_file.get_weights())
    print(f"fitting the head on {len(restained)} crops", flush=True)
    fit_head(rounded, like_file, network, restained)
    print("converting", flush=True)
    return with_scores(tflite.integer(with_heat_map(rounded, seen), seen[::4]))


def calibration(samples: Sequence[data.Sample], per_class: int, seed: int) -> list[data.Sample]:
    """Return `per_class` samples of each class, drawn by `seed`."""
    rng = np.random.default_rng(seed)
    chosen: list[data.Sample] = []
    for name in dict.fromkeys(s.name for s in samples):
        members = [s for s in samples if s.name == name]
        chosen += [members[i] for i in rng.permutation(len(members))[:per_class]]
    return chosen


CLASSIFY = (
    "import sys, numpy; from pathlib import Path; from edge.classify import Classifier; "
    "c = Classifier(Path(sys.argv[1])); s = c.card.size; "
    "c.classify([numpy.random.default_rng(0).integers(0, 256, (s, s, 3), numpy.uint8)])"
)
"""A program that runs the file of its first argument once."""


_BENDS = keras.layers.ReLU | keras.layers.Activation


def card(
    options: argparse.Namespace,
    trained: Trained,
    recipe: Recipe,
    *,
    chosen: Sequence[data.Sample],
    learned: Collection[str],
) -> dict[str, Any]:
    """Return the model card without hash and figures: what the file is, and how it came to be.

    `chosen` calibrated its integers, and it learned from the sources `learned`.
    """
    stem = next(layer for layer in trained.network.layers if isinstance(layer, _BENDS))
    first = "ReLU" if isinstance(stem, keras.layers.ReLU) else "swish"
    fitted_with = sorted(division.fitted_with(options.model))
    conversion = {
        name: getattr(options, name)
        for name in ("calibrate", "head_crops", "fine_tune_steps", "fine_tune_rate", "seed")
    }
    return {
        "name": f"wbc-{recipe.model.replace('_', '-')}",
        "notice": NOTICE,
        "created": datetime.now(UTC).date().isoformat(),
        "licence": "Apache-2.0",
        "made_of": hashlib.sha256(options.model.read_bytes()).hexdigest(),
        "architecture": f"{recipe.model}, first hard-swish {first}, others swish; average pooling; softmax",
        "size": trained.size,
        "input": "RGB, uint8, 0..255, one crop of 1.5 x the cell's box (edge.preprocess)",
        "classes": [{"name": c.name, "role": c.role.value} for c in trained.classes],
        "review_below": 0.0,
        "familiar": trained.facts["familiar"],
        "heat_side": trained.network.get_layer(FEATURES).input.shape[1],
        "sources": {name: text for name, text in SOURCES.items() if name == "imagenet" or name in learned},
        "recipe": asdict(recipe) | {"data": Path(recipe.data).name, "weights": Path(recipe.weights).name},
        "temperature": trained.facts["temperature"],
        **({division.FITTED: fitted_with} if fitted_with else {}),
        "conversion": conversion,
        "calibration": [s.file for s in chosen],
        "limits": "PBC names no patients, so cells of one person may lie on both sides of its split: figures "
        "on it are optimistic. What a figure calls by a source's name was never learned from, but recipe and "
        "seeds were chosen with such figures beside those of validation.",
    }


def _convert(options: argparse.Namespace) -> None:
    tflite.check_name(options.output)
    for name, fits, must in (
        ("calibrate", options.calibrate >= 1, "at least 1"),
        ("head_crops", options.head_crops >= 1, "at least 1"),
        ("fine_tune_steps", options.fine_tune_steps >= 0, "0 or more"),
        ("fine_tune_rate", options.fine_tune_rate > 0, "more than 0"),
        ("seed", options.seed >= 0, "0 or more"),
    ):
        require(name, getattr(options, name), must, fits=fits)
    print(f"loading {options.model}", flush=True)
    trained = load(options.model)
    if trained.framing is not Framing.CELL:
        raise UserError(f"{options.model}: sees whole images, the instrument sees cells; use --recipe robust")
    recipe = read_recipe(options.model.parent / "recipe.json")
    print(f"reading the images of {options.data}", flush=True)
    table = prepare(replace(recipe, data=str(options.data)), None, options.model.parent)
    data.check_trainable(table)
    learn = data.of_split(table, "train")
    chosen = calibration(learn, options.calibrate, options.seed)
    print(f"cutting {len(chosen)} cells to calibrate with", flush=True)
    crops = _calibration_crops(find_cells(chosen), trained.size, options.seed)
    taught = calibration(learn, options.head_crops, options.seed)
    print(f"staining {len(taught)} cells anew to fit the head on", flush=True)
    restained = _restained(find_cells(taught), trained.size, options.seed)
    with tempfile.TemporaryDirectory() as folder:
        drawn = draw(Path(folder), recipe) if options.fine_tune_steps else []
        content = quantize(
            trained.network,
            crops,
            restained,
            _lessons(learn + drawn, recipe, trained.size, options.seed),
            steps=options.fine_tune_steps,
            learning_rate=options.fine_tune_rate,
        )
    learned = {s.source for s in learn} | {name for name in ("rendered", "textbook") if getattr(recipe, name)}
    facts = card(options, trained, recipe, chosen=chosen, learned=learned)
    elsewhere = sorted({s.source for s in table} - learned)
    facts = install(
        describe(content, facts),
        facts,
        options.output,
        CLASSIFY,
        lambda file: figures(file, table, elsewhere),
    )
    print(json.dumps(facts["figures"], indent=1))


def _lessons(
    samples: Sequence[data.Sample], recipe: Recipe, size: int, seed: int
) -> Iterator[NDArray[np.uint8]]:
    """Yield what `convert.distil.lessons` does; the cells are found when the first batch is asked for."""
    print(f"finding the cells of {len(samples)} images", flush=True)
    yield from lessons(find_cells(samples), recipe.balance, size, seed)


def _calibration_crops(chosen: Boxed, size: int, seed: int) -> NDArray[np.uint8]:
    """Return each chosen cell as it is, and behind it once in another stain, light and focus."""
    pairs = zip(chosen.samples, chosen.boxes, strict=True)
    plain = np.stack([crop(data.read_image(s.path), box, size) for s, box in pairs])
    return np.stack([plain, _restained(chosen, size, seed)], axis=1).reshape(-1, size, size, 3)


def _restained(chosen: Boxed, size: int, seed: int) -> NDArray[np.uint8]:
    """Return each chosen cell in another stain, light and focus."""
    rng = np.random.default_rng(seed)
    pairs = zip(chosen.samples, chosen.boxes, strict=True)
    return np.stack([augment(data.read_image(s.path), box, size, s.name, rng) for s, box in pairs])


def figures(file: Path, table: Sequence[data.Sample], elsewhere: Sequence[str]) -> dict[str, Any]:
    """Return what the card says of the file's quality, measured as the instrument answers.

    `review_below` is the confidence that the least sure `REVIEW_SHARE` of the validation cells do
    not reach, and the limit of `familiar` is set anew: the integer file's own distances count.
    Accuracies are of the study's five classes, and of all classes where a set has them; `elsewhere` names
    sources that the model never saw.
    """
    predictor = open_model(file)
    names = [c.name for c in predictor.classes]
    found: dict[str, float] = {}
    settings: dict[str, Any] = {}
    splits = {split: [s for s in table if s.split == split] for split in ("validation", "test")}
    parts = {split: part for split, part in splits.items() if part}
    parts |= {source: [s for s in table if s.source == source] for source in elsewhere}
    for split, part in parts.items():
        samples = [s for s in part if s.name in names]
        print(f"evaluating {len(samples)} cells of {split}", flush=True)
        answers = sizes.answer(predictor, samples)
        five = [name for name in data.STUDY_CLASSES if name in names]
        if any(s.name in five for s in samples):
            found[f"{split}, five classes"] = evaluate(samples, answers, names, five)["accuracy"]
        if {s.name for s in samples} > set(five):
            found[f"{split}, all classes"] = evaluate(samples, answers, names, names)["accuracy"]
        if split == "validation":
            facts = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))["familiar"]
            limit = facts["limit"] * float(np.quantile(answers.strangeness, 1 - STRANGE_SHARE))
            settings = {
                "review_below": round(float(np.quantile(answers.probabilities.max(axis=1), REVIEW_SHARE)), 3),
                "familiar": facts | {"limit": round(limit, 4)},
            }
    return settings | {"figures": {f"accuracy, {name}": round(value, 4) for name, value in found.items()}}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = Parser(prog="python -m convert.quantize", description=__doc__)
    parser.add_argument(
        "--model",
        type=Path,
        default=Path("runs/default/model.keras"),
        help="the .keras file of a run, its recipe beside it",
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with cells.csv")
    parser.add_argument("--output", type=Path, default=DEFAULT_MODEL, help="the .tflite file to write")
    parser.add_argument("--calibrate", type=int, default=40, help="training images of each class")
    parser.add_argument(
        "--head-crops", type=int, default=300, help="training images of each class that fit the head"
    )
    parser.add_argument("--fine-tune-steps", type=int, default=0, help="batches that teach it to round")
    parser.add_argument("--fine-tune-rate", type=float, default=2e-4, help="their learning rate")
    parser.add_argument("--seed", type=int, default=1, help="of all chance")
    options = parser.parse_args(arguments)
    return run(lambda: _convert(options), "stopped; nothing was written")


if __name__ == "__main__":
    sys.exit(main())
