"""Which image is in which part of a run: its `split.csv`, which holds once the run has begun."""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np

from edge.errors import UserError
from edge.whole import whole
from training import data

Key = tuple[str, str, str, int]
"""One cell: its source, file and class, and which cell of that class in that file."""

Hashes = frozenset[int]
"""What tells the cells of a training from others."""

DRAWN = ("rendered", "textbook")
"""Sources that a run draws for itself: no data set holds them."""
FITTED = "fitted_with"
"""In a card: what tells the cells that a .keras file was fitted to (`training.adapt`)."""
_PARTS = ("train", "validation", "test")
_TAUGHT = ("train", "validation")
"""The parts that a model learns from, or is chosen by."""
_COMPARED = 20
"""Images, about, by which those of a run are told from others of the same names."""
_SHOWN = 3
"""Files that an error names."""


def write(file: Path, samples: Sequence[data.Sample]) -> None:
    """Write which image is in which part, from which source and film, and what tells its copies.

    All of it is written, or nothing.
    """
    with whole(file) as part, part.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines)
        writer.writerow(["file", "class", "source", "split", "film", "content"])
        for s in samples:
            content = _contents(s)[1] if s.split in _TAUGHT else ""
            writer.writerow([s.file, s.name, s.source, s.split, s.film, content])


def read(file: Path) -> dict[Key, str]:
    """Return the part of each cell, in the file's order.

    Raises:
        UserError: it is missing or is no such file.
    """
    lines = _lines(file)
    return {key: line.split for key, line in zip(_keys(line.cell for line in lines), lines, strict=True)}


class _Line(NamedTuple):
    cell: tuple[str, str, str]
    """Its source, file and class."""
    split: str
    content: int
    """What tells the image, of the parts that taught; else, and in a run of before this was written, 0."""


def _lines(file: Path) -> list[_Line]:
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            return [
                _Line((row["source"], row["file"], row["class"]), row["split"], int(row.get("content") or 0))
                for row in csv.DictReader(lines)
            ]
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise UserError(f"{file}: not the split of a run ({error!r}); train the model again") from None


def keep(file: Path, samples: Sequence[data.Sample]) -> list[data.Sample]:
    """Return the samples, each in the part that it has in a run, and in the run's order.

    Images outside the parts (of a laboratory of its own) may have come or gone since the run began.

    Args:
        file: the run's `split.csv`.
        samples: of the recipe's classes, with the splits that the data set names.

    Raises:
        UserError: the images in the parts are others now, or the data set moves some to another part.
    """
    lines = _lines(file)
    keys = _keys(line.cell for line in lines)
    known = {key: line.split for key, line in zip(keys, lines, strict=True)}
    contents = {key: line.content for key, line in zip(keys, lines, strict=True)}
    sure = {id(s) for s in data.undoubted(samples)}
    # Doubted labels that the run did not begin with were left out of it.
    keyed = zip(_keys_of(samples), samples, strict=True)
    held = {k: s for k, s in keyed if k in known or id(s) in sure or s.split not in ("", *_PARTS)}
    named = {s.split for s in samples} if any(s.split == "train" for s in samples) else set()
    changes = {
        "new": [s.file for k, s in held.items() if k not in known and s.split in ("", *_PARTS)],
        "gone": [k[1] for k, part in known.items() if k not in held and part in _PARTS and k[0] not in DRAWN],
        # A part that the data set does not name was drawn from another one.
        "in another split": [
            k[1] for k, part in known.items() if k in held and part in named and held[k].split != part
        ],
        "changed": [k[1] for k, s in held.items() if _differs(s, contents.get(k, 0))],
    }
    told = [
        f"{len(files)} {what} ({', '.join(files[:_SHOWN])}{', ...' if len(files) > _SHOWN else ''})"
        for what, files in changes.items()
        if files
    ]
    if told:
        raise UserError(
            f"{file.parent}: the images are not those that this run began with: {'; '.join(told)}; "
            "bring them back as they were, or train in another folder"
        )
    ours = [replace(held[k], split=part) for k, part in known.items() if k in held]
    return ours + [s for k, s in held.items() if k not in known]


def select(samples: Sequence[data.Sample], split: str, model: Path) -> list[data.Sample]:
    """Return the samples of one part of the model's run, of one split of the data, or of one source.

    An image that the run knows is of the part that it had there, whatever the data set says of it: what was
    learned from is never judged as a test image. Most images of the run's names must be those of the run.

    Args:
        samples: with the splits that the data set names, if any.
        split: name of the part, split or source; the first of them that there is.
        model: a model file; beside it lies the run's `split.csv`, if it is a run's.

    Raises:
        UserError: no sample belongs to it.
    """
    file = model.parent / "split.csv"
    known = _parts(file, samples)
    keyed = zip(_keys_of(samples), samples, strict=True)
    return data.select([replace(s, split=known.get(key, s.split)) for key, s in keyed], split)


