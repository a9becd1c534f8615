"""Scenes for the locator: labelled fields at any scale, in any stain, with what may be mistaken for a cell.

A field goes on beyond its borders as its own mirror image, so that a scene may show it from far away. Into
it are laid leukocytes of other fields (also touching), and what is none: smudged nuclei, clumps of platelets,
precipitate of the stain, red cells cut out in the same way as the leukocytes.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.localise import PAD
from training.augment import add_noise, camera_colours, jpeg, restain
from training.fields import Edges, Field, Random
from training.litter import Scene, invite, litter, warp

_PLAIN = 0.35
"""Share of scenes that are a whole field in the framing in which it was taken."""
_PORTRAIT = 0.15
"""Share that one cell fills, near or up to the border."""
_VISITED = 0.5
"""Share of plain scenes and portraits into which others are laid: the border often cuts a neighbour."""
_RATIOS = (1.0, 1.0, 4 / 3, 4 / 3, 3 / 4, 16 / 9)
_SMALLEST, _LARGEST = 15.0, 150.0
"""Longer side of a leukocyte in a scene of 256 pixels that is neither plain nor a portrait."""
_VISIBLE = 0.18
"""Share of a cut cell that must be seen to call it a leukocyte; less than this teaches nothing."""


def make_scene(hosts: Sequence[Field], fields: Sequence[Field], size: int, rng: Random) -> Scene:
    """Return a random scene of one field, with parts of others, (`size`, `size`).

    Args:
        hosts: the field is one of these.
        fields: of the same source, whose parts may be laid into it.
        size: side of the scene, pixels.
        rng: source of all chance.
    """
    near = _turned(hosts[int(rng.integers(len(hosts)))], int(rng.integers(8)))
    kind = rng.random()
    if kind < _PLAIN or (kind < _PLAIN + _PORTRAIT and not len(near.leukocytes)):
        scene, unit = _plain(near, size)
    else:
        portrait = kind < _PLAIN + _PORTRAIT
        scene, unit = _view(near, size, rng, portrait=portrait)
    guests = [fields[i] for i in rng.integers(len(fields), size=24)]
    if kind > _PLAIN + _PORTRAIT or rng.random() < _VISITED:
        invite(scene, guests, unit, rng)
    for _ in range(int(rng.integers(3))):
        litter(scene, guests, unit, rng)
    _spoil(scene, 2 * unit, rng)
    return scene


def _turned(f: Field, turn: int) -> Field:
    """Return one of the eight flips and quarter turns of a field."""
    image = f.image
    boxes = [f.leukocytes, f.platelets, f.doubted]
    for _ in range(turn % 4):
        width = image.shape[1]
        image = np.rot90(image)
        boxes = [np.stack([b[:, 1], width - b[:, 2], b[:, 3], width - b[:, 0]], axis=1) for b in boxes]
    if turn >= 4:
        width = image.shape[1]
        image = image[:, ::-1]
        boxes = [np.stack([width - b[:, 2], b[:, 1], width - b[:, 0], b[:, 3]], axis=1) for b in boxes]
    return Field(f.file, f.source, np.ascontiguousarray(image), f.red_cell_px, *boxes)


def _plain(f: Field, size: int) -> tuple[Scene, float]:
    """Return the field as the instrument would see it, and its red cells' diameter."""
    height, width = f.image.shape[:2]
    scale = size / max(height, width)
    extent = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image = np.full((size, size, 3), PAD, np.uint8)
    image[: extent[1], : extent[0]] = cv2.resize(f.image, extent, interpolation=method)
    cells = np.where(f.open_ends, np.nan, scale * f.leukocytes).astype(np.float32)
    return Scene(image, extent, cells, scale * f.doubted), scale * f.red_cell_px


