"""Train the network that finds leukocytes in a field: `python -m training.locator --data ... --output ...`.

It names the middle of each cell and how far the whole cell reaches from there to its four sides, also
beyond the border. Middles are as in Zhou et al. 2019 (Objects as Points), sides as in Tian et al. 2019
(FCOS).
Stopped, the same command goes on.
"""

import json
import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from edge.errors import UserError
from edge.startup import Parser, run
from edge.whole import whole
from training.callbacks import learn
from training.claim import check_free, claim
from training.fields import Field, learnable
from training.hardware import cores
from training.litter import Scene
from training.recipe import require
from training.scenes import make_scene, visible

SIZE = 192
"""Side of the network's input, pixels."""
STRIDE = 4
"""Pixels of the input to a place of the output."""
_LEVELS = ((48, 2), (80, 3), (112, 3))
"""Channels and blocks at an eighth, a sixteenth and a thirty-second of the input's side."""
_SHARES = {"raabin": 0.3, "pbc": 0.33, "bccd": 0.27, "drawn": 0.1}
"""How often a source is shown."""
_EMPTY = 0.2
"""Share of the fields shown that hold no leukocyte."""
_SPREAD = 0.09
"""Deviation of the bell round a cell's middle, over the cell's longer side (0.54 / 6, as in TTFNet)."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides what a training ends with, beside the images."""

    epochs: int = 50
    steps: int = 150
    """Batches of an epoch."""
    batch: int = 16
    learning_rate: float = 4e-3
    seed: int = 1
    leave_out: tuple[str, ...] = ()
    """Sources that it must not see."""
    weights: str = ""
    """The .keras file of another run that it goes on from; empty: from nothing."""


def check(recipe: Recipe) -> None:
    """Check what a command line can get wrong, before anything is read or written.

    Raises:
        UserError: names the setting.
    """
    for name, fits, must in (
        ("epochs", recipe.epochs >= 1, "at least 1"),
        ("steps", recipe.steps >= 1, "at least 1"),
        ("batch", recipe.batch >= 1, "at least 1"),
        ("learning_rate", 0 < recipe.learning_rate < math.inf, "more than 0 and finite"),
        ("seed", 0 <= recipe.seed < 2**32, "0 to 4294967295"),
        ("weights", not recipe.weights or Path(recipe.weights).is_file(), "a .keras file"),
    ):
        require(name, getattr(recipe, name), must, fits=fits)
    sources = f"some of {', '.join(_SHARES)}, but not all"
    require("leave_out", " ".join(recipe.leave_out), sources, fits=set(recipe.leave_out) < set(_SHARES))


