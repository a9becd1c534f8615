import keras
import numpy as np
import pytest

from convert.fold import centred
from convert.head import fit_head
from training.model import HEAD

pytestmark = pytest.mark.filterwarnings("default")  # Keras' own start-up

CROPS = np.random.default_rng(0).integers(0, 256, (300, 4, 4, 3), np.uint8)


def network(offset: float, lean: np.ndarray, kernel: np.ndarray) -> keras.Model:
    """A head over nine features, each the sum of pixels; those of the file lean to a side."""
    image = keras.Input((4, 4, 3))
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 64, offset=offset / 64)(image))
    features = keras.layers.Dense(9, name="features")
    head = keras.layers.Dense(3, activation="softmax", name=HEAD)
    built = keras.Model(image, head(features(flat)))
    features.set_weights([np.random.default_rng(1).normal(0, 0.3, (48, 9)), lean])
    head.set_weights([kernel, np.zeros(3)])
    return built


@pytest.mark.parametrize(("lean", "least", "most", "left"), [(1, 1, 1, 0.25), (0, 0.3, 2, 0.75)])
def test_answers_that_lean_to_a_side_come_back(lean: float, least: float, most: float, left: float) -> None:
    rng = np.random.default_rng(2)
    kernel = rng.normal(0, 1, (9, 3))
    exact = network(-128, np.zeros(9), kernel)
    leaning = network(0, rng.normal(0, lean, 9), kernel * rng.uniform(least, most, (9, 1)))
    answers = [np.asarray(exact.predict(CROPS.astype(np.float32), verbose=0))]
    answers += [np.asarray(leaning.predict(centred(CROPS).astype(np.float32), verbose=0))]
    fit_head(leaning, leaning, exact, CROPS)
    answers += [np.asarray(leaning.predict(centred(CROPS).astype(np.float32), verbose=0))]
    errors = [np.abs(answer - answers[0]).mean() for answer in answers[1:]]
    assert errors[0] > 0.03
    assert errors[1] < left * errors[0]


def test_a_head_that_reads_what_it_learned_to_stays() -> None:
    kernel = np.random.default_rng(2).normal(0, 1, (9, 3))
    exact, same = network(-128, np.zeros(9), kernel), network(0, np.zeros(9), kernel)
    fit_head(same, same, exact, CROPS)
    found, bias = same.get_layer(HEAD).get_weights()
    assert found == pytest.approx(kernel, abs=1e-4)
    assert bias == pytest.approx(np.zeros(3), abs=1e-3)
