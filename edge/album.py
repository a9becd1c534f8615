"""Photographs seen lately, and which of them show what a new one shows: shifted, turned, darker or lighter.

Landmarks find the candidates and lay the new photograph on them; then every cell must be the same one
to the eye: the two pictures must correlate where the cell and its neighbours lie. Whoever looks alike but
is another cell among other neighbours fails one or the other.
"""

import math
from collections import Counter
from collections.abc import Sequence
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cells import Box, Image
from edge.landmarks import Fit, Landmarks, fit, landmarks
from edge.pose import Pose
from edge.sightings import one_cell
from edge.void import reaching

_RECENT, _MOST_BYTES = 300, 60_000_000
"""Photographs remembered at a time, and bytes of them."""
_WORK_SIDE = 240
"""Photographs are compared at this many pixels of their longer side. Small ones are enlarged, since they show
too few landmarks as they are: of 270 views of cells of Zheng 1, 120 pixels wide, one was not laid on its
photograph, five without that."""
_LARGE_SIDE, _CELL_SIDE = 480, 30
"""At up to so many where cells would be smaller than so many pixels: of 117 cells on eight photographs of
1800 x 1200 pixels, each a 33rd of them and turned by any angle, 45 were counted twice without that, and none
with it."""
_LANDMARKS = 300
"""Of a photograph, at most."""
_ENOUGH = 4
"""Photographs of a cell; of one that more show the oldest are forgotten first."""
_TELLING = 100
"""The strongest landmarks of each remembered photograph, among which those of a new one are sought."""
_CANDIDATES = 8
"""Photographs that are looked at closely, at most."""
_ALIKE, _LEAST_HINTS = 0.95, 3
"""Correlation of the looks of two landmarks from which they may be one, as the likest of all may be anyhow;
and how many must have such a likeness in a photograph to look at it closely. Each gives a hint to all that
have one, the less the more they are: where many photographs show a cell, the likest alone would hardly get
any, and in a blurred one everything is alike."""
_SIFT_NORM = 512
"""Length of a landmark's looks, about."""
_LEAST_VOTES, _VERY_FEW_VOTES, _FEW_VOTES = 3, 5, 10
"""Landmarks that must support a pose; below the second the pictures must agree to `_ALMOST_ALIKE`, below the
third to `_CLOSELY`."""
_LEAST_ABOUT = 4
"""Of these on the cell or next to it, likewise: a scale bar or a date in all pictures supports them as they
lie. Half of 40 lymphocytes in such pictures agreed by 0.75 to 0.88, with two at most."""
_AGREE = 0.85
"""How well two views of a cell must agree to be of one, laid on each other by ten landmarks or more. Of some
1,300 pairs in series of photographs the least agree by 0.87; of two cells laid on each other by seven
landmarks the most alike by 0.875 (BCCD), by eight and more none by 0.75."""
_CLOSELY = 0.95
"""The pictures of one cell correlate better in nearly all series; of two cells laid on each other by five
landmarks or more the most alike of 24,000 pairs by 0.945 (PBC, validation; BCCD; Zheng 1; some blurred)."""
_ALMOST_ALIKE = 0.96
"""The same for very few landmarks, as blurred pictures share: of the same pairs by 0.934."""
_WAYS = 2
"""Poses that are tried."""
_IN_PLACE = 0.01
"""Share of a picture's longer side by which no point of it lies elsewhere in the other: what both show there
may be a scale bar or a date, so that they must agree to `_CLOSELY`, and another pose is tried."""
_MANY_VOTES, _MANY_ABOUT, _NEARLY = 20, 8, 0.72
"""With so many, and so many of them about the cell, the pictures may differ as much as that: seen aslant, or
drawn out in one direction, a photograph lies on another only about so well. Two cells never had as many."""
_SAME_SCALE, _MOST_SCALING, _MOST_ZOOM = 0.05, 0.4, 0.75
"""Natural logarithm of the scale of one photograph over the other up to which it is that of one microscope;
up to which few landmarks may do; and up to which they are compared at all. A telephone enlarges the middle of
its picture up to twice (0.69): that is believed of `_MANY_VOTES`, `_MANY_ABOUT` the cell, where the pictures
agree to `_CLOSELY`. Of 149 cells enlarged twice (PBC, Raabin, BCCD) the fewest were 31 and 11, and the least
agreement 0.998; 114,000 pairs of two cells, whole or enlarged 1.7 times, had eight landmarks at most."""
_VERY_FEW_VOTES_TO_SCALE, _FEW_VOTES_TO_SCALE = 10, 20
"""The same limits where the scale is another: cells are alike, and more so at scales of choice. Of 67,000
pairs of two cells (PBC, BCCD, Zheng 1) none had more than nine landmarks."""
_AROUND = 1.25
"""Side of what must agree about a cell, in sides of its box."""
_SOUGHT = 2.5
"""Side of what hints at a cell, likewise: a small one has few landmarks of its own."""
_LEAST_COMMON = 0.25
"""Share (0..1) of that which both photographs must show: a cell may fill one, the border of the other
cut it."""

