import csv
import hashlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.cells import Role
from edge.classify import DEFAULT_MODEL, Classifier, read_card
from edge.errors import UserError
from edge.preprocess import crop
from training.framing import single_cell_box


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the shipped model and its card, to be damaged."""
    shutil.copy(DEFAULT_MODEL.with_suffix(".json"), tmp_path)
    return Path(shutil.copy(DEFAULT_MODEL, tmp_path))


def edit(model: Path, **changes: object) -> None:
    card = model.with_suffix(".json")
    card.write_text(json.dumps({**json.loads(card.read_text()), **changes}))


def test_models_that_are_opened_at_once_leave_standard_error_where_it_was() -> None:
    before = os.fstat(2)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: Classifier(), range(24)))
    assert os.path.samestat(os.fstat(2), before)


def test_the_runtime_does_not_chatter(capfd: pytest.CaptureFixture[str]) -> None:
    Classifier()
    assert capfd.readouterr().err == ""


# Floors, not figures: immature granulocytes and neutrophils shade into each other.
@pytest.mark.parametrize(
    ("name", "floor"),
    [
        ("basophil", 0.92),
        ("eosinophil", 0.95),
        ("lymphocyte", 0.9),
        ("monocyte", 0.9),
        ("neutrophil", 0.9),
        ("immature_granulocyte", 0.7),
        ("erythroblast", 0.85),
        ("platelet", 0.9),
    ],
)
def test_real_cells_of_each_class_are_known(
    classifier: Classifier, shared_data: Path, name: str, floor: float
) -> None:
    with (shared_data / "cells.csv").open(newline="") as file:
        rows = [r["file"] for r in csv.DictReader(file) if r["class"] == name and r["split"] == "validation"]
    crops = []
    for row in rows[:100]:
        image = cv2.imread(str(shared_data / "cells" / row), cv2.IMREAD_COLOR_RGB)
        crops.append(crop(image, single_cell_box(image), classifier.card.size))
    answers = classifier.classify(crops).probabilities
    names = [classifier.card.classes[i].name for i in answers.argmax(axis=1)]
    assert names.count(name) >= floor * len(crops)


def test_probabilities_sum_to_one_whatever_is_seen(classifier: Classifier) -> None:
    size = classifier.card.size
    crops = [np.full((size, size, 3), grey, np.uint8) for grey in (0, 255)]
    crops += list(np.random.default_rng(0).integers(0, 256, (4, size, size, 3), np.uint8))
    answers = classifier.classify(crops).probabilities
    assert answers.shape == (6, len(classifier.card.classes))
    assert answers.sum(axis=1) == pytest.approx(np.ones(6), abs=1e-5)
    assert answers.min() >= 0


def test_no_crop_gives_no_answer(classifier: Classifier) -> None:
    assert classifier.classify([]).probabilities.shape == (0, len(classifier.card.classes))


def test_the_shipped_card_gives_every_class_a_role(classifier: Classifier) -> None:
    roles = {c.name: c.role for c in classifier.card.classes}
    assert roles["erythroblast"] is Role.PER_100
    assert roles["platelet"] is Role.REJECTED
    assert sum(role is Role.COUNTED for role in roles.values()) == 6


def test_the_shipped_model_learned_from_no_laboratory_that_judges_it(classifier: Classifier) -> None:
    assert set(classifier.card.facts["sources"]) == {"imagenet", "pbc", "bccd", "rendered", "textbook"}


@pytest.mark.parametrize("damage", ["shortened", "one bit", "emptied"])
def test_a_damaged_model_file_is_refused_before_it_is_loaded(copy: Path, damage: str) -> None:
    content = bytearray(copy.read_bytes())
    if damage == "one bit":
        content[len(content) // 2] ^= 1
    else:
        content = content[: len(content) // 2 if damage == "shortened" else 0]
    copy.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        Classifier(copy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 200}, "input is uint8"),
        ({"classes": [{"name": "neutrophil", "role": "counted"}]}, "output is uint8"),
        ({"classes": [{"name": "neutrophil", "role": "eaten"}]}, "not a classifier's card"),
        ({"classes": [{"name": "a", "role": "counted"}] * 8}, "class names must differ"),
        ({"classes": [{"name": "a", "role": "rejected"}]}, "one must be counted"),
        ({"size": None}, "not a classifier's card"),
        ({"review_below": float("nan")}, "review_below is nan, 0 to 1 expected"),
        ({"review_below": -1}, "review_below is -1"),
        ({"review_below": 95.8}, "review_below is 95.8"),
        ({"familiar": {"means": [[0.0] * 8] * 7, "limit": 1.0}}, "familiar.means has 7 rows"),
        ({"familiar": {"means": [[float("nan")] * 8] * 8, "limit": 1.0}}, "not a classifier's card"),
        ({"familiar": {"means": [[0.0] * 8] * 8, "limit": float("inf")}}, "not a classifier's card"),
    ],
)
def test_a_card_that_disagrees_is_refused(copy: Path, changes: dict[str, object], message: str) -> None:
    edit(copy, **changes)
    with pytest.raises(UserError, match=message):
        Classifier(copy)


def test_a_card_that_exchanges_two_classes_is_refused(copy: Path) -> None:
    facts = json.loads(copy.with_suffix(".json").read_text())
    edit(copy, classes=facts["classes"][::-1])
    with pytest.raises(UserError, match="classes are others, or in another order"):
        Classifier(copy)


@pytest.mark.parametrize("text", ["", "[]", "{}", "\x00"])
def test_a_file_that_is_no_card_is_refused(copy: Path, text: str) -> None:
    copy.with_suffix(".json").write_text(text)
    with pytest.raises(UserError, match="not a classifier's card"):
        read_card(copy)


@pytest.mark.parametrize("missing", [".json", ".tflite"])
def test_a_missing_file_is_named(copy: Path, missing: str) -> None:
    copy.with_suffix(missing).unlink()
    with pytest.raises(UserError, match=f"{missing}: No such file"):
        Classifier(copy)


def test_a_file_that_the_runtime_refuses_is_an_error(copy: Path) -> None:
    content = b"not a flatbuffer at all" * 10
    copy.write_bytes(content)
    edit(copy, sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(UserError, match="the runtime refuses"):
        Classifier(copy)
