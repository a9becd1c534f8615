"""Other slides, stains, lamps, cameras and hands, imitated on the images of one laboratory."""

from collections.abc import Callable, Mapping
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cells import Box, Image
from edge.preprocess import CONTEXT

Random = np.random.Generator

_DEEP = 1.5
"""Optical density (natural logarithm) that a change of contrast leaves as it is: a nucleus has about it."""
_CELL_REACH = 0.53
"""Radius to which the cell is stained, over the longer side of its box."""
_BENDS = 6
"""Places along a side that are moved on their own; between them a crop bends smoothly."""
_Dye = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
_ANY: _Dye = ((0.1, 1.0), (0.1, 1.0), (0.1, 1.0))
_DYES: Mapping[str, _Dye] = {
    "eosinophil": ((0.05, 0.4), (0.7, 1.0), (0.5, 1.0)),
    "neutrophil": ((0.1, 0.6), (0.5, 1.0), (0.3, 1.0)),
    "immature_granulocyte": ((0.1, 0.8), (0.5, 1.0), (0.3, 1.0)),
    "lymphocyte": ((0.5, 1.0), (0.5, 1.0), (0.1, 0.6)),
    "monocyte": ((0.5, 1.0), (0.5, 1.0), (0.1, 0.6)),
}
"""What a Romanowsky stain gives a cytoplasm: the range of its density in red, green and blue. Eosin makes it
orange to pink, methylene blue and its azures make it grey to blue."""


def augment(image: Image, box: Box, size: int, name: str, rng: Random) -> Image:
    """Return one random variant of the crop round `box`, shape (`size`, `size`, 3) RGB.

    Covers turning, mirroring, scale, shape, an imprecise box; a smear without neighbours, a stain that
    fills the cytoplasm, stain strength and contrast, white balance, brightness, camera colours; defocus,
    low resolution, noise and JPEG. Every third variant or so keeps near the image: the own laboratory must
    be learned to the last detail.

    Args:
        image: a labelled image, RGB.
        box: of its cell.
        size: side of the crop, pixels.
        name: class of the cell; a class has a cytoplasm of its own.
        rng: source of all chance.
    """
    degree = 0.25 if rng.random() < 0.35 else 1.0
    side = CONTEXT * box.side * _framing(rng)
    view = _turn(image, box, side, size, rng, degree=degree)
    cell = box.side / side * size
    if rng.random() < 0.3 * degree:
        view = _clear(view, rng.uniform(0.5, 0.62) * cell)
    if rng.random() < 0.6 * degree:
        view = _fill(view, _CELL_REACH * cell, _DYES.get(name, _ANY), rng)
    view = restain(view, degree, rng)
    view = camera_colours(view, degree, rng)
    for chance, spoil in _SPOILS:
        if rng.random() < chance * degree:
            view = spoil(view, rng)
    return view


def _framing(rng: Random) -> float:
    # Mostly the instrument's own framing; now and then as wide as an uncut image, or tight.
    low, high = (0.62, 1.8) if rng.random() < 0.4 else (0.8, 1.25)
    return float(_between(low, high, rng))


