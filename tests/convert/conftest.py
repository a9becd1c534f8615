"""What the tests of conversion share: the real network, converted once."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest

from convert import equalise, quantize
from convert.metadata import describe
from training import data, finish, model
from training.framing import Framing

RNG = np.random.default_rng(0)
CROPS = (RNG.integers(20, 236, (60, 1, 1, 3)) + RNG.integers(-20, 20, (60, 64, 64, 3))).astype(np.uint8)
"""Of one colour each, with a little noise."""
CARD = {
    "name": "made",
    "notice": "For research.",
    "licence": "Apache-2.0",
    "created": "2026-01-01",
    "input": "RGB",
    "size": 64,
    "classes": [{"name": c.name, "role": c.role.value} for c in data.CLASSES],
    "review_below": 0.0,
    "heat_side": 2,
}


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[model.Trained, Path]:
    """The real network with random weights, and the file made of it."""
    plain = model.build("mobilenet_v3_small", 8, None, size=64)
    _wake(plain)
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (800, 576)), np.repeat(np.arange(8), 100)
    both, familiar = finish.add_embedding(plain, features, features[0])
    facts = {"familiar": familiar.facts(), "temperature": 1.0, "epochs": 1}
    content = quantize.quantize(both, CROPS, CROPS, iter(()), steps=0, learning_rate=0)
    file = tmp_path_factory.mktemp("file") / "made.tflite"
    write(file, content, CARD | {"familiar": familiar.facts()})
    return model.Trained(both, data.CLASSES, Framing.CELL, facts), file


def _wake(network: keras.Model) -> None:
    """Give BatchNorm the statistics of the crops: through random weights alone next to nothing passes."""
    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.trainable, norm.momentum = True, 0.0
    network(CROPS.astype(np.float32), training=True)
    for norm in norms:
        norm.trainable = False


def write(file: Path, content: bytes, card: dict[str, object]) -> None:
    content = describe(content, card)
    file.write_bytes(content)
    facts = card | {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    file.with_suffix(".json").write_text(json.dumps(facts))


@pytest.fixture(scope="session", autouse=True)
def few_values() -> Iterator[None]:
    """Fit the ranges to fewer values than the shipped file's: the tests ask whether, not how well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(equalise, "_SAMPLE", 2_000)
        yield
