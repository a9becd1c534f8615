"""Labelled cell images: samples of (file, class, source, split), and how they are divided.

`python -m training.data DIR` recognises a data set, and lists what is wrong with it.
"""

import csv
import hashlib
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from edge.cells import Box, CellClass, Image, Role
from edge.errors import UserError
from edge.imagefile import BadImage, decode_image
from edge.replay import UNREAD
from edge.void import filled
from training.masks import is_drawn
from training.progress import watch

CLASSES = (
    CellClass("basophil", Role.COUNTED),
    CellClass("eosinophil", Role.COUNTED),
    CellClass("lymphocyte", Role.COUNTED),
    CellClass("monocyte", Role.COUNTED),
    CellClass("neutrophil", Role.COUNTED),
    CellClass("immature_granulocyte", Role.COUNTED),
    CellClass("erythroblast", Role.PER_100),
    CellClass("platelet", Role.REJECTED),
)
"""What the model tells apart, in the order of its outputs; the first five are the study's."""

STUDY_CLASSES = tuple(c.name for c in CLASSES[:5])


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled image of one cell."""

    path: Path
    file: str
    """Name of the image in its list, or below its folder: what results say of it."""
    name: str
    """Class name, one of `CLASSES`."""
    source: str
    """The laboratory or data set that it comes from."""
    split: str
    """Its part in the work (train, validation, test); empty where the data set names none."""
    film: str = ""
    """The blood film (or patient) that it was taken from, where that is known."""
    box: Box | None = None
    """The cell, where the image shows a whole field and the data set says where the cell lies in it."""

    @property
    def origin(self) -> tuple[str, str]:
        """What is never divided: the blood film; where none is known, the image, all its cells."""
        return self.source, self.film or self.file


def load(folder: Path) -> list[Sample]:
    """Read a data set of any layout that `training.layouts` knows; say on stderr what of it is left out.

    Raises:
        UserError: nothing is recognised, it cannot be read, or it names classes that no model tells apart.
    """
    from training import layouts  # it builds upon this module

    found = layouts.read(folder)
    strange = sorted({s.name for s in found.samples} - {c.name for c in CLASSES})
    if strange:
        raise UserError(
            f"{folder}: {found.layout} tells {', '.join(strange)}: its boxes are for finding cells"
        )
    if found.left_out:
        print(f"{folder}: left out: {listed(found.left_out)}", file=sys.stderr)
    return found.samples


def select(samples: Sequence[Sample], split: str) -> list[Sample]:
    """Return the samples of one split, or else of one source (a laboratory of its own), by name.

    Raises:
        UserError: no sample belongs to it.
    """
    # A folder's name is the source of its images, and that may be the name of a split.
    chosen = [s for s in samples if s.split == split] or [s for s in samples if s.source == split]
    if not chosen:
        names = sorted(({s.split for s in samples} | {s.source for s in samples}) - {""})
        raise UserError(f"no image belongs to split or source {split!r}; there are {', '.join(names)}")
    return chosen


def of_split(samples: Sequence[Sample], split: str) -> list[Sample]:
    """Return the samples of one split.

    Raises:
        UserError: there are none.
    """
    chosen = [s for s in samples if s.split == split]
    if not chosen:
        names = ", ".join(sorted({s.split or "(none)" for s in samples}))
        raise UserError(f"no image is of split {split}; there are {names}")
    return chosen


def evenly(count: int, number: int) -> list[int]:
    """Return `number` indices (all, where there are not as many) at even distances, from 0 to `count` - 1."""
    return [int(place) for place in np.linspace(0, count - 1, min(count, number))]


def undoubted(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples to learn from: without those of `doubted.csv`.

    That list holds BCCD's eosinophils without eosinophil granules, 48 of its 88: to our eyes, not an
    expert's, 41 are neutrophils, and seven are smudged, cut or clumped. It is for learning alone: whoever
    judges a model by BCCD judges by all of its labels.
    """
    with (Path(__file__).parent / "doubted.csv").open(encoding="utf-8", newline="") as lines:
        doubted = {(row["file"], row["class"]) for row in csv.DictReader(lines)}
    return [s for s in samples if (s.file, s.name) not in doubted]


