"""How well a locator finds the leukocytes that a laboratory has boxed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edge.cells import Box, Image
from training.data import load, read_image
from training.fields import free_strips, read_boxes, read_doubted, read_fields

Locate = Callable[[Image], list[Box]]

SAME = 0.5
"""Intersection over union from which a box is that of a labelled cell."""

_BORDER_PX = 1.5
"""A labelled box that ends so near the picture's border is of a cell that the border cuts."""


@dataclass(slots=True)
class Found:
    """Sums over some fields."""

    fields: int = 0
    labelled: int = 0
    right: int = 0
    """Labelled cells with a box of theirs."""
    near: int = 0
    """Labelled cells with a box at IoU 0.3."""
    located: int = 0
    """Boxes, of cells or not."""
    whole: int = 0
    """Labelled cells that the picture's border does not cut."""
    whole_right: int = 0
    """Of these, with a box of theirs."""

    @property
    def recall(self) -> float:
        """Share of the labelled cells that were found, 0..1."""
        return self.right / max(self.labelled, 1)

    @property
    def precision(self) -> float:
        """Share of the boxes that are of labelled cells, 0..1."""
        return self.right / max(self.located, 1)


def overlap(a: Box, b: Box) -> float:
    """Return intersection over union, 0..1."""
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    common = max(width, 0) * max(height, 0)
    return common / (a.width * a.height + b.width * b.height - common)


def measure(data: Path, split: str, locate: Locate) -> dict[str, tuple[Found, Found]]:
    """Return, by source, what of the labelled fields of a split is found.

    The first figure of a source is by all labels; in the second the boxes of `doubted_boxes.csv` are neither
    asked for, nor wrong where they are found.
    """
    doubted = read_doubted()
    found: dict[str, tuple[Found, Found]] = {}
    for source, files in read_boxes(data, split).items():
        found[source] = (Found(), Found())
        for file, objects in files.items():
            image = read_image(data / "fields" / file)
            boxes, shape = locate(image), image.shape
            cells, strange = objects["leukocyte"], doubted.get(file, [])
            _add(found[source][0], cells, boxes, shape)
            sure = [c for c in cells if c not in strange]
            known = [b for b in boxes if max((overlap(b, s) for s in strange), default=0) < 0.3]
            _add(found[source][1], sure, known, shape)
    return found


def _add(sums: Found, cells: list[Box], boxes: list[Box], shape: tuple[int, ...]) -> None:
    best = [max((overlap(cell, box) for box in boxes), default=0.0) for cell in cells]
    sums.fields += 1
    sums.labelled += len(cells)
    sums.located += len(boxes)
    sums.right += sum(value >= SAME for value in best)
    sums.near += sum(value >= 0.3 for value in best)
    whole = [value for cell, value in zip(cells, best, strict=True) if not _cut(cell, shape)]
    sums.whole += len(whole)
    sums.whole_right += sum(value >= SAME for value in whole)


def _cut(cell: Box, shape: tuple[int, ...]) -> bool:
    right, bottom = shape[1] - cell.x - cell.width, shape[0] - cell.y - cell.height
    return min(cell.x, cell.y, right, bottom) <= _BORDER_PX


def empty_fields(data: Path, split: str) -> Iterator[tuple[str, Image]]:
    """Yield fields without a leukocyte, and their source: parts of labelled fields, images of platelets."""
    for source in read_boxes(data, split):
        for f in read_fields(data, split, {source}):
            for part in free_strips(f):
                yield source, part.image
    doubted = read_doubted()
    for sample in load(data):
        if sample.split == split and sample.name == "platelet" and sample.file not in doubted:
            yield "platelets", read_image(sample.path)