_MOST_DRAWN = 0.15
"""Share of a patch's side by which its corners may lie elsewhere once it is drawn out: a picture seen aslant,
or squeezed. Of 36 series of four photographs, a tenth shorter in one direction (12 each of PBC, Zheng 1 and
BCCD), 15 cells were counted twice without that, and 5 with it. Of 3,483 pairs of different cells that a drawn
box and its label in both pictures laid on each other, 3 were taken for one with and without it; 24 where
pictures need not agree closely then, nor landmarks lie about the cell."""
_UNLIKE = 0.4
"""Pictures that correlate no better show nothing in common that could be laid better."""
_ROUNDS, _SMOOTHED = 30, 5
"""In which it is sought how far, at most; and pixels over which the pictures are smoothed for that."""

_UNMIXED = 0.99
"""Least share (0..1) of a patch's pixel that comes from where its picture shows something."""

_SAME_CELL = 0.5
"""Two boxes less than this many sides apart may show one cell."""
_LARGEST_LOBE = 0.3
"""Area of a lobe's box over its cell's, at most; two cells that were boxed as one are larger, also lying
corner to corner (0.34)."""

_PLAIN = 1
"""Grey levels within 3 x 3 pixels, at most, where nothing is shown."""
_RIM = 3
"""Pixels around that in which it is mixed with the picture."""

_AS_IT_IS = Fit(Pose(0, 0, 0), 1.0, np.empty((0, 2), np.float32))

Floats = NDArray[np.float32]
Mask = NDArray[np.uint8]
Looks = NDArray[np.uint8]


class Photograph:
    """One photograph, small, and the cells on it.

    Args:
        image: as it came.
        boxes: of the cells that will be compared, in its pixels.
    """

    def __init__(self, image: Image, boxes: Sequence[Box] = ()) -> None:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        longer, work = max(grey.shape), float(_WORK_SIDE)
        if boxes:
            told = _CELL_SIDE * longer / float(np.median([box.side for box in boxes]))
            work = max(work, min(told, _LARGE_SIDE, longer))
        self.scale = work / longer
        """Its pixels per pixel of the photograph."""
        size = [max(1, round(self.scale * side)) for side in grey.shape[::-1]]
        method = cv2.INTER_AREA if self.scale < 1 else cv2.INTER_CUBIC
        self.grey = np.asarray(cv2.resize(grey, size, interpolation=method), np.uint8)
        """Shape (height, width)."""
        self.shown = _shown(self.grey)
        """Where it shows picture, shape (height, width): not what was laid around a turned or cut one."""
        self.cells: tuple[tuple[Box, int], ...] = ()
        """Box, in pixels of the photograph, and number of each cell."""

    @property
    def size_bytes(self) -> int:
        """Of its pictures."""
        return self.grey.nbytes + self.shown.nbytes

    @cached_property
    def marks(self) -> Landmarks:
        """In pixels of the photograph."""
        found = landmarks(self.grey, most=_LANDMARKS)
        return Landmarks((found.points + 0.5) / np.float32(self.scale) - 0.5, found.looks)

    @cached_property
    def telling(self) -> Looks:
        """Looks of the strongest landmarks, shape (landmarks, 128)."""
        return landmarks(self.grey, most=_TELLING).looks

    @cached_property
    def cell_looks(self) -> Looks:
        """Looks of the landmarks on the cells and about them, shape (landmarks, 128)."""
        return self.looks_about([box for box, _ in self.cells])

    def looks_about(self, boxes: Sequence[Box]) -> Looks:
        """Return the looks of the landmarks on what is boxed and about it, shape (landmarks, 128)."""
        points = self.marks.points
        about = [np.abs(points - box.centre).max(axis=1) < _SOUGHT / 2 * box.side for box in boxes]
        return self.marks.looks[np.any(about, axis=0)]