def learned(samples: Sequence[data.Sample], model: Path) -> list[data.Sample]:
    """Return those of selected samples that taught or chose the model: figures on them are no evidence.

    What the run's `split.csv` says decides, an image counting whole where one of its cells did; where there
    is none, they are the training part of the sources that the file's card names, and the one that joined.

    Args:
        samples: of the data that the model may have learned from.
        model: a model file.
    """
    file = model.parent / "split.csv"
    if file.exists():
        taught = {key[:3] for key, part in _parts(file, samples).items() if part in _TAUGHT}
        return [s for s in samples if (s.source, s.file, s.name) in taught]
    try:
        card = json.loads(model.with_suffix(".json").read_text(encoding="utf-8"))
        sources, joined = set(card["sources"]), str(card["recipe"]["join"])
    except (OSError, ValueError, KeyError, TypeError):
        return []  # it does not tell
    trained = [s for s in samples if s.source == joined or (s.split == "train" and s.source in sources)]
    return data.undoubted(trained)


def _parts(file: Path, samples: Sequence[data.Sample]) -> dict[Key, str]:
    """Return the part of each cell of a run; none where the samples by the names of its images are others."""
    lines = _lines(file) if file.exists() else []
    known = dict(zip(_keys(line.cell for line in lines), lines, strict=True))
    keyed = zip(_keys_of(samples), samples, strict=True)
    ours = [(s, known[k].content) for k, s in keyed if k in known and known[k].content]
    compared = ours[:: max(1, len(ours) // _COMPARED)]
    if 2 * sum(_differs(s, content) for s, content in compared) > len(compared):
        print(f"{file}: of other images, if of the same names; what the data set says of its parts holds")
        return {}
    return {key: line.split for key, line in known.items()}


def _differs(sample: data.Sample, content: int) -> bool:
    """Tell whether a sample's image is another than what a run has written of it; nothing written is none."""
    try:
        return content != 0 and _contents(sample)[1] != content
    except OSError:  # it cannot be read: that is told elsewhere
        return False


def recognised(samples: Iterable[data.Sample], model: Path) -> list[data.Sample]:
    """Return those that a model has learned from, or was chosen by, by the content of their files.

    There are none where nothing is kept of a converted file's training (`training.home`), or nothing that can
    be read.
    """
    if model.suffix == ".keras":
        cells, images = fitted_with(model), _taught(model.parent / "split.csv")
        return [s for s in samples if _is_known(s, cells) or _is_known(replace(s, box=None), images)]
    try:
        with np.load(kept_of(model), allow_pickle=False) as arrays:
            if str(arrays["model"]) != hashlib.sha256(model.read_bytes()).hexdigest():
                return []  # of a file that was here before
            known = frozenset(int(number) for number in arrays["met"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return []
    return [s for s in samples if _is_known(s, known)]


def _taught(file: Path) -> Hashes:
    """Return what tells the images that a run learned from, or was chosen by, as far as its split tells."""
    lines = _lines(file) if file.exists() else []
    return frozenset(line.content for line in lines if line.split in _TAUGHT and line.content)


def fitted_with(model: Path) -> Hashes:
    """Return what tells the cells that a .keras file, or that of a .tflite file, was fitted to afterwards."""
    try:
        card = json.loads(model.with_suffix(".json").read_text(encoding="utf-8"))
        return frozenset(int(number) for number in card.get(FITTED, ()))
    except (OSError, ValueError, TypeError, AttributeError):
        return frozenset()


def kept_of(model: Path) -> Path:
    """Return the place of what is kept of a converted file's first training."""
    return model.with_suffix(".home.npz")


def hashes(samples: Iterable[data.Sample]) -> Hashes:
    """Return what tells these cells: of each its image, and its image with its box."""
    return frozenset(number for s in samples for number in _contents(s))


def met(samples: Iterable[data.Sample]) -> Hashes:
    """Return what tells the cells that a run with these samples has learned from, or was chosen by."""
    return hashes(s for s in samples if s.split in _TAUGHT)


def check_unseen(site: Sequence[data.Sample], known: Hashes) -> None:
    """Check that the first training has met none of the site's cells: figures on those would flatter.

    Raises:
        UserError: names one that it has, by the content of its file.
    """
    again = [s.file for s in site if _is_known(s, known)]
    if again:
        raise UserError(
            f"{len(again)} of {len(site)} cells were part of the first training, as {again[0]}; give others"
        )


def _is_known(sample: data.Sample, known: Hashes) -> bool:
    # Without a box it may be any cell of its image.
    try:
        return bool(known) and _contents(sample)[0 if sample.box else 1] in known
    except OSError:  # it cannot be read: nobody has learned from it
        return False


def _contents(sample: data.Sample) -> tuple[int, int]:
    """Return what tells the cell, and what tells the image."""
    image = sample.path.read_bytes()
    cell = image + repr(sample.box).encode()
    first, second = (hashlib.sha256(content).digest()[:8] for content in (cell, image))
    return int.from_bytes(first), int.from_bytes(second)


def _keys_of(samples: Iterable[data.Sample]) -> list[Key]:
    return _keys((s.source, s.file, s.name) for s in samples)


def _keys(cells: Iterable[tuple[str, str, str]]) -> list[Key]:
    """Return the key of each cell, given (source, file, class)."""
    seen: Counter[tuple[str, str, str]] = Counter()
    keys = []
    for cell in cells:
        keys.append((*cell, seen[cell]))
        seen[cell] += 1
    return keys
