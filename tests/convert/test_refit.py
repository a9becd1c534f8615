import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from convert.graph import delegation
from convert.refit import OpenFile
from edge.cells import Answers
from edge.classify import DEFAULT_MODEL, Classifier
from edge.errors import UserError

pytestmark = pytest.mark.filterwarnings("default")  # TensorFlow's own start-up

RNG = np.random.default_rng(0)
# Of one colour each with a little noise: unlike pure noise, they differ in their answers.
CROPS = np.clip(
    RNG.integers(20, 236, (12, 1, 1, 3)) + RNG.integers(-20, 20, (12, 192, 192, 3)), 0, 255
).astype(np.uint8)


@pytest.fixture(scope="module")
def shipped() -> OpenFile:
    return OpenFile(DEFAULT_MODEL)


@pytest.fixture(scope="module")
def features(shipped: OpenFile) -> np.ndarray:
    return shipped.features(CROPS)


def answers(content: bytes, folder: Path) -> Answers:
    file = folder / "new.tflite"
    file.write_bytes(content)
    card = json.loads(DEFAULT_MODEL.with_suffix(".json").read_text())
    file.with_suffix(".json").write_text(json.dumps({**card, "sha256": hashlib.sha256(content).hexdigest()}))
    return Classifier(file).look(list(CROPS))


def shares(scores: np.ndarray) -> np.ndarray:
    power = np.exp(scores - scores.max(axis=1, keepdims=True))
    return power / power.sum(axis=1, keepdims=True)


def test_head_and_features_give_what_the_file_answers(shipped: OpenFile, features: np.ndarray) -> None:
    said = Classifier().look(list(CROPS))
    kernel, bias = shipped.head
    assert features.shape == (12, 576)
    assert np.ptp(said.probabilities, axis=0).max() > 0.2
    assert shares(features @ kernel + bias) == pytest.approx(said.probabilities, abs=0.02)
    kernel, bias = shipped.embedding
    familiar = shipped.card.familiar
    assert familiar is not None
    assert familiar.strangeness(features @ kernel + bias) == pytest.approx(said.strangeness, rel=0.02)


def test_another_head_answers_and_draws_as_it_should(
    shipped: OpenFile, features: np.ndarray, tmp_path: Path
) -> None:
    """The classes in another order, and surer."""
    kernel, bias = (1.5 * part[..., ::-1] for part in shipped.head)
    content = shipped.with_head((kernel, bias), features)
    before, after = Classifier().look(list(CROPS)), answers(content, tmp_path)
    assert shares(features @ kernel + bias) == pytest.approx(after.probabilities, abs=0.02)
    assert before.evidence is not None
    assert after.evidence is not None
    assert before.evidence.max() > 1
    assert after.evidence[..., ::-1] / 1.5 == pytest.approx(before.evidence, abs=0.01)
    assert np.array_equal(before.strangeness, after.strangeness)
    assert delegation(content).pieces == 1
    with zipfile.ZipFile(tmp_path / "new.tflite") as archive:
        assert archive.read("labels.txt").split()[0] == b"basophil"


def test_the_same_head_loses_nothing_but_its_rounding(
    shipped: OpenFile, features: np.ndarray, tmp_path: Path
) -> None:
    after = answers(shipped.with_head(shipped.head, features), tmp_path)
    assert after.probabilities == pytest.approx(Classifier().look(list(CROPS)).probabilities, abs=0.02)


def test_a_file_that_was_made_otherwise_is_told(tmp_path: Path) -> None:
    """The locator, with a card that calls its first output the probabilities."""
    with pytest.raises(UserError, match="the card says"):
        _open_locator(tmp_path)


def _open_locator(folder: Path) -> OpenFile:
    file = folder / "locator.tflite"
    content = DEFAULT_MODEL.with_name("locator.tflite").read_bytes()
    file.write_bytes(content)
    card = json.loads(DEFAULT_MODEL.with_suffix(".json").read_text())
    card["sha256"] = hashlib.sha256(content).hexdigest()
    file.with_suffix(".json").write_text(json.dumps(card))
    return OpenFile(file)