def lay(old: Photograph, new: Photograph) -> list[Fit]:
    """Return how a new photograph may lie on an old one by their landmarks, the likeliest way first.

    A second way is told where the first one leaves all in its place, as a scale bar in both pictures does.
    """
    ways: list[Fit] = []
    while len(ways) < _WAYS:
        found = fit(old.marks, new.marks, 2 / old.scale, without=ways[0] if ways else None)
        if found is None or found.votes < _LEAST_VOTES:
            break
        if _scaling(old, new, found) > (_MOST_ZOOM if found.votes >= _MANY_VOTES else _MOST_SCALING):
            break
        ways.append(found)
        if not _in_place(old, found):
            break
    return ways


def _in_place(old: Photograph, laid: Fit) -> bool:
    """Tell whether each point of a photograph lies where it lies in the other."""
    width, height = (side / old.scale for side in old.grey.shape[::-1])
    corners = ((0.0, 0.0), (width, 0.0), (0.0, height), (width, height))
    away = max(math.dist(corner, laid.to_picture(*corner)) for corner in corners)
    return bool(away < _IN_PLACE * max(width, height))


def least_agreement(old: Photograph, new: Photograph, laid: Fit, cell: Box) -> float:
    """Return how well two photographs must agree over a cell of the old one, to show the same one.

    Infinite where one is enlarged more than a little and too few landmarks lie about the cell; `lay` asks for
    many in all.
    """
    about, scaling = _votes_about(cell, laid), _scaling(old, new, laid)
    if scaling > _MOST_SCALING:
        return _CLOSELY if about >= _MANY_ABOUT else math.inf
    scaled = scaling > _SAME_SCALE
    if laid.votes < (_VERY_FEW_VOTES_TO_SCALE if scaled else _VERY_FEW_VOTES):
        return _ALMOST_ALIKE
    few = laid.votes < (_FEW_VOTES_TO_SCALE if scaled else _FEW_VOTES)
    if few or about < _LEAST_ABOUT or _in_place(old, laid):
        return _CLOSELY
    many = not scaled and laid.votes >= _MANY_VOTES and about >= _MANY_ABOUT
    return _NEARLY if many else _AGREE


def _scaling(old: Photograph, new: Photograph, laid: Fit) -> float:
    """Return the logarithm of one photograph's scale over the other's, 0 or more.

    One camera's pictures may be cut to any size, or one view be saved at any resolution: pixels are alike in
    the first case, and shares of the picture in the second; the nearer of both counts.
    """
    pixels = max(laid.scale, 1e-6)
    return min(abs(math.log(pixels)), abs(math.log(pixels * old.scale / new.scale)))


