"""Teach a rounded copy of a network to see and answer as the float network does.

Not the labels are taught but the teacher: its probabilities, its embedding, and what each of its
bottlenecks holds. The probabilities alone are all but certain on most crops and say little; with the inner
maps the copy comes as close in a third of the steps. So that it stays close on microscopes that nobody has
seen, the lessons reach further than the training did: a wrong label cannot arise, since the teacher's own
answer is the aim.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import keras
import numpy as np
from numpy.typing import NDArray

from convert.fake_quantize import range_name
from convert.fold import centred
from edge.cells import Image
from edge.preprocess import crop
from training import data
from training.augment import augment
from training.batches import Boxed, shares
from training.recipe import Balance

_REPORTED = 25
"""Steps between two lines of progress, and over which they average."""
_INNER = 1 / 3
"""Weight of the error of one bottleneck, beside 1 for the answers and 1 for the embedding."""


def lessons(
    cells: Boxed, balance: Balance, size: int, seed: int, batch: int = 32
) -> Iterator[NDArray[np.uint8]]:
    """Yield batches of crops without end, shape (`batch`, `size`, `size`, 3) RGB; drawn as in training.

    Half of each batch are cells as they are, half in another stain, light and focus. Of both, one in four
    goes `beyond`.
    """
    share = shares(cells.samples, balance)
    rng = np.random.default_rng(seed)

    def read(task: tuple[int, int]) -> Image:
        position, index = task
        sample, box = cells.samples[index], cells.boxes[index]
        image = data.read_image(sample.path)
        if position % 2:
            return crop(image, box, size)
        return augment(image, box, size, sample.name, np.random.default_rng((seed, position)))

    with ThreadPoolExecutor() as pool:
        start = 0
        while True:
            chosen = rng.choice(len(share), batch, p=share)
            crops = list(pool.map(read, enumerate(chosen, start)))
            for i in (i for i in range(batch) if i % 8 < 2):
                crops[i] = beyond(crops[i], crops[int(rng.integers(batch))], rng)
            yield np.stack(crops)
            start += batch


def beyond(crop: Image, other: Image, rng: np.random.Generator) -> Image:
    """Return a crop as no microscope shows it: a shadow of another in it, dyes and light far off, blurred.

    Args:
        crop: RGB.
        other: of the same shape.
        rng: decides how.
    """
    shadow = rng.uniform(0, 0.5)
    light = ((1 - shadow) * crop + shadow * other.astype(np.float32)) / 255
    dyes = rng.uniform(0.4, 1.6) * rng.uniform(0.8, 1.25, 3)
    lamp = rng.uniform(0.75, 1.1) * rng.uniform(0.85, 1.1, 3)
    seen = (lamp * np.maximum(light, 0.02) ** dyes).astype(np.float32)
    if rng.random() < 0.3:
        seen = np.asarray(cv2.GaussianBlur(seen, (0, 0), rng.uniform(0.5, 3)))
    return np.clip(np.round(255 * seen), 0, 255).astype(np.uint8)


def distil(
    student: keras.Model,
    teacher: keras.Model,
    folded: keras.Model,
    batches: Iterator[NDArray[np.uint8]],
    *,
    steps: int,
    learning_rate: float,
) -> None:
    """Train `student` in place to hold and answer what `teacher` does; prints progress.

    Args:
        student: of `with_fake_quantization`, of the folded network.
        teacher: the float network; its first output are probabilities.
        folded: that of which `student` is the rounded copy; its bottlenecks are stretched as that one's.
        batches: crops (n, height, width, 3) RGB.
        steps: batches that are used.
        learning_rate: at the beginning; it falls to 0 along a cosine.
    """
    inner = _bottlenecks(folded)
    shown = keras.Model(folded.input, [folded.get_layer(n).output for n in inner])
    ranged = (student.get_layer(range_name(n)).output for n in inner)
    learner = keras.Model(student.input, [*student.outputs, *ranged])
    others = len(teacher.outputs) - 1
    learner.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(learning_rate, steps)),
        loss=[keras.losses.KLDivergence(), *[relative_error] * (others + len(inner))],
        loss_weights=[1.0] * (1 + others) + [_INNER] * len(inner),
    )
    recent: deque[float] = deque(maxlen=_REPORTED)
    for step, crops in zip(range(1, steps + 1), batches, strict=False):
        taken = centred(crops).astype(np.float32)
        answers = keras.tree.flatten(teacher.predict_on_batch(crops.astype(np.float32)))
        aim = answers + keras.tree.flatten(shown.predict_on_batch(taken))
        told = learner.train_on_batch(taken, aim, return_dict=True)
        recent.append(float(told["loss"]))
        if step % _REPORTED == 0 or step == steps:
            print(f"batch {step} of {steps}, difference {sum(recent) / len(recent):.4f}", flush=True)


def relative_error(truth: Any, given: Any) -> Any:
    """Return the mean square error of a channel (the last axis) over its variance, averaged."""
    axes = tuple(range(len(truth.shape) - 1))
    error = keras.ops.mean(keras.ops.square(truth - given), axes)
    return keras.ops.mean(error / (keras.ops.var(truth, axes) + 1e-6))


def _bottlenecks(network: keras.Model) -> list[str]:
    """Return the names of the BatchNormalizations whose output no activation bends."""
    bends = (keras.layers.Activation, keras.layers.ReLU)
    return [
        layer.name
        for layer in network.layers
        if isinstance(layer, keras.layers.BatchNormalization)
        and not any(isinstance(node.operation, bends) for node in layer._outbound_nodes)
    ]
