"""A blood smear drawn by hand of code, in the colours of May-Grünwald-Giemsa, with known truth.

It lets the program run with no data at all. It is no evidence of how real cells are counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import cv2
import numpy as np

from edge.cells import Image
from edge.drawing import (
    KINDS,
    PATCH,
    WHITE,
    Mask,
    Random,
    draw_leukocyte,
    draw_platelet,
    draw_red_cell,
)

_TILE = 256
"""Side of the pieces in which the slide is drawn, pixels."""


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
        mix = mix or {name: kind.share for name, kind in KINDS.items()}
        self.cells = _place(rng, (width, height), leukocytes, red_cell_px, mix)
        self._scattered = self._scatter(rng, red_cell_px)
        things = [(x, y, float(len(patch[1]))) for patch, x, y in self._scattered]
        things += [(c.x, c.y, PATCH * c.diameter_px) for c in self.cells]
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
        red = [draw_red_cell(red_cell_px * rng.uniform(0.9, 1.1), rng) for _ in range(40)]
        platelets = [draw_platelet(red_cell_px * rng.uniform(0.25, 0.42), rng) for _ in range(12)]
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
        diameter = red_cell_px * rng.uniform(KINDS[name].smallest, KINDS[name].largest)
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
