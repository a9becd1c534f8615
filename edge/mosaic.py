"""The map: what has been seen of the smear, small, with the cells on it.

The slide is kept as square tiles at one coarse scale. When more tiles are needed than the memory allows, the
whole map is halved: an hour of film over any distance costs no more than `MOST_BYTES`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cells import Cell, Image
from edge.errors import UserError
from edge.pose import Pose
from edge.whole import whole

TILE = 64
"""Side of a tile, map pixels."""
MOST_BYTES = 16 * 2**20
"""Memory of the tiles."""
FIELD = 80
"""Longer side of a frame on a new map, map pixels."""
PAGE_SIDE = 1024
"""Longer side of the map's picture on the page, pixels, at most."""
GROUND = (23, 21, 27)
"""What was never seen, RGB."""
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7250dc", "#f0e442")
"""Of the classes, in the order of the model's card; as on the page: Okabe and Ito's, and a violet."""
_FILE_SIDE = 4096
_STEP = 1 / 8
"""A frame is painted when the stage has moved by this share of it since the last one painted."""
_SEEN, _MONOLAYER = 128, 255
"""Values of the fourth channel; 0 was never seen."""

Tile = NDArray[np.uint8]
"""Shape (64, 64, 4): RGB, and whether it was seen."""


@dataclass(frozen=True, slots=True)
class StoredTile:
    """A tile as the store keeps it."""

    scale: float
    """Slide pixels to a map pixel."""
    column: int
    row: int
    picture: bytes
    """PNG."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much has been seen."""

    seen_share: float
    """Of the rectangle round all that was seen, 0..1."""
    monolayer_share: float
    """Of what was seen: neither too crowded nor too sparse, 0..1."""
    area_px: float
    """Seen, squared slide pixels."""

    def facts(self, fields: int, um_per_px: float | None) -> dict[str, Any]:
        """Return it as the result and the page give it; `mm2` is None where the scale is not known."""
        mm2 = None if um_per_px is None else round(self.area_px * (um_per_px / 1000) ** 2, 4)
        shares = {"seen_share": self.seen_share, "monolayer_share": self.monolayer_share}
        return {"fields": fields, "mm2": mm2} | {name: round(share, 3) for name, share in shares.items()}