def read_image(path: Path) -> Image:
    """Read an image file as the instrument does (`edge.imagefile`, `edge.void`), a grey one too.

    Returns:
        RGB, shape (height, width, 3).

    Raises:
        UserError: the file cannot be read as an image, is not whole, or too small to show a cell.
    """
    return filled(_decoded(path))


def read_photograph(path: Path) -> Image:
    """Read an image as `read_image` does; raises UserError also where it is a mask or plain."""
    image = _decoded(path)
    if is_drawn(image):  # as it is stored: what is black up to the border may be filled up
        raise UserError(f"{path}: as few shades as a mask, or far too dark or bright; remove it")
    return filled(image)


def _decoded(path: Path) -> Image:
    try:
        if path.suffix.lower() in UNREAD:  # the content of some is a TIFF: a small view of the picture
            raise BadImage(f"{path.suffix} is not read: convert it to .png")
        return decode_image(path.read_bytes(), grey=True)
    except (OSError, ValueError, BadImage) as error:  # a name with NUL is no OSError
        raise UserError(
            f"{path}: not a readable image ({error}); remove it from the table or replace the file"
        ) from None


def write_image(path: Path, image: Image) -> None:
    """Write an RGB image, shape (height, width, 3); raises OSError where that cannot be done."""
    if not cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR)):
        raise OSError(f"{path}: the image cannot be written; is there space left?")


