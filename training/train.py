"""Fine-tune MobileNet-V3-Small on labelled cells: `python -m training.train`.

Writes to --output: `model.keras` (the weights of the best validation epoch), `recipe.json`,
`history.csv`. A run that was stopped goes on from its last epoch when started again.
"""

import argparse
import csv
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from edge.cells import Box
from edge.errors import UserError
from edge.preprocess import crop
from training import data, model, rendered
from training.augment import augment


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides what a run yields; saved beside the model."""

    data: str = "../shared/data"
    """Folder that holds cells.csv and cells/."""
    weights: str = "imagenet"
    """A Keras weights file without top, or "imagenet" for Keras' own download."""
    epochs: int = 16
    batch: int = 32
    learning_rate: float = 6e-4
    """Peak of the cosine that the rate follows down to 0, after half an epoch of warm-up."""
    weight_decay: float = 1e-4
    label_smoothing: float = 0.05
    rendered: int = 60
    """Drawn cells of each of the study's classes, so that the demo is counted too."""
    seed: int = 1


class Batches(keras.utils.PyDataset):
    """Augmented batches; every class is drawn with a share that goes as the root of its frequency."""

    def __init__(self, samples: Sequence[data.Sample], boxes: Sequence[Box], recipe: Recipe) -> None:
        super().__init__(workers=2, use_multiprocessing=False, max_queue_size=8)
        self._samples, self._boxes, self._recipe = samples, boxes, recipe
        self._labels = data.labels(samples)
        counts = np.bincount(self._labels, minlength=len(data.CLASSES))
        share = counts[self._labels] ** -0.5
        self._share = share / share.sum()
        self._epoch = 0
        self._draw()

    def __len__(self) -> int:
        return math.ceil(len(self._samples) / self._recipe.batch)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        rng = np.random.default_rng((self._recipe.seed, self._epoch, index))
        chosen = self._order[index * self._recipe.batch : (index + 1) * self._recipe.batch]
        crops = [
            augment(data.read_image(self._samples[i].path), self._boxes[i], model.SIZE, rng) for i in chosen
        ]
        return np.stack(crops).astype(np.float32), np.eye(len(data.CLASSES), dtype=np.float32)[
            self._labels[chosen]
        ]

    def begin(self, epoch: int) -> None:
        """Draw the samples of `epoch`; the same for the same seed, also in a resumed run."""
        self._epoch = epoch
        self._draw()

    def _draw(self) -> None:
        rng = np.random.default_rng((self._recipe.seed, self._epoch))
        self._order = rng.choice(len(self._samples), len(self._samples), p=self._share)


def train(recipe: Recipe, output: Path) -> Path:
    """Run `recipe`, or go on with its interrupted run, in folder `output`; return the model's path."""
    keras.utils.set_random_seed(recipe.seed)
    output.mkdir(parents=True, exist_ok=True)
    _claim(output / "recipe.json", recipe)
    table = data.read_table(Path(recipe.data))
    learn, judge = data.select(table, "train"), data.select(table, "validation")
    learn = learn + rendered.write_cells(output / "rendered", recipe.rendered, recipe.seed)
    print(f"finding the cells of {len(learn) + len(judge)} images", flush=True)
    batches = Batches(learn, data.locate_cells(learn), recipe)
    network = model.build(len(data.CLASSES), recipe.weights, seed=recipe.seed)
    steps = len(batches)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps * recipe.epochs, warmup_target=recipe.learning_rate, warmup_steps=steps // 2
    )
    network.compile(
        keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay),
        keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing),
        metrics=["accuracy"],
    )
    best = output / "model.keras"
    network.fit(
        batches,
        epochs=recipe.epochs,
        validation_data=_validation(judge),
        verbose=2 if not sys.stdout.isatty() else 1,
        callbacks=[
            keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: batches.begin(epoch)),
            keras.callbacks.ModelCheckpoint(
                best,
                monitor="val_accuracy",
                save_best_only=True,
                initial_value_threshold=_best_so_far(output / "history.csv"),
            ),
            keras.callbacks.CSVLogger(output / "history.csv", append=True),
            keras.callbacks.BackupAndRestore(output / "backup", delete_checkpoint=False),
        ],
    )
    return best


def _claim(file: Path, recipe: Recipe) -> None:
    """Save the recipe; a run may go on with more epochs, but with nothing else changed."""
    if file.exists():
        before = Recipe(**json.loads(file.read_text()))
        if replace(before, epochs=recipe.epochs) != recipe:
            raise UserError(f"{file.parent}: another recipe began this run; give --output another folder")
    file.write_text(json.dumps(asdict(recipe), indent=2) + "\n")


def _best_so_far(history: Path) -> float | None:
    """Return the best validation accuracy of an interrupted run; None at the start."""
    if not history.exists():
        return None
    with history.open(newline="") as file:
        return max((float(row["val_accuracy"]) for row in csv.DictReader(file)), default=None)


def _validation(samples: Sequence[data.Sample]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    boxes = data.locate_cells(samples)
    crops = [crop(data.read_image(s.path), box, model.SIZE) for s, box in zip(samples, boxes, strict=True)]
    return np.stack(crops), np.eye(len(data.CLASSES), dtype=np.float32)[data.labels(samples)]


def _recipe_arguments(parser: argparse.ArgumentParser) -> None:
    for field in fields(Recipe):
        name = "--" + field.name.replace("_", "-")
        parser.add_argument(
            name, type=type(field.default), default=field.default, help=f"default {field.default}"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.train", description=__doc__)
    _recipe_arguments(parser)
    parser.add_argument("--output", type=Path, default=Path("runs/default"), help="folder of the run")
    options = vars(parser.parse_args(arguments))
    output = options.pop("output")
    try:
        print(train(Recipe(**options), output))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last whole epoch", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
