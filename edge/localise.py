"""Find leukocytes in a frame, by a small network that learned from fields of several laboratories.

The network sees the whole frame shrunken into a square. For every place of a coarse grid it says how likely
a leukocyte has its middle there, and how far the whole cell reaches from there, also beyond the border.

It does not know the scale, and a large platelet seen near looks like a small lymphocyte seen from afar. So
where it is in doubt the red cells of the frame, the smear's own ruler, have the word: what is not much darker
than they are, or of their colour, is no leukocyte, nor what is as small, unless it has a nucleus, as late
erythroblasts do. Where red cells lie far apart it takes some for leukocytes (22 beside 74 true ones): on a
moving stage, which shows in the next frame what one misses, darkness is asked there of what is sure, too.
"""

import json
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cells import Box, Image, Located
from edge.chromatin import Core, RedCells, all_tinted, among, beside, cores, stained
from edge.errors import UserError
from edge.modelfile import ModelFile
from edge.preprocess import TIGHT
from edge.ruler import RED_CELL_UM, TINTED, red_cell_px, stain

PAD = 128
"""Grey level beside a picture that does not fill the network's square."""
LOCATOR_MODEL = Path(__file__).parent / "model" / "locator.tflite"
_LEAST_SCORE, _UNMEASURED = 0.2, 0.3
"""Certainty (0..1) from which a place may be a leukocyte's middle; from which it is one where no red cell was
seen that it could be compared with."""
_SURE = 0.5
"""Certainty from which it is one, of whatever size, no darker than `stained` asks of all."""
_CERTAIN, _SPARSE, _EVERY = 0.7, 0.15, 8
"""Certainty from which it is one, however pale, also on a moving stage where less than this share (0..1) of
the frame is covered; one pixel in so many tells that. Where red cells lie over each other, or the light falls
off, some leukocytes are no darker than twice what is around them (two of 846 sure ones)."""
_LEAST_SIZE = 1.1
"""Longer side of a leukocyte in red cell diameters; a platelet is smaller."""
_SAME = 0.45
"""Share of the smaller of two boxes that both cover from which they are of one cell."""
_SETTLED = 31
"""Frames after which a microscope's red cells are known."""
_CUT = 0.08
"""Share of a cell's side that may lie beyond the border before the cell counts as cut."""
_LEAST_RED_PX, _TILE_RED_PX = 6.5, 9.0
"""Where a red cell is smaller than this in the network's picture, leukocytes are missed (of PBC's validation
fields, shrunken to half that, all): the frame is then looked at in tiles, in which it is as large as that."""
_OVERLAP, _MOST_TILES = 3.5, 144
"""Red cell diameters that neighbouring tiles have in common, so that the widest leukocyte is whole in one of
them; and how many there are at most."""
_LONGEST_TIGHT = 2.0
"""Longer over shorter side up to which an image may have been cut out round one cell, a long one at most."""
_TIGHT_CUT, _TIGHT_SCORE = 0.25, 0.2
"""As `_CUT`, and the least certainty, for such a cell: there is no other picture that shows it whole."""
_OFF_CENTRE = 0.15
"""How far the middle of such a cell may lie from the picture's in both directions, in sides of that: one that
lies in a corner, a photograph of a wider field cuts."""


@dataclass(frozen=True, slots=True)
class LocatorCard:
    """What `locator.json` says of the model file beside it."""

    sha256: str
    size: int
    """Side of the network's input, pixels."""
    stride: int
    """Input pixels to a place of its outputs."""


def read_locator_card(model: Path) -> LocatorCard:
    """Read the card beside a locator's model file.

    Raises:
        UserError: the card is missing, or lacks or misstates a fact.
    """
    path = model.with_suffix(".json")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return LocatorCard(str(facts["sha256"]), int(facts["size"]), int(facts["stride"]))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; a model file needs its card beside it") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a locator's card ({error!r}); convert the model again") from None


