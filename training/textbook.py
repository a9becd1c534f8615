"""Leukocytes drawn from the textbook's description of each type, in all the variety that it allows.

One laboratory's images show how its monocytes look, not what makes a monocyte. The textbook says that: a
large cell, grey-blue, its nucleus folded like a kidney or a horseshoe, its lobes never joined by mere threads
(Bain, Blood Cells: A Practical Guide, chapter on morphology). Colours, texture and detail vary far more here
than in any laboratory, so that shape and proportion are what is left to learn. Drawn cells are never part of
a figure.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from edge.cells import Image
from edge.drawing import WHITE, Canvas, Mask, draw_red_cell
from training.data import Sample, write_image

_DIAMETER = 130
"""Of a drawn cell, pixels: that of the PBC images."""
_VIEW = 2.2
"""Side of an image over the cell's diameter."""
_RED_CELLS = {"lymphocyte": (0.62, 0.95), "monocyte": (0.38, 0.55)}
"""Diameter of a red cell over that of the leukocyte, from and to; the others lie between."""

Random = np.random.Generator
Colour = tuple[int, int, int]


def write_cells(folder: Path, per_class: int, seed: int) -> list[Sample]:
    """Draw `per_class` cells of each of the study's types into `folder` as PNG; return their samples."""
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [(kind, name, number) for kind, name in enumerate(_TYPES) for number in range(per_class)]

    def write(task: tuple[int, str, int]) -> Sample:
        kind, name, number = task
        path = folder / f"{name}-{number}.png"
        write_image(path, draw(name, np.random.default_rng((seed, kind, number))))
        return Sample(path, path.name, name, "textbook", "train")

    with ThreadPoolExecutor() as pool:
        return list(pool.map(write, tasks))


def draw(name: str, rng: Random) -> Image:
    """Return one cell of the study's class `name` among red cells, RGB, shape (286, 286, 3)."""
    side = round(_VIEW * _DIAMETER)
    image = np.zeros((side, side, 3), np.float32) + np.array(WHITE, np.float32)
    red = _DIAMETER * rng.uniform(*_RED_CELLS.get(name, (0.5, 0.65)))
    start = rng.uniform(0, 6.3)
    for place in range(int(rng.integers(0, 9))):
        away = (0.52 * _DIAMETER + 0.5 * red) * rng.uniform(1, 1.3)
        x = side / 2 + away * np.cos(start + place * 0.9)
        y = side / 2 + away * np.sin(start + place * 0.9)
        _lay(image, draw_red_cell(red, rng), x, y)
    canvas = Canvas(_DIAMETER, rng)
    _TYPES[name](canvas)
    _lay(image, canvas.finish(), side / 2, side / 2)
    return np.clip(image, 0, 255).astype(np.uint8)


def _lay(image: Mask, patch: tuple[Image, Mask], x: float, y: float) -> None:
    colour, alpha = patch
    half, side = alpha.shape[0] // 2, image.shape[0]
    left, top = round(x) - half, round(y) - half
    a, b = max(left, 0), min(left + alpha.shape[1], side)
    c, d = max(top, 0), min(top + alpha.shape[0], side)
    if a < b and c < d:
        weight = alpha[c - top : d - top, a - left : b - left, None]
        image[c:d, a:b] += weight * (colour[c - top : d - top, a - left : b - left] - image[c:d, a:b])


def _light(density: float, red: float, green: float, blue: float) -> Colour:
    """Return what a dye leaves of the light: its absorption in each colour, times `density`."""
    r, g, b = np.array(WHITE) * np.exp(-density * np.array([red, green, blue]))
    return int(r), int(g), int(b)


def _blue(rng: Random, low: float, high: float) -> Colour:
    return _light(rng.uniform(low, high), rng.uniform(0.6, 1), rng.uniform(0.5, 0.9), rng.uniform(0.1, 0.5))


def _pink(rng: Random, low: float, high: float) -> Colour:
    return _light(rng.uniform(low, high), rng.uniform(0.1, 0.5), rng.uniform(0.6, 1), rng.uniform(0.3, 0.8))


def _texture(c: Canvas, strength: float) -> Mask:
    return np.asarray(c.rng.uniform(0, strength) * c.noise(c.rng.uniform(0.04, 0.25)), np.float32)


def _chromatin(c: Canvas, mask: Mask, low: float = 1.0, high: float = 2.0, clumps: float = 22) -> None:
    """Paint a nucleus, from smooth to clumped, from violet to nearly black."""
    rng = c.rng
    colour = _light(rng.uniform(low, high), rng.uniform(0.6, 0.9), 1, rng.uniform(0.25, 0.65))
    if rng.random() < 0.3:  # smudged: the smear dried slowly, or the cell was old
        mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.02, 0.05) * c.radius), np.float32)
    c.paint(np.minimum(mask, 1), colour, _texture(c, clumps))


