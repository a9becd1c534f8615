"""Labelled fields of view, for the locator: leukocytes by their boxes, in pictures of any scale.

`fields.csv` gives three laboratories. Beside them teach the PBC set's immature granulocytes and
erythroblasts, which no field shows, its platelets, as fields without a leukocyte, and the drawn smear.
"""

import csv
import hashlib
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cells import Box, Image
from edge.errors import UserError
from edge.smear import Smear
from training.data import Sample, load, read_image
from training.framing import single_cell_box
from training.layouts import rows

Edges = NDArray[np.float32]
"""Left, top, right and bottom of some boxes, pixels, shape (n, 4)."""
Random = np.random.Generator

DOUBTED = Path(__file__).parent / "doubted_boxes.csv"
"""Boxes that are missing, or round something else than a leukocyte; to our eyes, not an expert's."""
_LONGEST = 480
"""Longer side of a field in memory, pixels."""
_OPEN = 2.0
"""A box that ends this near to the picture's border (pixels) may be of a cut cell."""
RED_CELL_PX = {"raabin": 125.0, "pbc": 71.0, "bccd": 97.0}
"""Median red cell of each source, pixels of its images."""
_SINGLE = {"immature_granulocyte": 200, "erythroblast": 200, "platelet": 280}
"""How many images of single cells, of classes that `fields.csv` has not, are taken."""
_DRAWN = 60
"""Views of the drawn smear."""
_STRIPS = 0.35
"""Share of the leukocyte-free parts of fields that are taken."""
_LEAST_STRIP = 0.3
"""Least width of a leukocyte-free part that is taken as a field of its own, over the field's."""


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """One picture, and what is known of it, all in its pixels."""

    file: str
    source: str
    image: Image
    red_cell_px: float
    leukocytes: Edges
    """May reach beyond the picture, where the whole cell is known."""
    platelets: Edges = field(default_factory=lambda: edges_of([]))
    doubted: Edges = field(default_factory=lambda: edges_of([]))
    """Where nothing is to be learned."""

    @property
    def open_ends(self) -> NDArray[np.bool_]:
        """Tell which edges of the leukocytes are the picture's border, shape (n, 4)."""
        height, width = self.image.shape[:2]
        return np.abs(self.leukocytes - np.array([0, 0, width, height], np.float32)) <= _OPEN


def edges_of(boxes: Iterable[Box]) -> Edges:
    """Return boxes as an array."""
    rows = [(b.x, b.y, b.x + b.width, b.y + b.height) for b in boxes]
    return np.array(rows, np.float32).reshape(-1, 4)