def random_split(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """Return the samples with the study's random split: 70 % train, 20 % validation, 10 % test.

    The same for the same seed, in whatever order the files were found.
    """
    ordered = sorted(samples, key=lambda s: (s.source, s.file, s.name))
    drawn = np.random.default_rng(seed).permutation(len(ordered))
    bounds = (0.7 * len(ordered), 0.9 * len(ordered))
    parts = ["train" if n < bounds[0] else "validation" if n < bounds[1] else "test" for n in drawn]
    return [replace(s, split=part) for s, part in zip(ordered, parts, strict=True)]


def split_by_film(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """Return the samples with a split of about 70 % train, 20 % validation, 10 % test, no film in two parts.

    Raises:
        UserError: there are fewer than three films or images.
    """
    films = len({s.origin for s in samples})
    if films < 3:
        raise UserError(f"{films} blood films or images: three are the least, to learn, validate and test")
    parts = grouped_folds(samples, min(10, films), seed)
    # A class with few films is in the first parts alone: it is for learning.
    judged = max(1, len(parts) // 5)
    names = ["train"] * (len(parts) - judged - 1) + ["validation"] * judged + ["test"]
    return [replace(s, split=name) for part, name in zip(parts, names, strict=True) for s in part]


def with_validation(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """Return the samples with a fifth of those of split train, whole films, in split validation.

    Raises:
        UserError: split train is of one film or image.
    """
    learn = [s for s in samples if s.split == "train"]
    films = len({s.origin for s in learn})
    judge = {id(s) for s in grouped_folds(learn, min(5, films), seed)[-1]}
    return [replace(s, split="validation") if id(s) in judge else s for s in samples]


def grouped_folds(samples: Sequence[Sample], k: int, seed: int) -> list[list[Sample]]:
    """Return `k` parts of about equal size and class mix; no film is in two of them.

    Films go, in random order within the rarest class that they show, each to the part that has least of
    that class, the first of equals: a class with fewer films than parts is not in the last ones. Where
    no film is known an image is a film of its own.

    Raises:
        UserError: k is less than 2, or there are fewer films than parts.
    """
    if k < 2:
        raise UserError(f"{k} parts: 2 or more are needed")
    films: dict[tuple[str, str], list[Sample]] = {}
    for s in sorted(samples, key=lambda s: (s.source, s.file, s.name)):
        films.setdefault(s.origin, []).append(s)
    number = Counter(s.name for s in samples)
    lead = {film: min((s.name for s in cells), key=number.__getitem__) for film, cells in films.items()}
    if len(films) < k:
        raise UserError(f"{len(films)} films or images cannot make {k} parts; ask for fewer")
    order = list(films)
    np.random.default_rng(seed).shuffle(order)
    order.sort(key=lambda film: (number[lead[film]], lead[film]))
    parts: list[list[Sample]] = [[] for _ in range(k)]
    held = [Counter[str]() for _ in range(k)]
    for film in order:
        least = min(range(k), key=lambda i: (held[i][lead[film]], len(parts[i])))
        parts[least] += films[film]
        held[least].update(s.name for s in films[film])
    return parts


def check_classes(samples: Sequence[Sample]) -> None:
    """Check that what validates can have been learned.

    Raises:
        UserError: names the classes with too few images.
    """
    train, judged = ({s.name for s in samples if s.split == split} for split in ("train", "validation"))
    if len(train) < 2 or not judged:
        raise UserError(
            f"{len(samples)} images, {len(train)} classes in split train and {len(judged)} in validation: "
            "two classes to learn and one to validate are the least"
        )
    if judged - train:
        absent = ", ".join(sorted(judged - train))
        raise UserError(f"no training image of class {absent}; add some, or divide them otherwise")


def check_trainable(samples: Sequence[Sample]) -> None:
    """Check, before hours are spent, that every image shows its cell and every class can be learned.

    Says on stderr how many images lie in two parts, where figures on them are flattering, and how many have
    two labels, one of which is wrong.

    Raises:
        UserError: names the files of no use, or the classes with too few images.
    """
    check_classes(samples)
    parts: dict[bytes, dict[str, str]] = {}
    labels: dict[bytes, dict[str, str]] = {}
    for sample, digest in zip(samples, check_images(samples), strict=True):
        parts.setdefault(digest, {}).setdefault(sample.split, sample.file)
        labels.setdefault(digest, {}).setdefault(sample.name, sample.file)
    for told, found in (("lie in two parts", parts), ("have two labels", labels)):
        if twice := [list(files.items()) for files in found.values() if len(files) > 1]:
            (first, a), (second, b) = twice[0][:2]
            print(f"{len(twice)} images {told}, as {a} ({first}) and {b} ({second})", file=sys.stderr)


def readable(samples: Sequence[Sample]) -> tuple[list[Sample], list[str]]:
    """Return the samples whose images can be read, and the files of the others, masks too; shows progress.

    Raises:
        UserError: names the files whose boxes have no size or lie outside.
    """
    found = _look_at(samples)
    kept = [s for s, look in zip(samples, found, strict=True) if look is not None]
    return kept, [s.file for s, look in zip(samples, found, strict=True) if look is None]


def check_images(samples: Sequence[Sample]) -> list[bytes]:
    """Check that every image is a photograph, and every box lies in it; return the pixels' digests.

    Raises:
        UserError: names the files that cannot be read, or whose boxes have no size or lie outside.
    """
    found = _look_at(samples)
    unreadable = [s.file for s, look in zip(samples, found, strict=True) if look is None]
    _refuse("missing, masks, or not readable as images", unreadable, "remove them, or convert to .png")
    return [look[2] for look in found if look is not None]


def _look_at(samples: Sequence[Sample]) -> list[tuple[int, int, bytes] | None]:
    with ThreadPoolExecutor() as pool:
        found = list(watch(pool.map(_look, samples), len(samples), "images"))
    looks = zip(samples, found, strict=True)
    astray = [s.file for s, look in looks if look is not None and not box_fits(s.box, *look[:2])]
    _refuse("boxes of no size or outside the image", astray, "mend the boxes or remove these images")
    return found


def box_fits(box: Box | None, width: int, height: int) -> bool:
    """Tell whether a box, where there is one, has a size and overlaps its image of so many pixels."""
    return box is None or (
        min(box.width, box.height) > 0 and -box.width < box.x < width and -box.height < box.y < height
    )


def listed(files: Sequence[str]) -> str:
    """Return the first five names, and how many more there are."""
    more = f" and {len(files) - 5} more" if len(files) > 5 else ""
    return f"{', '.join(files[:5])}{more}"


def _refuse(fault: str, named: Sequence[str], remedy: str) -> None:
    if files := list(dict.fromkeys(named)):
        raise UserError(f"{fault}: {listed(files)}; {remedy}")


def _look(sample: Sample) -> tuple[int, int, bytes] | None:
    """Return width, height, and a digest of cell and pixels; None where no photograph can be read."""
    try:
        image = read_photograph(sample.path)
    except UserError:
        return None
    seen = repr(sample.box).encode() + np.ascontiguousarray(image).tobytes()
    return image.shape[1], image.shape[0], hashlib.blake2b(seen, digest_size=16).digest()


if __name__ == "__main__":
    from training.inspection import main

    sys.exit(main())
