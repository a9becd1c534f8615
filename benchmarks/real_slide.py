"""A slide of real cells: PBC leukocytes pasted among PBC red cells, with exact truth.

Leukocytes whose outline is in doubt, or which are crowded by red cells, are left out: one in three
monocytes and basophils, one in seven of the others. Such a slide measures counting; its classes are
somewhat easier than those of the whole split.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.quilt import quilt, turned
from edge.cells import Image
from edge.errors import UserError
from training.data import Sample, load, read_image

Floats = NDArray[np.float32]
Mask = NDArray[np.uint8]

WHITE = (235.0, 210.0, 187.0)
"""The slide's background, RGB: the median of the PBC set, 8 % darker so that the light may rise."""
MIX: Mapping[str, float] = {
    "monocyte": 0.10,
    "basophil": 0.08,
    "eosinophil": 0.12,
    "neutrophil": 0.45,
    "lymphocyte": 0.25,
}
"""Share of each class among the pasted leukocytes: believable, with every class well represented.
The large ones come first, so that all find room."""
LEAST_GAP = 1.3
"""Least distance between the centres of two leukocytes, in diameters of the larger one."""
_TINTED = 0.06
"""Optical density in green above which a pixel is not background."""
_STAINED = 0.45
"""2 x OD(green) - OD(blue) above which a pixel is chromatin (or a platelet's granules)."""
_PATCHES = 60
"""Pictures of red cells that a slide is made of, at most. Their platelets are shown once and otherwise
erased, so that no single odd one decides what a benchmark finds."""
_RIM = 5
"""Pixels of its own surroundings that a leukocyte brings along, to fade into the slide."""


@dataclass(frozen=True, slots=True)
class TrueCell:
    """One leukocyte of the slide."""

    number: int
    """From 0."""
    name: str
    """Class by the experts of the PBC set."""
    file: str
    """The image that it was cut from."""
    x: float
    y: float
    """Centre of its outline's bounding box, slide pixels."""
    diameter: float
    """Longer side of that box, slide pixels."""