def read_boxes(data: Path, split: str) -> dict[str, dict[str, dict[str, list[Box]]]]:
    """Return the labelled boxes of a split of fields.csv: {source: {file: {object: boxes}}}.

    Raises:
        UserError: there is no such table, it lacks a column, or has a box that is none.
    """
    table = data / "fields.csv"
    if not table.is_file():
        raise UserError(f"{table}: not there; --data names the folder that holds fields.csv")
    found: dict[str, dict[str, dict[str, list[Box]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for number, row in rows(table, ("file", "source", "split", "object", "x", "y", "w", "h")):
        if row["split"] == split:
            found[row["source"]][row["file"]][row["object"]].append(_box(table, number, row))
    return found


def _box(table: Path, number: int, row: Mapping[str, str]) -> Box:
    try:
        x, y, width, height = (float(row[key]) for key in ("x", "y", "w", "h"))
    except (TypeError, ValueError) as error:
        raise UserError(f"{table}, line {number}: a number is missing or wrong ({error})") from None
    if not (math.isfinite(x + y + width + height) and width > 0 and height > 0):
        raise UserError(f"{table}, line {number}: a box without a place or a size")
    return Box(x, y, width, height)


def read_doubted() -> Mapping[str, list[Box]]:
    """Return where labels are doubted, by file: red cells boxed as leukocytes, leukocytes without a box."""
    found: dict[str, list[Box]] = defaultdict(list)
    with DOUBTED.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            found[row["file"]].append(Box(*(float(row[key]) for key in ("x", "y", "w", "h"))))
    return found


def learnable(data: Path, leave_out: Collection[str], seed: int) -> list[Field]:
    """Return the fields to learn from: split train, without the sources `leave_out`.

    Images that judge the classifier (cells.csv, validation and test) are left out here too, so that they can
    judge locator and classifier together.

    Raises:
        UserError: the table or an image cannot be read, the table has another source, or none to
            learn from.
    """
    rng = np.random.default_rng(seed)
    sources = set(read_boxes(data, "train"))
    if not sources - set(leave_out):
        raise UserError(
            f"{data / 'fields.csv'}: no box of split train, of another source than those left out"
        )
    if unknown := sorted(sources - set(RED_CELL_PX)):
        raise UserError(
            f"{data / 'fields.csv'}: how large red cells are in {', '.join(unknown)} is not known; add it to "
            "training.fields.RED_CELL_PX, and to training.locator how often the source is shown"
        )
    found = list(read_fields(data, "train", set(RED_CELL_PX) - set(leave_out)))
    cells = [s for s in load(data) if s.source == "pbc"]
    judging = {_hash(s.path) for s in cells if s.split != "train"}
    fields = [f for f in found if _hash(data / "fields" / f.file) not in judging]
    fields += [strip for f in fields for strip in free_strips(f) if rng.random() < _STRIPS]
    if "pbc" not in leave_out:
        fields += _single_cells([s for s in cells if s.split == "train"], rng)
    return fields + list(drawn(0 if "drawn" in leave_out else _DRAWN, rng))


def read_fields(data: Path, split: str, sources: Collection[str]) -> Iterator[Field]:
    """Yield the fields of a split, in the table's order; doubted labels are no labels."""
    doubted = read_doubted()
    for source, files in read_boxes(data, split).items():
        for file, boxes in files.items() if source in sources else ():
            sure = [b for b in boxes["leukocyte"] if b not in doubted.get(file, ())]
            yield _shrunken(
                Field(
                    file,
                    source,
                    read_image(data / "fields" / file),
                    RED_CELL_PX[source],
                    edges_of(sure),
                    edges_of(boxes["platelet"]),
                    edges_of(doubted.get(file, ())),
                )
            )


def drawn(number: int, rng: Random) -> Iterator[Field]:
    """Yield views of drawn smears, a quarter of the cells cut by the border; evidence of nothing."""
    for _ in range(number):
        red_cell = float(rng.uniform(30, 60))
        smear = Smear(int(rng.integers(2**31)), 800, 600, 5, red_cell_px=red_cell)
        x, y = rng.uniform(0, 320), rng.uniform(0, 240)
        boxes = [(c.x - x, c.y - y, 0.49 * c.diameter_px) for c in smear.cells]
        leukocytes = np.array([(a - r, b - r, a + r, b + r) for a, b, r in boxes], np.float32)
        inside = (leukocytes[:, 2:] > 0).all(axis=1) & (leukocytes[:, :2] < (480, 360)).all(axis=1)
        yield Field("", "drawn", smear.view(x, y, 480, 360), red_cell, leukocytes[inside])


def _single_cells(cells: Sequence[Sample], rng: Random) -> Iterator[Field]:
    doubted = read_doubted()
    for name, number in _SINGLE.items():
        members = [s for s in cells if s.name == name]
        for i in rng.permutation(len(members))[:number]:
            image = read_image(members[i].path)
            box = edges_of([single_cell_box(image)])
            none, strange = edges_of([]), edges_of(doubted.get(members[i].file, ()))
            marked = (none, box) if name == "platelet" else (box, none)
            yield Field(members[i].file, "pbc", image, RED_CELL_PX["pbc"], *marked, strange)


def _shrunken(f: Field) -> Field:
    scale = min(1.0, _LONGEST / max(f.image.shape[:2]))
    image = cv2.resize(f.image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    boxes = (scale * f.leukocytes, scale * f.platelets, scale * f.doubted)
    return Field(f.file, f.source, np.asarray(image, np.uint8), scale * f.red_cell_px, *boxes)


def free_strips(f: Field) -> Iterator[Field]:
    """Yield what of a field lies to each side of all its leukocytes, where that is large enough."""
    cells = np.concatenate([f.leukocytes, f.doubted])
    if not len(cells):
        return
    height, width = f.image.shape[:2]
    margin = 0.1 * f.red_cell_px
    left, top = (int(v) for v in np.maximum(cells[:, :2].min(axis=0) - margin, 0))
    right, bottom = (int(v) for v in cells[:, 2:].max(axis=0) + margin)
    for x0, y0, x1, y1 in (
        (0, 0, left, height),
        (0, 0, width, top),
        (right, 0, width, height),
        (0, bottom, width, height),
    ):
        if min((x1 - x0) / width, (y1 - y0) / height) >= _LEAST_STRIP:
            kept = f.platelets - np.array([x0, y0, x0, y0], np.float32)
            inside = (kept[:, :2] > 0).all(axis=1) & (kept[:, 2:] < (x1 - x0, y1 - y0)).all(axis=1)
            image = np.ascontiguousarray(f.image[y0:y1, x0:x1])
            yield Field(f.file, f.source, image, f.red_cell_px, edges_of([]), kept[inside])


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