def _view(f: Field, size: int, rng: Random, *, portrait: bool) -> tuple[Scene, float]:
    """Return a turned and scaled window of the mirrored field, and its red cells' diameter."""
    ratio = rng.choice(_RATIOS)
    extent = (size, round(size / ratio)) if ratio >= 1 else (round(size * ratio), size)
    sides = (f.leukocytes[:, 2:] - f.leukocytes[:, :2]).max(axis=1)
    usual = float(np.median(sides)) if len(sides) else 2 * f.red_cell_px
    height, width = f.image.shape[:2]
    middle = rng.uniform((0, 0), (width, height))
    if portrait:
        wanted = rng.uniform(0.45, 0.98) * min(extent)
        target = int(rng.integers(len(sides)))
        usual, jitter = float(sides[target]), max(0.0, min(extent) - wanted)
    else:
        low, high = np.log(_SMALLEST), np.log(_LARGEST)
        wanted = float(np.exp(rng.uniform(low, high))) * size / 256
        target, jitter = int(rng.integers(max(1, len(sides)))), 1.0 * min(extent)
    scale = wanted / usual
    if len(sides) and (portrait or rng.random() < 0.7):
        middle = (f.leukocytes[target, :2] + f.leukocytes[target, 2:]) / 2
        middle = middle + rng.uniform(-0.5, 0.5, 2) * jitter / scale
    angle = rng.uniform(0, 2 * np.pi)
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    matrix = np.array([[c, -s, 0], [s, c, 0]])
    matrix[:, 2] = np.array(extent) / 2 - matrix[:, :2] @ middle
    image = np.full((size, size, 3), PAD, np.uint8)
    image[: extent[1], : extent[0]] = warp(f.image, matrix, scale, extent)
    known = ~f.open_ends.any(axis=1)
    doubted = np.concatenate([f.doubted, f.leukocytes[~known]])
    cells = _mirrored(f.leukocytes[known], (width, height), matrix, extent)
    return Scene(image, extent, cells, _mirrored(doubted, (width, height), matrix, extent)), (
        scale * f.red_cell_px
    )


def _mirrored(
    edges: Edges, size: tuple[int, int], matrix: NDArray[np.float64], extent: tuple[int, int]
) -> Edges:
    """Return boxes of a mirrored field as they lie in a window, all that reach into it.

    A turned box is the one round the turned ellipse that fills it.
    """
    corners = np.array([(0, 0), (extent[0], 0), (0, extent[1]), extent], np.float64)
    seen = (corners - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    found = []
    half = (edges[:, 2:] - edges[:, :2]) / 2
    middle = (edges[:, 2:] + edges[:, :2]) / 2
    turned = np.sqrt((half**2) @ (matrix[:, :2] ** 2).T)
    ranges = [
        range(int(np.floor(seen[:, k].min() / size[k])) - 1, int(np.ceil(seen[:, k].max() / size[k])) + 1)
        for k in (0, 1)
    ]
    for i in ranges[0]:
        for j in ranges[1]:
            place = middle.copy()
            for k, copy in enumerate((i, j)):
                period = size[k] - 1
                inside = middle[:, k] if copy % 2 == 0 else period - middle[:, k]
                place[:, k] = copy * period + inside
            at = place @ matrix[:, :2].T + matrix[:, 2]
            found.append(np.concatenate([at - turned, at + turned], axis=1))
    boxes = np.concatenate(found) if found else np.zeros((0, 4))
    reach_in = (boxes[:, 2:] > 0).all(axis=1) & (boxes[:, :2] < extent).all(axis=1)
    return boxes[reach_in].astype(np.float32)


def _spoil(scene: Scene, cell: float, rng: Random) -> None:
    """Change stain, lamp, camera and focus of the scene, in place; `cell` is a leukocyte's diameter."""
    degree = 0.25 if rng.random() < 0.4 else 1.0
    width, height = scene.extent
    view = np.ascontiguousarray(scene.image[:height, :width])
    view = camera_colours(restain(view, degree, rng), degree, rng)
    if rng.random() < 0.3:
        y, x = np.mgrid[:height, :width] / max(height, width)
        slope = rng.uniform(-0.35, 0.35, 2)
        light = 1 + slope[0] * (x - 0.5) + slope[1] * (y - 0.5)
        view = np.clip(view * light[..., None], 0, 255).astype(np.uint8)
    if rng.random() < 0.45 * degree:
        view = np.asarray(cv2.GaussianBlur(view, (0, 0), 0.2 + cell * rng.uniform(0.002, 0.05)), np.uint8)
    if rng.random() < 0.1 * degree and cell > 20:
        length = max(2, int(cell * rng.uniform(0.05, 0.2)))
        kernel = np.zeros((length, length), np.float32)
        cv2.line(kernel, (0, int(rng.integers(length))), (length - 1, int(rng.integers(length))), 1.0)
        if rng.random() < 0.5:
            kernel = kernel.T
        view = np.asarray(cv2.filter2D(view, -1, kernel / kernel.sum()), np.uint8)
    for chance, spoil in ((0.35, add_noise), (0.25, jpeg)):
        if rng.random() < chance * degree:
            view = spoil(view, rng)
    scene.image[:height, :width] = view


def visible(scene: Scene) -> NDArray[np.bool_]:
    """Tell which cells show enough of themselves, shape (n,)."""
    cells = scene.cells
    size = np.array(scene.extent, np.float32)
    seen = np.minimum(cells[:, 2:], size) - np.maximum(cells[:, :2], 0)
    share = seen.prod(axis=1) / (cells[:, 2:] - cells[:, :2]).prod(axis=1)
    # What a laboratory boxed although the border hides some of it counts as it stands.
    return np.asarray(np.isnan(share) | (share >= _VISIBLE))
