"""Things on the slide, found by where they lie without going through all of them."""

import math
from collections import defaultdict
from typing import Generic, TypeVar

Thing = TypeVar("Thing")


class Grid(Generic[Thing]):
    """Things at fixed places.

    Args:
        side: of the squares that it is divided into, pixels: what lies no farther away is near.
    """

    def __init__(self, side: float) -> None:
        self._side = side
        self._squares: defaultdict[tuple[int, int], list[tuple[int, Thing]]] = defaultdict(list)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, thing: Thing, x: float, y: float) -> None:
        """Put a thing at (x, y) on the slide, pixels."""
        self._squares[self._square(x, y)].append((self._count, thing))
        self._count += 1

    def near(self, x: float, y: float) -> list[Thing]:
        """Return all things within one side of (x, y), and some beyond, in the order of their coming."""
        column, row = self._square(x, y)
        squares = ((column + i, row + j) for i in (-1, 0, 1) for j in (-1, 0, 1))
        found = [pair for square in squares for pair in self._squares.get(square, ())]
        return [thing for _, thing in sorted(found, key=lambda pair: pair[0])]

    def _square(self, x: float, y: float) -> tuple[int, int]:
        return math.floor(x / self._side), math.floor(y / self._side)
