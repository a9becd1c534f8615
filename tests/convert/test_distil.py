from itertools import islice, repeat
from pathlib import Path

import keras
import numpy as np
import pytest

from convert.distil import beyond, distil, lessons, relative_error
from convert.fake_quantize import measure_ranges, with_fake_quantization
from convert.fold import MIDDLE, centred
from convert.spread import spread
from training import data
from training.batches import find_cells
from training.recipe import Balance

pytestmark = pytest.mark.filterwarnings("default")  # Keras' own start-up

RNG = np.random.default_rng(0)
CROPS = (RNG.uniform(0.2, 1, (40, 1, 1, 3)) * RNG.integers(0, 256, (40, 16, 16, 3))).astype(np.uint8)
"""Of different light and colour."""


def build(middle: int) -> keras.Model:
    """Has what MobileNet has: a bottleneck that no activation bends, an embedding, probabilities.

    `middle` is the grey level that it takes for 0.
    """
    keras.utils.set_random_seed(3)
    image = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 255, middle / 255)(image)
    x = keras.layers.Conv2D(8, 3, use_bias=False)(x)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.Conv2D(6, 1, use_bias=False)(x)
    x = keras.layers.BatchNormalization(name="bottleneck")(x)
    x = keras.layers.ReLU()(keras.layers.Conv2D(8, 1)(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = [keras.layers.Dense(4, activation="softmax")(x), keras.layers.Dense(3)(x)]
    return keras.Model(image, outputs)


def test_the_copy_comes_closer_in_all_its_outputs(capsys: pytest.CaptureFixture) -> None:
    network, folded, seen = build(0), build(MIDDLE), centred(CROPS)
    ranges = {name: (low / 3, high / 3) for name, (low, high) in measure_ranges(folded, seen).items()}
    student = with_fake_quantization(folded, ranges, weights=True)
    given = CROPS.astype(np.float32)
    exact = network.predict(given, verbose=0)

    def apart() -> list[float]:
        said = student.predict(seen.astype(np.float32), verbose=0)
        return [float(np.abs(a - b).mean()) for a, b in zip(said, exact, strict=True)]

    before = apart()
    distil(student, network, folded, repeat(CROPS), steps=150, learning_rate=1e-2)
    after = apart()
    assert all(now < 0.9 * first for now, first in zip(after, before, strict=True)), (before, after)
    again = network.predict(given, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(again, exact, strict=True))
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in printed] == [f"batch {n} of 150" for n in range(25, 151, 25)]
    told = [float(line.split()[-1]) for line in printed]
    assert told[-1] < told[0]


def test_a_copy_whose_channels_were_stretched_holds_what_it_should(capsys: pytest.CaptureFixture) -> None:
    network, folded = build(0), build(MIDDLE)
    for model in (network, folded):
        bottleneck = model.get_layer("bottleneck")
        bottleneck.set_weights([np.geomspace(0.01, 1, 6), *bottleneck.get_weights()[1:]])
    stretched = spread(folded, centred(CROPS))
    held, before = (m.get_layer("bottleneck").get_weights()[0] for m in (stretched, folded))
    assert np.abs(held / before).max() > 5
    student = with_fake_quantization(stretched, measure_ranges(stretched, centred(CROPS)), weights=True)
    distil(student, network, stretched, repeat(CROPS), steps=1, learning_rate=1e-9)
    assert float(capsys.readouterr().out.split()[-1]) < 0.1


def test_an_error_counts_by_what_its_channel_varies() -> None:
    truth = np.random.default_rng(0).normal(0, (1, 100), (500, 2)).astype(np.float32)
    off = np.array([0.5, 50], np.float32)
    assert float(relative_error(truth, truth + off)) == pytest.approx(0.25, rel=0.1)
    assert float(relative_error(truth, truth)) == 0


def test_lessons_are_crops_that_the_seed_decides(made_data: Path) -> None:
    cells = find_cells(data.select(data.load(made_data), "train"))
    first, again, other = (
        list(islice(lessons(cells, Balance.BLOOD, 64, seed, batch=4), 2)) for seed in (1, 1, 2)
    )
    assert all(crops.shape == (4, 64, 64, 3) for crops in first)
    assert all(crops.dtype == np.uint8 for crops in first)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_lessons_reach_beyond_what_microscopes_show() -> None:
    rng = np.random.default_rng(0)
    crop, other = CROPS[:2]
    seen = [beyond(crop, other, rng) for _ in range(50)]
    assert all(s.shape == crop.shape and s.dtype == np.uint8 for s in seen)
    brightness = [s.mean() for s in seen]
    assert max(brightness) > 1.3 * min(brightness)
    assert np.array_equal(
        beyond(crop, other, np.random.default_rng(7)), beyond(crop, other, np.random.default_rng(7))
    )
