"""A converted file's first training, kept beside it: `python -m training.home --model FILE --data DIR`.

`training.adapt` fits a file to a new site without the images that it learned from: what the head read of
them is enough, and the hashes of their files tell a cell that was among them.
"""

import argparse
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from convert.install import install
from convert.quantize import CLASSIFY
from convert.refit import OpenFile
from edge.classify import DEFAULT_MODEL
from edge.errors import UserError
from edge.startup import Parser, run
from edge.whole import whole
from training import data, division, head
from training.recipe import recipe_of
from training.train import prepare

_PARTS = ("learned", "judged")


def write(file: OpenFile, home: head.Home, met: Collection[int]) -> Path:
    """Write what is kept of a file's first training beside it; return its path."""
    kept = division.kept_of(file.path)
    parts = {name: getattr(home, name) for name in _PARTS}
    arrays = {
        # Features are whole multiples of a step: so they take a seventh of the place.
        **{name: np.rint(seen.features[:, 0] / file.step).astype(np.int16) for name, seen in parts.items()},
        **{f"{name}_truth": seen.truth.astype(np.uint8) for name, seen in parts.items()},
    }
    with whole(kept) as part:
        np.savez_compressed(part, model=file.card.sha256, met=np.array(sorted(met), np.uint64), **arrays)
    return kept


def read(file: OpenFile) -> tuple[head.Home, division.Hashes]:
    """Read what `write` wrote.

    Raises:
        UserError: there is none, it cannot be read, or it is another file's.
    """
    kept = division.kept_of(file.path)
    again = f"`python -m training.home --model {file.path} --data DIR` makes it"
    try:
        with kept.open("rb") as content, np.load(content, allow_pickle=False) as arrays:
            if str(arrays["model"]) != file.card.sha256:
                raise UserError(f"{kept}: of another model file; {again}")
            seen = [
                head.Seen(
                    arrays[name][:, None].astype(np.float32) * np.float32(file.step),
                    arrays[f"{name}_truth"].astype(np.int64),
                )
                for name in _PARTS
            ]
            classes, channels = len(file.card.classes), len(file.head[0])
            if any(
                not len(s.truth) == len(s.features) > 0
                or s.features.shape[2:] != (channels,)
                or s.truth.max() >= classes
                for s in seen
            ):
                raise ValueError("cells without features or class")
            return head.Home(*seen), frozenset(int(number) for number in arrays["met"])
    except OSError as error:
        raise UserError(f"{kept}: {error.strerror or error}; {again} of its images") from None
    except (ValueError, TypeError, KeyError, IndexError, EOFError, BadZipFile) as error:
        raise UserError(f"{kept}: damaged ({error}); {again}") from None


class Converted:
    """A converted file that may be fitted to a new site.

    Raises:
        UserError: it cannot be read, or was made otherwise.
    """

    def __init__(self, path: Path) -> None:
        self.file = OpenFile(path)
        card = self.file.card
        if card.familiar is None:
            raise UserError(f"{path}: without an embedding; convert a model that training.train made")
        names = tuple(c.name for c in card.classes)
        ends = self.file.head, self.file.embedding
        self.body = head.Body(names, card.size, self.file.features, *ends, card.familiar)

    def home(self) -> tuple[head.Home, division.Hashes]:
        """Read its first training, and what tells that training's cells."""
        self._kept = read(self.file)
        return self._kept

    def write(
        self, output: Path, fitted: head.Fitted, figures: Mapping[str, Any], site: Sequence[data.Sample]
    ) -> Path:
        """Write the fitted file, its card and what is kept of its trainings; return its path."""
        home, met = self._kept
        facts = self.file.card.facts
        card = {
            **facts,
            "created": datetime.now(UTC).date().isoformat(),
            "made_of": self.file.card.sha256,
            "familiar": fitted.familiar.facts(),
            "temperature": round(float(facts["temperature"]) * fitted.degree, 4),
            "review_below": fitted.review_below,
            "adapted": figures["cells"],
        }
        site_after = figures["site"]["after"]["accuracy"]

        def judge(file: Path) -> dict[str, Any]:
            shares = {
                "this site by cross-validation": site_after,
                "validation": head.accuracy(OpenFile(file).head, home.judged),
            }
            named = {f"accuracy, {what}, all classes": round(share, 4) for what, share in shares.items()}
            return {"figures": named}

        seen = np.concatenate([fitted.seen, home.learned.flat()[0]])
        path = output / self.file.path.name
        install(self.file.with_head(fitted.head, seen), card, path, CLASSIFY, judge)
        write(OpenFile(path), home, met | division.hashes(site))
        return path


def _keep(options: argparse.Namespace) -> None:
    model = Converted(options.model)
    try:
        recipe = recipe_of(model.file.card.facts["recipe"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{options.model}: its card has no recipe of this version ({error!r})") from None
    samples = prepare(replace(recipe, data=str(options.data)), None)
    met = division.met(samples) | division.fitted_with(options.model)
    kept = write(model.file, head.see_home(model.body, samples), met)
    print(f"{kept}: {kept.stat().st_size / 1e6:.1f} MB")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = Parser(prog="python -m training.home", description=__doc__)
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help=".tflite file")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="what it learned from")
    options = parser.parse_args(arguments)
    return run(lambda: _keep(options), "stopped; nothing was written")


if __name__ == "__main__":
    sys.exit(main())