class Album:
    """The last 300 photographs with cells, fewer of large ones; older ones of cells that few show."""

    def __init__(self) -> None:
        self._photographs: list[Photograph] = []

    @property
    def numbers(self) -> set[int]:
        """Of all cells on the photographs."""
        return {number for photograph in self._photographs for _, number in photograph.cells}

    def add(self, photograph: Photograph) -> None:
        """Remember a photograph, and forget the oldest: one of cells that enough others show, if any."""
        self._photographs.append(photograph)
        while len(self._photographs) > _RECENT or sum(p.size_bytes for p in self._photographs) > _MOST_BYTES:
            shown = Counter(number for p in self._photographs for _, number in p.cells)
            often = (p for p in self._photographs if all(shown[number] > _ENOUGH for _, number in p.cells))
            self._photographs.remove(next(often, self._photographs[0]))

    def known(self, new: Photograph, boxes: Sequence[Box]) -> list[int | None]:
        """Return the number of the cell in each box of a new photograph, None for one never seen."""
        numbers: list[int | None] = [None] * len(boxes)
        likely = self._candidates(new.marks.looks, [p.telling for p in self._photographs])
        self._recognise(new, boxes, numbers, likely)
        # Of overlapping photographs the likeliest may all be such as cut a cell that an older one has whole.
        for i, box in enumerate(boxes):
            if numbers[i] is None:
                showing = self._candidates(new.looks_about([box]), [p.cell_looks for p in self._photographs])
                self._recognise(new, boxes, numbers, [p for p in showing if p not in likely])
        return numbers

    def _recognise(
        self,
        new: Photograph,
        boxes: Sequence[Box],
        numbers: list[int | None],
        photographs: Sequence[Photograph],
    ) -> None:
        """Fill in the `numbers` of boxes that show a cell of one of the photographs."""
        taken = {number: i for i, number in enumerate(numbers) if number is not None}
        ways = ((photograph, laid) for photograph in photographs for laid in lay(photograph, new))
        for photograph, laid in ways:
            shown: dict[Box, int] = {}
            for _, i, cell, number, lobe in self._near(photograph, laid, boxes):
                # A cell of the old one lies once in the new one; what is left over beside it is another.
                twin = shown.get(cell, taken.get(number))
                free = numbers[i] is None and (twin is None or lobe or one_cell(boxes[i], boxes[twin]))
                least = least_agreement(photograph, new, laid, cell)
                if free and agreement(photograph, new, laid, cell) >= least:
                    numbers[i] = number
                    shown.setdefault(cell, i)
            taken = {number: i for i, number in enumerate(numbers) if number is not None}

    def _candidates(self, sought: Looks, shown: Sequence[Looks]) -> list[Photograph]:
        """Return the photographs, which have these looks to show, that share the most with those sought."""
        counts = [len(looks) for looks in shown]
        if not sum(counts) or not len(sought):
            return []
        looks = np.concatenate(shown).astype(np.float32)
        asked = np.flatnonzero(counts)
        starts = np.cumsum([0, *(counts[i] for i in asked[:-1])])
        likest = np.maximum.reduceat(sought.astype(np.float32) @ looks.T, starts, axis=1)
        enough = np.minimum(likest.max(axis=1, keepdims=True), _ALIKE * _SIFT_NORM**2)
        hints = likest >= enough
        told = (hints / hints.sum(axis=1, keepdims=True)).sum(axis=0)
        best = [
            i for i in np.argsort(-told, kind="stable")[:_CANDIDATES] if hints[:, i].sum() >= _LEAST_HINTS
        ]
        return [self._photographs[asked[i]] for i in best]

    @staticmethod
    def _near(old: Photograph, laid: Fit, boxes: Sequence[Box]) -> list[tuple[float, int, Box, int, bool]]:
        """Return which boxes of the new photograph may show which cells of the old one, nearest first.

        Each with the distance in pixels of the old one, the index of the box, the cell's box and number,
        and whether the box may be that of a mere lobe of its nucleus.
        """
        found = []
        for i, box in enumerate(boxes):
            x, y = laid.to_reference(*box.centre)
            width, height = laid.scale * box.width, laid.scale * box.height
            for cell, number in old.cells:
                away = float(np.hypot(x - cell.centre[0], y - cell.centre[1]))
                small, large = sorted((max(width, height), cell.side))
                lobe = _is_lobe(Box(x - width / 2, y - height / 2, width, height), cell)
                if lobe or away < _SAME_CELL * min(large, 1.5 * small):
                    found.append((away, i, cell, number, lobe))
        return sorted(found, key=lambda pair: pair[:2])


def _shown(grey: NDArray[np.uint8]) -> Mask:
    """Return 1 where a picture shows something, 0 where it is plain up to its border."""
    plain = cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) <= _PLAIN
    blank = reaching(plain).astype(np.uint8)
    return np.asarray(1 - cv2.dilate(blank, np.ones((2 * _RIM + 1, 2 * _RIM + 1), np.uint8)), np.uint8)


def _votes_about(cell: Box, laid: Fit) -> int:
    """Return how many landmarks on a cell of the old photograph, or next to it, support the pose."""
    return int((np.abs(laid.support - cell.centre).max(axis=1) < _AROUND / 2 * cell.side).sum())


def _is_lobe(box: Box, cell: Box) -> bool:
    small = box.width * box.height < _LARGEST_LOBE * cell.width * cell.height
    return small and one_cell(box, cell)


