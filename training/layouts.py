"""Data sets as they are published: each is recognised by its files, and read into samples.

A list (cells.csv or classes.csv) goes before everything else, so that any data set can be put right by
one. Of the rest, Zheng, BCCD and TXL-PBC carry labels and boxes in files of their own; Raabin-WBC, LISC, the
12,444 images made of BCCD, MISP and PBC are trees with a folder for each class, as is every other data set.
"""

import csv
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import cv2

from edge.cells import Box
from edge.errors import UserError
from edge.replay import SUFFIXES, UNREAD
from training.data import CLASSES, Sample, read_image
from training.labels import bare, class_of, is_other, split_of

_LISTS = ("cells.csv", "classes.csv")

_NO_CELL_OF_ONE_CLASS = {
    *("mixt", "mixed", "macosx"),
    *("mask", "masks", "gt", "groundtruth", "groundtruthsegmentation"),
}
"""Folders that a tree may hold beside or in its classes: LISC's fields of several classes, and masks."""
_MASK = re.compile(r"(.+)[-_ ](masks?|gt)", re.IGNORECASE)
"""Name of a mask beside the image NAME; others are known by what they show (`training.masks`)."""
_ELSEWHERE = {"test-b"}
"""Parts that another laboratory took: Raabin-WBC's TestB."""
_LEAST_IMAGES = 50
"""Images that make a laboratory of a folder: fewer cells are a poor ruler of each other (`edge.sizes`)."""


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set that was recognised."""

    layout: str
    """Its name, as the study lists it where it does."""
    samples: list[Sample]
    left_out: list[str]
    """What the folder holds besides, that no sample was made of, and why."""


def read(folder: Path) -> DataSet:
    """Recognise the layout of `folder` and read it; images themselves are not opened.

    Raises:
        UserError: nothing is recognised; or labels are missing, unknown, or at odds with the images.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give that of the labelled images, as with --data")
    for recognised, reader in _READERS:
        place = recognised(folder)
        if place:
            found = reader(folder, place)
            if not found.samples:
                raise UserError(f"{folder}: laid out as {found.layout}, but without a labelled image")
            return found
    if empty := [d.name for d in sorted(folder.iterdir()) if d.is_dir() and class_of(d.name)]:
        raise UserError(f"{folder}: there is no image in its folders {', '.join(empty)}")
    raise UserError(
        f"{folder}: no data set is recognised; give a folder for each class, or a list {_LISTS[0]} with "
        "the columns file and class"
    )


def read_list(table: Path) -> list[Sample]:
    """Read a list of images: columns file and class, and source, split, film and the cell's box where known.

    The box is x, y, w, h in pixels. Files lie in the folder `cells` beside the list, or beside it.

    Raises:
        UserError: the list cannot be read, lacks a column, names an unknown class, or a box is no box.
    """
    samples = []
    cells = table.parent / "cells"
    root = cells if cells.is_dir() else table.parent
    for number, row in rows(table, ("file", "class")):
        name = class_of(row["class"])
        if name is None:
            raise UserError(
                f"{table}, line {number}: class {row['class']!r} of {row['file']} is unknown; use one of "
                f"{', '.join(c.name for c in CLASSES)}"
            )
        source, film = row.get("source") or table.parent.name, row.get("film") or ""
        named, box = row.get("split") or "", _listed_box(table, number, row)
        split = split_of(named) or named
        samples.append(Sample(root / row["file"], row["file"], name, source, split, film, box))
    return samples


def _listed_box(table: Path, line: int, row: dict[str, str]) -> Box | None:
    """Return the box of a row; None where it has none."""
    sides = [row.get(side) or "" for side in ("x", "y", "w", "h")]
    if not any(sides):
        return None
    try:
        x, y, w, h = map(float, sides)
        if math.isfinite(x + y + w + h) and w > 0 and h > 0:
            return Box(x, y, w, h)
    except ValueError:
        pass
    raise UserError(f"{table}, line {line}: x, y, w, h of {row['file']} must be numbers, w and h above 0")


