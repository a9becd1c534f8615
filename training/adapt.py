"""Fit a model to one's own microscope: `python -m training.adapt --model M --images DIR`.

20 to 100 labelled cells of the new site are enough, because only the head learns anew (`training.head`). The
new model is judged by cross-validation on the site's cells, and on the validation cells of the first
training; a worse one is not written. A `.tflite` file becomes one that the instrument takes; what it must
know of its first training lies beside it (`training.home`). A `.keras` file needs the images of its own.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from edge.classify import DEFAULT_MODEL
from edge.errors import UserError
from edge.startup import Parser, run
from edge.strangeness import read_familiar
from edge.whole import write_json
from training import before_after, data, division, finish, head, model
from training.claim import check_free, claim
from training.framing import Framing
from training.recipe import read_recipe, require
from training.train import prepare


class _Model(Protocol):
    """A model file that may be fitted."""

    body: head.Body

    def home(self) -> tuple[head.Home, division.Hashes]:
        """Return its first training, and what tells that training's cells."""

    def write(
        self, output: Path, fitted: head.Fitted, figures: Mapping[str, Any], site: Sequence[data.Sample]
    ) -> Path:
        """Write the fitted model into a folder; return its path."""


class _Trained:
    """What `training.train` made; the images of that run must be there."""

    def __init__(self, file: Path, images: Path | None, output: Path) -> None:
        self._trained, self._file = model.load(file), file
        if self._trained.framing is Framing.IMAGE:
            raise UserError("the model sees whole images, not cells; adapt one of the robust recipe")
        network = self._trained.network
        probe = keras.Model(network.input, network.get_layer(model.FEATURES).output)

        def features(views: NDArray[np.uint8]) -> NDArray[np.float32]:
            return np.asarray(probe.predict(views.astype(np.float32), verbose=0))

        ends, embedding = (network.get_layer(n).get_weights() for n in (model.HEAD, finish.EMBEDDING))
        familiar = read_familiar(self._trained.facts["familiar"])
        self.body = head.Body(
            self._trained.names, self._trained.size, features, tuple(ends), tuple(embedding), familiar
        )
        self._recipe = read_recipe(file.parent / "recipe.json")
        check_free(output, self._recipe)
        self._images = images or Path(self._recipe.data)

    def home(self) -> tuple[head.Home, division.Hashes]:
        print("reading the images of the first training", flush=True)
        self._samples = prepare(replace(self._recipe, data=str(self._images)), None, self._file.parent)
        met = division.met(self._samples) | division.fitted_with(self._file)
        return head.see_home(self.body, self._samples), met

    def write(
        self, output: Path, fitted: head.Fitted, figures: Mapping[str, Any], site: Sequence[data.Sample]
    ) -> Path:
        claim(output / "recipe.json", self._recipe)
        division.write(output / "split.csv", self._samples)
        self._trained.network.get_layer(model.HEAD).set_weights(fitted.head)
        total = float(self._trained.facts["temperature"]) * fitted.degree
        fitted_with = sorted(division.fitted_with(self._file) | division.hashes(site))
        new = {"familiar": fitted.familiar.facts(), "temperature": round(total, 4)}
        new |= {division.FITTED: fitted_with}
        file = output / "model.keras"
        model.save(replace(self._trained, facts={**self._trained.facts, **new}), file)
        return file


def _open(options: argparse.Namespace) -> _Model:
    if options.model.suffix != ".tflite":
        return _Trained(options.model, options.data, options.output)
    if options.data:
        raise UserError(f"--data {options.data}: what {options.model} learned from is kept beside it")
    from training.home import Converted  # needs TensorFlow, as the other kind does not

    return Converted(options.model)


def _adapt(options: argparse.Namespace) -> None:
    require("seed", options.seed, "0 or more", fits=options.seed >= 0)
    if options.output.resolve() == options.model.resolve().parent:
        raise UserError(f"--output {options.output}: holds the first model; name another folder")
    first = _open(options)
    site = data.load(options.images)
    if options.split:
        site = data.select(site, options.split)
    site = head.check_site(first.body, site)
    home, met = first.home()
    division.check_unseen(site, met)
    fitted, figures = head.fit(first.body, site, home, options.seed)
    header, rows = before_after.overview(figures)
    for row in (header, *rows):
        print(f"{row[0]:34}" + "".join(f"{text:>12}" for text in row[1:]))
    if told := before_after.warning(figures):
        print(f"caution: {told}", file=sys.stderr)
    reason = head.why_worse(figures)
    if reason:
        raise UserError(f"the new model is worse and was not written: {reason}")
    options.output.mkdir(parents=True, exist_ok=True)
    file = first.write(options.output, fitted, figures, site)
    write_json(options.output / "adapted.json", figures)
    print(file)
    print(before_after.write(options.output, figures))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = Parser(prog="python -m training.adapt", description=__doc__)
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help=".tflite or .keras file")
    parser.add_argument("--images", type=Path, required=True, help="labelled cells of the new site")
    parser.add_argument("--split", help="a split or source of --images, if not all of it")
    parser.add_argument(
        "--data", type=Path, help="first training of a .keras file; as its recipe says if not given"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/adapted"), help="folder of the new model")
    parser.add_argument("--seed", type=int, default=1, help="of all chance")
    options = parser.parse_args(arguments)
    return run(lambda: _adapt(options), "stopped; nothing was written")


if __name__ == "__main__":
    sys.exit(main())