def read_recipe(file: Path) -> Recipe:
    """Read a saved recipe.

    Raises:
        UserError: the file is missing or is no recipe of a locator.
    """
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        return Recipe(**facts | {"leave_out": tuple(facts["leave_out"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: not the recipe of a locator ({error!r}); train it again") from None


def build(size: int = SIZE) -> keras.Model:
    """Return the network: RGB 0..255, shape (size, size, 3), to two maps of a quarter of the side.

    The first is how likely a leukocyte has its middle there, 0..1, one channel; the second the logarithm of
    the distances to its left, upper, right and lower side, in input pixels, four channels. ReLU6 alone, so
    that eight bits hold every layer.
    """
    image = keras.Input((size, size, 3))
    x = layers.Rescaling(1 / 127.5, -1)(image)
    x = _act(layers.Conv2D(16, 3, 2, "same", use_bias=False)(x))
    x = _act(layers.Conv2D(24, 3, 2, "same", use_bias=False)(x))
    levels = [x]
    for width, depth in _LEVELS:
        for i in range(depth):
            x = _block(x, width, 2 if i == 0 else 1)
        levels.append(x)
    for level in levels[-2::-1]:
        width = max(32, level.shape[-1])
        x = layers.UpSampling2D(2)(_point(x, width))
        x = _block(layers.Add()([x, _point(level, width)]), width, 1)
    rare, usual = keras.initializers.Constant(-3.0), keras.initializers.Constant(3.0)
    heat = layers.Conv2D(1, 1, activation="sigmoid", bias_initializer=rare, name="heat")
    reach = layers.Conv2D(4, 1, bias_initializer=usual, name="reach")
    return keras.Model(image, [heat(x), reach(x)])


def _act(x: Any) -> Any:
    return layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.97)(x))


def _point(x: Any, width: int) -> Any:
    return layers.BatchNormalization(momentum=0.97)(layers.Conv2D(width, 1, use_bias=False)(x))


def _block(x: Any, width: int, stride: int) -> Any:
    """A depthwise and a pointwise convolution; the input is added where it fits."""
    y = _act(layers.DepthwiseConv2D(5 if width >= 48 else 3, stride, "same", use_bias=False)(x))
    if stride == 1 and x.shape[-1] == width:
        return layers.ReLU(6.0)(layers.Add()([x, _point(y, width)]))
    return _act(layers.Conv2D(width, 1, use_bias=False)(y))


def targets(scene: Scene, size: int = SIZE) -> NDArray[np.float32]:
    """Return what the network is to say of a scene, shape (size / 4, size / 4, 10).

    Channels: heat; its weight; four reaches (logarithms); their weights.
    """
    side = size // STRIDE
    truth = np.zeros((side, side, 10), np.float32)
    truth[..., 1] = 1
    centres = STRIDE * (np.arange(side, dtype=np.float32) + 0.5)
    x, y = centres[None, :], centres[:, None]
    border = np.array([0, 0, *scene.extent], np.float32)
    for left, top, right, bottom in scene.doubted:
        truth[(x > left) & (x < right) & (y > top) & (y < bottom), 1] = 0
    seen = np.where(np.isnan(scene.cells), border, scene.cells)
    seen = np.concatenate([np.maximum(seen[:, :2], 0), np.minimum(seen[:, 2:], border[2:])], axis=1)
    # Small ones last: where two bells meet, the reach is that of the smaller cell.
    for i in np.argsort(-(seen[:, 2:] - seen[:, :2]).prod(axis=1)):
        left, top, right, bottom = seen[i]
        if not visible(scene)[i]:
            truth[(x > left) & (x < right) & (y > top) & (y < bottom), 1] = 0
            continue
        column = min(int((left + right) / 2 / STRIDE), side - 1)
        row = min(int((top + bottom) / 2 / STRIDE), side - 1)
        spread = [np.clip(_SPREAD * v, 0.7 * STRIDE, 3 * STRIDE) for v in (right - left, bottom - top)]
        bell = np.exp(-(((x - centres[column]) / spread[0]) ** 2 + ((y - centres[row]) / spread[1]) ** 2) / 2)
        truth[..., 0] = np.maximum(truth[..., 0], bell)
        truth[row, column, 1] = 1
        near = bell > 0.3
        whole = scene.cells[i]
        reach = np.stack(np.broadcast_arrays(x - whole[0], y - whole[1], whole[2] - x, whole[3] - y), axis=-1)
        known = np.isfinite(whole)
        truth[near, 2:6] = np.log(np.maximum(np.where(known, reach[near], 1), 1))
        truth[near, 6:] = known * (bell[near] / bell[near].sum())[:, None]
    return truth


def loss(truth: Any, answer: Any) -> Any:
    """Return the penalty-reduced focal loss of the middles and the absolute error of the reaches, per batch.

    `truth` is as `targets` gives it, `answer` has channels heat, four reaches.
    """
    heat, weight = truth[..., 0], truth[..., 1]
    said = ops.clip(answer[..., 0], 1e-4, 1 - 1e-4)
    middle = ops.cast(heat > 0.999, "float32")
    found = middle * ops.square(1 - said) * ops.log(said)
    refused = (1 - middle) * (1 - heat) ** 4 * ops.square(said) * ops.log(1 - said)
    error = truth[..., 6:] * ops.abs(truth[..., 2:6] - answer[..., 1:])
    # Each scene weighs the same, so that crowded ones do not drown the others.
    cells = ops.maximum(ops.sum(middle * weight, axis=(1, 2)), 1.0)
    wrong = ops.sum(error, axis=(1, 2, 3)) - ops.sum(weight * (found + refused), axis=(1, 2))
    return ops.mean(wrong / cells)


class Lessons(keras.utils.PyDataset):
    """Batches of scenes, drawn anew for each epoch, the same for the same seed."""

    def __init__(self, fields: Sequence[Field], recipe: Recipe) -> None:
        super().__init__(workers=cores(), use_multiprocessing=False, max_queue_size=4 + cores())
        self._groups: dict[str, tuple[list[Field], list[Field]]] = defaultdict(lambda: ([], []))
        for f in fields:
            self._groups[f.source][len(f.leukocytes) == 0].append(f)
        self._recipe = recipe
        self.begin(0)

    def __len__(self) -> int:
        return self._recipe.steps

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        rng = np.random.default_rng((self._recipe.seed, self._epoch, index))
        names = list(self._groups)
        share = np.array([_SHARES[name] for name in names])
        scenes = []
        for name in rng.choice(names, self._recipe.batch, p=share / share.sum()):
            full, empty = self._groups[name]
            group = empty if empty and rng.random() < _EMPTY else full
            scenes.append(make_scene(group, full + empty, SIZE, rng))
        images = np.stack([s.image for s in scenes]).astype(np.float32)
        return images, np.stack([targets(s) for s in scenes])

    def begin(self, epoch: int) -> None:
        """Draw the scenes of `epoch`; a resumed run draws the same."""
        self._epoch = epoch


def train(fields: Sequence[Field], recipe: Recipe, output: Path) -> keras.Model:
    """Return the trained network; its file is `output`/locator.keras, the loss of each epoch in history.csv.

    Raises:
        UserError: a run with another recipe began in `output`, the recipe's weights are no locator's, or
            the loss became no number.
    """
    keras.utils.set_random_seed(recipe.seed)
    network = build()
    if recipe.weights:
        _take_weights(network, Path(recipe.weights))
    output.mkdir(parents=True, exist_ok=True)
    claim(output / "recipe.json", recipe, read_recipe)
    student = keras.Model(network.input, layers.Concatenate()(network.outputs))
    steps = recipe.epochs * recipe.steps
    rate = keras.optimizers.schedules.CosineDecay(
        recipe.learning_rate / 20,
        steps,
        warmup_target=recipe.learning_rate,
        warmup_steps=min(200, steps // 5),
    )
    student.compile(keras.optimizers.AdamW(rate, weight_decay=1e-4, clipnorm=5.0), loss)
    learn(student, Lessons(fields, recipe), output, recipe.epochs)
    with whole(output / "locator.keras") as part:
        network.save(part)
    return network


def load(file: Path) -> keras.Model:
    """Read the .keras file of a locator; raises UserError where it is none."""
    try:
        return keras.models.load_model(file, compile=False)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, BadZipFile) as error:
        told = str(error).partition("\n")[0]
        raise UserError(f"{file}: not a locator's .keras file ({told})") from None


def _take_weights(network: keras.Model, file: Path) -> None:
    try:
        network.set_weights(load(file).get_weights())
    except ValueError as error:
        raise UserError(f"{file}: the weights of another network ({error})") from None


def _train(options: dict[str, Any]) -> None:
    data, output = options.pop("data"), options.pop("output")
    recipe = Recipe(**options | {"leave_out": tuple(sorted(options["leave_out"]))})
    check(recipe)
    check_free(output, recipe, read_recipe)
    print("reading the fields", flush=True)
    train(learnable(data, recipe.leave_out, recipe.seed), recipe, output)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    recipe = Recipe()
    parser = Parser(prog="python -m training.locator", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with fields.csv")
    parser.add_argument("--output", type=Path, default=Path("runs/locator"), help="folder of the run")
    parser.add_argument(
        "--epochs", type=int, default=recipe.epochs, help="after each the run can be taken up"
    )
    parser.add_argument("--steps", type=int, default=recipe.steps, help="batches of an epoch")
    parser.add_argument("--batch", type=int, default=recipe.batch, help="scenes of a batch")
    parser.add_argument(
        "--learning-rate", type=float, default=recipe.learning_rate, help="greatest of the run"
    )
    parser.add_argument("--seed", type=int, default=recipe.seed, help="of all chance")
    parser.add_argument("--weights", default="", help="go on from the .keras file of another run")
    parser.add_argument("--leave-out", nargs="*", default=(), help="sources that it must not see")
    options = vars(parser.parse_args(arguments))
    return run(lambda: _train(options), "stopped; the same command goes on")


if __name__ == "__main__":
    sys.exit(main())