@dataclass(frozen=True, slots=True)
class MapView:
    """The map at one moment, complete in itself."""

    image: Image
    origin: tuple[float, float]
    """Where its upper left corner lies on the slide, pixels."""
    scale: float
    """Slide pixels to a pixel of `image`."""
    coverage: Coverage
    cells: tuple[Cell, ...]

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point of the slide lies in `image`, pixels."""
        return (x - self.origin[0]) / self.scale, (y - self.origin[1]) / self.scale


class Mosaic:
    """The map while it grows.

    Args:
        tiles: of an earlier run of the same specimen.
        most_bytes: memory of the tiles.
    """

    def __init__(self, tiles: Iterable[StoredTile] = (), most_bytes: int = MOST_BYTES) -> None:
        self._most = max(4, most_bytes // (TILE * TILE * 4))
        self._tiles: dict[tuple[int, int], Tile] = {}
        self._scale = 0.0
        for stored in tiles:
            self._scale = stored.scale
            if (tile := _decoded(stored.picture)) is not None:
                self._tiles[stored.column, stored.row] = tile
        self._changed: set[tuple[int, int]] = set()
        self._painted: tuple[float, float, bool] | None = None
        self.version = len(self._tiles)
        """Grows with each change; 0 while nothing has been seen."""

    @property
    def bytes(self) -> int:
        """Memory of the tiles."""
        return sum(tile.nbytes for tile in self._tiles.values())

    def add(self, image: Image, pose: Pose, *, monolayer: bool) -> None:
        """Paint a frame where it lies, over what was there.

        Args:
            image: RGB.
            pose: where it lies on the slide.
            monolayer: False where the frame is too crowded or too sparse to count from.
        """
        height, width = image.shape[:2]
        x, y = pose.to_slide(width / 2, height / 2)
        if self._painted and self._painted[2] == monolayer:
            step = max(abs(x - self._painted[0]) / width, abs(y - self._painted[1]) / height)
            if step < _STEP:
                return
        self._painted = x, y, monolayer
        self._scale = self._scale or max(height, width) / FIELD
        patch, left, top = self._laid(image, pose, _MONOLAYER if monolayer else _SEEN)
        rows, columns = patch.shape[:2]
        for row in range(top // TILE, (top + rows - 1) // TILE + 1):
            for column in range(left // TILE, (left + columns - 1) // TILE + 1):
                self._paint(patch, left - column * TILE, top - row * TILE, (column, row))
        while len(self._tiles) > self._most:
            self._halve()
        self.version += 1

    def clear(self) -> None:
        """Forget all that was seen."""
        self._tiles, self._changed, self._painted, self._scale = {}, set(), None, 0.0
        self.version += 1

    def _laid(self, image: Image, pose: Pose, seen: int) -> tuple[Tile, int, int]:
        """Return the frame as a piece of map, shape (rows, columns, 4), and its upper left corner."""
        height, width = image.shape[:2]
        size = max(1, round(width / self._scale)), max(1, round(height / self._scale))
        small = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2RGBA)
        small[..., 3] = 255
        corners = [pose.to_slide(x, y) for x in (0, width) for y in (0, height)]
        left, top = (math.floor(min(c[axis] for c in corners) / self._scale) for axis in (0, 1))
        right, bottom = (math.ceil(max(c[axis] for c in corners) / self._scale) for axis in (0, 1))
        # From the small frame to the slide, from there to the map; both count from the middle of a pixel.
        cos, sin = math.cos(pose.angle), math.sin(pose.angle)
        turn = np.array([[cos, -sin], [sin, cos]])
        stretch = np.diag([width / size[0], height / size[1]])
        matrix = turn @ stretch / self._scale
        corner = np.array([pose.x, pose.y]) + turn @ (stretch.diagonal() - 1) / 2
        offset = (corner + 0.5) / self._scale - 0.5 - (left, top)
        full = np.column_stack([matrix, offset])
        extent = (max(1, right - left), max(1, bottom - top))
        patch = cv2.warpAffine(small, full, extent, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        inside = cv2.warpAffine(small[..., 3], full, extent, flags=cv2.INTER_LINEAR)
        patch[..., 3] = np.where(inside > 127, seen, 0)
        return np.asarray(patch, np.uint8), left, top

    def _paint(self, patch: Tile, x: int, y: int, key: tuple[int, int]) -> None:
        """Paint the part of a patch that lies on one tile; (x, y) is the patch's corner on it."""
        rows, columns = patch.shape[:2]
        part = patch[max(-y, 0) : min(TILE - y, rows), max(-x, 0) : min(TILE - x, columns)]
        seen = part[..., 3] > 0
        if not seen.any():
            return
        tile = self._tiles.setdefault(key, np.zeros((TILE, TILE, 4), np.uint8))
        top, left = max(y, 0), max(x, 0)
        tile[top : top + part.shape[0], left : left + part.shape[1]][seen] = part[seen]
        self._changed.add(key)

    def _halve(self) -> None:
        """Let each 2 x 2 pixels become one."""
        halved: dict[tuple[int, int], Tile] = {}
        for (column, row), tile in self._tiles.items():
            target = halved.setdefault((column // 2, row // 2), np.zeros((TILE, TILE, 4), np.uint8))
            left, top = (TILE // 2 * (place % 2) for place in (column, row))
            target[top : top + TILE // 2, left : left + TILE // 2] = _halved(tile)
        self._tiles, self._scale = halved, 2 * self._scale
        self._changed = set(halved)

    def take_changed(self) -> list[StoredTile]:
        """Return the tiles that changed since the last call, for the store; all of them after a halving."""
        changed = [
            StoredTile(self._scale, *key, cv2.imencode(".png", self._tiles[key])[1].tobytes())
            for key in sorted(self._changed)
        ]
        self._changed.clear()
        return changed

    def view(self, cells: Sequence[Cell], most_side: int = PAGE_SIDE) -> MapView | None:
        """Return the map as a picture; None before the first frame.

        Args:
            cells: to go with it.
            most_side: longest side of the picture, pixels.
        """
        if not self._tiles:
            return None
        columns, rows = zip(*self._tiles, strict=True)
        left, top = min(columns), min(rows)
        side = TILE * (max(max(columns) - left, max(rows) - top) + 1)
        step = min(TILE, 2 ** max(0, math.ceil(math.log2(side / most_side))))
        part = TILE // step
        sheet = np.zeros((part * (max(rows) - top + 1), part * (max(columns) - left + 1), 4), np.uint8)
        for (column, row), tile in self._tiles.items():
            x, y = part * (column - left), part * (row - top)
            # Means over the unseen as well: they darken a border, and cost a tenth of the exact ones.
            small = cv2.resize(tile, (part, part), interpolation=cv2.INTER_AREA) if step > 1 else tile
            sheet[y : y + part, x : x + part] = small
        marks = sheet[..., 3]
        marks[:] = np.where(marks > 191, _MONOLAYER, np.where(marks >= _SEEN // 2, _SEEN, 0))
        x, y, width, height = cv2.boundingRect(sheet[..., 3])
        sheet = sheet[y : y + height, x : x + width]
        scale = step * self._scale
        image = np.where(sheet[..., 3:] > 0, sheet[..., :3], np.array(GROUND, np.uint8))
        coverage = self._coverage(float((sheet[..., 3] > 0).mean()))
        origin = (left * TILE * self._scale + x * scale, top * TILE * self._scale + y * scale)
        return MapView(np.ascontiguousarray(image), origin, scale, coverage, tuple(cells))

    def _coverage(self, seen_share: float) -> Coverage:
        """Return how much was seen: the area by the tiles themselves, since the picture is coarser."""
        seen = sum(np.count_nonzero(tile[..., 3]) for tile in self._tiles.values())
        good = sum(np.count_nonzero(tile[..., 3] == _MONOLAYER) for tile in self._tiles.values())
        return Coverage(seen_share, good / max(seen, 1), seen * self._scale**2)


def _halved(tile: Tile) -> Tile:
    """Return a tile on half of its rows and columns: means of what was seen; seen where half of it was."""
    parts = np.stack([tile[i::2, j::2] for i in (0, 1) for j in (0, 1)])
    known = parts[..., 3] > 0
    count = known.sum(axis=0)
    small = np.zeros(parts.shape[1:], np.uint8)
    small[..., :3] = (parts[..., :3] * known[..., None]).sum(axis=0) // np.maximum(count, 1)[..., None]
    mostly = 2 * (parts[..., 3] == _MONOLAYER).sum(axis=0) >= count
    small[..., 3] = np.where(count >= 2, np.where(mostly, _MONOLAYER, _SEEN), 0)
    return small


def _decoded(picture: bytes) -> Tile | None:
    """Return a stored tile; None for one that is damaged: the map then lacks it."""
    tile = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_UNCHANGED)
    return None if tile is None or tile.shape != (TILE, TILE, 4) else np.asarray(tile, np.uint8)


def write_map(path: Path, mosaic: Mosaic, cells: Sequence[Cell], classes: Sequence[str]) -> None:
    """Write the map with the cells and their numbers on it, as a PNG file.

    Args:
        path: of the file.
        mosaic: what was seen.
        cells: to draw.
        classes: names in the order of the model's card: a class has the colour of its place.

    Raises:
        UserError: nothing was seen, or the file cannot be written.
    """
    view = mosaic.view(cells, _FILE_SIDE)
    if view is None:
        raise UserError(f"{path}: no map: no frame fit to count from was laid on the slide")
    picture = cv2.resize(view.image, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    for cell in view.cells:
        _draw_cell(picture, cell, view, classes)
    try:
        data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
        with whole(path) as part:
            part.write_bytes(data.tobytes())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; --map names another file") from None


def _draw_cell(picture: cv2.typing.MatLike, cell: Cell, view: MapView, classes: Sequence[str]) -> None:
    x, y = (round(2 * place) for place in view.place(*cell.slide))
    code = COLOURS[classes.index(cell.name) % len(COLOURS)]
    colour = tuple(int(code[at : at + 2], 16) for at in (1, 3, 5))
    radius = max(4, round(cell.box.side / view.scale))
    for shade, width in (((0, 0, 0), 4), (colour, 2)):
        cv2.circle(picture, (x, y), radius, shade, width, cv2.LINE_AA)
        place, font = (x + radius + 2, y + 4), cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(picture, str(cell.number), place, font, 0.4, shade, width - 1, cv2.LINE_AA)