@dataclass(frozen=True, slots=True)
class Slide:
    """What lies under the camera."""

    image: Image
    cells: tuple[TrueCell, ...]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height), pixels."""
        return self.image.shape[1], self.image.shape[0]


def build_slide(
    data: Path,
    split: str,
    seed: int,
    *,
    scale: float = 0.6,
    size: tuple[int, int] = (2600, 1720),
    leukocytes: int = 120,
    mix: Mapping[str, float] = MIX,
) -> Slide:
    """Lay out a slide from the PBC crops of one split; the same arguments give the same slide.

    Args:
        data: folder with cells.csv.
        split: "train", "validation" or "test".
        seed: of the arrangement.
        scale: slide pixels per pixel of a crop (a red cell spans 71 pixels there, a leukocyte 136).
        size: width and height of the slide, pixels.
        leukocytes: how many to paste.
        mix: share of each class, sums to 1.

    Raises:
        UserError: the images are missing or too few, or so many cells do not fit on the slide.
    """
    samples = [s for s in load(data) if s.source == "pbc" and s.split == split]
    rng = np.random.default_rng(seed)
    bare, with_platelet = _patches([s for s in samples if s.name == "platelet"], scale, rng)
    image = quilt(bare, with_platelet, size, rng)
    _, platelets = _dye(image)
    cells: list[TrueCell] = []
    for name, share in mix.items():
        wanted = len(cells) + round(share * leukocytes)
        for cut in _cut_outs([s for s in samples if s.name == name], scale, rng):
            if len(cells) == wanted:
                break
            x, y = _free_place(platelets, cells, cut.diameter, rng)
            _paste(image, cut, x, y)
            file = cut.sample.path.relative_to(data / "cells").as_posix()
            centre = x + cut.width / 2, y + cut.height / 2
            cells.append(TrueCell(len(cells), name, file, *centre, cut.diameter))
        if len(cells) < wanted:
            raise UserError(f"{data}: split {split!r} has too few {name} images; ask for fewer leukocytes")
    return Slide(image, tuple(cells))


def _matched(image: Image) -> Image:
    """Return a crop with its background turned to `WHITE`."""
    brightness = image.sum(axis=2)
    white = np.median(image[brightness >= np.percentile(brightness, 80)], axis=0)
    return np.asarray(np.clip(image * (np.array(WHITE) / white), 0, 255), np.uint8)


def _resized(image: Image, scale: float) -> Image:
    return np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def _dye(image: Image) -> tuple[Floats, Mask]:
    """Return optical density in green, and where chromatin is, of a picture with background `WHITE`."""
    density = -np.log((image.astype(np.float32) + 4) / (np.array(WHITE, np.float32) + 4))
    green, blue = density[..., 1], density[..., 2]
    nuclear = cv2.GaussianBlur(2 * green - blue, (0, 0), 1)
    level = float(np.median((2 * green - blue)[green > _TINTED]))
    return green, (nuclear > max(_STAINED, 2.2 * level)).astype(np.uint8)


def _patches(
    samples: Sequence[Sample], scale: float, rng: np.random.Generator
) -> tuple[list[Image], list[Image]]:
    """Return square pictures of red cells, without and with the platelet in the middle.

    Raises:
        UserError: there is none.
    """
    bare: list[Image] = []
    whole: list[Image] = []
    for i in rng.permutation(len(samples))[:_PATCHES]:
        image = _matched(_resized(read_image(samples[i].path), scale))
        _, stained = _dye(image)
        if not _free(stained):
            continue
        reach = round(20 * scale) | 1
        around = cv2.dilate(stained, np.ones((reach, reach), np.uint8))
        bare.append(np.asarray(cv2.inpaint(image, around, 3, cv2.INPAINT_TELEA), np.uint8))
        whole.append(image)
    if not bare:
        raise UserError("no red cells to build a slide from; the split needs images of platelets")
    side = min(min(p.shape[:2]) for p in bare)
    return [p[:side, :side] for p in bare], [p[:side, :side] for p in whole]


def _free(stained: Mask) -> bool:
    """Return whether a platelet's picture shows no leukocyte beside the platelet."""
    _, _, stats, centres = cv2.connectedComponentsWithStats(stained)
    middle = np.array(stained.shape[::-1]) / 2
    off = np.abs(centres - middle).max(axis=1) > 0.2 * middle[0]
    # A platelet seldom covers more than 1 % of the picture, a leukocyte 7 %.
    return not (stats[1:, cv2.CC_STAT_AREA][off[1:]] > 0.01 * stained.size).any()


def _outline(image: Image) -> Mask | None:
    """Return the silhouette (0 or 1, half size) of the cell in the middle of a crop; None when in doubt."""
    image = _resized(image, 0.5)
    green, stained = _dye(image)
    side = len(green)
    rows, columns = np.indices(green.shape)
    radius = np.hypot(columns - green.shape[1] / 2, rows - side / 2)
    _, labels = cv2.connectedComponents(stained)
    core = (stained > 0) & np.isin(labels, labels[radius < 0.12 * side])
    if core.sum() < 0.01 * core.size:
        return None
    beyond = cv2.distanceTransform((~core).astype(np.uint8), cv2.DIST_L2, 5)
    seeds = np.full(green.shape, cv2.GC_PR_BGD, np.uint8)
    seeds[beyond < side / 30] = cv2.GC_PR_FGD
    seeds[core] = cv2.GC_FGD
    seeds[(beyond > side / 6) | (radius > 0.36 * side) | (green < _TINTED)] = cv2.GC_BGD
    if not (seeds & cv2.GC_FGD).any():
        return None
    cv2.setRNGSeed(1)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(image, seeds, (0, 0, 1, 1), *models, 3, cv2.GC_INIT_WITH_MASK)
    mask = _smooth(np.asarray(seeds & 1, np.uint8), side)
    return mask if _believable(mask, core, green) else None


