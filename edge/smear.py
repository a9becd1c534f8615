"""A blood smear drawn by hand of code, in the colours of May-Grünwald-Giemsa, with known truth.

It lets the program run with no data at all. It is no evidence of how real cells are counted.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

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
_PATCH = 1.3
"""Side of a drawn patch over the cell's diameter."""
_TILE = 256
"""Side of the pieces in which the slide is drawn, pixels."""


class _Canvas:
    """A transparent square on which a cell is painted; coordinates in cell radii from the middle."""

    def __init__(self, diameter_px: float, rng: Random) -> None:
        self.rng = rng
        self.size = _OVERSAMPLE * max(8, round(_PATCH * diameter_px))
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


def _neutrophil(c: _Canvas) -> None:
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


def _eosinophil(c: _Canvas) -> None:
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


def _basophil(c: _Canvas) -> None:
    body = c.blob(0, 0, 0.95, 0.08)
    c.paint(body, (176, 150, 186))
    c.nucleus(c.blob(0.05, 0, 0.72, 0.2), (112, 84, 142))
    c.paint(c.dots(body, 230, 0.07), (58, 34, 98), np.asarray(10 * c.noise(0.05), np.float32))


def _lymphocyte(c: _Canvas) -> None:
    body = c.blob(0, 0, 0.97, 0.07)
    c.paint(body, (158, 172, 214), np.asarray(7 * c.noise(0.15), np.float32))
    x, y = c.rng.uniform(-0.1, 0.1, 2)
    c.nucleus(c.blob(x, y, 0.8, 0.07, 0.94), clumps=0.2)


def _monocyte(c: _Canvas) -> None:
    body = c.blob(0, 0, 0.96, 0.12)
    c.paint(body, (174, 176, 202), np.asarray(7 * c.noise(0.1), np.float32))
    a = c.rng.uniform(0, 6.3)
    nucleus = c.blob(0.08 * np.cos(a), 0.08 * np.sin(a), 0.66, 0.14, 0.85)
    notch = c.blob(0.62 * np.cos(a), 0.62 * np.sin(a), 0.36, 0.1)
    c.nucleus(np.asarray(nucleus * (1 - notch), np.float32), _LACY, clumps=0.14)
    free = np.asarray(body * (1 - cv2.dilate(nucleus, np.ones((5, 5)))), np.float32)
    c.paint(np.asarray(0.8 * c.dots(free, int(c.rng.integers(2, 8)), 0.06), np.float32), (226, 222, 226))


@dataclass(frozen=True, slots=True)
class _Kind:
    paint: Callable[[_Canvas], None]
    smallest: float
    largest: float
    """Diameters in red cells."""
    share: float
    """Of a healthy adult's leukocytes."""


_KINDS = {
    "neutrophil": _Kind(_neutrophil, 1.7, 1.95, 0.58),
    "lymphocyte": _Kind(_lymphocyte, 1.2, 1.5, 0.28),
    "monocyte": _Kind(_monocyte, 2.0, 2.3, 0.07),
    "eosinophil": _Kind(_eosinophil, 1.7, 1.95, 0.045),
    "basophil": _Kind(_basophil, 1.6, 1.85, 0.025),
}
LEUKOCYTES = tuple(_KINDS)
"""The names that can be drawn."""


def draw_leukocyte(name: str, diameter_px: float, rng: Random) -> tuple[Image, Mask]:
    """Draw one leukocyte; return its RGB patch (side, side, 3) and opacity (side, side) in 0..1.

    Raises:
        UserError: there is no recipe for `name`.
    """
    if name not in _KINDS:
        raise UserError(f"{name!r} cannot be drawn; there are {', '.join(LEUKOCYTES)}")
    canvas = _Canvas(diameter_px, rng)
    _KINDS[name].paint(canvas)
    return canvas.finish()


def _draw_red_cell(diameter_px: float, rng: Random) -> tuple[Image, Mask]:
    c = _Canvas(diameter_px, rng)
    body = c.blob(0, 0, 0.95, 0.05, rng.uniform(0.88, 1))
    x, y = rng.uniform(-0.08, 0.08, 2)
    pallor = cv2.GaussianBlur(c.blob(x, y, 0.45, 0.1), (0, 0), 0.18 * c.radius)
    c.paint(body, (214, 178, 168), np.asarray(2 * c.noise(0.3), np.float32))
    c.paint(np.asarray(0.85 * pallor * body, np.float32), (243, 224, 208))
    colour, alpha = c.finish()
    return colour, np.asarray(alpha * rng.uniform(0.8, 0.95), np.float32)


def _draw_platelet(diameter_px: float, rng: Random) -> tuple[Image, Mask]:
    c = _Canvas(diameter_px, rng)
    body = c.blob(0, 0, 0.9, 0.3)
    c.paint(np.asarray(0.85 * body, np.float32), (176, 148, 190), np.asarray(16 * c.noise(0.25), np.float32))
    c.paint(np.asarray(0.8 * c.dots(body, 12, 0.14), np.float32), (120, 76, 146))
    return c.finish()


@dataclass(frozen=True, slots=True)
class TrueCell:
    """A leukocyte that was put on the smear."""

    name: str
    x: float
    y: float
    """Centre on the slide, pixels."""
    diameter_px: float