def rows(table: Path, columns: Iterable[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line number and fields of each row."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [c for c in columns if c not in (reader.fieldnames or ())]
            if missing:
                raise UserError(
                    f"{table}: column {', '.join(missing)} is missing; its first line names the columns, "
                    "with commas between them"
                )
            for row in reader:
                if any(row[c] is None for c in columns):
                    raise UserError(f"{table}, line {reader.line_num}: fewer fields than columns")
                yield reader.line_num, row
    except OSError as error:
        raise UserError(f"{table}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table}: not a table of text ({error})") from None


def _number(table: Path, line: int, text: str) -> int:
    if not text.strip().isdecimal():
        raise UserError(f"{table}, line {line}: {text!r} is no number of an image")
    return int(text)


def _find_list(folder: Path) -> Path | None:
    return next((folder / name for name in _LISTS if (folder / name).is_file()), None)


def _read_list(folder: Path, table: Path) -> DataSet:
    return DataSet(f"list {table.name}", read_list(table), [])


_ZHENG_CLASSES = {"1": "neutrophil", "2": "lymphocyte", "3": "monocyte", "4": "eosinophil", "5": "basophil"}
"""Zheng et al. 2018: the counts of its set 1 (176, 53, 48, 22, 1) are those of the study's Table 1."""
_ZHENG_LABELS = re.compile(r"class labels of dataset ([12])\.csv", re.IGNORECASE)


def _find_zheng(folder: Path) -> Path | None:
    return next((f for f in sorted(folder.glob("*.csv")) if _ZHENG_LABELS.fullmatch(f.name)), None)


def _read_zheng(folder: Path, first: Path) -> DataSet:
    samples, absent, numbers = [], [], list[str]()
    for table in sorted(f for f in folder.glob("*.csv") if _ZHENG_LABELS.fullmatch(f.name)):
        number = str(table.stem[-1])
        place = folder / f"Dataset {number}"
        if not place.is_dir() and not any(folder.glob("*.bmp")):
            absent.append(f"{table.name}: no folder {place.name} beside it")
            continue
        root = place if place.is_dir() else folder
        if root is folder and numbers:
            absent.append(f"{table.name}: the images beside it are of set {numbers[0]}; use {place.name}")
            continue
        numbers.append(number)
        for line, row in rows(table, ("image ID", "class label")):
            if row["class label"].strip() not in _ZHENG_CLASSES:
                raise UserError(f"{table}, line {line}: class label {row['class label']!r} is not 1 to 5")
            file = root / f"{_number(table, line, row['image ID']):03d}.bmp"
            if file.is_file():
                name = _ZHENG_CLASSES[row["class label"].strip()]
                samples.append(Sample(file, str(file.relative_to(folder)), name, f"zheng{number}", ""))
            else:
                absent.append(f"{file.relative_to(folder)}: listed in {table.name}, but not there")
    return DataSet(f"Zheng et al., set {' and '.join(numbers)}", samples, absent)


def _find_bccd(folder: Path) -> Path | None:
    return next((f.parent for f in sorted(folder.glob("**/Annotations")) if f.is_dir()), None)


def _read_bccd(folder: Path, place: Path) -> DataSet:
    """BCCD: boxes in VOC files, and a list that says the classes of the leukocytes of each image."""
    table = next((f for f in (place / "labels.csv", folder / "labels.csv") if f.is_file()), None)
    if table is None:
        raise UserError(
            f"{place}: VOC boxes without labels.csv, which says the class of the leukocytes; put it there"
        )
    samples, left_out = [], []
    for line, row in rows(table, ("Image", "Category")):
        image = place / "JPEGImages" / f"BloodImage_{_number(table, line, row['Image']):05d}.jpg"
        if not image.is_file():
            left_out.append(f"{image.name}: listed in {table.name}, but not there")
            continue
        labels = [label.strip() for label in row["Category"].split(",") if label.strip()]
        names = {class_of(label) for label in labels}
        if None in names:
            raise UserError(f"{table}, line {line}: unknown class {row['Category']!r} of {image.name}")
        boxes = _voc_boxes(place / "Annotations" / f"{image.stem}.xml", "WBC")
        if len(names) != 1 or len(boxes) != len(labels):
            left_out.append(
                f"{image.name}: {len(boxes)} leukocytes, and classes {row['Category'].strip() or 'none'}"
            )
            continue
        file, name = str(image.relative_to(folder)), str(names.pop())
        samples += [Sample(image, file, name, "bccd", "", image.stem, box) for box in boxes]
    if elsewhere := sum(place not in image.parents for image in _images(folder)):
        left_out.append(f"{elsewhere} images outside {place}: give their folder alone")
    return DataSet("BCCD", samples, left_out)


def _voc_boxes(file: Path, kind: str) -> list[Box]:
    """Return the boxes of one kind of object in a VOC file."""
    try:
        objects = ElementTree.parse(file).getroot().iter("object")
        corners = [
            [round(float(str(o.findtext(f"bndbox/{side}")))) for side in ("xmin", "ymin", "xmax", "ymax")]
            for o in objects
            if o.findtext("name") == kind
        ]
    except (OSError, ElementTree.ParseError, ValueError, OverflowError) as error:
        raise UserError(f"{file}: not a file of VOC boxes ({error})") from None
    return [Box(x, y, right - x, bottom - y) for x, y, right, bottom in corners]


_TXL_CLASSES: dict[float, str] = {0: "leukocyte", 1: "erythrocyte", 2: "platelet"}
"""TXL-PBC: the classes of its boxes, by their numbers (WBC, RBC, Platelet)."""


def _find_yolo(folder: Path) -> Path | None:
    below = sorted(f for f in folder.iterdir() if f.is_dir())
    return next((f for f in (folder, *below) if (f / "images").is_dir() and (f / "labels").is_dir()), None)


def _read_yolo(folder: Path, place: Path) -> DataSet:
    samples, left_out = [], []
    for image in _images(place / "images"):
        below = image.relative_to(place / "images")
        labels = (place / "labels" / below).with_suffix(".txt")
        if not labels.is_file():
            left_out.append(f"{below}: no boxes in labels/")
            continue
        split = split_of(below.parts[0]) if len(below.parts) > 1 else ""
        for name, box in _yolo_boxes(labels, image):
            samples.append(Sample(image, str(below), name, "txl-pbc", split, image.stem, box))
    return DataSet("TXL-PBC", samples, left_out)


def _yolo_boxes(labels: Path, image: Path) -> Iterator[tuple[str, Box]]:
    """Yield class and box, from a class number and shares: of centre and size over the size of the image."""
    height, width = read_image(image).shape[:2]
    for line, text in enumerate(labels.read_bytes().splitlines(), 1):
        try:
            kind, x, y, w, h = (float(field) for field in text.decode().split())
            name = _TXL_CLASSES[kind]
            corner = round((x - w / 2) * width), round((y - h / 2) * height)
            box = Box(*corner, round(w * width), round(h * height))
        except (KeyError, ValueError, OverflowError):
            shown = text.decode(errors="replace")
            raise UserError(f"{labels}, line {line}: not a class 0 to 2 and four shares: {shown!r}") from None
        yield name, box


def _find_tree(folder: Path) -> Path | None:
    return folder if any(_images(folder)) else None


_ALL_IDB = re.compile(r"Im\d{3}_[01]")
"""ALL-IDB's file names: number of the image, and whether it shows a lymphoblast."""


def _find_all_idb(folder: Path) -> Path | None:
    for file in _images(folder):
        labelled = any(class_of(part) for part in file.relative_to(folder).parts[:-1])
        if _ALL_IDB.fullmatch(file.stem) and not labelled:
            return file.parent
    return None


def _read_all_idb(folder: Path, place: Path) -> DataSet:
    raise UserError(
        f"{folder}: ALL-IDB tells lymphoblasts (_1) from other cells (_0), not the types of leukocytes; "
        f"label its crops in {_LISTS[1]} (columns file, class), as the study did"
    )


def _read_tree(folder: Path, place: Path) -> DataSet:
    """Read a folder for each class, below folders for splits where there are any."""
    samples, left_out = [], Counter[str]()
    strange, homeless = Counter[str](), list[str]()
    own = class_of(folder.resolve().name)
    for image in _images(folder):
        below = image.relative_to(folder)
        parents = below.parts[:-1]
        skipped = next((p for p in parents if bare(p) in _NO_CELL_OF_ONE_CLASS), None)
        if skipped:
            left_out[skipped] += 1
            continue
        named = [class_of(p) for p in parents]
        name = next((n for n in reversed(named) if n), None if parents else own)
        if len(set(named) - {None}) > 1:
            raise UserError(f"{image}: its folders name several classes; rename all but one")
        below_class = parents[max((i for i, n in enumerate(named) if n), default=len(parents)) + 1 :]
        if other := next((p for p in below_class if is_other(p)), None):
            strange[other] += 1
        elif name is None and parents and not split_of(parents[-1]):
            strange[parents[-1]] += 1
        elif name is None:
            homeless.append(str(below))
        else:
            split = next((part for p in reversed(parents) if (part := split_of(p))), "")
            film = _film(image.stem)
            box = _lisc_box(folder, image, parents)
            samples.append(Sample(image, str(below), name, _laboratory(parents), split, film, box))
    if strange:
        raise UserError(
            f"{folder}: no class of the model is called "
            + ", ".join(f"{name} ({number} images)" for name, number in sorted(strange.items()))
            + f"; rename or remove these folders (classes: {', '.join(c.name for c in CLASSES)})"
        )
    if homeless:
        raise UserError(
            f"{folder}: {len(homeless)} images lie in no folder of a class, the first is {homeless[0]}; "
            f"move them, or label them in {_LISTS[1]} (columns file, class)"
        )
    samples = _with_sources(samples, folder.resolve().name)
    notes = [f"{name}: {n} images" for name, n in left_out.items()]
    notes += [f"{len(masks)} masks beside their images"] if (masks := _pictures(folder)[1]) else []
    return DataSet(_tree_name(samples), samples, notes + _empty_classes(folder) + _strangers(folder))


def _laboratory(parents: Sequence[str]) -> str:
    """Return the folders that are no class and no part of the work: they may tell laboratories apart."""
    return "/".join(p for p in parents if not class_of(p) and split_of(p) in {"", *_ELSEWHERE})


def _with_sources(samples: Sequence[Sample], name: str) -> list[Sample]:
    """Return the samples with their laboratories' names as sources.

    What tells none has the name of the whole: a folder that holds all images, one of a single class (a
    subtype), and several that hold few images (patients).
    """
    number = Counter(s.source for s in samples)
    classes = Counter(source for source, _ in {(s.source, s.name) for s in samples})
    few = {source for source in number if number[source] < _LEAST_IMAGES}
    single = {source for source in number if classes[source] == 1}
    pooled = {"", *single, *(few if len(few) > 1 else ())} if len(number) > 1 else number
    return [
        replace(s, source=re.sub(r"\W+", "-", (name if s.source in pooled else s.source).lower()))
        for s in samples
    ]


def _empty_classes(folder: Path) -> list[str]:
    named = sorted(f for f in folder.rglob("*") if f.is_dir() and class_of(f.name))
    return [f"{f.relative_to(folder)}: a class without an image" for f in named if not any(_images(f))]


def _strangers(folder: Path) -> list[str]:
    """Tell what lies in the classes' folders and is no image that the instrument reads."""
    found = Counter[str]()
    for file in _files(folder):
        parents = file.relative_to(folder).parts[:-1]
        if file.suffix.lower() not in SUFFIXES | UNREAD and any(class_of(p) for p in parents):
            found[file.suffix.lower() or "no ending"] += 1
    return [f"{number} files of another kind ({ending})" for ending, number in sorted(found.items())]


def _tree_name(samples: list[Sample]) -> str:
    """Return which published tree it is, by what only that one has."""
    parts = [{bare(p) for p in Path(s.file).parts} for s in samples]
    tops = set().union(*parts)
    stems = [s.path.stem for s in samples]
    if "testa" in tops or _many(s.film for s in samples):
        return "Raabin-WBC"
    if _many(
        re.fullmatch(r"(SNE|BNE|NEUTROPHIL|BA|EO|ERB|IG|MMY|MY|PMY|LY|MO|PLATELET)_\d+", s) for s in stems
    ):
        return "PBC"
    if _many(re.fullmatch(r"_\d_\d+", s) for s in stems):
        return "BCCD, augmented (12,444 images): copies of one image lie in several parts"
    if "maindataset" in tops or tops & {"eosi", "lymp"}:
        return "LISC"
    if any("misp" in s.source for s in samples):
        return "MISP"
    return "a folder for each class"


def _many(signs: Iterable[object]) -> bool:
    found = [bool(s) for s in signs]
    return sum(found) > len(found) / 2


def _film(stem: str) -> str:
    """Return the blood film of a Raabin-WBC crop: name of film or day, image, cell; else empty."""
    match = re.fullmatch(r"(\d+(?:-\d+)+|20\d{6})_\d+_\d+", stem)
    return match[1] if match else ""


def _lisc_box(folder: Path, image: Path, parents: Sequence[str]) -> Box | None:
    """Return the cell of a LISC field as its first expert drew it; None where there is no such mask.

    The masks lie beside the folder of the fields, which may be `folder`, or below or above it.
    """
    names = [p for p in (folder.resolve().name, *parents) if class_of(p)]
    places = [p for p in image.parents if folder.parent in (p, *p.parents)]
    below = Path("Ground Truth Segmentation", names[-1], "areaforexpert1", f"{image.stem}_expert.bmp")
    file = next((p / below for p in places if (p / below).is_file()), None)
    if file is None:
        return None
    mask = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    if mask is None or not mask.any():
        raise UserError(f"{file}: not a readable mask of a cell; remove it or replace the file")
    return Box(*cv2.boundingRect(mask))


def _images(folder: Path) -> Iterator[Path]:
    """Yield the pictures below a folder in the order of their names, masks (NAME_mask beside NAME) aside.

    Those of an unread kind are among them, so that they are named with the images that cannot be read.
    """
    files, masks = _pictures(folder)
    yield from (file for file in files if file not in masks)


def _pictures(folder: Path) -> tuple[list[Path], set[Path]]:
    """Return all pictures below a folder, and which are masks by their names."""
    files = sorted(f for f in _files(folder) if f.suffix.lower() in SUFFIXES | UNREAD)
    for file in files:
        _check_name(file)
    names = {f.with_suffix("") for f in files}
    told = ((file, _MASK.fullmatch(file.stem)) for file in files)
    return files, {file for file, mask in told if mask and file.with_name(mask[1]) in names}


def _check_name(file: Path) -> None:
    """Refuse a name that no report can hold: that of an old archive, unpacked in another character set."""
    try:
        str(file).encode()
    except UnicodeEncodeError:
        raise UserError(
            f"{str(file).encode(errors='backslashreplace').decode()}: its name is not UTF-8; rename it"
        ) from None


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, hidden ones aside, also those of linked folders, each folder once."""
    known = set[str]()
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in sorted(folders) if not name.startswith(".")]
        if (real := os.path.realpath(place)) in known:
            folders.clear()
            continue
        known.add(real)
        if place != str(folder) and {"recipe.json", "split.csv"} <= set(files):
            # A run: its drawn cells and figures are no images of the data set.
            folders.clear()
            continue
        yield from (Path(place, name) for name in files if not name.startswith("."))


_READERS: tuple[tuple[Callable[[Path], Path | None], Callable[[Path, Path], DataSet]], ...] = (
    (_find_list, _read_list),
    (_find_zheng, _read_zheng),
    (_find_bccd, _read_bccd),
    (_find_yolo, _read_yolo),
    (_find_all_idb, _read_all_idb),
    (_find_tree, _read_tree),
)