def agreement(old: Photograph, new: Photograph, laid: Fit, cell: Box) -> float:
    """Return the correlation (-1..1) of two photographs over a cell and what lies next to it.

    Where many landmarks, some of them about the cell, lay one on the other, it may be drawn out as well; it
    must then agree closely.

    Args:
        old: with the cell.
        new: laid on it.
        laid: how.
        cell: in pixels of `old`. -1 where one of the two does not show enough of it.
    """
    side = max(8, round(_AROUND * cell.side * old.scale))
    x, y = cell.centre
    patches, insides, showns = [], [], []
    for picture, lies in ((old, _AS_IT_IS), (new, laid)):
        # From the patch's pixels, which are those of `old.grey`, to the picture's.
        u, v = lies.to_picture(x, y)
        cos, sin = np.cos(-lies.pose.angle), np.sin(-lies.pose.angle)
        ratio = picture.scale / (lies.scale * old.scale)
        matrix = ratio * np.array([[cos, -sin], [sin, cos]])
        corner = np.array([(u + 0.5) * picture.scale - 0.5, (v + 0.5) * picture.scale - 0.5])
        corner -= matrix @ np.array([(side - 1) / 2, (side - 1) / 2])
        move = np.hstack([matrix, corner[:, None]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        light, whole, shown = (
            np.asarray(cv2.warpAffine(values.astype(np.float32), move, (side, side), flags=flags), np.float32)
            for values in (picture.grey, np.ones_like(picture.grey), picture.shown)
        )
        patches.append(light)
        insides.append(whole > _UNMIXED)
        showns.append(shown > _UNMIXED)
    sigma = max(1.0, side / 60)
    # Plain glass around a cell has a say in the first, what lies around a turned picture none in the second.
    commons = (insides[0] & insides[1], showns[0] & showns[1])
    first, second = patches
    found = max(_correlation(first, second, common, sigma) for common in commons)
    many = laid.votes >= _FEW_VOTES and _votes_about(cell, laid) >= _LEAST_ABOUT
    if many and _UNLIKE < found < _CLOSELY:
        drawn = max(_drawn_out(first, second, common, sigma) for common in commons)
        return drawn if drawn >= _CLOSELY else found
    return found


def _drawn_out(first: Floats, second: Floats, common: NDArray[np.bool_], sigma: float) -> float:
    """Return the correlation of two patches, the second drawn out a little so that it lies best on the first.

    -1 where they show too little, or it would have to be drawn out far. By the enhanced correlation
    coefficient (Evangelidis and Psarakis 2008).
    """
    if common.mean() < _LEAST_COMMON:
        return -1.0
    end = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, _ROUNDS, 1e-3)
    mask, as_it_lies = common.astype(np.uint8), np.eye(2, 3, dtype=np.float32)
    try:
        _, move = cv2.findTransformECC(first, second, as_it_lies, cv2.MOTION_AFFINE, end, mask, _SMOOTHED)
    except cv2.error:  # it does not converge
        return -1.0
    height, width = first.shape
    corners = np.array([(0, 0, 1), (width, 0, 1), (0, height, 1), (width, height, 1)], np.float64)
    if np.abs(corners @ move.T - corners[:, :2]).max() > _MOST_DRAWN * max(first.shape):
        return -1.0
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    drawn, covered = (
        np.asarray(cv2.warpAffine(values, move, second.shape[::-1], flags=flags), np.float32)
        for values in (second, common.astype(np.float32))
    )
    return _correlation(first, drawn, common & (covered > _UNMIXED), sigma)


def _correlation(first: Floats, second: Floats, common: NDArray[np.bool_], sigma: float) -> float:
    """Return the correlation of two patches where `common`; -1 where that is too little."""
    if common.mean() < _LEAST_COMMON:
        return -1.0
    a, b = (_contrast(patch, common, sigma) for patch in (first, second))
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-9))


def _contrast(patch: Floats, common: NDArray[np.bool_], sigma: float) -> Floats:
    # What lies beside the common part has no say in the blur either.
    weight = common.astype(np.float32)
    coarse, fine = (
        cv2.GaussianBlur(patch * weight, (0, 0), s) / np.maximum(cv2.GaussianBlur(weight, (0, 0), s), 1e-6)
        for s in (8 * sigma, sigma)
    )
    values = (fine - coarse)[common]
    return np.asarray(values - values.mean(), np.float32)
