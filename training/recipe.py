"""What decides how a model comes to be: a recipe, saved beside every model that it made."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from edge.errors import UserError
from training.backbones import BACKBONES
from training.framing import Framing


class Balance(StrEnum):
    """How often the images of a class are shown."""

    NONE = "none"
    """As they come: each image once an epoch."""
    EVEN = "even"
    """All classes alike."""
    BLOOD = "blood"
    """By the root of the class's share in blood. The answers are then set right for blood as it is."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides what a run yields. The defaults are the robust recipe."""

    recipe: Annotated[str, "recipe that the other settings start from"] = "robust"
    model: Annotated[str, "network, one of training.backbones.BACKBONES"] = "mobilenet_v3_small"
    size: Annotated[int, "side of the network's input in pixels; 0 takes the network's own"] = 192
    data: Annotated[str, "folder with cells.csv, or of any layout that training.data knows"] = (
        "../shared/data"
    )
    join: Annotated[
        str, "source of the data (a laboratory outside its splits) that joins the training images"
    ] = ""
    weights: Annotated[
        str, "a Keras weights file without top, imagenet for Keras' own download, none for none"
    ] = "imagenet"
    classes: Annotated[str, "all that the training images show, or five: the study's"] = "all"
    framing: Annotated[Framing, "what the network sees: the cell, or the whole image"] = Framing.CELL
    augment: Annotated[bool, "imitate other slides, stains, lamps, cameras and hands"] = True
    balance: Annotated[
        Balance,
        "how often a class is shown: none, as its images come; even, all alike; blood, by the root of its "
        "share in blood",
    ] = Balance.BLOOD
    frozen_statistics: Annotated[
        bool,
        "keep the BatchNorm statistics of ImageNet: those of one laboratory do not hold in another",
    ] = True
    integers: Annotated[bool, "build a MobileNet-V3 that can become an INT8 file"] = True
    epochs: Annotated[int, "times that the training images are gone through"] = 32
    batch: Annotated[int, "images to a step"] = 32
    learning_rate: Annotated[float, "of AdamW; with --cosine the greatest"] = 6e-4
    cosine: Annotated[
        bool, "half an epoch of warm-up, then a cosine down to 0; else the rate is constant"
    ] = True
    weight_decay: Annotated[float, "of AdamW"] = 1e-4
    label_smoothing: Annotated[float, "share of each label that is spread over all classes"] = 0.05
    averaging: Annotated[
        float, "momentum of the moving average of the weights that is kept in the end; 0 keeps the weights"
    ] = 0.998
    patience: Annotated[
        int,
        "stop after so many epochs without a better validation accuracy, and keep the best epoch's weights; "
        "0 runs all epochs and keeps the last",
    ] = 0
    rendered: Annotated[
        int, "cells of the demo of each of the study's classes, so that the demo is counted too"
    ] = 12
    textbook: Annotated[int, "cells of each of the study's classes, drawn as the textbook has them"] = 720
    seed: Annotated[int, "of all chance"] = 1


HELP: dict[str, str] = {
    name: hint.__metadata__[0] for name, hint in get_type_hints(Recipe, include_extras=True).items()
}
"""What each setting means, for the command line."""

RECIPES = {
    "robust": Recipe(),
    "study": Recipe(
        recipe="study",
        size=0,
        classes="five",
        framing=Framing.IMAGE,
        augment=False,
        balance=Balance.NONE,
        frozen_statistics=False,
        integers=False,
        epochs=50,
        batch=64,
        learning_rate=1e-4,
        cosine=False,
        weight_decay=0.0,
        label_smoothing=0.0,
        averaging=0.0,
        patience=5,
        rendered=0,
        textbook=0,
    ),
}
"""`study`: Katar et al., section 3 (ImageNet weights, Adam 1e-4, batch 64, at most 50 epochs, early
stopping on the validation accuracy with patience 5, no augmentation)."""


def check(recipe: Recipe) -> None:
    """Check what a command line can get wrong, before anything is read or written.

    Raises:
        UserError: names the setting.
    """
    for name, fits, must in (
        ("classes", recipe.classes in ("all", "five"), '"all" or "five"'),
        ("model", recipe.model in BACKBONES, f"one of {', '.join(sorted(BACKBONES))}"),
        ("size", recipe.size == 0 or recipe.size >= 32, "0 or at least 32"),
        ("epochs", recipe.epochs >= 1, "at least 1"),
        ("batch", recipe.batch >= 1, "at least 1"),
        ("learning_rate", 0 < recipe.learning_rate < math.inf, "more than 0 and finite"),
        ("weight_decay", 0 <= recipe.weight_decay < math.inf, "0 or more"),
        ("label_smoothing", 0 <= recipe.label_smoothing < 1, "from 0 to less than 1"),
        ("averaging", 0 <= recipe.averaging < 1, "from 0 to less than 1"),
        ("patience", recipe.patience >= 0, "0 or more"),
        ("rendered", recipe.rendered >= 0, "0 or more"),
        ("textbook", recipe.textbook >= 0, "0 or more"),
        ("seed", 0 <= recipe.seed < 2**32, "0 to 4294967295"),
        (
            "weights",
            recipe.weights in ("imagenet", "none")
            or (Path(recipe.weights).is_file() and Path(recipe.weights).suffix != ".keras"),
            "a Keras weights file (.h5) of the network without its top; a whole model (.keras) is none",
        ),
    ):
        require(name, getattr(recipe, name), must, fits=fits)
    if recipe.patience and recipe.averaging:
        raise UserError("--patience keeps the best epoch's own weights: give --averaging 0 with it")
    if recipe.augment and recipe.framing is Framing.IMAGE:
        raise UserError("--framing image has no augmentation: give --no-augment with it")


def require(setting: str, value: object, must: str, *, fits: bool) -> None:
    """Refuse a setting whose value does not fit.

    Raises:
        UserError: names the setting's flag, its value, and what it must be.
    """
    if not fits:
        raise UserError(f"--{setting.replace('_', '-')} {value}: must be {must}")


def read_recipe(file: Path) -> Recipe:
    """Read a saved recipe.

    Raises:
        UserError: the file is missing or is no recipe of this version.
    """
    try:
        return recipe_of(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{file}: not a recipe of this version ({error}); train the model again") from None


def recipe_of(values: Mapping[str, Any]) -> Recipe:
    """Return the recipe that was saved as `values`.

    Raises:
        KeyError, TypeError, ValueError: it is none of this version.
    """
    return Recipe(**{**values, "framing": Framing(values["framing"]), "balance": Balance(values["balance"])})
