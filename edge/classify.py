"""Crops to class probabilities, by the model file and its card.

The only module that imports the interpreter: ai-edge-litert, or tflite-runtime where that alone is
installed.
"""

import hashlib
import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.cells import Answers, CellClass, Image, Role
from edge.errors import UserError
from edge.second_look import consider
from edge.strangeness import Familiar, read_familiar

DEFAULT_MODEL = Path(__file__).parent / "model" / "wbc.tflite"
_INTERPRETERS = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")


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
        raise UserError(f"{model}: --model names a .tflite file")
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
        raise UserError(f"{path}: not a model card ({error!r}); convert the model again") from None
    if len({c.name for c in classes}) < len(classes) or not any(c.role is Role.COUNTED for c in classes):
        raise UserError(f"{path}: class names must differ and one must be counted; convert the model again")
    return card


class Classifier:
    """The model file, checked against its card and ready to run.

    Raises:
        UserError: the file is missing, is not the one that the card describes, or does not run.
    """

    def __init__(self, model: Path = DEFAULT_MODEL, threads: int = 1) -> None:
        self.card = read_card(model)
        self._interpreter = _load(model, self.card, threads)
        self._input = self._interpreter.get_input_details()[0]
        size, familiar, side = self.card.size, self.card.familiar, self.card.heat_side
        _agree(model, "input", self._input, (1, size, size, 3))
        shapes: dict[str, tuple[int, ...]] = {"probabilities": (1, len(self.card.classes))}
        if familiar is not None:
            shapes["embedding"] = (1, familiar.means.shape[1])
        if side is not None:
            shapes["heat"] = (1, side, side, len(self.card.classes))
        self._outputs = _outputs(model, self._interpreter.get_output_details(), shapes)

    def classify(self, crops: Sequence[Image]) -> Answers:
        """Return what the model says of the crops, of the doubtful ones after a second look.

        Args:
            crops: RGB, each of the card's size, shape (size, size, 3).
        """
        return consider(self._look, crops)

    def _look(self, crops: Sequence[Image]) -> Answers:
        side, classes = self.card.heat_side, len(self.card.classes)
        probabilities = np.empty((len(crops), classes), np.float32)
        strangeness = np.zeros(len(crops), np.float32)
        evidence = None if side is None else np.empty((len(crops), side, side, classes), np.float32)
        for i, crop in enumerate(crops):
            self._interpreter.set_tensor(self._input["index"], crop[None].astype(self._input["dtype"]))
            self._interpreter.invoke()
            shares = self._read("probabilities")
            # Eight-bit outputs sum to 1 but for their rounding.
            probabilities[i] = shares / shares.sum()
            if self.card.familiar is not None:
                strangeness[i] = self.card.familiar.strangeness(self._read("embedding")[None])[0]
            if evidence is not None:
                evidence[i] = self._read("heat")
        return Answers(probabilities, strangeness, evidence)

    def _read(self, name: str) -> NDArray[np.float32]:
        output = self._outputs[name]
        raw = self._interpreter.get_tensor(output["index"])[0].astype(np.float32)
        scale, zero = output["quantization"]
        # A float file has no scale.
        return np.asarray((raw - zero) * np.float32(scale), np.float32) if scale else raw


def _load(model: Path, card: Card, threads: int) -> Any:
    try:
        content = model.read_bytes()
    except OSError as error:
        raise UserError(f"{model}: {error.strerror}; --model names a .tflite file") from None
    # Before the runtime sees it: a damaged file can end the process.
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != card.sha256:
        raise UserError(
            f"{model}: sha256 {sha256[:12]} found, its card says {card.sha256[:12]}; the file is damaged "
            "or not this card's: copy both again, or convert the model again"
        )
    try:
        interpreter = _interpreter_class()(model_content=content, num_threads=threads)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{model}: the runtime refuses the file ({error}); convert the model again") from None
    return interpreter


def _interpreter_class() -> Any:
    for name in _INTERPRETERS:
        try:
            return importlib.import_module(name).Interpreter
        except ImportError:
            continue
    raise UserError("no TFLite runtime is installed; run: pip install ai-edge-litert")


def _outputs(
    model: Path, found: Sequence[Mapping[str, Any]], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Mapping[str, Any]]:
    """Return the outputs by name, known by their shapes: the converter keeps neither order nor names."""
    if len(found) != len(shapes):
        raise UserError(
            f"{model}: {len(found)} outputs, the card says {len(shapes)}; convert the model again"
        )
    outputs = {}
    for name, shape in shapes.items():
        fitting = [o for o in found if tuple(int(n) for n in o["shape"]) == shape]
        outputs[name] = (fitting or found)[0]
        _agree(model, "output", outputs[name], shape)
    return outputs


def _agree(model: Path, what: str, tensor: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    found = tuple(int(n) for n in tensor["shape"])
    if found != shape or tensor["dtype"] not in (np.uint8, np.float32):
        raise UserError(
            f"{model}: {what} is {tensor['dtype'].__name__} {found}, the card says uint8 {shape}; "
            "convert the model again"
        )