def _turn(image: Image, box: Box, side: float, size: int, rng: Random, *, degree: float) -> Image:
    # Hands and the spreader of the smear leave no cell the same shape twice: it is drawn out one way, and
    # its nucleus lies otherwise in it.
    middle = np.array(box.centre) + rng.uniform(-0.07, 0.07, 2) * side
    long, across = rng.uniform(0, np.pi, 2)
    stretch = float(_between(0.85, 1.18, rng)) ** degree
    shape = _rotation(long) @ np.diag((stretch, 1 / stretch)) @ _rotation(across)
    shape = shape @ np.diag((rng.choice((-1, 1)), rng.choice((-1, 1)))) * side / size
    bend = degree * rng.uniform(0, 0.022) * size * rng.standard_normal((_BENDS, _BENDS, 2), np.float32)
    places = _places(size) + cv2.resize(bend, (size, size), interpolation=cv2.INTER_CUBIC)
    where = (places @ shape.T + middle).astype(np.float32)
    x, y = where[..., 0], where[..., 1]
    return _image(cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def _rotation(angle: float) -> NDArray[np.float64]:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


@cache
def _places(size: int) -> NDArray[np.float32]:
    """Return each pixel's place seen from the middle, (x, y) in pixels, shape (`size`, `size`, 2)."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return np.stack([x, y], axis=-1).astype(np.float32)


def _clear(view: Image, radius: float) -> Image:
    # The red cells around tell one laboratory from another, not one class from another.
    size = view.shape[0]
    light = view.astype(np.float32)
    background = np.percentile(light.reshape(-1, 3), 85, axis=0)
    inside = _step((radius - _from_middle(size)) / (0.015 * size))[..., None]
    return _image(np.clip(light * inside + background * (1 - inside), 0, 255))


def _fill(view: Image, radius: float, dye: _Dye, rng: Random) -> Image:
    # A quick stain colours the whole cytoplasm. What is left to tell an eosinophil from a neutrophil are
    # granules and lobes, and these hold in every laboratory; how pink a cytoplasm is does not.
    size = view.shape[0]
    light = view.astype(np.float32)
    grey = cv2.GaussianBlur(light.mean(axis=2), (0, 0), 0.012 * size)
    density = -np.log((grey + 4) / (float(np.percentile(grey, 90)) + 4))
    where = _step((density - 0.12) / 0.03) * _step((radius - _from_middle(size)) / (0.03 * size))
    where = cv2.GaussianBlur(where.astype(np.float32), (0, 0), 0.012 * size)
    colour = rng.uniform(*np.transpose(dye)).astype(np.float32)
    amount = rng.uniform(0, 0.7) * colour / colour.max()
    return _image(np.clip(light * np.exp(-where[..., None] * amount), 0, 255))


@cache
def _from_middle(size: int) -> NDArray[np.float64]:
    """Return each pixel's distance from the middle, pixels, shape (`size`, `size`)."""
    y, x = np.ogrid[:size, :size]
    return np.asarray(np.hypot(x - size / 2, y - size / 2))


def _step(value: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.asarray(1 / (1 + np.exp(-np.clip(value, -30, 30))))


def restain(view: Image, degree: float, rng: Random) -> Image:
    """Return `view` in a paler or darker, more or less differentiated stain, in another light.

    `degree` 0 leaves it as it is, 1 changes as much as any laboratory does.
    """
    # A power of the transmitted light scales its optical density: a paler or darker stain. A power of
    # the density changes how dark the cytoplasm is beside the nucleus: a more or less differentiated one.
    strength = _between(0.5, 1.6, rng) * _between(0.6, 1.6, rng, 3)
    contrast = _between(0.4, 1.6, rng) * _between(0.75, 1.33, rng, 3)
    gain = _between(0.75, 1.15, rng) * _between(0.75, 1.2, rng, 3)
    density = -np.log(np.maximum(np.linspace(0, 1, 256), 1 / 255))[:, None]
    density = strength**degree * _DEEP * (density / _DEEP) ** (contrast**degree)
    table = np.clip(255 * gain**degree * np.exp(-density), 0, 255).astype(np.uint8)
    return _image(cv2.LUT(view, table[None]))


def camera_colours(view: Image, degree: float, rng: Random) -> Image:
    """Return `view` in the colours of another camera; `degree` as for `restain`."""
    saturation = 1 + degree * rng.uniform(-0.9, 0.5)
    crosstalk = degree * rng.uniform(-0.22, 0.22, (3, 3))
    mix = saturation * np.eye(3) + (1 - saturation) / 3 + crosstalk
    view = _image(cv2.transform(view, mix / mix.sum(axis=1, keepdims=True)))
    if rng.random() < 0.3 * degree:
        colours = cv2.cvtColor(view, cv2.COLOR_RGB2HSV_FULL)
        # Eight bits hold the full circle (1.4 degrees a step), so that the sum may run over.
        colours[..., 0] += np.uint8(int(rng.integers(-30, 31)) % 256)
        view = _image(cv2.cvtColor(colours, cv2.COLOR_HSV2RGB_FULL))
    return view


def _defocus(view: Image, rng: Random) -> Image:
    return _image(cv2.GaussianBlur(view, (0, 0), view.shape[0] / 224 * rng.uniform(0.4, 4.5)))


def _low_resolution(view: Image, rng: Random) -> Image:
    size = view.shape[0]
    small = int(size / rng.uniform(1.3, 3.5))
    view = _image(cv2.resize(view, (small, small), interpolation=cv2.INTER_AREA))
    return _image(cv2.resize(view, (size, size), interpolation=cv2.INTER_LINEAR))


def add_noise(view: Image, rng: Random) -> Image:
    """Return `view` with a sensor's noise of 1 to 9 grey levels."""
    noise = rng.standard_normal(view.shape, np.float32) * rng.uniform(1, 9)
    return np.clip(view + noise, 0, 255).astype(np.uint8)


def jpeg(view: Image, rng: Random) -> Image:
    """Return `view` after JPEG of quality 30 to 90."""
    _, data = cv2.imencode(".jpg", view, [cv2.IMWRITE_JPEG_QUALITY, int(rng.uniform(30, 90))])
    return _image(cv2.imdecode(data, cv2.IMREAD_COLOR))


_SPOILS: tuple[tuple[float, Callable[[Image, Random], Image]], ...] = (
    (0.45, _defocus),
    (0.2, _low_resolution),
    (0.35, add_noise),
    (0.25, jpeg),
)


def _between(low: float, high: float, rng: Random, number: int | None = None) -> NDArray[np.float64]:
    """Return random factors, as likely above as below the middle of `low` and `high` on a log scale."""
    return np.exp(rng.uniform(np.log(low), np.log(high), number))


def _image(array: object) -> Image:
    return np.asarray(array, np.uint8)
