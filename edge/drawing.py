"""Single blood cells, drawn in the colours of May-Grünwald-Giemsa."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cells import Image
from edge.errors import UserError

Mask = NDArray[np.float32]
Random = np.random.Generator

WHITE = (247, 231, 210)
"""The empty slide, RGB."""
_CHROMATIN, _LACY = (70, 42, 100), (104, 70, 132)
_OVERSAMPLE = 2
PATCH = 1.3
"""Side of a drawn patch over the cell's diameter."""


class Canvas:
    """A transparent square on which a cell is painted; coordinates in cell radii from the middle."""

    def __init__(self, diameter_px: float, rng: Random) -> None:
        self.rng = rng
        self.size = _OVERSAMPLE * max(8, round(PATCH * diameter_px))
        self.radius = _OVERSAMPLE * diameter_px / 2
        self.colour = np.zeros((self.size, self.size, 3), np.float32)
        self.alpha = np.zeros((self.size, self.size), np.float32)

    def blob(self, x: float, y: float, radius: float, rough: float = 0.05, flat: float = 1.0) -> Mask:
        """Return the mask (0..1) of an irregular disc; `flat` is its height over its width."""
        angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
        edge = np.ones_like(angle)
        for wave in range(2, 7):
            edge += self.rng.normal(0, rough / wave) * np.cos(wave * angle + self.rng.uniform(0, 6.3))
        turn = self.rng.uniform(0, np.pi)
        ring = radius * edge * np.array([np.cos(angle), flat * np.sin(angle)])
        turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ ring
        points = (turned.T + np.array([x, y])) * self.radius + self.size / 2
        mask = np.zeros((self.size, self.size), np.float32)
        cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 1.0, cv2.LINE_AA, shift=4)
        return mask

    def noise(self, grain: float) -> Mask:
        """Return smooth noise of mean 0 and deviation 1 whose grains are `grain` radii wide."""
        sigma = max(0.6, grain * self.radius / 2)
        field = cv2.GaussianBlur(self.rng.standard_normal((self.size, self.size), np.float32), (0, 0), sigma)
        return np.asarray((field - field.mean()) / field.std(), np.float32)

    def dots(self, inside: Mask, count: int, radius: float) -> Mask:
        """Return the mask of `count` small discs at random places of `inside`."""
        mask = np.zeros_like(inside)
        rows, columns = np.nonzero(inside > 0.9)
        for i in self.rng.integers(0, max(len(rows), 1), count if len(rows) else 0):
            width = max(1, round(radius * self.radius * self.rng.uniform(0.7, 1.3)))
            cv2.circle(mask, (int(columns[i]), int(rows[i])), width, 1.0, -1, cv2.LINE_AA)
        return mask

    def paint(self, mask: Mask, colour: tuple[int, int, int], texture: Mask | float = 0.0) -> None:
        """Lay `colour`, made lighter or darker by `texture` (grey levels), over what is there."""
        layer = np.zeros_like(self.colour) + np.array(colour, np.float32)
        layer += np.reshape(texture, np.shape(texture) + (1,) * (np.ndim(texture) == 2))
        self.colour += mask[..., None] * (layer - self.colour)
        self.alpha += mask * (1 - self.alpha)

    def nucleus(self, mask: Mask, dark: tuple[int, int, int] = _CHROMATIN, clumps: float = 0.09) -> None:
        """Paint chromatin: dark clumps, lighter between them, darkest along the rim."""
        rim = mask - cv2.erode(mask, np.ones((3, 3)), iterations=max(1, round(0.04 * self.radius)))
        self.paint(mask, dark, np.asarray(13 * self.noise(clumps) + 8 * self.noise(clumps / 2), np.float32))
        self.paint(np.asarray(0.45 * cv2.GaussianBlur(rim, (0, 0), 1), np.float32), (45, 25, 75))

    def finish(self) -> tuple[Image, Mask]:
        """Return the patch at its final size, and its opacity."""
        size = self.size // _OVERSAMPLE
        colour = cv2.resize(np.clip(self.colour, 0, 255), (size, size), interpolation=cv2.INTER_AREA)
        alpha = cv2.resize(self.alpha, (size, size), interpolation=cv2.INTER_AREA)
        weighted = colour / np.maximum(alpha, 1e-3)[..., None]
        return np.clip(weighted, 0, 255).astype(np.uint8), np.asarray(alpha, np.float32)


def _neutrophil(c: Canvas) -> None:
    body = c.blob(0, 0, 0.97, 0.06)
    c.paint(body, (226, 203, 207), np.asarray(5 * c.noise(0.12), np.float32))
    c.paint(np.asarray(0.5 * c.dots(body, 220, 0.022), np.float32), (178, 128, 160))
    lobes, angle = int(c.rng.integers(3, 6)), c.rng.uniform(0, 6.3)
    bridge = np.zeros_like(body)
    nucleus = np.zeros_like(body)
    previous = None
    for i in range(lobes):
        a = angle + i * c.rng.uniform(3.6, 4.4) / lobes
        x, y = 0.48 * np.cos(a), 0.48 * np.sin(a)
        nucleus = np.maximum(nucleus, c.blob(x, y, c.rng.uniform(0.24, 0.31), 0.16, c.rng.uniform(0.75, 1)))
        here = tuple(int(v) for v in np.round((np.array([x, y]) * c.radius) + c.size / 2))
        if previous:
            cv2.line(bridge, previous, here, 1.0, max(2, round(0.09 * c.radius)), cv2.LINE_AA)
        previous = here
    c.nucleus(np.maximum(nucleus, bridge))


