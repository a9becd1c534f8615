"""What is laid into a scene: leukocytes of other fields, and what may be mistaken for a leukocyte."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cells import Image
from training.fields import Edges, Field, Random

Floats = NDArray[np.float32]
Place = NDArray[np.float64]
"""x and y, pixels, shape (2,)."""
_AT_BORDER = 0.3
"""Share of what is laid into a scene that is moved onto its border; chance cuts others."""


@dataclass(slots=True)
class Scene:
    """One picture to learn from, and its leukocytes."""

    image: Image
    """Shape (size, size, 3); right of or below `extent` there is nothing but padding."""
    extent: tuple[int, int]
    """Width and height of the picture."""
    cells: Floats
    """Left, top, right, bottom of the whole cells, shape (n, 4); NaN where the border hides an edge."""
    doubted: Edges
    """Where nothing is to be learned."""


def warp(image: Image, matrix: NDArray[np.float64], scale: float, extent: tuple[int, int]) -> Image:
    """Return the window `extent` (width, height) of an image that goes on as its own mirror image."""
    # warpAffine takes single pixels: what is to shrink must be smooth before.
    if (width := round(1 / scale)) > 1:
        image = np.asarray(cv2.blur(image, (width, width)), np.uint8)
    return np.asarray(cv2.warpAffine(image, matrix, extent, borderMode=cv2.BORDER_REFLECT_101), np.uint8)


def _white(image: Image) -> Floats:
    return np.percentile(image[::4, ::4].reshape(-1, 3), 92, axis=0).astype(np.float32) + 1


def _cut_out(f: Field, box: Floats, scale: float, rng: Random) -> tuple[Floats, Floats, Floats]:
    """Return what a box of a field lets through of the light, an elliptic mask, and half the turned box."""
    half = scale * (box[2:] - box[:2]) / 2
    angle = rng.uniform(0, 2 * np.pi)
    c, s = np.cos(angle), np.sin(angle)
    turned = np.sqrt(np.array([[c * c, s * s], [s * s, c * c]]) @ half**2)
    side = int(2 * np.ceil(1.15 * half.max()) + 4)
    matrix = scale * np.array([[c, -s, 0], [s, c, 0]])
    matrix[:, 2] = side / 2 - matrix[:, :2] @ ((box[:2] + box[2:]) / 2)
    patch = warp(f.image, matrix, scale, (side, side)).astype(np.float32) / _white(f.image)
    mask = np.zeros((side, side), np.float32)
    axes = tuple(int(v) for v in 16 * np.maximum(1.04 * half, 1))
    middle = (8 * side, 8 * side)
    cv2.ellipse(mask, middle, axes, float(np.degrees(angle)), 0, 360, 1.0, -1, cv2.LINE_AA, 4)
    mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), max(0.5, 0.03 * float(half.max()))), np.float32)
    return patch, mask, turned.astype(np.float32)


def _lay(
    scene: Scene,
    patch: Floats,
    mask: Floats,
    at: Place,
    *,
    over: bool,
) -> None:
    """Lay a patch of transmittance into the scene: `over` hides what is there, else light passes both."""
    side = mask.shape[0]
    left, top = (int(v) for v in np.round(at - side / 2))
    width, height = scene.extent
    rows, columns = slice(max(top, 0), min(top + side, height)), slice(max(left, 0), min(left + side, width))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    part = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    below = scene.image[rows, columns].astype(np.float32)
    share = mask[part][..., None]
    light = _white(scene.image[:height, :width]) * patch[part] if over else below * np.minimum(patch[part], 1)
    scene.image[rows, columns] = np.clip(below + share * (light - below), 0, 255)


def invite(scene: Scene, guests: Sequence[Field], unit: float, rng: Random) -> None:
    """Lay up to five leukocytes of other fields into the scene, and decoys like them.

    Some touch another cell, some are cut by the border.
    """
    width, height = scene.extent
    for guest in guests[: int(rng.integers(0, 6))]:
        sure = guest.leukocytes[~guest.open_ends.any(axis=1)]
        scale = unit / guest.red_cell_px * rng.uniform(0.85, 1.15)
        if not len(sure):
            # A patch without a leukocyte, cut out in the same way.
            side = guest.red_cell_px * rng.uniform(1.2, 2.2)
            corner = rng.uniform((0, 0), np.maximum(np.array(guest.image.shape[1::-1]) - side, 1))
            box = np.array([*corner, *(corner + side)], np.float32)
        else:
            box = sure[rng.integers(len(sure))]
        patch, mask, half = _cut_out(guest, box, scale, rng)
        at = rng.uniform((0, 0), (width, height))
        if rng.random() < _AT_BORDER:
            at = _on_border(at, half, scene.extent, rng)
        elif len(scene.cells) and rng.random() < 0.6:
            other = scene.cells[rng.integers(len(scene.cells))]
            if np.isfinite(other).all():
                angle = rng.uniform(0, 2 * np.pi)
                way = np.array([np.cos(angle), np.sin(angle)])
                apart = float(half.mean() + (other[2:] - other[:2]).mean() / 2) * rng.uniform(0.85, 1.1)
                at = (other[:2] + other[2:]) / 2 + apart * way
        new = np.concatenate([at - half, at + half]).astype(np.float32)
        if _covered(_taken(scene), new).max(initial=0) > 0.25:
            continue
        _lay(scene, patch, mask, at, over=True)
        if len(sure) and (new[2:] > 0).all() and (new[:2] < (width, height)).all():
            scene.cells = np.concatenate([scene.cells, new[None]])


def _on_border(at: Place, half: Floats, extent: tuple[int, int], rng: Random) -> Place:
    """Return `at`, moved to a random side of the picture so that the border cuts a cell of `half` there."""
    along = int(rng.integers(2))
    end = float(extent[along] * rng.integers(2))
    moved = np.array(at)
    moved[along] = end + rng.uniform(-0.7, 0.7) * half[along]
    return moved


def _covered(edges: Edges, new: Floats) -> Floats:
    """Return how much of the smaller of each box and the new one both share, 0..1, shape (n,)."""
    common = np.minimum(edges[:, 2:], new[2:]) - np.maximum(edges[:, :2], new[:2])
    area = np.maximum(common, 0).prod(axis=1)
    least = np.minimum((edges[:, 2:] - edges[:, :2]).prod(axis=1), (new[2:] - new[:2]).prod())
    return np.asarray(area / np.maximum(least, 1), np.float32)


def litter(scene: Scene, guests: Sequence[Field], unit: float, rng: Random) -> None:
    """Lay what is no leukocyte where none lies: a smudged nucleus, a clump of platelets, precipitate."""
    kind = rng.integers(3)
    at = _free_place(scene, 1.2 * unit, rng)
    if at is None or unit < 4:
        return
    if kind == 0:
        _smudge(scene, [g for g in guests if len(g.leukocytes)], unit, at, rng)
    elif kind == 1:
        _clump(scene, [g for g in guests if len(g.platelets)], unit, at, rng)
    else:
        _precipitate(scene, unit, at, rng)


def _free_place(scene: Scene, radius: float, rng: Random) -> Place | None:
    for _ in range(8):
        at = np.asarray(rng.uniform((0, 0), scene.extent))
        new = np.concatenate([at - radius, at + radius]).astype(np.float32)
        if _covered(_taken(scene), new).max(initial=0) < 0.02:
            return at
    return None


def _taken(scene: Scene) -> Edges:
    """Return where leukocytes lie, or may lie, as far as the picture shows them."""
    border = np.array([0, 0, *scene.extent], np.float32)
    return np.concatenate([np.where(np.isnan(scene.cells), border, scene.cells), scene.doubted])


def _smudge(scene: Scene, guests: Sequence[Field], unit: float, at: Place, rng: Random) -> None:
    """A nucleus that burst when the smear was made: pale, without an outline, torn to one side."""
    if not guests:
        return
    guest = guests[0]
    box = guest.leukocytes[rng.integers(len(guest.leukocytes))]
    middle, half = (box[:2] + box[2:]) / 2, 0.3 * (box[2:] - box[:2])
    # The nucleus alone: no outline of a cell is left.
    box = np.concatenate([middle - half, middle + half]).astype(np.float32)
    patch, mask, half = _cut_out(guest, box, unit / guest.red_cell_px * rng.uniform(1.6, 2.6), rng)
    side = mask.shape[0]
    radius = float(half.max())
    waves = cv2.GaussianBlur(
        rng.standard_normal((side, side, 2)).astype(np.float32), (0, 0), rng.uniform(0.1, 0.3) * radius + 0.5
    )
    waves = waves * np.float32(rng.uniform(0.2, 0.5) * radius / max(float(waves.std()), 1e-6))
    y, x = np.mgrid[:side, :side].astype(np.float32)
    x, y = x + waves[..., 0], y + waves[..., 1]
    torn = cv2.remap(patch, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    where = cv2.remap(mask, x, y, cv2.INTER_LINEAR)
    blur = rng.uniform(0.04, 0.14) * radius + 0.3
    pale = np.minimum(cv2.GaussianBlur(torn, (0, 0), blur), 1) ** rng.uniform(0.3, 0.75)
    where = cv2.GaussianBlur(where, (0, 0), 2 * blur)
    _lay(scene, np.asarray(pale, np.float32), np.asarray(where, np.float32), at, over=False)


def _clump(scene: Scene, guests: Sequence[Field], unit: float, at: Place, rng: Random) -> None:
    """Platelets that stick together, the clump up to three red cells wide; or one or two giant, dark ones."""
    if not guests:
        return
    number = int(rng.integers(1, 16))
    largest = 1.9 if number < 3 else 1.5
    # Piled up they would be as dark as a nucleus: a clump is flat.
    spread = unit * rng.uniform(0.14, 0.3) * number**0.5
    for _ in range(number):
        guest = guests[int(rng.integers(len(guests)))]
        box = guest.platelets[rng.integers(len(guest.platelets))]
        patch, mask, _ = _cut_out(guest, box, unit / guest.red_cell_px * rng.uniform(0.8, largest), rng)
        dark = np.minimum(patch, 1) ** np.float32(rng.uniform(0.8, 1.4))
        _lay(scene, dark, mask, at + rng.normal(0, spread, 2), over=False)


def _precipitate(scene: Scene, unit: float, at: Place, rng: Random) -> None:
    """Grains of dye: small, dark, sharp, some of them in heaps."""
    side = int(4 * unit) + 8
    layer = np.zeros((side, side), np.float32)
    spread = unit * rng.uniform(0.15, 0.8)
    for x, y in side / 2 + rng.normal(0, spread, (int(rng.integers(5, 80)), 2)):
        radius = max(1, round(unit * rng.uniform(0.02, 0.09)))
        cv2.circle(layer, (int(x), int(y)), radius, float(rng.uniform(0.5, 1)), -1, cv2.LINE_AA)
    dye = rng.uniform(0.8, 2.5) * np.array([rng.uniform(0.5, 0.9), 1, rng.uniform(0.3, 0.8)])
    patch = np.exp(-layer[..., None] * dye).astype(np.float32)
    _lay(scene, patch, np.ones_like(layer), at, over=False)
