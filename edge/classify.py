"""Crops to class probabilities, by the model file and its card."""

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.cells import Answers, CellClass, Image, Probabilities, Role
from edge.errors import UserError
from edge.modelfile import ModelFile
from edge.second_look import consider
from edge.strangeness import Familiar, read_familiar

DEFAULT_MODEL = Path(__file__).parent / "model" / "wbc.tflite"
LABELS = "labels.txt"
"""Class names in the archive behind the model, one a line, as other tools read them."""
SCORES = "scores"
"""Name of the output that the probabilities are made of: their own eight bits end at 1/256."""


@dataclass(frozen=True, slots=True)
class Card:
    """What `wbc.json` says of the model file beside it."""

    name: str
    sha256: str
    size: int
    """Side of the model's input in pixels."""
    classes: tuple[CellClass, ...]
    """In the order of the model's outputs."""
    review_below: float
    """Confidence (0..1) below which a person looks at the cell."""
    familiar: Familiar | None
    """What the training cells are like; None for a model without an embedding."""
    heat_side: int | None
    """Side of the model's heat maps; None for a model without."""
    facts: Mapping[str, Any]
    """The whole card, for reports."""

    @property
    def identity(self) -> str:
        """Hash of the file and of what its outputs mean: counts of two identities must not be mixed."""
        meaning = [self.sha256, *(f"{c.name}:{c.role}" for c in self.classes)]
        return hashlib.sha256("\n".join(meaning).encode()).hexdigest()


def read_card(model: Path) -> Card:
    """Read the card beside the model file (the same name, ending in .json).

    Raises:
        UserError: the card is missing, is not JSON, or lacks or misstates a fact.
    """
    if model.suffix != ".tflite":
        raise UserError(f"{model}: the .tflite file of a model expected")
    if not model.is_file():
        raise UserError(f"{model}: No such file or directory; the .tflite file of a model expected")
    path = model.with_suffix(".json")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        classes = tuple(CellClass(str(c["name"]), Role(c["role"])) for c in facts["classes"])
        card = Card(
            name=str(facts["name"]),
            sha256=str(facts["sha256"]),
            size=int(facts["size"]),
            classes=classes,
            review_below=float(facts["review_below"]),
            familiar=read_familiar(facts["familiar"]) if "familiar" in facts else None,
            heat_side=int(facts["heat_side"]) if "heat_side" in facts else None,
            facts=facts,
        )
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; a model file needs its card beside it") from None
    except (ValueError, KeyError, TypeError) as error:
        told = f"not a classifier's card ({error!r}); give --model another file, or convert the model again"
        raise UserError(f"{path}: {told}") from None
    _check(path, card)
    return card


def _check(path: Path, card: Card) -> None:
    """Refuse a card whose numbers would silence the review, or whose classes are none."""
    classes = card.classes
    if len({c.name for c in classes}) < len(classes) or not any(c.role is Role.COUNTED for c in classes):
        raise UserError(f"{path}: class names must differ and one must be counted; convert the model again")
    if not 0 <= card.review_below <= 1:
        raise UserError(
            f"{path}: review_below is {card.review_below}, 0 to 1 expected; convert the model again"
        )
    # A model that was fitted to another site knows the classes that were shown there twice.
    if card.familiar is not None and len(card.familiar.means) < len(classes):
        raise UserError(
            f"{path}: familiar.means has {len(card.familiar.means)} rows, as many as classes "
            f"({len(classes)}) or more expected; convert the model again"
        )


def _check_names(model: Path, classes: Sequence[CellClass]) -> None:
    """Refuse a card that calls classes otherwise than the file itself, where that has their names."""
    if not zipfile.is_zipfile(model):
        return
    with zipfile.ZipFile(model) as archive:
        told = archive.read(LABELS).decode().split() if LABELS in archive.namelist() else None
    if told not in (None, [c.name for c in classes]):
        raise UserError(
            f"{model.with_suffix('.json')}: the model file's classes are others, or in another order "
            f"({', '.join(told)}); copy both again, or convert the model again"
        )


class Classifier:
    """The model file, checked against its card and ready to run.

    Raises:
        UserError: the file is missing, is not the one that the card describes, or does not run.
    """

    def __init__(self, model: Path = DEFAULT_MODEL) -> None:
        self.card = read_card(model)
        size, familiar, side = self.card.size, self.card.familiar, self.card.heat_side
        classes = (1, len(self.card.classes))
        shapes: dict[str, tuple[int, ...]] = {"probabilities": classes, SCORES: classes}
        if familiar is not None:
            shapes["embedding"] = (1, familiar.means.shape[1])
        if side is not None:
            shapes["heat"] = (1, side, side, len(self.card.classes))
        self._file = ModelFile(model, self.card.sha256, size, shapes)
        _check_names(model, self.card.classes)

    def classify(self, crops: Sequence[Image]) -> Answers:
        """Return what the model says of the crops, of the doubtful ones after a second look.

        Args:
            crops: RGB, each of the card's size, shape (size, size, 3).
        """
        # Whoever only wants a card, the settings or the file's own answers needs no OpenCV.
        from edge.lobes import weigh

        return consider(self.look, crops, partial(weigh, names=[c.name for c in self.card.classes]))

    def look(self, crops: Sequence[Image]) -> Answers:
        """Return what the model says of the crops at first sight; see `classify`."""
        side, classes = self.card.heat_side, len(self.card.classes)
        probabilities = np.empty((len(crops), classes), np.float32)
        strangeness = np.zeros(len(crops), np.float32)
        evidence = None if side is None else np.empty((len(crops), side, side, classes), np.float32)
        for i, crop in enumerate(crops):
            self._file.run(crop)
            probabilities[i] = softmax(self._file.read(SCORES))
            if self.card.familiar is not None:
                strangeness[i] = self.card.familiar.strangeness(self._file.read("embedding")[None])[0]
            if evidence is not None:
                evidence[i] = self._file.read("heat")
        return Answers(probabilities, strangeness, evidence)


def softmax(scores: NDArray[np.float32]) -> Probabilities:
    """Return probabilities of scores, over the last axis."""
    power = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(power / power.sum(axis=-1, keepdims=True), np.float32)