def _eosinophil(c: Canvas) -> None:
    body = c.blob(0, 0, 0.97, 0.05)
    c.paint(body, (222, 172, 160))
    c.paint(
        np.minimum(c.dots(body, 420, 0.05), body), (203, 128, 118), np.asarray(10 * c.noise(0.06), np.float32)
    )
    c.paint(np.asarray(0.7 * c.dots(body, 160, 0.04), np.float32), (222, 152, 136))
    a = c.rng.uniform(0, 6.3)
    spread = c.rng.uniform(1.9, 2.5)
    first = c.blob(0.45 * np.cos(a), 0.45 * np.sin(a), 0.38, 0.1, 0.85)
    second = c.blob(0.45 * np.cos(a + spread), 0.45 * np.sin(a + spread), 0.38, 0.1, 0.85)
    c.nucleus(np.maximum(first, second))


def _basophil(c: Canvas) -> None:
    body = c.blob(0, 0, 0.95, 0.08)
    c.paint(body, (176, 150, 186))
    c.nucleus(c.blob(0.05, 0, 0.72, 0.2), (112, 84, 142))
    c.paint(c.dots(body, 230, 0.07), (58, 34, 98), np.asarray(10 * c.noise(0.05), np.float32))


def _lymphocyte(c: Canvas) -> None:
    body = c.blob(0, 0, 0.97, 0.07)
    c.paint(body, (158, 172, 214), np.asarray(7 * c.noise(0.15), np.float32))
    x, y = c.rng.uniform(-0.1, 0.1, 2)
    c.nucleus(c.blob(x, y, 0.8, 0.07, 0.94), clumps=0.2)


def _monocyte(c: Canvas) -> None:
    body = c.blob(0, 0, 0.96, 0.12)
    c.paint(body, (174, 176, 202), np.asarray(7 * c.noise(0.1), np.float32))
    a = c.rng.uniform(0, 6.3)
    nucleus = c.blob(0.08 * np.cos(a), 0.08 * np.sin(a), 0.66, 0.14, 0.85)
    notch = c.blob(0.62 * np.cos(a), 0.62 * np.sin(a), 0.36, 0.1)
    c.nucleus(np.asarray(nucleus * (1 - notch), np.float32), _LACY, clumps=0.14)
    free = np.asarray(body * (1 - cv2.dilate(nucleus, np.ones((5, 5)))), np.float32)
    c.paint(np.asarray(0.8 * c.dots(free, int(c.rng.integers(2, 8)), 0.06), np.float32), (226, 222, 226))


@dataclass(frozen=True, slots=True)
class Kind:
    """How a type of leukocyte is drawn, and how often."""

    paint: Callable[[Canvas], None]
    smallest: float
    largest: float
    """Diameters in red cells."""
    share: float
    """Of a healthy adult's leukocytes."""


KINDS = {
    "neutrophil": Kind(_neutrophil, 1.7, 1.95, 0.58),
    "lymphocyte": Kind(_lymphocyte, 1.2, 1.5, 0.28),
    "monocyte": Kind(_monocyte, 2.0, 2.3, 0.07),
    "eosinophil": Kind(_eosinophil, 1.7, 1.95, 0.045),
    "basophil": Kind(_basophil, 1.6, 1.85, 0.025),
}
LEUKOCYTES = tuple(KINDS)
"""The names that can be drawn."""


def draw_leukocyte(name: str, diameter_px: float, rng: Random) -> tuple[Image, Mask]:
    """Draw one leukocyte; return its RGB patch (side, side, 3) and opacity (side, side) in 0..1.

    Raises:
        UserError: there is no recipe for `name`.
    """
    if name not in KINDS:
        raise UserError(f"{name!r} cannot be drawn; there are {', '.join(LEUKOCYTES)}")
    canvas = Canvas(diameter_px, rng)
    KINDS[name].paint(canvas)
    return canvas.finish()


def draw_red_cell(diameter_px: float, rng: Random) -> tuple[Image, Mask]:
    """Draw one red cell; return as `draw_leukocyte` does."""
    c = Canvas(diameter_px, rng)
    body = c.blob(0, 0, 0.95, 0.05, rng.uniform(0.88, 1))
    x, y = rng.uniform(-0.08, 0.08, 2)
    pallor = cv2.GaussianBlur(c.blob(x, y, 0.45, 0.1), (0, 0), 0.18 * c.radius)
    c.paint(body, (214, 178, 168), np.asarray(2 * c.noise(0.3), np.float32))
    c.paint(np.asarray(0.85 * pallor * body, np.float32), (243, 224, 208))
    colour, alpha = c.finish()
    return colour, np.asarray(alpha * rng.uniform(0.8, 0.95), np.float32)


def draw_platelet(diameter_px: float, rng: Random) -> tuple[Image, Mask]:
    """Draw one platelet; return as `draw_leukocyte` does."""
    c = Canvas(diameter_px, rng)
    body = c.blob(0, 0, 0.9, 0.3)
    c.paint(np.asarray(0.85 * body, np.float32), (176, 148, 190), np.asarray(16 * c.noise(0.25), np.float32))
    c.paint(np.asarray(0.8 * c.dots(body, 12, 0.14), np.float32), (120, 76, 146))
    return c.finish()