class Smear:
    """A whole slide, the same for the same arguments.

    Args:
        seed: of everything random.
        width: of the slide, pixels.
        height: of the slide, pixels.
        leukocytes: how many to place; fewer where there is no room.
        red_cell_px: diameter of a red cell.
        mix: share of each leukocyte by name; None: a healthy adult's.
    """

    def __init__(
        self,
        seed: int,
        width: int,
        height: int,
        leukocytes: int,
        *,
        red_cell_px: float = 50.0,
        mix: Mapping[str, float] | None = None,
    ) -> None:
        rng = np.random.default_rng(seed)
        self._seed = seed
        self._sheet = np.empty((height, width, 3), np.uint8)
        mix = mix or {name: kind.share for name, kind in _KINDS.items()}
        self.cells = _place(rng, (width, height), leukocytes, red_cell_px, mix)
        self._scattered = self._scatter(rng, red_cell_px)
        things = [(x, y, float(len(patch[1]))) for patch, x, y in self._scattered]
        things += [(c.x, c.y, _PATCH * c.diameter_px) for c in self.cells]
        self._things = np.array(things).reshape(-1, 3)
        # Drawn once for the few tiles that it lies on, then let go.
        self._leukocyte = lru_cache(maxsize=16)(self._draw_cell)
        self._drawn: set[tuple[int, int]] = set()

    def view(self, x: float, y: float, width: int, height: int) -> Image:
        """Return what lies right of and below (x, y), RGB (height, width, 3); the border is repeated."""
        columns = np.clip((x - 1, x + width + 1), 0, self._sheet.shape[1] - 1).astype(int) // _TILE
        rows = np.clip((y - 1, y + height + 1), 0, self._sheet.shape[0] - 1).astype(int) // _TILE
        for tile in product(range(rows[0], rows[1] + 1), range(columns[0], columns[1] + 1)):
            if tile not in self._drawn:
                self._draw(*tile)
                self._drawn.add(tile)
        centre = (x + (width - 1) / 2, y + (height - 1) / 2)
        return np.asarray(cv2.getRectSubPix(self._sheet, (width, height), centre), np.uint8)

    def _draw(self, row: int, column: int) -> None:
        """Draw one tile: all that reaches into it, leukocytes last."""
        corner = np.array([column, row]) * _TILE
        tile = self._sheet[corner[1] : corner[1] + _TILE, corner[0] : corner[0] + _TILE]
        tile[:] = WHITE
        away = np.abs(self._things[:, :2] - corner - _TILE / 2).max(axis=1)
        for number in np.nonzero(away < (_TILE + self._things[:, 2]) / 2 + 2)[0]:
            cell = int(number) - len(self._scattered)
            patch = self._scattered[number][0] if cell < 0 else self._leukocyte(cell)
            _paste(tile, *patch, *(self._things[number, :2] - corner))

    def _draw_cell(self, number: int) -> tuple[Image, Mask]:
        # Each cell has a generator of its own: the order of visiting changes nothing.
        rng, cell = np.random.default_rng((self._seed, number)), self.cells[number]
        return draw_leukocyte(cell.name, cell.diameter_px, rng)

    def _scatter(self, rng: Random, red_cell_px: float) -> list[tuple[tuple[Image, Mask], float, float]]:
        """Return patches and places of red cells and platelets, none under a leukocyte."""
        height, width = self._sheet.shape[:2]
        red = [_draw_red_cell(red_cell_px * rng.uniform(0.9, 1.1), rng) for _ in range(40)]
        platelets = [_draw_platelet(red_cell_px * rng.uniform(0.25, 0.42), rng) for _ in range(12)]
        taken = np.array([(c.x, c.y, c.diameter_px / 2) for c in self.cells]).reshape(-1, 3)
        pitch = 1.12 * red_cell_px
        scattered = []
        for top, left in product(np.arange(0, height, pitch), np.arange(0, width, pitch)):
            x, y = left + rng.uniform(0, pitch), top + rng.uniform(0, pitch)
            clear = np.hypot(taken[:, 0] - x, taken[:, 1] - y) > taken[:, 2] + 0.55 * red_cell_px
            fate = rng.random()
            patches = red if fate < 0.72 else platelets if fate > 0.96 else []
            if patches and clear.all():
                scattered.append((patches[rng.integers(len(patches))], x, y))
        return scattered


def _place(
    rng: Random, size: tuple[int, int], count: int, red_cell_px: float, mix: Mapping[str, float]
) -> tuple[TrueCell, ...]:
    """Return leukocytes that do not touch and lie off the border; every type of the mix at least once."""
    names = list(mix)
    shares = np.array([mix[n] for n in names]) / sum(mix.values())
    wanted = [*names, *rng.choice(names, max(count - len(names), 0), p=shares)][:count]
    cells: list[TrueCell] = []
    for name in rng.permutation(wanted):
        diameter = red_cell_px * rng.uniform(_KINDS[name].smallest, _KINDS[name].largest)
        for _ in range(50):
            x, y = rng.uniform((2 * diameter,) * 2, (size[0] - 2 * diameter, size[1] - 2 * diameter))
            if all(np.hypot(x - c.x, y - c.y) > 0.75 * (diameter + c.diameter_px) for c in cells):
                cells.append(TrueCell(str(name), float(x), float(y), float(diameter)))
                break
    return tuple(cells)


def _paste(sheet: Image, colour: Image, alpha: Mask, x: float, y: float) -> None:
    """Blend a patch onto the sheet, its middle at (x, y) to the next pixel; cut at the border."""
    side = alpha.shape[0]
    left, top = round(x - side / 2), round(y - side / 2)
    height, width = sheet.shape[:2]
    rows = slice(max(top, 0), min(top + side, height))
    columns = slice(max(left, 0), min(left + side, width))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    part = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    under = sheet[rows, columns]
    share = alpha[part][..., None]
    sheet[rows, columns] = np.clip(under + share * (colour[part].astype(np.float32) - under), 0, 255)