def _smooth(mask: Mask, side: int) -> Mask:
    """Return the largest piece of a mask without slivers, holes filled."""
    for operation, share in ((cv2.MORPH_CLOSE, 26), (cv2.MORPH_OPEN, 12)):
        size = side // share | 1
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
        mask = np.asarray(cv2.morphologyEx(mask, operation, disc), np.uint8)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    whole = np.zeros_like(mask)
    if outlines:
        cv2.drawContours(whole, [max(outlines, key=cv2.contourArea)], -1, 1, cv2.FILLED)
    return whole


def _believable(mask: Mask, core: NDArray[np.bool_], green: Floats) -> bool:
    """Return whether `mask` outlines the whole cell and nothing else."""
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not outlines or (mask[core] == 0).mean() > 0.05:
        return False
    solidity = cv2.contourArea(outlines[0]) / cv2.contourArea(cv2.convexHull(outlines[0]))
    step = len(mask) // 45
    # Pale cytoplasm that was missed, or red cells that crowd the cell, tint the ring around it.
    around = cv2.distanceTransform(1 - mask, cv2.DIST_L2, 5)
    ring = (around > step) & (around <= 2.5 * step)
    return solidity > 0.9 and float((green[ring] > _TINTED).mean()) < 0.5


@dataclass(frozen=True, slots=True)
class _CutOut:
    """One leukocyte at slide scale, with `_RIM` pixels of its surroundings on every side."""

    sample: Sample
    picture: Image
    solid: Mask
    """1 on the cell."""

    @property
    def width(self) -> int:
        return len(self.solid[0]) - 2 * _RIM

    @property
    def height(self) -> int:
        return len(self.solid) - 2 * _RIM

    @property
    def diameter(self) -> float:
        return float(max(self.width, self.height))


def _cut_outs(samples: Sequence[Sample], scale: float, rng: np.random.Generator) -> Iterator[_CutOut]:
    """Yield the cells of `samples` whose outline is beyond doubt, in random order, flipped and turned."""
    for i in rng.permutation(len(samples)):
        picture = np.ascontiguousarray(turned(_matched(read_image(samples[i].path)), int(rng.integers(8))))
        outline = _outline(picture)
        if outline is None:
            continue
        picture = _resized(picture, scale)
        mask = cv2.resize(outline.astype(np.float32), picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        solid = np.asarray(mask > 0.5, np.uint8)
        x, y, width, height = cv2.boundingRect(solid)
        part = slice(y - _RIM, y + height + _RIM), slice(x - _RIM, x + width + _RIM)
        yield _CutOut(samples[i], picture[part], solid[part])


def _paste(slide: Image, cut: _CutOut, x: int, y: int) -> None:
    """Paste a cell into the slide, in place; (x, y) is the upper left corner of its box."""
    # A little more than the outline, so that the feather does not eat the cell's rim.
    grown = cv2.dilate(cut.solid, np.ones((5, 5), np.uint8)).astype(np.float32)
    share = cv2.GaussianBlur(grown, (0, 0), 1.2)[..., None]
    place = slide[y - _RIM : y + cut.height + _RIM, x - _RIM : x + cut.width + _RIM]
    # Round the outline the darker of the two shows: red cells touch the leukocyte, without a pale rim.
    shown = np.where(cut.solid[..., None] > 0, cut.picture, np.minimum(cut.picture, place))
    place[:] = place + share * (shown - place.astype(np.float32))


def _free_place(
    platelets: Mask, cells: Sequence[TrueCell], diameter: float, rng: np.random.Generator
) -> tuple[int, int]:
    """Return the upper left corner of a free box, a cell off the border, clear of `cells` and platelets."""
    height, width = platelets.shape
    box = math.ceil(diameter)
    for _ in range(20000):
        x, y = (int(v) for v in rng.uniform(diameter, (width - 2 * diameter, height - 2 * diameter)))
        clear = not platelets[y : y + box, x : x + box].any() and all(
            math.hypot(c.x - x - diameter / 2, c.y - y - diameter / 2) > LEAST_GAP * max(c.diameter, diameter)
            for c in cells
        )
        if clear:
            return x, y
    raise UserError(
        f"{len(cells) + 1} leukocytes do not fit on {width} x {height} pixels; ask for fewer leukocytes"
    )