def _body(c: Canvas, colour: Colour, rough: float, frayed: float = 0.0) -> Mask:
    """Paint the cytoplasm; a share `frayed` of the cells has a torn edge, with tufts and feet."""
    rng = c.rng
    body = c.blob(0, 0, 0.98, rng.uniform(0.02, rough), rng.uniform(0.85, 1))
    if rng.random() < frayed:
        for angle in rng.uniform(0, 6.3, int(rng.integers(2, 14))):
            away = rng.uniform(0.85, 1)
            tuft = c.blob(away * np.cos(angle), away * np.sin(angle), rng.uniform(0.06, 0.2), 0.4)
            body = np.maximum(body, tuft)
    c.paint(body, colour, _texture(c, 9))
    return body


def _vacuoles(c: Canvas, inside: Mask) -> None:
    dots = c.dots(inside, int(c.rng.integers(1, 8)), c.rng.uniform(0.04, 0.09))
    c.paint(np.asarray(c.rng.uniform(0.4, 0.9) * dots, np.float32), WHITE)


def _tube(c: Canvas, bend: float, reach: float, thickness: float, waists: float = 0.0) -> Mask:
    """Return an arc of `reach` radians round the middle, `bend` from it and `thickness` to each side.

    `waists` is the share of the thickness that it loses where it is constricted, as between lobes.
    """
    rng = c.rng
    start = rng.uniform(0, 6.3)
    x, y = 0.6 * bend * np.cos(start + reach / 2), 0.6 * bend * np.sin(start + reach / 2)
    mask = np.zeros_like(c.alpha)
    for angle in np.linspace(start, start + reach, 20 if waists else 14):
        width = thickness * rng.uniform(0.9, 1.1) * (1 - waists * np.sin(1.6 * (angle - start)) ** 2)
        disc = c.blob(bend * np.cos(angle) - x, bend * np.sin(angle) - y, width, 0.04)
        mask = np.maximum(mask, disc)
    return mask


def _segments(c: Canvas, lobes: int, size: float, bridge: float) -> Mask:
    """Return `lobes` of a nucleus, about `size` wide each way, held together by threads.

    They may lie on each other; then a paler seam shows between them.
    """
    rng = c.rng
    middle, angle = rng.uniform(0.36, 0.52), rng.uniform(0, 6.3)
    step = rng.uniform(0.55, 1.05) * 2 * np.pi / max(lobes, 3)
    mask = np.zeros_like(c.alpha)
    seam = np.zeros_like(c.alpha)
    before = None
    for _ in range(lobes):
        away = middle * rng.uniform(0.8, 1.1)
        x, y = away * np.cos(angle), away * np.sin(angle)
        lobe = c.blob(x, y, size * rng.uniform(0.8, 1.15), 0.14, rng.uniform(0.7, 1))
        seam = np.maximum(seam, np.minimum(mask, lobe))
        mask = np.maximum(mask, lobe)
        here = (round(x * c.radius + c.size / 2), round(y * c.radius + c.size / 2))
        if before is not None:
            cv2.line(mask, before, here, 1.0, max(1, round(bridge * c.radius)), cv2.LINE_AA)
        before, angle = here, angle + step
    return np.asarray(mask * (1 - rng.uniform(0, 0.35) * seam), np.float32)


def _neutrophil(c: Canvas) -> None:
    rng = c.rng
    pale = _light(rng.uniform(0.05, 0.5), rng.uniform(0.1, 0.6), rng.uniform(0.4, 1), rng.uniform(0.2, 1))
    body = _body(c, pale, 0.08)
    # Fine as a rule; a poor stain or an infection makes them coarse and dark, never as strong as eosin's.
    grains = c.dots(body, int(rng.integers(100, 400)), rng.uniform(0.015, 0.04))
    c.paint(np.asarray(rng.uniform(0, 0.8) * grains, np.float32), _pink(rng, 0.3, 0.9))
    shape = rng.random()
    if shape < 0.18:
        nucleus = _tube(c, rng.uniform(0.4, 0.55), rng.uniform(2.6, 4.4), rng.uniform(0.14, 0.21))
    elif shape < 0.32:  # a ribbon, wound up and constricted between its lobes
        waists = rng.uniform(0.35, 0.6)
        nucleus = _tube(c, rng.uniform(0.4, 0.52), rng.uniform(3.6, 6), rng.uniform(0.2, 0.27), waists)
    else:
        lobes = int(rng.choice((2, 3, 4, 5), p=(0.15, 0.4, 0.33, 0.12)))
        nucleus = _segments(c, lobes, rng.uniform(0.26, 0.42), rng.uniform(0.05, 0.25))
    _chromatin(c, np.minimum(nucleus, body), 0.9, 2.2)
    if rng.random() < 0.15:
        _vacuoles(c, body)