class Locator:
    """Boxes of leukocytes, frame by frame.

    Args:
        um_per_px: size of a frame pixel on the smear; None measures it by the red cells.
        steady: True where all frames come from one microscope: the ruler is then the median over the
            last measured frames. False measures each image by itself.
        model: the network's file, its card beside it.
        least_score: certainty (0..1) from which a cell large and dark enough is reported; at least 0.3 while
            no red cells were seen.
        sure: certainty from which any cell is.
        least_size: of a doubtful one, its longer visible side in red cell diameters.

    Raises:
        UserError: the model file is missing, damaged or another than its card says.
    """

    def __init__(
        self,
        um_per_px: float | None = None,
        *,
        steady: bool = False,
        model: Path = LOCATOR_MODEL,
        least_score: float = _LEAST_SCORE,
        sure: float = _SURE,
        least_size: float = _LEAST_SIZE,
    ) -> None:
        self._fixed_px = RED_CELL_UM / um_per_px if um_per_px else None
        self._steady = steady
        self._measured: deque[float] = deque(maxlen=_SETTLED)
        self._red_cells: deque[RedCells] = deque(maxlen=_SETTLED)
        self._frames = 0
        self._sure, self._least_size = sure, least_size
        card = read_locator_card(model)
        self._size, self._stride, self._least_score = card.size, card.stride, least_score
        side = card.size // card.stride
        self._file = ModelFile(
            model, card.sha256, card.size, {"heat": (1, side, side, 1), "reach": (1, side, side, 4)}
        )

    def locate(self, image: Image) -> list[Located]:
        """Return the leukocytes in an RGB `image`, shape (height, width, 3), left to right.

        A box covers the cell with its cytoplasm. A single image that shows nothing but one large cell was,
        unless it is a long strip, cut out round it: that cell counts as whole though its border lies a little
        outside, and is not compared with the red cells, of which little is left around it.
        """
        unit = self._red_cell_px(image)
        edges, scores = self._seek_all(image, unit)
        likely = scores >= (self._least_score if unit is not None else max(self._least_score, _UNMEASURED))
        sure = scores >= self._sure
        found = [_located(e, image.shape[:2], s) for e, s in zip(edges[likely], sure[likely], strict=True)]
        if unit is not None:
            refused = self._refused(image, [cell for cell in found if not cell.sure], unit)
            if self._steady and _is_sparse(image):
                firm = [c for c, s in zip(found, scores[likely], strict=True) if self._sure <= s < _CERTAIN]
                refused += self._pale(image, firm, unit, found)
            found = [cell for cell in found if cell not in refused]
        cut_out = not self._steady and max(image.shape[:2]) <= _LONGEST_TIGHT * min(image.shape[:2])
        if cut_out and len(edges) and not any(cell.whole for cell in found):
            likeliest = _located(edges[0], image.shape[:2], sure[0], _TIGHT_CUT)
            if likeliest.whole and is_cut_out(image.shape[:2], likeliest.box):
                return [likeliest]
        return sorted(found, key=lambda cell: cell.box.x)

    def _refused(self, image: Image, doubtful: Sequence[Located], unit: float) -> list[Located]:
        """Return which cells are as pale as red cells, of their colour, or as small and without a nucleus."""
        if not doubtful:
            return []
        least = self._least_size * unit
        told = cores(image, [cell.box for cell in doubtful], unit, all_tinted(stain(image)))
        return [
            cell
            for cell, core in zip(doubtful, told, strict=True)
            if core < (Core.NUCLEUS if cell.box.side < least else Core.DARK)
        ]

    def _pale(
        self, image: Image, firm: Sequence[Located], unit: float, found: Sequence[Located]
    ) -> list[Located]:
        """Return which cells are as pale as the red cells beside all that was `found`, or of their colour.

        One frame may show no red cell beside them: those of the last frames are remembered. Before the first,
        the middle one of what was found stands for them.
        """
        if not firm:
            return []
        dye, boxes = stain(image), [cell.box for cell in found]
        if red_cells := beside(dye, boxes, unit):
            self._red_cells.append(red_cells)
        if self._red_cells:
            usual = RedCells(*np.median([astuple(r) for r in self._red_cells], axis=0).tolist())
        elif (own := among(dye, boxes, unit)) is not None:
            usual = own
        else:
            return []
        told = cores(image, [cell.box for cell in firm], unit, usual)
        return [cell for cell, core in zip(firm, told, strict=True) if core is Core.PALE]

    def _seek_all(self, image: Image, unit: float | None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return edges in the image's pixels, shape (n, 4), and scores, best first; small cells in tiles."""
        found = []
        shape = np.array(image.shape[1::-1], np.float32)
        for left, top, right, bottom in _tiles(image.shape[:2], unit, self._size):
            edges, scores = self._seek(np.ascontiguousarray(image[top:bottom, left:right]))
            corner, end = np.array([left, top], np.float32), np.array([right, bottom], np.float32)
            edges = edges + np.tile(corner, 2)
            # What a tile's border cuts is whole in its neighbour.
            slack = _CUT * (edges[:, 2:] - edges[:, :2])
            before = (edges[:, :2] < corner - slack) & (corner > 0)
            behind = (edges[:, 2:] > end + slack) & (end < shape)
            whole = ~(before | behind).any(axis=1)
            found.append((edges[whole], scores[whole]))
        if unit is not None and len(found) > 1:
            # Specks may have been taken for red cells: what no tile can hold is looked for in the whole.
            edges, scores = self._seek(image)
            large = (edges[:, 2:] - edges[:, :2]).max(axis=1) > _OVERLAP * unit
            found.append((edges[large], scores[large]))
        edges, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
        kept = distinct(edges, scores)
        return edges[kept], scores[kept]

    def _seek(self, image: Image) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return what the network finds in one picture, in its pixels."""
        scale = self._size / max(image.shape[:2])
        seen = letterbox(image, self._size)
        self._file.run(seen)
        least = min(self._least_score, _TIGHT_SCORE)
        edges, scores = decode(self._file.read("heat"), self._file.read("reach"), self._stride, least)
        height, width = (max(1, round(scale * side)) for side in image.shape[:2])
        apart = distinct(edges, scores)
        dark = stained(np.ascontiguousarray(seen[:height, :width]), edges[apart])
        kept = [i for i, is_dark in zip(apart, dark, strict=True) if is_dark]
        return edges[kept] / scale, scores[kept]

    def _red_cell_px(self, image: Image) -> float | None:
        """Return the diameter of a red cell in frame pixels; None where none was seen.

        Of frames of one microscope the first ones are measured, and then one in so many.
        """
        if self._fixed_px is not None:
            return self._fixed_px
        if not self._steady:
            self._measured.clear()
        self._frames += 1
        if len(self._measured) < _SETTLED or self._frames % _SETTLED == 0:
            measured = red_cell_px(image)
            if measured is not None:
                self._measured.append(measured)
        return float(np.median(self._measured)) if self._measured else None


def is_cut_out(shape: tuple[int, ...], box: Box) -> bool:
    """Tell whether a picture of this height and width may have been cut out round a cell."""
    (x, y), (height, width) = box.centre, shape
    in_a_corner = min(abs(x / width - 0.5), abs(y / height - 0.5)) > _OFF_CENTRE
    return box.side >= TIGHT * min(shape) and not in_a_corner


def _is_sparse(image: Image) -> bool:
    """Tell whether little but glass is in a frame."""
    green = image[::_EVERY, ::_EVERY, 1].astype(np.float32) + 4
    return float((green < np.exp(-TINTED) * np.percentile(green, 95)).mean()) < _SPARSE


def _tiles(shape: tuple[int, ...], unit: float | None, size: int) -> list[tuple[int, int, int, int]]:
    """Return left, top, right, bottom of the parts to look at: the whole, or many where cells are small.

    Args:
        shape: height and width of the picture.
        unit: diameter of its red cells, pixels; None where it is not known.
        size: side of the network's input, pixels.
    """
    height, width = shape
    if unit is None or unit * size >= _LEAST_RED_PX * max(shape):
        return [(0, 0, width, height)]
    overlap = _OVERLAP * unit
    side = max(unit * size / _TILE_RED_PX, (height * width / _MOST_TILES) ** 0.5 + overlap)
    lefts, tops = (
        np.linspace(0, max(length - side, 0), max(1, math.ceil((length - overlap) / (side - overlap))))
        for length in (width, height)
    )
    return [
        (round(x), round(y), min(round(x + side), width), min(round(y + side), height))
        for y in tops
        for x in lefts
    ]


def letterbox(image: Image, size: int) -> Image:
    """Return the picture in the upper left of a grey square, its longer side `size`."""
    height, width = image.shape[:2]
    scale = size / max(height, width)
    extent = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    square = np.full((size, size, 3), PAD, np.uint8)
    square[: extent[1], : extent[0]] = cv2.resize(image, extent, interpolation=method)
    return square


def decode(
    heat: NDArray[np.float32], reach: NDArray[np.float32], stride: int, least_score: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the cells that the network's maps tell of, best first.

    Args:
        heat: certainty that a cell's middle is here, 0..1, shape (side, side, 1).
        reach: logarithm of the distances to its left, upper, right and lower side, shape (side, side, 4).
        stride: input pixels to a place.
        least_score: only places as certain as this are looked at.

    Returns:
        Left, top, right, bottom in input pixels, shape (n, 4), and scores, shape (n,).
    """
    heat = heat[..., 0]
    peaks = (heat >= least_score) & (heat >= cv2.dilate(heat, np.ones((3, 3), np.uint8)))
    rows, columns = np.nonzero(peaks)
    order = np.argsort(-heat[rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    x, y = stride * (columns + 0.5), stride * (rows + 0.5)
    away = np.exp(reach[rows, columns])
    edges = np.stack([x - away[:, 0], y - away[:, 1], x + away[:, 2], y + away[:, 3]], axis=1)
    return edges.astype(np.float32), heat[rows, columns]


def distinct(edges: NDArray[np.float32], scores: NDArray[np.float32]) -> list[int]:
    """Return which boxes, best first, are of a cell that no better box is of (non-maximum suppression)."""
    kept: list[int] = []
    area = (edges[:, 2:] - edges[:, :2]).prod(axis=1)
    for i in np.argsort(-scores, kind="stable"):
        common = np.minimum(edges[kept, 2:], edges[i, 2:]) - np.maximum(edges[kept, :2], edges[i, :2])
        both = np.maximum(common, 0).prod(axis=1)
        if (both <= _SAME * np.minimum(area[kept], area[i])).all():
            kept.append(int(i))
    return kept


def _located(
    edges: NDArray[np.float32], shape: tuple[int, ...], sure: np.bool_, cut: float = _CUT
) -> Located:
    """Return a cell by its edges in frame pixels: clipped to the frame, and whether the border cuts it."""
    border = np.array([0, 0, shape[1], shape[0]], np.float32)
    left, top = np.maximum(edges[:2], 0).tolist()
    right, bottom = np.minimum(edges[2:], border[2:]).tolist()
    beyond = np.concatenate([-edges[:2], edges[2:] - border[2:]]).max()
    whole = beyond <= cut * (edges[2:] - edges[:2]).max()
    box = Box(left, top, max(right - left, 1.0), max(bottom - top, 1.0))
    return Located(box, bool(whole), bool(sure))
