"""Labelled cell images: a table of (file, class, source, split), and batches of crops made from it.

The cells are cut by the instrument's own code (`edge.localise`, `edge.preprocess`), so that training
sees what the microscope will show. Splits come from the file list alone.
"""

import csv
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cells import Box, CellClass, Image, Role
from edge.errors import UserError
from edge.localise import single_cell_box
from edge.preprocess import crop

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


def read_table(data: Path) -> list[Sample]:
    """Read `data`/cells.csv (columns file, class, source, split; files under `data`/cells).

    Raises:
        UserError: the table is missing, lacks a column, or names an unknown class.
    """
    table = data / "cells.csv"
    known = {c.name for c in CLASSES}
    samples = []
    try:
        with table.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["class"] not in known:
                    raise UserError(
                        f"{table}: class {row['class']!r} of {row['file']} is unknown; use one of "
                        f"{', '.join(sorted(known))}"
                    )
                path = data / "cells" / row["file"]
                samples.append(Sample(path, row["file"], row["class"], row["source"], row["split"]))
    except OSError as error:
        raise UserError(f"{table}: {error.strerror}; --data names the folder that holds cells.csv") from None
    except KeyError as error:
        raise UserError(f"{table}: column {error} is missing") from None
    return samples


def select(samples: Sequence[Sample], split: str) -> list[Sample]:
    """Return the samples of one split, or of one source (a laboratory of its own), by name.

    Raises:
        UserError: no sample belongs to it.
    """
    chosen = [s for s in samples if split in (s.split, s.source)]
    if not chosen:
        names = sorted({s.split for s in samples} | {s.source for s in samples})
        raise UserError(f"no image belongs to split or source {split!r}; there are {', '.join(names)}")
    return chosen


def read_image(path: Path) -> Image:
    """Read an image file as RGB, shape (height, width, 3).

    Raises:
        UserError: the file cannot be read as an image.
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise UserError(f"{path}: not a readable image; remove it from the table or replace the file")
    return np.asarray(image, np.uint8)


def locate_cells(samples: Sequence[Sample]) -> list[Box]:
    """Return the box of the cell of each sample, found by the instrument's locator where none is given."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda s: s.box or single_cell_box(read_image(s.path)), samples))


def read_crop(sample: Sample, size: int) -> Image:
    """Return the crop of a sample as the instrument would cut it, (`size`, `size`, 3) RGB."""
    image = read_image(sample.path)
    return crop(image, sample.box or single_cell_box(image), size)


def labels(samples: Sequence[Sample]) -> NDArray[np.int64]:
    """Return the class index of each sample, shape (samples,)."""
    index = {c.name: i for i, c in enumerate(CLASSES)}
    return np.array([index[s.name] for s in samples], np.int64)