def _eosinophil(c: Canvas) -> None:
    rng = c.rng
    body = _body(c, _light(rng.uniform(0.3, 0.8), rng.uniform(0, 0.3), 1, rng.uniform(0.6, 1)), 0.06)
    dark = _light(rng.uniform(0.8, 1.4), rng.uniform(0.05, 0.4), 1, rng.uniform(0.6, 1))
    size = rng.uniform(0.04, 0.065)
    c.paint(np.minimum(c.dots(body, int(rng.integers(150, 500)), size), body), dark, _texture(c, 12))
    lobes = int(rng.choice((1, 2, 3), p=(0.07, 0.78, 0.15)))
    _chromatin(c, _segments(c, lobes, rng.uniform(0.3, 0.4), rng.uniform(0.04, 0.25)), 1.0, 2.0)


def _basophil(c: Canvas) -> None:
    rng = c.rng
    body = _body(c, _light(rng.uniform(0.1, 0.6), rng.uniform(0.5, 0.9), 1, rng.uniform(0.2, 0.6)), 0.1)
    _chromatin(c, _segments(c, int(rng.integers(1, 4)), rng.uniform(0.4, 0.6), 0.4), 0.7, 1.5)
    dots = c.dots(body, int(rng.integers(60, 320)), rng.uniform(0.05, 0.085))
    c.paint(dots, _light(rng.uniform(1.5, 2.5), rng.uniform(0.7, 0.95), 1, rng.uniform(0.3, 0.6)))


def _lymphocyte(c: Canvas) -> None:
    rng = c.rng
    # Large ones may be reactive: a deep blue seam, the nucleus to one side.
    large = rng.random() < 0.3
    body = _body(c, _blue(rng, 0.15, 0.9) if large else _blue(rng, 0.3, 1.3), 0.14, frayed=0.35)
    size = rng.uniform(0.6, 0.78) if large else rng.uniform(0.78, 0.99)
    away, angle = (1 - size) * rng.uniform(0, 1), rng.uniform(0, 6.3)
    nucleus = c.blob(away * np.cos(angle), away * np.sin(angle), size, 0.1, rng.uniform(0.8, 1))
    if rng.random() < 0.2:
        nucleus = np.asarray(nucleus * (1 - _notch(c, size, rng.uniform(0.1, 0.2))), np.float32)
    _chromatin(c, np.minimum(nucleus, body), 1.0, 2.2, clumps=16)


def _monocyte(c: Canvas) -> None:
    rng = c.rng
    body = _body(c, _blue(rng, 0.2, 0.8), 0.14, frayed=0.25)
    kind = rng.random()
    if kind < 0.45:
        nucleus = _tube(c, rng.uniform(0.28, 0.42), rng.uniform(1.8, 3.4), rng.uniform(0.3, 0.4))
    elif kind < 0.6:
        nucleus = _tube(c, rng.uniform(0.42, 0.5), rng.uniform(3.2, 4.4), rng.uniform(0.26, 0.32))
    else:
        size = rng.uniform(0.6, 0.78)
        x, y = rng.uniform(-0.12, 0.12, 2)
        nucleus = c.blob(x, y, size, 0.2, rng.uniform(0.75, 1))
        nucleus = np.asarray(nucleus * (1 - _notch(c, size, rng.uniform(0.15, 0.4))), np.float32)
    _chromatin(c, np.minimum(nucleus, body), 0.8, 1.8)
    free = np.asarray(body * (1 - cv2.dilate(nucleus, np.ones((5, 5)))), np.float32)
    if rng.random() < 0.4:
        _vacuoles(c, free)
    c.paint(np.asarray(rng.uniform(0, 0.4) * c.dots(free, 90, 0.018), np.float32), _pink(rng, 0.5, 0.9))


def _notch(c: Canvas, distance: float, size: float) -> Mask:
    angle = c.rng.uniform(0, 6.3)
    return c.blob(distance * np.cos(angle), distance * np.sin(angle), size, 0.1)


_TYPES: dict[str, Callable[[Canvas], None]] = {
    "basophil": _basophil,
    "eosinophil": _eosinophil,
    "lymphocyte": _lymphocyte,
    "monocyte": _monocyte,
    "neutrophil": _neutrophil,
}
