"""The network that a run trains: a backbone, average pooling, and a linear head for cells.

A MobileNet-V3 that is to end as an INT8 file differs from `keras.applications` in three things:

- The first hard-swish becomes ReLU. The channels before it differ widely in range, and half of what rounding
  costs on strange pictures is lost there: before ReLU each can be stretched to fill the range
  (`convert.equalise`). A trained network named 81.5 % of BCCD and 87.7 % of Zheng 1; with ReLU in its place,
  not trained further, 81.5 and 86.7 % (by hand).
- Hard-swish elsewhere becomes swish, x * sigmoid(x), the function that hard-swish approximates (Howard et al.
  2019, section 5.2). The runtime executes integer LOGISTIC and MUL inside its delegate, but not an
  integer HARD_SWISH: the network stays one piece.
- Channels of the squeeze-and-excite blocks that are dead in the ImageNet weights (largest weight
  below 1e-3) are drawn anew. Their integer scales would be 1e-8 and less, which the runtime refuses.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import keras
import numpy as np

from edge.cells import CellClass, Role
from edge.errors import UserError
from edge.strangeness import read_familiar
from edge.whole import whole, write_json
from training.backbones import BACKBONES, build_backbone
from training.framing import Framing

FEATURES = "features"
"""Name of the layer whose output is pooled: one number per channel, before the head."""
HEAD = "probabilities"
"""Name of the last layer: linear, then softmax."""
_DEAD = 1e-3
"""Largest weight below which a channel is dead."""


def build(
    name: str,
    classes: int,
    weights: str | None,
    *,
    size: int | None = None,
    integers: bool = True,
    frozen_statistics: bool = True,
    seed: int = 0,
) -> keras.Model:
    """Return the model: RGB 0..255 (size, size, 3) in, `classes` probabilities out.

    Args:
        name: one of `training.backbones.BACKBONES`.
        classes: number of outputs.
        weights: a Keras weights file without top, "imagenet" for Keras' own download, None for none.
        size: side of the input, pixels; None takes the network's own.
        integers: make a MobileNet-V3 fit for an INT8 file; other networks have nothing to change.
        frozen_statistics: keep the BatchNorm layers as the weights have them.
        seed: of the new weights.

    Raises:
        UserError: the name is unknown, or the weights do not fit.
    """
    backbone = build_backbone(name, weights, size)
    if integers and name.startswith("mobilenet_v3"):
        backbone = _for_integers(backbone, seed)
    if frozen_statistics:
        _freeze_batch_norm(backbone)
    pooled = keras.layers.GlobalAveragePooling2D(name=FEATURES)(backbone.output)
    dropped = keras.layers.Dropout(BACKBONES[name].dropout, seed=seed)(pooled)
    initial = keras.initializers.GlorotUniform(seed=seed)
    head = keras.layers.Dense(classes, activation="softmax", kernel_initializer=initial, name=HEAD)
    return keras.Model(backbone.input, head(dropped), name="wbc")


def _for_integers(stock: keras.Model, seed: int) -> keras.Model:
    first = next(layer for layer in stock.layers if _is_hard_swish(layer))
    backbone = keras.models.clone_model(stock, call_function=_activated(first.name))
    backbone.set_weights(stock.get_weights())
    _revive_dead_channels(backbone, np.random.default_rng(seed))
    return backbone


def _activated(first: str) -> Callable[..., Any]:
    """Return how to call the layers of a stock network: no hard-swish is left; the `first` is ReLU."""

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if not _is_hard_swish(layer):
            return layer(*args, **kwargs)
        if layer.name == first:
            return keras.layers.ReLU(name=f"{layer.name}_relu")(*args, **kwargs)
        return keras.layers.Activation("silu", name=f"{layer.name}_swish")(*args, **kwargs)

    return call


def _is_hard_swish(layer: Any) -> bool:
    return isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.hard_silu


def _revive_dead_channels(backbone: keras.Model, rng: np.random.Generator) -> None:
    layers: Mapping[str, Any] = {layer.name: layer for layer in backbone.layers}
    for name, squeeze in layers.items():
        if not name.endswith("squeeze_excite_conv"):
            continue
        excite = layers[f"{name}_1"]
        (kernel, bias), (out_kernel, out_bias) = squeeze.get_weights(), excite.get_weights()
        dead = np.abs(kernel).max(axis=(0, 1, 2)) < _DEAD
        fan_in = kernel.shape[2]
        kernel[..., dead] = rng.normal(0, fan_in**-0.5, kernel[..., dead].shape)
        bias[dead] = 0
        out_kernel[:, :, dead, :] = rng.normal(0, 0.01, out_kernel[:, :, dead, :].shape)
        squeeze.set_weights([kernel, bias])
        excite.set_weights([out_kernel, out_bias])


def _freeze_batch_norm(backbone: keras.Model) -> None:
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


@dataclass(frozen=True, slots=True)
class Trained:
    """A network and what its numbers mean; `model.json` beside the `.keras` file holds the latter."""

    network: keras.Model
    classes: tuple[CellClass, ...]
    """In the order of the outputs."""
    framing: Framing
    facts: Mapping[str, Any]
    """More of `model.json`: what the finishing steps measured."""

    @property
    def size(self) -> int:
        """Side of the input in pixels."""
        return int(self.network.input_shape[1])

    @property
    def names(self) -> tuple[str, ...]:
        """Of the classes."""
        return tuple(c.name for c in self.classes)


def save(trained: Trained, file: Path) -> None:
    """Write the `.keras` file and its card; each is whole or not there, and never beside an older other."""
    facts = {
        "classes": [{"name": c.name, "role": c.role.value} for c in trained.classes],
        "framing": trained.framing.value,
        **trained.facts,
    }
    with whole(file) as part:
        trained.network.save(part)
        # A kill or a full disk here leaves a file without a card, which is no model: both are made again.
        card_of(file).unlink(missing_ok=True)
    write_json(card_of(file), facts)


def epochs_of(file: Path) -> int:
    """Return the epochs of the model that a run has left at `file`; 0 where it is not whole there."""
    try:
        facts = json.loads(card_of(file).read_text(encoding="utf-8"))
        return int(facts["epochs"]) if file.is_file() else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def load(file: Path) -> Trained:
    """Read a `.keras` file and its card.

    Raises:
        UserError: one of the two is missing or is not what it should be, or they disagree.
    """
    if not file.is_file():
        raise UserError(f"{file}: no such file; train a model with training.train")
    if file.suffix != ".keras":
        raise UserError(f"{file}: not a .keras file; --model names one that training.train made")
    try:
        facts = json.loads(card_of(file).read_text(encoding="utf-8"))
        classes = tuple(CellClass(str(c["name"]), Role(c["role"])) for c in facts.pop("classes"))
        framing = Framing(facts.pop("framing"))
        familiar = read_familiar(facts["familiar"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{card_of(file)}: not the card of a trained model ({error!r})") from None
    try:
        network = keras.models.load_model(file)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, BadZipFile) as error:
        told = str(error).partition("\n")[0]
        raise UserError(f"{file}: not a Keras model ({told})") from None
    absent = sorted({"temperature", "epochs"} - set(facts))
    if absent:
        raise UserError(f"{card_of(file)}: not the card of a trained model ({', '.join(absent)} missing)")
    outputs = [output.shape[-1] for output in network.outputs]
    if len(outputs) != 2:
        raise UserError(f"{file}: {len(outputs)} outputs; a trained model has probabilities and an embedding")
    if outputs[0] != len(classes):
        raise UserError(f"{file}: {outputs[0]} outputs, its card names {len(classes)} classes")
    if outputs[1] != familiar.means.shape[1]:
        raise UserError(
            f"{file}: an embedding of {outputs[1]}, its card has means of {familiar.means.shape[1]}"
        )
    return Trained(network, classes, framing, facts)


def write_h5(network: keras.Model, file: Path) -> None:
    """Write a network as an .h5 file that any Keras reads, whole or not at all.

    That format knows layers alone: arithmetic between them, as in Keras' own networks, becomes layers too.

    Raises:
        UserError: Keras reads no such file of this network.
    """
    plain = keras.models.clone_model(network, call_function=_as_layer)
    for layer in network.layers:
        if layer.weights:
            plain.get_layer(layer.name).set_weights(layer.get_weights())
    with whole(file) as part:
        plain.save(part)
        try:
            keras.models.load_model(part, compile=False)
        except (ValueError, TypeError, KeyError) as error:
            told = str(error).partition("\n")[0]
            raise UserError(
                f"--h5: Keras reads no .h5 file of this network ({told}); take model.keras"
            ) from None


def _as_layer(operation: Any, image: Any, *numbers: Any, **kwargs: Any) -> Any:
    if isinstance(operation, keras.layers.Layer) or isinstance(image, list):
        return operation(image, *numbers, **kwargs)
    kind = type(operation).__name__
    if kind == "Add" and numbers and isinstance(numbers[0], float):
        return keras.layers.Rescaling(1.0, offset=numbers[0], name=operation.name)(image)
    if kind == "Multiply" and numbers and isinstance(numbers[0], float):
        return keras.layers.Rescaling(numbers[0], name=operation.name)(image)
    if kind == "Flip":
        channels = image.shape[-1]
        turned = keras.layers.Conv2D(channels, 1, use_bias=False, name=operation.name)
        flipped = turned(image)
        turned.set_weights([np.eye(channels, dtype=np.float32)[::-1][None, None]])
        return flipped
    return operation(image, *numbers, **kwargs)


def card_of(file: Path) -> Path:
    """Return the card's place beside a `.keras` file."""
    return file.with_suffix(".json")
